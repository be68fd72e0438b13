// A collection, step by step.
//
//   1  finish sweeping what the last one found
//   2  short stop: pages are held from now on (collect.h)
//   3  clear the D bits; make all objects white; scan roots and goroutines, and mark
//      on from there. Goroutines run meanwhile
//   4  rounds: scan again what was stored to, and who ran, until that is little
//   5  final stop: the same once more, and all that it leads to
//   6  sweep while goroutines run
//
// Whatever was stored after its page was last scanned makes the page dirty, and who
// loaded a pointer after he was last scanned has run. So in the final stop all that is
// reachable has been reached, or is found from dirty pages and changed goroutines.
//
// It is the work of one goroutine, which is made when it is first needed. Who wants a
// collection asks it; asked twice meanwhile it does two.
//
// Source: Boehm, Demers, Shenker (1991); Go, src/runtime/mgc.go for the phases.

#include <gneiss/gc.h>

#include "arch/option.h"
#include "mm/mm.h"
#include "runtime/gc/break.h"
#include "runtime/gc/gc.h"
#include "runtime/gc/help.h"
#include "runtime/gc/leaks.h"
#include "runtime/gc/pace.h"
#include "runtime/gc/special.h"
#include "runtime/gc/stacks.h"
#include "runtime/sched/event.h"
#include "runtime/sched/p.h"

enum {
    FEW_PAGES = 64, // dirty: then the final stop is short enough
    MOST_ROUNDS = 10,
    SHRINKS = 7, // tenths: a round that shrinks by less does not converge
    PIECE = 256 * 1024, // bytes scanned between two looks at others
    TURN_NS = 500000,
    NAP_NS = 20000,
    HEAP_PIECE = 512, // heap pages
};

static uint64_t mode_stw, trace, check;
OPTION_UINT(opt_trace, "gc.trace", trace, 0, 1,
            "1: a line to stderr for each collection");
OPTION_UINT(opt_check, "gc.check", check, 0, 1,
            "1: each collection is checked while the world stands still");

static const char *set_mode(const char *s)
{
    static const char *const names[] = {"concurrent", "stw"};

    for (unsigned i = 0; i < 2; i++) {
        const char *a = s, *b = names[i];

        while (*a != '\0' && *a == *b)
            a++, b++;
        mode_stw = i;
        if (*a == '\0' && *b == '\0')
            return NULL;
    }
    return "concurrent, or stw: the world stands still for a whole collection";
}

OPTION_CALL(opt_mode, "gc.mode", set_mode,
            "concurrent, or stw: the world stands still meanwhile");

// The collector's goroutine.
static struct g *_Atomic worker;
static struct event wake;
static _Atomic bool wanted;
static _Atomic uint64_t asked, finished; // collections, by number

static struct gn_gc_stats stats; // written by the worker only

struct waiter {
    struct waiter *next;
    struct g *g;
    uint64_t number;
};

static struct spinlock wait_lock; // of goroutines
static struct waiter *waiters;    // [wait_lock]

// ---- a collection ----

struct cycle {
    struct marker m;
    uint64_t turn; // when it last let others run
    struct gc_report r;
};

static void (*_Atomic observer)(enum gn_gc_step step);

void gn_gc_watch(void (*fn)(enum gn_gc_step step))
{
    atomic_store(&observer, fn);
}

static void done(enum gn_gc_step step)
{
    void (*fn)(enum gn_gc_step) = atomic_load(&observer);

    if (unlikely(fn != NULL))
        fn(step);
}

static void whiten_all(struct cycle *c)
{
    uint64_t end = c->m.heap_bytes >> HEAP_PAGE_SHIFT;

    for (uint64_t p = 0; p < end; p += HEAP_PIECE)
        collect_whiten(p, min_u64(HEAP_PIECE, end - p));
}

// A quarter of the CPUs is ours; of fewer than four a quarter of the time, if others
// want the rest.
static void give_way(struct cycle *c)
{
    uint64_t now = arch_mono_ns(), ran = now - c->turn;

    if (ran < TURN_NS)
        return;
    preempt_disable();
    bool busy = sched_has_work(this_p());

    preempt_enable();
    if (busy && arch_cpu_count() < 4 && !pace_is_late())
        g_sleep_until(now + 3 * ran);
    c->turn = arch_mono_ns();
}

static void drain(struct cycle *c, bool stopped)
{
    for (;;) {
        if (!mark_drain(&c->m, PIECE)) {
            if (!stopped) {
                gc_at(GC_AT_PIECE);
                give_way(c);
            }
        } else if (!help_is_active() && mark_is_idle()) {
            // In this order: who enters from now on finds nothing.
            return;
        } else {
            g_sleep_until(arch_mono_ns() + NAP_NS);
        }
    }
}

static uint64_t scan_goroutines(struct cycle *c, bool stopped)
{
    struct stacks_count n = {0};

    stacks_scan(&c->m, stopped, &n);
    c->r.goroutines += n.goroutines;
    c->r.stack_pages += n.pages;
    return n.pages;
}

// Scans again what has changed. Returns how many pages that were.
static uint64_t again(struct cycle *c, bool stopped)
{
    uint64_t dirty = roots_rescan(&c->m);

    if (!stopped)
        gc_at(GC_AT_ROUND);
    dirty += scan_goroutines(c, stopped);
    drain(c, stopped);
    return dirty;
}

static void do_rounds(struct cycle *c)
{
    uint64_t before = UINT64_MAX;
    unsigned slow = 0;

    while (c->r.rounds < MOST_ROUNDS) {
        uint64_t n = again(c, false);

        c->r.rounds++;
        c->r.round_pages += n;
        done(GN_GC_ROUND);
        if (n <= FEW_PAGES)
            break;
        slow = n > before / 10 * SHRINKS ? slow + 1 : 0;
        if (slow == 2)
            break;
        before = n;
    }
}

// Goroutines run. False: stores can't be watched.
static bool mark_concurrently(struct cycle *c)
{
    uint64_t from = arch_mono_ns();
    bool ok = roots_begin();

    c->turn = from;
    if (ok) {
        // As it is after the D bits were cleared: what came to the heap before that, and
        // was stored to, has to be white, or scanned as a root.
        c->m.heap_bytes = pages_end() - ARCH_HEAP_BASE;
        whiten_all(c);
        gc_at(GC_AT_BEGIN);
        done(GN_GC_WHITE);
        help_start();
        help_begin();
        roots_scan(&c->m);
        scan_goroutines(c, false);
        gc_at(GC_AT_ROOTS);
        done(GN_GC_ROOTS);
        drain(c, false);
        done(GN_GC_MARKED);
        do_rounds(c);
        help_end();
        help_count(&c->m);
        gc_at(GC_AT_END);
    }
    c->r.mark_ns = arch_mono_ns() - from;
    return ok;
}

static void check_marks(const struct cycle *c)
{
    struct marker m = c->m;

    stacks_check(&m);
    roots_check(&m);
    collect_check_tiny();
}

// The world is stopped. marked: all but what has changed.
static void finish_marking(struct cycle *c, bool marked)
{
    if (marked && gc_breaks(GC_BREAK_FINAL)) {
        // It misses what changed since the last round.
    } else if (marked) {
        c->r.final_pages = again(c, true);
    } else {
        c->m.heap_bytes = pages_end() - ARCH_HEAP_BASE;
        whiten_all(c);
        roots_scan(&c->m);
        scan_goroutines(c, true);
    }
    roots_scan_always(&c->m);
    drain(c, true);
    collect_keep_tiny();
    if (check)
        check_marks(c);
    done(GN_GC_STOPPED);
    special_begin();
    collect_end_marking();
}

static void drain_all(struct marker *m)
{
    while (!mark_drain(m, PIECE))
        ;
}

static void count(const struct cycle *c)
{
    const struct gc_report *r = &c->r;

    stats.cycles++;
    stats.stop_ns += r->stop_ns[0] + r->stop_ns[1];
    stats.stop_ns_max =
        max_u64(stats.stop_ns_max, max_u64(r->stop_ns[0], r->stop_ns[1]));
    stats.mark_ns += r->mark_ns;
    stats.rounds += r->rounds;
    stats.last_rounds = r->rounds;
    stats.final_pages = r->final_pages;
    stats.final_pages_max = max_u64(stats.final_pages_max, r->final_pages);
}

static void drain_sweep(void)
{
    while (collect_sweep())
        ;
    while (!collect_is_swept())
        g_yield();
}

static void collect(void)
{
    struct cycle c = {
        .r = {.number = stats.cycles + 1, .start = arch_mono_ns()}};
    uint64_t start;
    bool marked = false;

    drain_sweep();
    collect_is_over();
    start = arch_mono_ns();
    (void)sched_world_stop();
    collect_hold();
    mark_begin(&c.m, 0);
    stacks_begin();
    c.r.before = pace_begin();
    if (!mode_stw) {
        sched_world_start();
        c.r.stop_ns[0] = arch_mono_ns() - start;
        marked = mark_concurrently(&c);
        start = arch_mono_ns();
        (void)sched_world_stop();
    }
    finish_marking(&c, marked);
    pace_end(c.m.marked);
    sched_world_start();
    c.r.stop_ns[1] = arch_mono_ns() - start;
    special_finish(&c.m, drain_all);
    collect_begin_sweep();
    collect_release();
    pace_let_go();
    pace_report(&c.r);
    stats.live = c.r.live;
    stats.goal = c.r.goal;
    c.r.objects = c.m.objects;
    c.r.scanned = c.m.scanned;
    count(&c);
    if (unlikely(atomic_load(&observer) != NULL)) {
        drain_sweep();
        done(GN_GC_SWEPT);
    }
    if (trace)
        gc_trace(&c.r);
}

// ---- the goroutine ----

static struct waiter *take_waiters(uint64_t number)
{
    struct waiter *done = NULL, **at = &waiters;

    spin_lock(&wait_lock);
    while (*at != NULL) {
        struct waiter *w = *at;

        if (w->number > number) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = done;
        done = w;
    }
    spin_unlock(&wait_lock);
    return done;
}

static void wake_waiters(uint64_t number)
{
    struct waiter *w = take_waiters(number);

    while (w != NULL) {
        struct waiter *next = w->next;

        g_ready(w->g); // its record may be gone from here on
        w = next;
    }
}

static void work(void *arg)
{
    (void)arg;
    for (;;) {
        uint64_t number = atomic_load(&asked);
        bool forced = number > atomic_load(&finished);

        if (!forced && !atomic_exchange(&wanted, false)) {
            event_wait_idle(&wake, "GC worker (idle)");
            continue;
        }
        atomic_store(&wanted, false);
        collect();
        stats.forced += forced;
        while (collect_sweep())
            g_yield();
        while (!collect_is_swept())
            g_yield();
        collect_is_over();
        atomic_store(&finished, number);
        wake_waiters(number);
    }
}

// Makes the worker, once. False: there is no memory for it.
static bool have_worker(void)
{
    static _Atomic bool making;

    while (atomic_load(&worker) == NULL) {
        if (atomic_exchange(&making, true)) {
            g_yield();
            continue;
        }
        struct g *g = g_create(work, NULL, "gc", G_ANY_CPU);

        if (g != NULL) {
            g_hide(g);
            atomic_store(&worker, g);
            g_ready(g);
        }
        atomic_store(&making, false);
        return g != NULL;
    }
    return true;
}

static void ring(void)
{
    preempt_disable();
    event_happened(&wake);
    preempt_enable();
}

// In the heap's slow path, no-preempt, on the system stack.
static void want(void)
{
    if (atomic_exchange(&wanted, true))
        return;
    if (atomic_load(&worker) != NULL)
        event_happened(&wake);
}

// Before a slow allocation, in a goroutine.
static void assist(void)
{
    if (unlikely(atomic_load_explicit(&wanted, memory_order_relaxed)) &&
        atomic_load(&worker) == NULL)
        (void)have_worker();
    if (g_current() != atomic_load(&worker))
        pace_assist();
}

static void wait_unlock(void *arg)
{
    (void)arg;
    spin_unlock(&wait_lock);
}

static bool collect_now(void)
{
    struct waiter me = {.g = g_current()};

    if (me.g == NULL || me.g == atomic_load(&worker) || !have_worker())
        return false;
    me.number = atomic_fetch_add(&asked, 1) + 1;
    spin_lock(&wait_lock);
    if (atomic_load(&finished) >= me.number) {
        spin_unlock(&wait_lock);
        return true;
    }
    me.next = waiters;
    waiters = &me;
    ring();
    g_park("wait for GC cycle", wait_unlock, NULL);
    return true;
}

// For who finds no memory. Where there is nothing to collect it is not tried, and not
// twice if it brought nothing.
static bool collect_for_memory(void)
{
    uint64_t before = atomic_load(&collect_freed);

    return atomic_load(&collect_handed_out) != 0 && collect_now() &&
           atomic_load(&collect_freed) != before;
}

void gn_gc(void)
{
    (void)collect_now();
}

void gn_gc_stats(struct gn_gc_stats *s)
{
    *s = stats;
    s->freed = atomic_load(&collect_freed);
    s->freed_bytes = atomic_load(&collect_freed_bytes);
}

enum gn_gc_colour gn_gc_colour(const void *p)
{
    uintptr_t va = (uintptr_t)p;
    struct heap_place at;

    if (!heap_place_of(va, &at) || at.span == NULL || !at.allocated ||
        at.object != va || at.span->kind == HEAP_MANUAL)
        return GN_FREE;
    if (!collect_is_white(va))
        return GN_BLACK;
    return mark_is_gray(at.span, va) ? GN_GRAY : GN_WHITE;
}

void *gn_alloc_array(size_t n, size_t size, enum gn_heap_kind kind)
{
    size_t bytes;

    if (__builtin_mul_overflow(n, size, &bytes))
        bytes = SIZE_MAX;
    return gn_alloc(bytes, kind, 0);
}

void gc_init(uintptr_t data, uintptr_t end)
{
    roots_init(data, end);
    collect_checks = check;
    collector = (struct collector){NULL, want, assist, special_freed,
                                   collect_for_memory};
    leaks_init();
    pace_init();
}
