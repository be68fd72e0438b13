// A goroutine is brought to rest while there is no memory for its registers: it goes
// on until there is some, stops of the world or not. These lend it what its CPU has
// for them, which must be free again for the next one.

#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include "mm/fail.h"
#include "runtime/sched/p.h"

enum { STOPS = 10, NAP_NS = 1000000 };

static struct g *_Atomic looper; // on CPU 1
static _Atomic bool rests, stop;
static struct gn_wg both;

// From here on CPU 1 has no area, and gets none.
static void lose_areas(struct full_area **kept)
{
    // One of our own is given back when we leave by a call.
    for (preempt_disable(); g_current()->area != NULL; preempt_disable()) {
        preempt_enable();
        gn_yield();
    }
    *kept = this_p()->areas;
    this_p()->areas = NULL;
    mm_fail_at(1, true);
    preempt_enable();
}

static void loop(void *arg)
{
    struct full_area *kept;

    (void)arg;
    lose_areas(&kept);
    looper = g_current();
    while (!stop)
        arch_pause();
    preempt_disable();
    this_p()->areas = kept; // others, if there were any since, are lost
    preempt_enable();
    gn_wg_done(&both);
}

static void suspend(void *arg)
{
    (void)arg;
    while (looper == NULL)
        gn_yield();
    if (!g_suspend(looper))
        abort();
    rests = true;
    while (!stop)
        gn_yield();
    g_resume(looper);
    gn_wg_done(&both);
}

// With the world stopped.
static void count_lent(void *n)
{
    *(unsigned *)n += rests && looper->ctx.full == p_of_cpu(1)->stop_area;
}

int main(void)
{
    unsigned lent = 0;

    gn_wg_add(&both, 2);
    // Both while there is memory.
    if (gn_cpu_start(0, suspend, NULL) != 0 || gn_cpu_start(1, loop, NULL) != 0)
        abort();
    while (looper == NULL || looper->held == 0)
        gn_yield();
    for (unsigned i = 0; i < STOPS; i++) {
        sched_stop_world(count_lent, &lent);
        g_sleep_until(arch_mono_ns() + NAP_NS);
    }
    bool early = rests;

    mm_fail_at(0, false);
    IS(lent, 0, "who rests has not what its CPU needs for a stop of the world");
    ok(!early, "nobody rests without memory for its registers");
    while (!rests)
        gn_yield();
    ok(true, "it rests when there is some");
    stop = true;
    gn_wg_wait(&both);
    return tap_end();
}
