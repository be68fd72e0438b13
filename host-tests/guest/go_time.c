// Timers, after Go's own tests: src/time/sleep_test.go, tick_test.go. Each point begins
// with the name of the test that it answers (go-tests.tsv lists them all). Nothing has to happen soon: only order, counts, and
// that nothing comes too early.
//
// usage: go_time [ROUNDS]

#include "host-tests/guest/go_test.h"

#include <gneiss/chan.h>
#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdatomic.h>
#include <stdint.h>

enum { MS = 1000000 };

static unsigned rounds = 100;
static struct gn_wg all;

// ---- sleeping ----

static void sleeping(void)
{
    int64_t start = gn_now();

    gn_sleep(5 * MS);
    ok(gn_now() - start >= 5 * MS, "TestSleep: not too short");
    start = gn_now();
    gn_sleep(0);
    gn_sleep(-1);
    gn_sleep(INT64_MIN);
    ok(true, "TestSleepZeroDeadlock: of nothing or less returns");
}

static _Atomic int order_next;
static int order_of[20];

static void sleep_by_number(void *arg)
{
    int k = (int)(uintptr_t)arg;

    gn_sleep((40 - 2 * k) * (int64_t)MS);
    order_of[order_next++] = k;
    gn_wg_done(&all);
}

static void sleep_order(void)
{
    gn_wg_add(&all, 20);
    for (uintptr_t i = 0; i < 20; i++)
        go(sleep_by_number, (void *)i);
    gn_wg_wait(&all);
    unsigned sum = 0;

    for (int i = 0; i < 20; i++)
        sum += (unsigned)order_of[i];
    IS(sum, 190, "TestSleep: 20 at once all wake");
}

// ---- AfterFunc ----

static _Atomic int calls;

static void count_call(void *arg)
{
    (void)arg;
    calls++;
}

static void again(void *arg)
{
    if (++calls < 10)
        need(gn_after_func(0, again, arg));
    else
        gn_wg_done(&all);
}

static void after_func(void)
{
    calls = 0;
    gn_wg_add(&all, 1);
    need(gn_after_func(0, again, NULL));
    gn_wg_wait(&all);
    IS(calls, 10, "TestAfterFunc: each has the next called");
}

static void call_done(void *wg)
{
    calls++;
    gn_wg_done(wg);
}

static void after_stress(void)
{
    calls = 0;
    gn_wg_add(&all, 1000);
    for (int i = 0; i < 1000; i++)
        need(gn_after_func((i * 7919) % 20 * (MS / 10), call_done, &all));
    gn_wg_wait(&all);
    IS(calls, 1000, "TestAfterStress: of 1,000 each is called once");
}

static void after_stop(void)
{
    calls = 0;
    struct gn_timer *soon = need(gn_after_func(20 * MS, count_call, NULL));
    struct gn_timer *late =
        need(gn_after_func(3600 * GN_SECOND, count_call, NULL));

    ok(gn_timer_stop(late), "TestAfterStop: of one that was to come");
    ok(!gn_timer_stop(late), "TestAfterStop: again");
    while (calls == 0)
        gn_sleep(MS);
    ok(!gn_timer_stop(soon) && calls == 1,
       "TestAfterStop: of one that has come");
    gn_timer_free(soon);
    gn_timer_free(late);
}

static void after_func_starvation(void)
{
    struct gn_timer *t = need(gn_after_func(0, count_call, NULL));

    calls = 0;
    for (int i = 0; i < 50; i++) {
        gn_timer_reset(t, 0);
        while (calls <= i)
            gn_yield();
    }
    ok(calls >= 50, "TestAfterFuncStarvation: 50 resets, 50 calls");
    gn_timer_free(t);
}

// ---- After, NewTimer ----

static void after(void)
{
    int64_t start = gn_now(), at = gn_next(gn_after(3 * MS));

    ok(at - start >= 3 * MS && gn_now() >= at, "TestAfter: the time is sent");
}

static void after_queuing(void)
{
    gn_times t[5];
    static const int at[] = {5, 0, 15, 10, 20};
    int64_t came[5], start = gn_now();
    bool good = true;

    for (int i = 0; i < 5; i++)
        t[i] = gn_after(at[i] * (int64_t)MS);
    for (int i = 0; i < 5; i++) {
        came[i] = gn_next(t[i]);
        good &= came[i] - start >= at[i] * (int64_t)MS;
    }
    // Those of one CPU; which are of one, if there is no other.
    if (gn_cpu_count() == 1)
        good &= came[1] <= came[0] && came[0] <= came[3] &&
                came[3] <= came[2] && came[2] <= came[4];
    ok(good, "TestAfterQueuing: in the order of their times, none too early");
}

static void timer_stop_stress(void)
{
    unsigned bad = 0;

    for (int i = 0; i < 100; i++) {
        struct gn_timer *t = need(gn_timer_new(2 * GN_SECOND));

        gn_sleep((i & 3) * (MS / 100));
        bad += !gn_timer_stop(t);
        gn_timer_free(t);
    }
    IS(bad, 0, "TestTimerStopStress: 100 stopped before they come");
}

static void reset(void)
{
    struct gn_timer *t = need(gn_timer_new(3600 * GN_SECOND));
    int64_t start = gn_now();

    ok(gn_timer_reset(t, 5 * MS), "TestReset: of one that runs");
    ok(gn_next(gn_timer_channel(t)) - start >= 5 * MS,
       "TestReset: it comes at the new time");
    ok(!gn_timer_reset(t, 2 * MS), "TestReset: of one that was received");
    (void)gn_next(gn_timer_channel(t));
    gn_timer_free(t);
}

static void no_stale_values(void)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < 20; i++) {
        struct gn_timer *t = need(gn_timer_new(0));
        int64_t v, before;

        gn_sleep(MS);
        if (i % 2 == 0) {
            gn_timer_stop(t);
            bad += gn_try_recv(gn_timer_channel(t), &v, NULL);
        } else {
            gn_timer_reset(t, MS);
            before = gn_now();
            v = gn_next(gn_timer_channel(t));
            bad += v < before;
        }
        gn_timer_free(t);
    }
    IS(bad, 0, "TestStopResult: nothing of before is received");
}

// Either it is stopped, or received: not both, and not neither.
static void stop_or_receive(void *arg)
{
    _Atomic unsigned *wrong = arg;

    for (int i = 0; i < 50; i++) {
        struct gn_timer *t = need(gn_timer_new(i % 3 * (MS / 20)));
        struct gn_timer *expired = need(gn_timer_new(0));

        if (i % 4 == 0)
            gn_sleep(MS / 20);
        if (!(i % 2 ? gn_timer_stop(t) : gn_timer_reset(t, 3600 * GN_SECOND)))
            *wrong += 1;
        if (gn_try_recv(gn_timer_channel(t), NULL, NULL))
            *wrong += 1;
        (void)gn_next(gn_timer_channel(expired));
        if (gn_timer_stop(expired))
            *wrong += 1;
        gn_timer_free(t);
        gn_timer_free(expired);
    }
    gn_wg_done(&all);
}

static void stop_result(void)
{
    static _Atomic unsigned wrong;

    gn_wg_add(&all, 20);
    for (int i = 0; i < 20; i++)
        go(stop_or_receive, &wrong);
    gn_wg_wait(&all);
    IS(wrong, 0, "TestStopResult: true unless it was received");
    struct gn_timer *t = need(gn_timer_new(0));

    gn_sleep(MS);
    ok(gn_len(gn_timer_channel(t)) == 0 && gn_cap(gn_timer_channel(t)) == 0,
       "TestChan of timers: len and cap are 0");
    gn_timer_free(t);
}

static void overflow(void)
{
    struct gn_timer *t = need(gn_timer_new(INT64_MAX)), *f,
                    *neg = need(gn_timer_new(INT64_MIN));

    (void)gn_next(gn_timer_channel(neg));
    ok(true, "TestOverflowSleep: a negative time comes at once");
    ok(!gn_try_recv(gn_timer_channel(t), NULL, NULL),
       "TestOverflowRuntimeTimer: the longest does not");
    calls = 0;
    f = need(gn_after_func(INT64_MAX, count_call, NULL));
    gn_sleep(2 * MS);
    ok(calls == 0 && gn_timer_stop(f) && gn_timer_stop(t),
       "TestOverflowSleep: nor is its function called");
    gn_timer_free(t);
    gn_timer_free(f);
    gn_timer_free(neg);
}

static void issue5745(void *arg)
{
    struct gn_timer *t = need(gn_after_func(MS, count_call, NULL));

    (void)arg;
    gn_timer_stop(t);
    gn_timer_free(t);
    gn_panic("locked?");
}

static void no_lock_held(void)
{
    ok(panics(issue5745, NULL, "locked?"),
       "TestIssue5745: a panic near timers");
    gn_sleep(MS);
    ok(true, "TestIssue5745: they still work");
}

static void zero_timer(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < rounds; i++) {
        struct gn_timer *t = need(gn_timer_new(0));

        (void)gn_next(gn_timer_channel(t));
        n++;
        gn_timer_free(t);
    }
    IS(n, rounds, "TestZeroTimer: timers of nothing come");
}

// ---- many, at once ----

static struct gn_timer *shared[10];

static void race(void *arg)
{
    unsigned k = (unsigned)(uintptr_t)arg;

    for (unsigned i = 0; i < rounds; i++) {
        struct gn_timer *t = shared[(k + i) % 10];

        if ((i + k) % 3 == 0)
            gn_timer_stop(t);
        else if ((i + k) % 3 == 1)
            (void)gn_try_recv(gn_timer_channel(t), NULL, NULL);
        if (i % 8 == 0)
            gn_sleep(i % 3 * (MS / 50));
    }
    gn_wg_done(&all);
}

static void reset_race(void *arg)
{
    unsigned k = (unsigned)(uintptr_t)arg;

    for (unsigned i = 0; i < rounds; i++)
        gn_timer_reset(shared[(k + i) % 10], i % 4 * (MS / 20));
    gn_wg_done(&all);
}

static void concurrent(void)
{
    for (int i = 0; i < 10; i++)
        shared[i] = need(gn_timer_new(MS));
    gn_wg_add(&all, 200);
    for (uintptr_t k = 0; k < 100; k++) {
        go(race, (void *)k);
        go(reset_race, (void *)k);
    }
    gn_wg_wait(&all);
    for (int i = 0; i < 10; i++) {
        gn_timer_reset(shared[i], 0);
        (void)gn_next(gn_timer_channel(shared[i]));
        gn_timer_free(shared[i]);
    }
    ok(true, "TestConcurrentTimerReset: 100 stop, 100 reset, all still work");
}

static void many_timers(void)
{
    enum { N = 3000 };
    static struct gn_timer *t[N];
    unsigned stopped = 0;

    calls = 0;
    for (int i = 0; i < N; i++)
        t[i] = need(
            gn_after_func(3600 * GN_SECOND + (i * 7919) % N, count_call, NULL));
    for (int i = 0; i < N; i++)
        stopped += gn_timer_stop(t[(i * 17) % N]);
    for (int i = 0; i < N; i++)
        gn_timer_free(t[i]);
    ok(stopped == N && calls == 0,
       "BenchmarkStop: of %d each is stopped, in another order", N);
}

// ---- tickers ----

static void ticker(void)
{
    int64_t start = gn_now(), last = start;
    struct gn_timer *t = need(gn_ticker_new(2 * MS));
    bool good = true;

    for (int i = 0; i < 10; i++) {
        int64_t v = gn_next(gn_timer_channel(t));

        good &= v > last;
        last = v;
    }
    ok(good && last - start >= 20 * MS, "TestTicker: ten times");
    start = gn_now();
    gn_timer_reset(t, MS);
    for (int i = 0; i < 5; i++)
        last = gn_next(gn_timer_channel(t));
    ok(last - start >= 5 * MS, "TestTickerResetLtZeroDuration: another time");
    ok(gn_timer_stop(t) && !gn_timer_stop(t), "TestTicker: stopped");
    gn_sleep(3 * MS);
    ok(!gn_try_recv(gn_timer_channel(t), NULL, NULL),
       "TestTeardown: nothing after that");
    gn_timer_free(t);
}

static void ticker_does_not_drift(void)
{
    struct gn_timer *t = need(gn_ticker_new(MS));
    int64_t first = gn_next(gn_timer_channel(t)), v = 0;
    unsigned bad = 0;

    for (int i = 0; i < 30; i++) {
        v = gn_next(gn_timer_channel(t));
        bad += (v - first) % MS != 0;
    }
    IS(bad, 0, "TestTicker: each at a whole number of times");
    gn_timer_free(t);
}

static void slow_ticker(void)
{
    struct gn_timer *t = need(gn_ticker_new(3 * MS));
    int n = 0;

    gn_sleep(30 * MS);
    while (n < 8 && gn_try_recv(gn_timer_channel(t), NULL, NULL))
        n++;
    ok(n >= 1 && n < 8, "TestTicker: who is slow misses some");
    gn_timer_free(t);
}

static void new_ticker(void *d)
{
    gn_ticker_new((intptr_t)d);
}

static void reset_to_nothing(void *t)
{
    gn_timer_reset(t, 0);
}

static void ticker_misuse(void)
{
    struct gn_timer *t = need(gn_ticker_new(GN_SECOND));

    ok(panics(new_ticker, NULL, "non-positive interval for NewTicker") &&
           panics(new_ticker, (void *)-1,
                  "non-positive interval for NewTicker"),
       "TestNewTickerLtZeroDuration: of nothing");
    ok(panics(reset_to_nothing, t, "non-positive interval for Ticker.Reset"),
       "TestTickerResetLtZeroDuration: to nothing");
    gn_timer_free(t);
    gn_timer_free(NULL);
}

static void tickers_teardown(void)
{
    for (int i = 0; i < 3; i++) {
        struct gn_timer *t = need(gn_ticker_new(MS / 2));

        (void)gn_next(gn_timer_channel(t));
        gn_timer_free(t);
    }
    ok(true, "TestTeardown: made and freed while they go");
}

// ---- as Go's tests that are younger ----

static void after_tick(void)
{
    int64_t start = gn_now();

    for (int i = 0; i < 10; i++)
        (void)gn_next(gn_after(2 * MS));
    ok(gn_now() - start >= 20 * MS, "TestAfterTick: ten times, not too fast");
}

// What is received is when it was due, whenever that is.
static void times_are_due_times(void)
{
    int64_t start = gn_now();
    gn_times c = gn_after(5 * MS);
    int64_t set = gn_now();
    struct gn_timer *t = need(gn_ticker_new(5 * MS));
    int64_t made = gn_now();

    gn_sleep(60 * MS);
    int64_t at = gn_next(c);

    ok(at >= start + 5 * MS && at <= set + 5 * MS,
       "TestAfterTimes: the time at which it was due");
    at = gn_next(gn_timer_channel(t));
    ok(at >= set + 5 * MS && at <= made + 5 * MS,
       "TestTickTimes: the first of those that have passed");
    gn_timer_free(t);
}

static uint32_t below(uint32_t n)
{
    static uint32_t x = 12345;

    x = x * 1664525 + 1013904223;
    return (uint32_t)((uint64_t)x * n >> 32);
}

// Each goes through all states of a timer, in an order of its own among the others'.
static void adjust_timers(void)
{
    enum { N = 100 };
    static struct gn_timer *t[N];
    int step[N] = {0}, which[N], n = N;
    unsigned wrong = 0;

    for (int i = 0; i < N; i++)
        which[i] = i;
    while (n > 0) {
        int k = (int)below((uint32_t)n), i = which[k];

        switch (step[i]++) {
        case 0:
            t[i] = need(gn_timer_new(0));
            break;
        case 1:
        case 9:
            (void)gn_next(gn_timer_channel(t[i]));
            break;
        case 2:
        case 4:
        case 6:
            wrong += gn_timer_reset(t[i], (step[i] % 3 + 1) * 60 * GN_SECOND);
            break;
        case 3:
        case 5:
        case 7:
            wrong += !gn_timer_stop(t[i]);
            break;
        case 8:
            wrong += gn_timer_reset(t[i], 0);
            break;
        default:
            gn_timer_free(t[i]);
            which[k] = which[--n];
        }
    }
    IS(wrong, 0, "TestAdjustTimers: 100 of them, in any order");
}

static struct gn_timer *shared_timer;

static void ticks_or_after(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 10 * rounds; i++) {
        gn_times late = gn_after(MS);
        struct gn_case cases[] = {GN_RECV(gn_timer_channel(shared_timer), NULL),
                                  GN_RECV(late, NULL)};

        gn_select(cases, 2);
    }
    gn_wg_done(&all);
}

static void receives_or_resets(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 10 * rounds; i++) {
        (void)gn_try_recv(gn_timer_channel(shared_timer), NULL, NULL);
        gn_timer_reset(shared_timer, 1);
    }
    gn_wg_done(&all);
}

static void hundred_ticks(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++)
        (void)gn_next(gn_timer_channel(shared_timer));
    gn_wg_done(&all);
}

static void all_share(struct gn_timer *t, unsigned n, void (*fn)(void *))
{
    shared_timer = need(t);
    gn_wg_add(&all, n);
    for (unsigned i = 0; i < n; i++)
        go(fn, NULL);
    gn_wg_wait(&all);
    gn_timer_free(shared_timer);
}

static void multi_wakeup(void)
{
    all_share(gn_ticker_new(1000), gn_cpu_count(), ticks_or_after);
    ok(true, "TestMultiWakeupTicker: each comes back, by it or by another");
    all_share(gn_timer_new(1), gn_cpu_count(), receives_or_resets);
    ok(true, "TestMultiWakeupTimer: all receive and reset one");
    all_share(gn_ticker_new(1), 10, hundred_ticks);
    ok(true, "TestTickerConcurrentStress: ten receive 100 times each");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    sleeping();
    sleep_order();
    after_func();
    after_stress();
    after_stop();
    after_func_starvation();
    after();
    after_queuing();
    timer_stop_stress();
    reset();
    no_stale_values();
    stop_result();
    overflow();
    no_lock_held();
    zero_timer();
    concurrent();
    many_timers();
    ticker();
    ticker_does_not_drift();
    slow_ticker();
    ticker_misuse();
    tickers_teardown();
    after_tick();
    times_are_due_times();
    adjust_timers();
    multi_wakeup();
    return tap_end();
}
