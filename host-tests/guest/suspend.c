// One goroutine at a time is brought to rest: whoever it is, it stands still, its
// registers can be found, and it goes on as if nothing had been.
//
// usage: suspend [ROUNDS]

#include "host-tests/guest/mem_test.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "runtime/debug/debug.h"
#include "runtime/sched/g_impl.h"

static unsigned rounds = 300;
static _Atomic bool stop;

// One that counts in some way of its own.
struct counter {
    _Atomic uint64_t n;
    struct g *_Atomic g;
    struct gn_wg *all;
    struct counter *other;
    void (*count)(struct counter *c);
};

static void run(void *arg)
{
    struct counter *c = arg;

    c->g = g_current();
    while (!stop)
        c->count(c);
    gn_wg_done(c->all);
}

static void bump(struct counter *c)
{
    atomic_store_explicit(&c->n, c->n + 1, memory_order_relaxed);
}

NOINLINE static void spinning(struct counter *c)
{
    for (unsigned i = 0; i < 1000; i++)
        bump(c);
}

static void yielding(struct counter *c)
{
    bump(c);
    gn_yield();
}

static void sleeping(struct counter *c)
{
    bump(c);
    g_sleep_until(arch_mono_ns() + 50000);
}

static void allocating(struct counter *c)
{
    bump(c);
    free(malloc((size_t)(c->n % 3000)));
}

// Suspends another one for a while, and may be suspended meanwhile.
static void suspending(struct counter *c)
{
    bump(c);
    if (c->other->g != NULL && g_suspend(c->other->g))
        g_resume(c->other->g);
    gn_yield();
}

static struct counter counters[] = {
    {.count = spinning},  {.count = yielding},   {.count = sleeping},
    {.count = spinning},  {.count = allocating}, {.count = suspending},
    {.count = suspending}};

enum {
    COUNTERS = sizeof counters / sizeof counters[0],
    SIMPLE = COUNTERS - 2, // those that suspend nobody
};

static void start(struct gn_wg *all)
{
    stop = false;
    gn_wg_add(all, COUNTERS);
    for (unsigned i = 0; i < COUNTERS; i++) {
        counters[i].all = all;
        counters[i].other = &counters[i == COUNTERS - 1 ? i - 1 : i + 1];
        counters[i].g = NULL;
        if (gn_go(run, &counters[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < COUNTERS; i++) {
        while (counters[i].g == NULL)
            gn_yield();
    }
}

static void they_stand_still(void)
{
    struct gn_wg all = {0};
    unsigned moved = 0, stuck = 0;

    start(&all);
    for (unsigned r = 0; r < rounds; r++) {
        // Two at once: the first may be about to bring somebody to rest, too.
        struct counter *c = &counters[arch_random() % COUNTERS];
        struct counter *d = &counters[arch_random() % SIMPLE];

        if (!g_suspend(c->g) || (d != c && !g_suspend(d->g)))
            abort();
        uint64_t n = c->n, m = d->n;

        for (unsigned i = 0; i < arch_random() % 5; i++)
            gn_yield();
        moved += c->n != n || d->n != m;
        if (d != c)
            g_resume(d->g);
        g_resume(c->g);
    }
    IS(moved, 0, "who is suspended does nothing");
    for (unsigned i = 0; i < COUNTERS; i++) {
        uint64_t n = counters[i].n, until = arch_mono_ns() + 100000000000;

        while (counters[i].n == n && arch_mono_ns() < until)
            gn_yield();
        stuck += counters[i].n == n;
    }
    IS(stuck, 0, "and all go on");
    stop = true;
    gn_wg_wait(&all);
}

static bool is_in(uintptr_t pc, const char *function)
{
    size_t offset;
    const char *name = pc != 0 ? symbol_find(pc - 1, &offset) : NULL;

    return name != NULL && strcmp(name, function) == 0;
}

static void its_registers_are_found(void)
{
    enum { TRIES = 20, MOST = 16 };
    struct gn_wg all = {0};
    unsigned named = 0, in_order = 0;

    start(&all);
    for (unsigned i = 0; i < TRIES; i++) {
        struct g *g = counters[0].g;
        struct backtrace_place b = {0};
        uintptr_t pcs[MOST] = {0};

        if (!g_suspend(g))
            abort();
        size_t n = backtrace_where(&g->ctx, &b)
                       ? backtrace_collect(b.fp, pcs, MOST)
                       : 0;
        bool calls = is_in(b.ret, "run");

        for (size_t k = 0; k < n; k++)
            calls |= is_in(pcs[k], "run");
        named += is_in(b.pc + 1, "spinning") || is_in(b.pc + 1, "run") ||
                 is_in(b.pc + 1, "bump");
        in_order += is_in(b.pc + 1, "run") || calls;
        g_resume(g);
        gn_yield();
    }
    IS(named, TRIES, "where it stands is found");
    IS(in_order, TRIES, "and who called");
    stop = true;
    gn_wg_wait(&all);
}

// ---- all of them by all ----

enum { ALL = 8 };

static struct g *_Atomic everybody[ALL];
static _Atomic unsigned holder[ALL], twice, through;

static void nothing(void *arg)
{
    (void)arg;
}

static void hold(unsigned who, bool for_long)
{
    if (!g_suspend(everybody[who]))
        abort();
    twice += atomic_exchange(&holder[who], 1) != 0;
    gn_yield();
    if (for_long)
        sched_stop_world(nothing, NULL);
    holder[who] = 0;
    g_resume(everybody[who]);
}

static void suspend_others(void *all)
{
    static _Atomic unsigned next;
    unsigned me = next++;

    everybody[me] = g_current();
    for (unsigned i = 0; i < ALL; i++) {
        while (everybody[i] == NULL)
            gn_yield();
    }
    for (unsigned r = 0; r < rounds / 4; r++) {
        unsigned who = (unsigned)(arch_random() % ALL);

        if (who != me)
            hold(who, r % 8 == 0);
        else if (r % 4 == 0)
            sched_stop_world(nothing, NULL);
    }
    for (through++; through < ALL;) // they may want us
        gn_yield();
    gn_wg_done(all);
}

static void each_suspends_all(void)
{
    struct gn_wg all = {0};

    gn_wg_add(&all, ALL);
    for (unsigned i = 0; i < ALL; i++) {
        if (gn_go(suspend_others, &all) != 0)
            abort();
    }
    gn_wg_wait(&all);
    IS(twice, 0, "each suspends all, who is suspended by one at a time");
}

// ---- waking, ending ----

static struct gn_wg gate, passed;

static void pass(void *arg)
{
    atomic_store((struct g * _Atomic *)arg, g_current());
    gn_wg_wait(&gate);
    gn_wg_done(&passed);
}

static void a_wakeup_waits(void)
{
    struct g *_Atomic g = NULL;

    gn_wg_add(&gate, 1);
    gn_wg_add(&passed, 1);
    if (gn_go(pass, &g) != 0)
        abort();
    while (g == NULL || g->state != G_PARKED)
        gn_yield();
    ok(g_suspend(g), "who waits is suspended");
    gn_wg_done(&gate);
    for (unsigned i = 0; i < 100; i++)
        gn_yield();
    IS(passed.state_ >> 32, 1, "who wakes it has to wait for us");
    g_resume(g);
    gn_wg_wait(&passed);
    ok(true, "then it goes on");
    while (gn_go_count() > 1)
        gn_yield();
    ok(!g_suspend(g), "who has ended is not suspended");
}

// Others begin and end while we try.
static void little(void *arg)
{
    atomic_store((struct g * _Atomic *)arg, g_current());
}

static void they_may_end(void)
{
    struct g *_Atomic g = NULL;
    unsigned held = 0;

    for (unsigned r = 0; r < rounds; r++) {
        if (gn_go(little, &g) != 0)
            abort();
        struct g *one = g; // another one writes there

        if (one != NULL && g_suspend(one)) {
            held++;
            g_resume(one);
        }
    }
    while (gn_go_count() > 1)
        gn_yield();
    ok(true, "%u of %u were caught alive, all have ended", held, rounds);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    they_stand_still();
    its_registers_are_found();
    each_suspends_all();
    a_wakeup_waits();
    they_may_end();
    return tap_end();
}
