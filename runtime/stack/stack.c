// Growable stacks by demand paging.
//
// A slot is a piece of address space for 64 MiB of stack. Its top page is mapped
// when the slot is taken; everything below is mapped by faults, what lies deeper
// than the limit never (the guard). Compilers touch each page of a frame in
// descending order (-fstack-clash-protection), so growth proceeds page by page, and
// the number of pages mapped by one fault doubles while it does: 1, 2, 4 ... 16.
// Nothing is copied and no address changes.
//
//   slot   |guard|......never touched......|mapped, grows <--|TLS|TCB|libc|
//
// A limit above 64 MiB takes several slots in a row; the highest is the owner.
//
// Slots are 128 KiB more than 64 MiB apart, so that the tops of 16 neighbours lie
// in different parts of their 2 MiB: they share one leaf table (R19), and a
// goroutine that stays below 124 KiB costs one page, a 16th of two tables and its
// struct. One that grows out of its part gets a table of its own first.
//
// Invariants: pages in [low, top) are mapped, but for those given back; the guard is
// not; the struct g of a slot below nslots is mapped. A shared table is never
// written to but in the part of the slot that is concerned.
//
// Locks: mm_lock protects the free lists, nslots, low, window, table.

#include "runtime/stack/stack.h"

#include <string.h>

#include "arch/fmt.h"
#include "arch/option.h"
#include "mm/mm.h"

enum {
    GROW_MAX = 16,        // pages: 64 KiB (R4)
    STACK_RED_ZONE = 128, // bytes below rsp that belong to the code (DESIGN 13)
};

enum {
    SHARERS = 16,     // slots with one leaf table
    TO_BEGIN = 16,    // frames that can be promised when a goroutine is made
    WARM_MOST = 1024, // dead stacks that keep their top page, or a part of RAM
    WARM_SHARE = 64,
    DYING_MOST = 64, // others that lose it together
};

static uint64_t limit_option = 64 * MIB;
OPTION_ROW(opt_limit, "stack.limit",
           "most bytes of a goroutine's stack, with K, M, G (64M; at most 16G)",
           &limit_option, NULL, STACK_LIMIT_MIN, STACK_LIMIT_MAX, OPTION_SIZE);

// Dead stacks, by next: with their top page, without it, of several slots.
static struct g *free_warm, *free_cold, *free_large; // [mm_lock]
static unsigned nwarm, warm_most;                    // [mm_lock], [c]
static struct g *dying; // [mm_lock] about to lose it
static unsigned ndying; // [mm_lock]
static size_t nslots;   // [mm_lock] slots ever used

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

static uintptr_t slot_base(size_t slot)
{
    return ARCH_STACK_BASE + slot * STACK_SLOT_BYTES;
}

uintptr_t stack_top(const struct g *g)
{
    return slot_base(g_slot(g)) + STACK_SLOT_BYTES;
}

uintptr_t stack_bottom(const struct g *g)
{
    return stack_top(g) - g->limit;
}

struct g *stack_nth(size_t i)
{
    return i < nslots ? g_of_slot(i) : NULL;
}

struct g *stack_owner(uintptr_t va)
{
    if (va < ARCH_STACK_BASE || va >= ARCH_STACK_END)
        return NULL;
    size_t slot = (va - ARCH_STACK_BASE) / STACK_SLOT_BYTES;
    struct g *g = slot < nslots ? g_of_slot(slot) : NULL;

    return g != NULL ? g + g->up : NULL;
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

static const char *stack_describe(struct region *r, uintptr_t va, char *buf,
                                  size_t size)
{
    struct g *g = stack_owner(va);

    (void)r;
    if (g == NULL || g->state == G_FREE)
        return "a stack slot that nobody uses";
    bool guard = va < stack_bottom(g);

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

// The top 2 MiB have a table: of several, unless the slot once got its own.
static bool map_table(struct g *g)
{
    struct g *first = g_of_slot(g_slot(g) / SHARERS * SHARERS);
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

static bool map_top(struct g *g, size_t reserve, bool warm)
{
    uintptr_t top = stack_top(g);
    uintptr_t low = align_down(top - reserve, PAGE_SIZE);
    bool there = warm && low == top - PAGE_SIZE;

    if (!there && !map_table(g))
        return false;
    for (uintptr_t page = top - PAGE_SIZE; page >= low && !there;
         page -= PAGE_SIZE) {
        if (!map_page(page, PROT_R | PROT_W))
            return false;
    }
    g->low = low;
    g->window = 1;
    return true;
}

// A slot, or n in a row, that nobody has used yet. NULL: no frame, or no slot left.
static struct g *new_slots(size_t n)
{
    if (slot_base(nslots + n) > ARCH_STACK_END)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (!map_descriptor(nslots + i))
            return NULL;
    }
    for (size_t i = 0; i < n; i++)
        g_of_slot(nslots + i)->up = (uint32_t)(n - 1 - i);
    nslots += n;
    g_of_slot(nslots - 1)->slots = (uint32_t)n;
    return g_of_slot(nslots - 1);
}

static struct g *take_slots(size_t n)
{
    struct g **at = n > 1               ? &free_large
                    : free_warm != NULL ? &free_warm
                                        : &free_cold;

    while (*at != NULL && (*at)->slots != n)
        at = &(*at)->next;
    struct g *g = *at;

    if (g == NULL)
        return new_slots(n);
    *at = g->next;
    return g;
}

static void give_slots(struct g *g)
{
    struct g **list = g->slots > 1 ? &free_large
                      : g->warm    ? &free_warm
                                   : &free_cold;

    g->next = *list;
    *list = g;
}

struct alloc_call {
    size_t reserve, limit;
    struct g *g;
};

static void alloc_call(void *arg)
{
    struct alloc_call *c = arg;

    spin_lock(&mm_lock);
    struct g *g =
        take_slots((c->limit + STACK_SLOT_BYTES - 1) / STACK_SLOT_BYTES);

    if (g != NULL) {
        bool warm = g->warm;

        nwarm -= warm;
        g->warm = false;
        memset(g, 0, offsetof(struct g, slots)); // what follows stays
        g->limit = c->limit;
        if (map_top(g, c->reserve, warm)) {
            g->state = G_PARKED;
            c->g = g;
        } else {
            give_slots(g);
        }
    }
    spin_unlock(&mm_lock);
}

struct g *stack_alloc(size_t reserve, size_t limit)
{
    struct alloc_call c = {
        .reserve = reserve,
        .limit = align_up(limit != 0 ? limit : limit_option, PAGE_SIZE)};

    if (c.limit < STACK_LIMIT_MIN || c.limit > STACK_LIMIT_MAX)
        return NULL;
    // What it takes is counted as it is mapped, and can't be refused then. So there
    // has to be that much, and something to grow, before it begins.
    if (!mm_charge(TO_BEGIN) &&
        (mm_reclaim(TO_BEGIN) == 0 || !mm_charge(TO_BEGIN)))
        return NULL;
    arch_on_system_stack(alloc_call, &c);
    mm_uncharge(TO_BEGIN);
    return c.g;
}

// Gives the top pages of dead stacks back, all at one shootdown.
static void cool(struct g *g)
{
    paddr_t frames[DYING_MOST];
    unsigned n = 0;
    int level;

    spin_lock(&mm_lock);
    for (struct g *d = g; d != NULL; d = d->next) {
        pte_t *e = pt_find(stack_top(d) - PAGE_SIZE, &level);

        frames[n++] = pte_paddr(pt_set(e, 0));
    }
    spin_unlock(&mm_lock);
    arch_tlb_shootdown(0, 0);
    frame_put_many(frames, n);
    mm_uncharge(n);
    spin_lock(&mm_lock);
    while (g != NULL) {
        struct g *next = g->next;

        give_slots(g);
        g = next;
    }
    spin_unlock(&mm_lock);
}

struct reclaim_call {
    uint64_t wanted, got;
};

// The pages of dead stacks go first when memory is short.
static void reclaim_call(void *arg)
{
    struct reclaim_call *c = arg;
    struct g *many;

    do {
        unsigned n = 0;

        spin_lock(&mm_lock);
        many = dying;
        n = ndying;
        dying = NULL;
        ndying = 0;
        for (struct g *g; (g = free_warm) != NULL && n < DYING_MOST; n++) {
            free_warm = g->next;
            g->warm = false;
            nwarm--;
            g->next = many;
            many = g;
        }
        spin_unlock(&mm_lock);
        if (many != NULL)
            cool(many);
        c->got += n;
    } while (many != NULL && c->got < c->wanted);
}

static uint64_t reclaim(uint64_t npages, enum mm_pressure level)
{
    struct reclaim_call c = {npages, 0};

    (void)level;
    arch_on_system_stack(reclaim_call, &c);
    return c.got;
}

void stack_free(struct g *g)
{
    struct g *many = NULL;

    // From here on nothing faults into the slot.
    spin_lock(&mm_lock);
    g->state = G_FREE;
    spin_unlock(&mm_lock);
    if (g->low < stack_top(g) - PAGE_SIZE)
        mm_uncharge(vm_drop_range(g->low, stack_top(g) - PAGE_SIZE));
    // The top page stays warm, if there are not many such already.
    spin_lock(&mm_lock);
    g->warm = nwarm < warm_most && !mm_frames_scarce();
    if (g->warm) {
        nwarm++;
        give_slots(g);
    } else {
        g->next = dying;
        dying = g;
        if (++ndying == DYING_MOST || mm_frames_scarce()) {
            many = dying;
            dying = NULL;
            ndying = 0;
        }
    }
    spin_unlock(&mm_lock);
    if (many != NULL)
        cool(many);
}

void stack_init(void)
{
    static struct mm_reclaimer r = {.reclaim = reclaim};

    warm_most = (unsigned)min_u64(frame_stats().total / WARM_SHARE, WARM_MOST);
    mm_reclaimer_add(&r);
    stack_area.start = ARCH_STACK_BASE;
    stack_area.end = ARCH_STACK_END;
    if (region_add(&stack_area) != 0)
        panic("stack: the area of the stacks is taken");
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
