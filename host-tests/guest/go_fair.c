// What the scheduler gives to whom, after Go's own tests: src/runtime/proc_test.go. Each
// point begins with the name of the test that it answers (go-tests.tsv lists them all).
//
// usage: go_fair

#include "host-tests/guest/go_test.h"

#include <gneiss/chan.h>
#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdatomic.h>
#include <stdint.h>

enum { MS = 1000000 };

static struct gn_wg all;

// ---- fairness ----

static _Atomic bool over;
static struct gn_wg hogs;
static _Atomic unsigned turn;
static ints to, fro;

static void only_yields(void *arg)
{
    (void)arg;
    while (!over)
        gn_yield();
    gn_wg_done(&all);
}

static void yield_progress(void)
{
    over = false;
    gn_wg_add(&all, 2);
    go(only_yields, NULL);
    go(only_yields, NULL);
    for (int i = 0; i < 10; i++)
        gn_yield();
    over = true;
    gn_wg_wait(&all);
    ok(true, "TestYieldProgress: who yields comes back");
}

// Each waits for its turn without giving its CPU away.
static void takes_turns(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg, n = gn_cpu_count();

    for (unsigned i = 0; i < 3; i++) {
        while (turn != i * n + me)
            ;
        turn++;
    }
    gn_wg_done(&all);
}

static void parallelism(void)
{
    turn = 0;
    gn_wg_add(&all, gn_cpu_count());
    for (uintptr_t i = 0; i < gn_cpu_count(); i++)
        go(takes_turns, (void *)i);
    gn_wg_wait(&all);
    IS(turn, 3 * gn_cpu_count(),
       "TestGoroutineParallelism: as many as CPUs spin");
}

static void sends_always(void *arg)
{
    int v = 0;

    (void)arg;
    while (!over) {
        struct gn_case cases[] = {GN_SEND(to, &v), GN_RECV(fro, NULL)};

        gn_select(cases, 2);
    }
    gn_wg_done(&all);
}

static void timer_fairness(void)
{
    to = gn_make_chan(ints, 0);
    fro = gn_make_chan(ints, 0);
    gn_times t = gn_after(5 * MS);
    size_t which;

    over = false;
    gn_wg_add(&all, 2);
    go(sends_always, NULL);
    go(sends_always, NULL);
    do {
        struct gn_case cases[] = {GN_RECV(to, NULL), GN_RECV(t, NULL)};

        which = gn_select(cases, 2);
    } while (which == 0);
    over = true;
    gn_close(fro);
    gn_wg_wait(&all);
    ok(true, "TestTimerFairness: a timer comes through among busy channels");
}

static void answers(void *arg)
{
    int v;

    (void)arg;
    while (gn_recv(to, &v))
        gn_send(fro, v);
    gn_wg_done(&all);
}

static void asks(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++) {
        gn_send(to, i);
        (void)gn_next(fro);
    }
    gn_close(to);
    gn_wg_done(&all);
}

static void hog(void *arg)
{
    (void)arg;
    while (!over)
        ;
    gn_wg_done(&hogs);
}

static void ping_pong_hog(void)
{
    to = gn_make_chan(ints, 0);
    fro = gn_make_chan(ints, 0);
    over = false;
    for (unsigned i = 0; i < gn_cpu_count(); i++) {
        gn_wg_add(&hogs, 1);
        go(hog, NULL);
    }
    gn_wg_add(&all, 2);
    go(answers, NULL);
    go(asks, NULL);
    gn_wg_wait(&all);
    over = true;
    gn_wg_wait(&hogs);
    ok(true,
       "TestPingPongHog: there and back 100 times, beside a loop on each CPU");
}

// ---- on a CPU of their own: there are no threads to be locked to ----

static void sends_ten(void *arg)
{
    (void)arg;
    gn_cpu_stay(0);
    for (int i = 0; i < 10; i++)
        gn_send(to, i);
    gn_cpu_stay(GN_CPU_ANY);
    gn_wg_done(&all);
}

static void yields_until_told(void *arg)
{
    int v;

    (void)arg;
    gn_cpu_stay(0);
    while (!gn_try_recv(to, &v, NULL))
        gn_yield();
    gn_send(fro, v);
    gn_wg_done(&all);
}

static void yields_ten_times(void *arg)
{
    (void)arg;
    gn_cpu_stay(0);
    for (int i = 0; i < 10; i++) {
        gn_yield();
        gn_sleep(10);
    }
    gn_send(to, 1);
    gn_wg_done(&all);
}

static void pinned(void)
{
    bool good = true;

    to = make(0);
    fro = make(0);
    gn_wg_add(&all, 3);
    go(sends_ten, NULL);
    for (int i = 0; i < 10; i++)
        good &= gn_next(to) == i;
    ok(good, "TestBlockLocked: one that stays blocks, and goes on");
    go(yields_until_told, NULL);
    gn_sleep(MS);
    gn_send(to, 7);
    IS(gn_next(fro), 7, "TestYieldLockedProgress: one that stays yields");
    go(yields_ten_times, NULL);
    IS(gn_next(to), 1, "TestYieldLocked: and comes back");
    gn_wg_wait(&all);
}

static void sends_and_sleeps(void *timer)
{
    gn_times t = {timer};
    size_t which;

    do {
        int v = 0;
        struct gn_case cases[] = {GN_SEND(to, &v), GN_RECV(to, NULL),
                                  GN_RECV(t, NULL)};

        gn_sleep(0);
        gn_yield();
        which = gn_select(cases, 3);
    } while (which != 2);
    gn_wg_done(&all);
}

static void timer_fairness2(void)
{
    to = make(0);
    gn_wg_add(&all, 2);
    for (int i = 0; i < 2; i++)
        go(sends_and_sleeps, gn_after(5 * MS).raw);
    gn_wg_wait(&all);
    ok(true, "TestTimerFairness2: timers come through among two that yield");
}

int main(void)
{
    yield_progress();
    parallelism();
    timer_fairness();
    ping_pong_hog();
    pinned();
    timer_fairness2();
    return tap_end();
}
