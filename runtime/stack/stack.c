// Stack slots: who has which.
//
// A slot is a piece of address space for 64 MiB of stack, whose pages come when they
// are touched (pages.h). Nothing is copied and no address changes.
//
//   slot   |guard|......never touched......|mapped, grows <--|TLS|TCB|libc|
//
// A limit above 64 MiB takes several slots in a row; the highest is the owner.
//
// Dead stacks are used again, first of all those that still have their top page.
//
// Locks: mm_lock protects the free lists and nslots.

#include "runtime/stack/stack.h"

#include <string.h>

#include "arch/fmt.h"
#include "arch/option.h"
#include "mm/mm.h"
#include "runtime/stack/pages.h"

enum {
    TO_BEGIN = 16,    // frames that can be promised when a goroutine is made
    WARM_MOST = 1024, // dead stacks that keep their top page, or a part of RAM
    WARM_SHARE = 64,
    DYING_MOST = STACK_COLD_MOST, // others that lose it together
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

static uintptr_t slot_base(size_t slot)
{
    return ARCH_STACK_BASE + slot * STACK_SLOT_BYTES;
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

const char *stack_describe(uintptr_t va, char *buf, size_t size)
{
    struct g *g = stack_owner(va);

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

// A slot, or n in a row, that nobody has used yet. NULL: no frame, or no slot left.
static struct g *new_slots(size_t n)
{
    if (slot_base(nslots + n) > ARCH_STACK_END)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (!stack_map_g(nslots + i))
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

    if (g == NULL) {
        g = new_slots(n);
        // The area is used up: one of those that are more than is asked for.
        for (at = &free_large; g == NULL && *at != NULL && (*at)->slots < n;)
            at = &(*at)->next;
        if (g != NULL || *at == NULL)
            return g;
        g = *at;
    }
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
        if (stack_map_top(g, c->reserve, warm)) {
            g_set_state(g, G_PARKED);
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
    // Those that are about to lose their pages are in no list.
    if (c.g == NULL && mm_reclaim(1) > 0)
        arch_on_system_stack(alloc_call, &c);
    mm_uncharge(TO_BEGIN);
    return c.g;
}

// Takes the top pages of dead stacks back as well.
static void cool(struct g *g)
{
    stack_drop_tops(g);
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
    g_set_state(g, G_FREE);
    if (stack_note_dead(g)) {
        spin_unlock(&mm_lock);
        stack_drop(g);
        spin_lock(&mm_lock);
    }
    // The top page stays warm, if there are not many such already.
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
    stack_pages_init();
}
