// See help.h.
//
// A helper has a queue of its own, on its stack, only while it is counted in `active`.
// So when helping is forbidden and the count is zero all gray spans are in the common
// queue. Both are sequentially consistent: who counts itself sees that helping is
// forbidden, or is seen.
//
// Source: Go, src/runtime/mgcmark.go (assists), mgcpacer.go (idle workers).

#include "runtime/gc/help.h"

#include "mm/mm.h"
#include "runtime/sched/event.h"
#include "runtime/sched/p.h"

enum {
    PIECE = 64 * 1024, // bytes scanned between two looks at others
    NAP_NS = 500000,   // of a helper whose CPU has other things to do
};

static _Atomic bool allowed;
static _Atomic int active;
static _Atomic uint64_t numbers; // of markers in use; bit 0 is the collector's
static _Atomic uint64_t marked, objects, scanned;
static struct event wake[ARCH_MAX_CPUS];
static unsigned helpers = 1; // goroutines of CPUs 1 up to this one are made

static int take_number(void)
{
    uint64_t used = atomic_load(&numbers), bit;

    do {
        bit = ~(used | 1) & ((used | 1) + 1);
        if (bit == 0)
            return -1;
    } while (!atomic_compare_exchange_weak(&numbers, &used, used | bit));
    return __builtin_ctzll(bit);
}

static bool enter(struct marker *m)
{
    int number;

    atomic_fetch_add(&active, 1);
    if (!atomic_load(&allowed) || (number = take_number()) < 0) {
        atomic_fetch_sub(&active, 1);
        return false;
    }
    mark_begin(m, (unsigned)number);
    return true;
}

static void leave(struct marker *m)
{
    mark_share(m);
    atomic_fetch_add_explicit(&marked, m->marked, memory_order_relaxed);
    atomic_fetch_add_explicit(&objects, m->objects, memory_order_relaxed);
    atomic_fetch_add_explicit(&scanned, m->scanned, memory_order_relaxed);
    atomic_fetch_and(&numbers, ~(UINT64_C(1) << m->number));
    atomic_fetch_sub(&active, 1);
}

bool help_mark(uint64_t bytes)
{
    struct marker m;

    if (mark_is_idle() || !enter(&m))
        return false;
    (void)mark_drain(&m, bytes);
    leave(&m);
    return m.scanned > 0;
}

void help_begin(void)
{
    atomic_store(&allowed, true);
    help_wake();
}

void help_end(void)
{
    enum { NAP = 20000 };

    atomic_store(&allowed, false);
    while (help_is_active())
        g_sleep_until(arch_mono_ns() + NAP);
}

bool help_is_active(void)
{
    return atomic_load(&active) != 0;
}

void help_count(struct marker *m)
{
    m->marked += atomic_exchange(&marked, 0);
    m->objects += atomic_exchange(&objects, 0);
    m->scanned += atomic_exchange(&scanned, 0);
}

// ---- goroutines of idle CPUs ----

static bool is_busy(void)
{
    preempt_disable();
    bool busy = sched_has_work(this_p());

    preempt_enable();
    return busy;
}

static void work(void *arg)
{
    struct event *e = arg;

    for (;;) {
        if (!help_mark(PIECE))
            event_wait_idle(e, "GC worker (idle)");
        else if (is_busy())
            g_sleep_until(arch_mono_ns() + NAP_NS);
    }
}

void help_start(void)
{
    for (; helpers < arch_cpu_count(); helpers++) {
        struct g *g = g_create(work, &wake[helpers], "gc", (int)helpers);

        if (g == NULL)
            return;
        g_hide(g);
        g_ready(g);
    }
}

void help_wake(void)
{
    for (unsigned cpu = 1; cpu < helpers; cpu++) {
        preempt_disable();
        event_happened(&wake[cpu]);
        preempt_enable();
    }
}
