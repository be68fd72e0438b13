// See stacks.h.
//
// A goroutine has changed if it ran since it was scanned, since a pointer that was
// loaded into a register just before it was preempted dirties no page; or if its
// pages are dirty: others may write into its frames (R22).
//
//   ran    sched_epoch when it last left a CPU
//   seen   sched_epoch when it was last scanned; before first_epoch: not in this cycle
//
// Every look at goroutines counts sched_epoch up first. So whoever leaves a CPU after
// it was held has ran >= seen.
//
// Goroutines are kept at rest by batches, with one interrupt for all of them. The D bits
// of those are taken, and shot down, and only then is what they have scanned. Who runs
// all the time stays unseen until the world is stopped.
//
// Source: R22, R24. Go's suspendG for the protocol (suspend.c).

#include "runtime/gc/stacks.h"

#include "mm/mm.h"
#include "runtime/gc/break.h"
#include "runtime/stack/stack.h"

enum { BATCH = 128 };

static uint32_t first_epoch; // of this cycle

void stacks_begin(void)
{
    first_epoch = atomic_fetch_add(&sched_epoch, 1) + 1;
}

static bool is_new(const struct g *g)
{
    return (int32_t)(g->seen - first_epoch) < 0;
}

static bool has_run(const struct g *g)
{
    return (int32_t)(g->ran - g->seen) >= 0;
}

// One with a context: it is not being made, and has not ended.
static bool is_somebody(const struct g *g)
{
    const void *registers;
    size_t bytes;

    return *(const volatile uint64_t *)&g->id != 0 &&
           arch_ctx_saved(&g->ctx, &registers, &bytes) != 0;
}

struct batch {
    struct g *g[BATCH];
    size_t n;
    size_t at;                  // the one whose pages come next
    uintptr_t va;               // of them
    size_t npages;              // taken
    uintptr_t pages[2 * BATCH]; // dirty ones, of g[first] up to g[at]
};

// Takes the D bits of the stacks from b->at on, as far as there is room.
static void take_call(void *arg)
{
    struct batch *b = arg;
    const size_t room = sizeof b->pages / sizeof *b->pages;

    b->npages = 0;
    spin_lock(&mm_lock);
    for (; b->at < b->n; b->at++, b->va = 0) {
        const struct g *g = b->g[b->at];
        uintptr_t top = stack_top(g);

        if (b->va == 0)
            b->va = stack_low(g);
        b->npages +=
            dirty_take(&b->va, top, b->pages + b->npages, room - b->npages);
        if (b->va < top)
            break;
    }
    spin_unlock(&mm_lock);
}

static uintptr_t live_from(const struct g *g, const void **registers,
                           size_t *bytes)
{
    uintptr_t sp = arch_ctx_saved(&g->ctx, registers, bytes);

    // What it may use there without a page was never used.
    sp = sp > stack_low(g) ? sp : stack_low(g);
    return align_up(sp, sizeof(uintptr_t));
}

static void scan_code(struct marker *m, uintptr_t lo, uintptr_t hi)
{
    if (gc_breaks(GC_BREAK_PAST))
        mark_range(m, lo, hi);
    else
        mark_range_of_code(m, lo, hi);
}

static void scan_part(struct marker *m, const struct g *g, uintptr_t lo,
                      uintptr_t hi, struct stacks_count *n)
{
    const void *registers;
    size_t bytes;
    uintptr_t sp = live_from(g, &registers, &bytes);

    lo = lo > sp ? lo : sp;
    if (lo >= hi)
        return;
    n->pages += (hi - align_down(lo, PAGE_SIZE)) / PAGE_SIZE;
    scan_code(m, lo, hi);
}

static void scan_registers(struct marker *m, const struct g *g)
{
    const void *registers;
    size_t bytes;

    (void)live_from(g, &registers, &bytes);
    if (bytes > 0 && !gc_breaks(GC_BREAK_REGISTERS))
        scan_code(m, (uintptr_t)registers, (uintptr_t)registers + bytes);
}

// The whole of new ones; of others what is dirty.
static void scan_batch(struct marker *m, struct batch *b, uint32_t epoch,
                       struct stacks_count *n)
{
    b->at = 0;
    b->va = 0;
    do {
        size_t first = b->at, k = 0;

        arch_on_system_stack(take_call, b);
        if (b->npages > 0)
            dirty_shoot();
        for (size_t i = first; i < b->n && i <= b->at; i++) {
            struct g *g = b->g[i];
            uintptr_t low = stack_low(g), top = stack_top(g);

            for (; k < b->npages && b->pages[k] >= low && b->pages[k] < top;
                 k++) {
                if (!is_new(g) && !gc_breaks(GC_BREAK_STACKS))
                    scan_part(m, g, b->pages[k], b->pages[k] + PAGE_SIZE, n);
            }
        }
    } while (b->at < b->n);
    for (size_t i = 0; i < b->n; i++) {
        struct g *g = b->g[i];

        n->goroutines += is_new(g) || has_run(g);
        if (is_new(g))
            scan_part(m, g, 0, stack_top(g), n);
        if (is_new(g) || (has_run(g) && !gc_breaks(GC_BREAK_RAN)))
            scan_registers(m, g);
        g->seen = epoch;
    }
}

void stacks_scan(struct marker *m, bool stopped, struct stacks_count *n)
{
    uint32_t epoch = atomic_fetch_add(&sched_epoch, 1) + 1;
    static struct batch b; // a collection at a time
    struct g *g;

    for (size_t i = 0; (g = stack_nth(i)) != NULL;) {
        for (b.n = 0; b.n < BATCH && (g = stack_nth(i)) != NULL; i++) {
            if (g != g_current() && is_somebody(g))
                b.g[b.n++] = g;
        }
        size_t all = b.n;

        if (!stopped)
            b.n = g_hold_resting(b.g, all);
        // Some may have ended meanwhile, and others begun in their slot.
        for (size_t k = 0; k < b.n;) {
            if (is_somebody(b.g[k])) {
                k++;
                continue;
            }
            if (!stopped)
                g_resume(b.g[k]);
            b.g[k] = b.g[--b.n];
        }
        scan_batch(m, &b, epoch, n);
        for (size_t k = 0; k < b.n && !stopped; k++)
            g_resume(b.g[k]);
    }
}

void stacks_check(struct marker *m)
{
    struct g *g;

    for (size_t i = 0; (g = stack_nth(i)) != NULL; i++) {
        const void *registers;
        size_t bytes;

        if (g == g_current() || !is_somebody(g))
            continue;
        mark_check_range_of_code(m, live_from(g, &registers, &bytes),
                                 stack_top(g), "a stack");
        if (bytes > 0)
            mark_check_range_of_code(m, (uintptr_t)registers,
                                     (uintptr_t)registers + bytes,
                                     "a register");
    }
}
