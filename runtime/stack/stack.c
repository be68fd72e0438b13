// Growable stacks by demand paging.
//
// A slot is 64 MiB of address space. Its top page is mapped when the slot is
// taken; everything below is mapped by faults, its lowest page never (the
// guard). Compilers touch each page of a frame in descending order
// (-fstack-clash-protection), so growth proceeds page by page, and the number
// of pages mapped by one fault doubles while it does: 1, 2, 4 … 16. Nothing is
// copied and no address changes.
//
//   slot   |guard|......never touched......|mapped, grows <--|TLS|TCB|libc|
//
// Invariants: pages in [low, top) are mapped; the guard is not; the struct g of
// a slot below nslots is mapped.
//
// Locks: mm_lock protects the free list, nslots, low and window.

#include "runtime/stack/stack.h"

#include <string.h>

#include "arch/fmt.h"
#include "mm/mm.h"

enum {
    GROW_MAX = 16,        // pages: 64 KiB (R4)
    STACK_RED_ZONE = 128, // bytes below rsp that belong to the code (DESIGN 13)
};

static struct g *free_slots; // [mm_lock] by next
static size_t nslots;        // [mm_lock] slots ever used

static enum fault_result stack_fault(struct region *r, uintptr_t va,
                                     unsigned access, uintptr_t rsp);
static const char *stack_describe(struct region *r, uintptr_t va, char *buf,
                                  size_t size);

static const struct region_ops stack_ops = {stack_fault, stack_describe};

static struct region stack_area = {
    .ops = &stack_ops,
    .name = "stacks",
    .flags = REGION_FIXED,
};

void stack_init(void)
{
    stack_area.start = ARCH_STACK_BASE;
    stack_area.end = ARCH_STACK_END;
    if (region_add(&stack_area) != 0)
        panic("stack: the area of the stacks is taken");
}

static uintptr_t slot_base(size_t slot)
{
    return ARCH_STACK_BASE + (slot << STACK_SLOT_SHIFT);
}

uintptr_t stack_top(const struct g *g)
{
    return slot_base(g_slot(g)) + STACK_SLOT_BYTES;
}

struct g *stack_nth(size_t i)
{
    return i < nslots ? g_of_slot(i) : NULL;
}

struct g *stack_owner(uintptr_t va)
{
    if (va < ARCH_STACK_BASE || va >= ARCH_STACK_END)
        return NULL;
    size_t slot = (va - ARCH_STACK_BASE) >> STACK_SLOT_SHIFT;

    return slot < nslots ? g_of_slot(slot) : NULL;
}

// Below the stack pointer a program has no business but the red zone of libgcc:
// a page there is mapped only if it is the next one, which a frame may reach
// into before its owner has touched it. So an overrun by more than that is
// reported, from this goroutine or another.
static bool plausible(const struct g *g, uintptr_t va, uintptr_t rsp)
{
    return align_down(va, PAGE_SIZE) >= g->low - PAGE_SIZE ||
           (g == g_current() && va + STACK_RED_ZONE >= rsp);
}

// A page of a stack, and the tables it takes, are counted when it is mapped
// (R14): it cannot be refused then, so promises made to others shrink by it.
static bool map_page(uintptr_t page, unsigned prot)
{
    bool fresh = !mm_readable(page, 1);
    uint64_t tables = pt_tables();
    bool mapped = region_map_page(page, prot, true);

    mm_charge_stack((fresh && mapped) + pt_tables() - tables);
    return mapped;
}

static enum fault_result stack_fault(struct region *r, uintptr_t va,
                                     unsigned access, uintptr_t rsp)
{
    struct g *g = stack_owner(va);
    uintptr_t page = align_down(va, PAGE_SIZE);

    (void)r;
    if (g == NULL || g->state == G_FREE)
        return FAULT_WILD;
    uintptr_t base = slot_base(g_slot(g));

    if (page == base)
        return FAULT_GUARD;
    if (access == PROT_X)
        return FAULT_DENIED;
    if (!plausible(g, va, rsp))
        return FAULT_WILD;
    if (!map_page(page, PROT_R | PROT_W))
        return FAULT_OOM;
    if (page != g->low - PAGE_SIZE) {
        // Not growth in order: a hole that was given back, or a far access.
        if (page < g->low)
            g->low = page;
        g->window = 1;
        return FAULT_SERVED;
    }
    g->low = page;
    g->window = g->window < GROW_MAX ? g->window * 2 : GROW_MAX;
    for (uint32_t i = 1; i < g->window && !mm_frames_scarce(); i++) {
        page = g->low - PAGE_SIZE;
        if (page == base || !map_page(page, PROT_R | PROT_W))
            break;
        g->low = page;
    }
    return FAULT_SERVED;
}

static const char *stack_describe(struct region *r, uintptr_t va, char *buf,
                                  size_t size)
{
    struct g *g = stack_owner(va);

    (void)r;
    if (g == NULL || g->state == G_FREE)
        return "a stack slot that nobody uses";
    bool guard = va < slot_base(g_slot(g)) + PAGE_SIZE;

    fmt_string(buf, size, "%s of goroutine %lu (%s), %lu bytes below its top",
               guard ? "the guard of the stack" : "the stack",
               (unsigned long)g->id, g->name,
               (unsigned long)(stack_top(g) - va));
    return buf;
}

// ---- slots ----

static bool map_descriptor(size_t slot)
{
    uintptr_t first = align_down((uintptr_t)g_of_slot(slot), PAGE_SIZE);
    uintptr_t last = (uintptr_t)(g_of_slot(slot) + 1) - 1;

    for (; first <= last; first += PAGE_SIZE) {
        if (!map_page(first, PROT_R | PROT_W | PROT_GLOBAL))
            return false;
    }
    return true;
}

static bool map_top(struct g *g, size_t reserve)
{
    uintptr_t top = stack_top(g);
    uintptr_t low = align_down(top - reserve, PAGE_SIZE);

    for (uintptr_t page = top - PAGE_SIZE; page >= low; page -= PAGE_SIZE) {
        if (!map_page(page, PROT_R | PROT_W))
            return false;
    }
    g->low = low;
    g->window = 1;
    return true;
}

struct alloc_call {
    size_t reserve;
    struct g *g;
};

static void alloc_call(void *arg)
{
    struct alloc_call *c = arg;
    struct g *g;

    spin_lock(&mm_lock);
    g = free_slots;
    if (g != NULL) {
        free_slots = g->next;
    } else if (slot_base(nslots + 1) <= ARCH_STACK_END &&
               map_descriptor(nslots)) {
        g = g_of_slot(nslots++);
    }
    if (g != NULL) {
        memset(g, 0, sizeof *g);
        if (map_top(g, c->reserve)) {
            g->state = G_PARKED;
            c->g = g;
        } else {
            g->next = free_slots;
            free_slots = g;
        }
    }
    spin_unlock(&mm_lock);
}

struct g *stack_alloc(size_t reserve)
{
    struct alloc_call c = {.reserve = reserve};

    arch_on_system_stack(alloc_call, &c);
    return c.g;
}

void stack_free(struct g *g)
{
    uintptr_t base = slot_base(g_slot(g)), warm = stack_top(g) - PAGE_SIZE;

    // From here on nothing faults into the slot; the top page stays warm.
    spin_lock(&mm_lock);
    g->state = G_FREE;
    spin_unlock(&mm_lock);
    mm_uncharge(vm_drop_range(g->low, warm));
    (void)base;
    spin_lock(&mm_lock);
    g->next = free_slots;
    free_slots = g;
    spin_unlock(&mm_lock);
}
