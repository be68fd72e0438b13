// Growable stacks by demand paging.
//
// The top page of a slot is mapped when it is taken; everything below is mapped by
// faults, what lies deeper than the limit never (the guard). Compilers touch each
// page of a frame in descending order (-fstack-clash-protection), so growth proceeds
// page by page, and the number of pages mapped by one fault doubles while it does:
// 1, 2, 4 ... 16.
//
// Slots are 128 KiB more than 64 MiB apart, so that the tops of 16 neighbours lie
// in different parts of their 2 MiB: they share one leaf table (R19), and a
// goroutine that stays below 124 KiB costs one page, a 16th of two tables and its
// struct. One that grows out of its part gets a table of its own first. When all 16
// are dead and have lost their top page, they lose their tables, too.
//
// Invariants: pages in [low, top) are mapped, but for those given back; the guard is
// not; the struct g of a slot below nslots is mapped. A shared table is never
// written to but in the part of the slot that is concerned.
//
// Locks: mm_lock protects low, window, table, cold, ncold. `dropping` is held across a
// shootdown: what one call has taken out it frees, and no other.

#include "runtime/stack/pages.h"

#include "mm/mm.h"
#include "runtime/stack/stack.h"

enum {
    GROW_MAX = 16, // pages: 64 KiB (R4)
    SHARERS = 16,  // slots with one leaf table
};

// ---- faults ----

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

// Whether a page can be mapped where it lies: not if that is a table of several
// slots, unless it is g's part of it.
static bool has_place(const struct g *g, uintptr_t page)
{
    uintptr_t part = stack_top(g) - PT_PART * PAGE_SIZE;

    return page > part || !pt_is_shared(page);
}

// Gives the 2 MiB around a page a table of its own. Releases mm_lock while it waits.
static bool make_place(uintptr_t page)
{
    const uint64_t span = pte_span(2);
    uint64_t tables = pt_tables();

    if (!region_unshare(page))
        return false;
    mm_charge_stack(pt_tables() - tables);
    spin_unlock(&mm_lock);
    arch_tlb_shootdown(align_down(page, span), span / PAGE_SIZE);
    spin_lock(&mm_lock);
    return true;
}

static enum fault_result stack_fault(struct region *r, uintptr_t va,
                                     unsigned access, uintptr_t rsp)
{
    struct g *g = stack_owner(va);
    uintptr_t page = align_down(va, PAGE_SIZE);

    (void)r;
    if (g == NULL || g->state == G_FREE)
        return FAULT_WILD;
    uintptr_t bottom = stack_bottom(g);

    if (page < bottom)
        return FAULT_GUARD;
    if (access == PROT_X)
        return FAULT_DENIED;
    if (!plausible(g, va, rsp))
        return FAULT_WILD;
    if (!has_place(g, page)) // then all may have changed: the fault comes again
        return make_place(page) ? FAULT_SERVED : FAULT_OOM;
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
        if (page < bottom || !has_place(g, page) ||
            !map_page(page, PROT_R | PROT_W))
            break;
        g->low = page;
    }
    return FAULT_SERVED;
}

// ---- the beginning of a stack ----

bool stack_map_g(size_t slot)
{
    uintptr_t first = align_down((uintptr_t)g_of_slot(slot), PAGE_SIZE);
    uintptr_t last = (uintptr_t)(g_of_slot(slot) + 1) - 1;

    for (; first <= last; first += PAGE_SIZE) {
        if (!map_page(first, PROT_R | PROT_W | PROT_GLOBAL))
            return false;
    }
    return true;
}

static struct g *first_sharer(const struct g *g)
{
    return g_of_slot(g_slot(g) / SHARERS * SHARERS);
}

static void set_cold(struct g *g, bool cold)
{
    struct g *first = first_sharer(g);

    first->ncold = (uint8_t)(first->ncold + cold - g->cold);
    g->cold = cold;
}

// The top 2 MiB have a table: of several, unless the slot once got its own.
static bool map_table(struct g *g)
{
    struct g *first = first_sharer(g);
    uintptr_t page = stack_top(g) - PAGE_SIZE;
    uint64_t tables = pt_tables();
    int level;

    if (pt_find(page, &level) != NULL)
        return true;
    if (first->table.raw == 0)
        first->table = pt_new_shared();
    bool done = first->table.raw != 0 && pt_share(page, first->table);

    mm_charge_stack(pt_tables() - tables);
    return done;
}

bool stack_map_top(struct g *g, size_t reserve, bool warm)
{
    uintptr_t top = stack_top(g);
    uintptr_t low = align_down(top - reserve, PAGE_SIZE);
    bool there = warm && low == top - PAGE_SIZE, cold = g->cold;

    set_cold(g, false);
    if (!there && !map_table(g)) {
        set_cold(g, cold);
        return false;
    }
    for (uintptr_t page = top - PAGE_SIZE; page >= low && !there;
         page -= PAGE_SIZE) {
        if (!map_page(page, PROT_R | PROT_W))
            return false;
    }
    g->low = low;
    g->window = 1;
    return true;
}

// ---- giving back ----

bool stack_note_dead(struct g *g)
{
    return g->low < stack_top(g) - PAGE_SIZE;
}

void stack_drop(struct g *g)
{
    mm_uncharge(vm_drop_range(g->low, stack_top(g) - PAGE_SIZE));
}

// All 16 are cold: the way to their tables ends.
static void leave_tables(struct g *first, struct pt_garbage *garbage)
{
    struct g *last = first + SHARERS - 1;

    for (struct g *g = first; g <= last; g++) {
        if (pt_is_shared(stack_top(g) - PAGE_SIZE))
            pt_end_share(stack_top(g) - PAGE_SIZE);
    }
    pt_prune(stack_top(first) - STACK_SLOT_BYTES, stack_top(last), garbage);
}

// A slot may be taken again while all CPUs are told, and then finds the table that it
// left, or none, and sets its entry anew: who knows the old way still finds nothing
// there, and faults.
void stack_drop_tops(struct g *g)
{
    static _Atomic bool dropping;
    struct pt_garbage garbage;
    uint64_t gone = 0;
    int level;

    while (atomic_exchange_explicit(&dropping, true, memory_order_acquire))
        arch_relax();
    spin_lock(&mm_lock);
    uint64_t tables = pt_tables();

    garbage.n = 0;
    for (struct g *d = g; d != NULL; d = d->next) {
        pte_t *e = pt_find(stack_top(d) - PAGE_SIZE, &level);

        d->low = pte_paddr(pt_set(e, 0)).raw; // until it is given back below
        gone++;
        set_cold(d, true);
        if (first_sharer(d)->ncold == SHARERS)
            leave_tables(first_sharer(d), &garbage);
    }
    gone += tables - pt_tables();
    spin_unlock(&mm_lock);
    arch_tlb_shootdown(0, 0);
    spin_lock(&mm_lock);
    pt_free_garbage(&garbage);
    for (; g != NULL; g = g->next) {
        struct g *first = first_sharer(g);

        frame_put(paddr(g->low));
        if (first->ncold == SHARERS && first->table.raw != 0) {
            pt_free_shared(first->table);
            first->table = paddr(0);
            gone++;
        }
    }
    spin_unlock(&mm_lock);
    atomic_store_explicit(&dropping, false, memory_order_release);
    mm_uncharge(gone);
}

uint64_t stack_trim(struct g *g, uintptr_t sp)
{
    uintptr_t end = align_down(sp - STACK_RED_ZONE, PAGE_SIZE), low = g->low;

    if (end <= low)
        return 0;
    // Who faults meanwhile, deeper, maps anew what has gone.
    spin_lock(&mm_lock);
    g->low = end;
    g->window = 1;
    spin_unlock(&mm_lock);
    uint64_t pages = vm_drop_range(low, end);

    mm_uncharge(pages);
    return pages;
}

uintptr_t stack_low(const struct g *g)
{
    return *(volatile const uintptr_t *)&g->low;
}

static const char *describe(struct region *r, uintptr_t va, char *buf,
                            size_t size)
{
    (void)r;
    return stack_describe(va, buf, size);
}

void stack_pages_init(void)
{
    static const struct region_ops ops = {stack_fault, describe};
    static struct region area = {
        .ops = &ops,
        .name = "stacks",
        .flags = REGION_FIXED,
    };

    area.start = ARCH_STACK_BASE;
    area.end = ARCH_STACK_END;
    if (region_add(&area) != 0)
        panic("stack: the area of the stacks is taken");
}
