// Wait groups, semaphores, groups of tasks, after Go's own tests:
// src/sync/waitgroup_test.go, golang.org/x/sync's of semaphore and errgroup. Each point
// begins with the name of the test that it answers (go-tests.tsv lists them all).
//
// usage: go_tasks [ROUNDS]

#include "host-tests/guest/go_test.h"

#include <gneiss/atomic.h>
#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

static unsigned rounds = 1000;
static struct gn_atomic_i32 state, failures;
static struct gn_wg all;
static int order[8];
static unsigned ordered;

static void until_state(int32_t n)
{
    while (gn_atomic_i32_load(&state) != n)
        gn_yield();
}

// ---- wait group ----

struct barrier {
    struct gn_wg one, two;
    ints exited;
};

static void through_barrier(void *arg)
{
    struct barrier *b = arg;

    gn_wg_done(&b->one);
    gn_wg_wait(&b->two);
    gn_send(b->exited, 1);
}

static void wait_group(void)
{
    enum { N = 16 };
    static struct barrier b;
    unsigned early = 0;

    b.exited = make(N);
    for (int t = 0; t < 8; t++) {
        gn_wg_add(&b.one, N);
        gn_wg_add(&b.two, N);
        for (int i = 0; i < N; i++)
            go(through_barrier, &b);
        gn_wg_wait(&b.one);
        for (int i = 0; i < N; i++) {
            early += gn_try_recv(b.exited, NULL, NULL);
            gn_wg_done(&b.two);
        }
        for (int i = 0; i < N; i++)
            (void)gn_next(b.exited);
        // A value is sent after the return from gn_wg_wait.
    }
    IS(early, 0, "TestWaitGroup: nobody goes before all are done");
    ok(b.one.state_ == 0 && b.two.state_ == 0, "TestWaitGroup: none is left");
}

static void one_too_many(void *arg)
{
    struct gn_wg w = {0};

    (void)arg;
    gn_wg_add(&w, 1);
    gn_wg_done(&w);
    gn_wg_done(&w);
}

static void less_than_none(void *arg)
{
    gn_wg_add(arg, -2);
}

static void add_one(void *arg)
{
    gn_wg_add(arg, 1);
}

static void wait_for_it(void *arg)
{
    gn_wg_wait(arg);
}

static void wait_and_add(void *arg)
{
    gn_wg_wait(arg);
    gn_atomic_i32_add(&state, 1);
}

// The slow half of the last Done, for whose word it was 0 with one that waits.
static void done_late(void *arg)
{
    gn_wg_add_slow_(arg, -1, 1);
}

// What only a race brings about is made by hand.
static void wait_group_misuse(void)
{
    struct gn_wg w = {.state_ = UINT64_C(1) << 32}, between = {.state_ = 1};

    ok(panics(one_too_many, NULL, "sync: negative WaitGroup counter"),
       "TestWaitGroupMisuse: one Done too many");
    ok(panics(less_than_none, &w, "sync: negative WaitGroup counter"),
       "TestWaitGroupMisuse: Add(-2) to 1");
    ok(panics(add_one, &between,
              "sync: WaitGroup misuse: Add called concurrently with Wait"),
       "TestWaitGroupMisuse2: Add between the last Done and who waits");
    ok(panics(done_late, &between,
              "sync: WaitGroup misuse: Add called concurrently with Wait"),
       "TestWaitGroupMisuse2: Add before the last Done has woken who waits");
}

// Who is woken finds it in use again: it is woken late, since its CPU is ours.
static void reuse_it(void *arg)
{
    struct gn_panic p;
    bool good = gn_try(wait_for_it, arg, &p);

    if (!good && strcmp(p.text, "sync: WaitGroup is reused before previous "
                                "Wait has returned") == 0)
        gn_atomic_i32_store(&state, 2);
    else
        gn_atomic_i32_store(&state, 1);
}

static void reuse(void *arg)
{
    static struct gn_wg w;
    unsigned found = 0;

    (void)arg;
    for (unsigned i = 0; i < 100 && found == 0; i++) {
        w = (struct gn_wg){0};
        gn_wg_add(&w, 1);
        gn_atomic_i32_store(&state, 0);
        gn_cpu_start(gn_cpu_id(), reuse_it, &w);
        until_waiting("sync.WaitGroup.Wait", 2); // main as well
        gn_wg_done(&w);
        gn_wg_add(&w, 1);
        while (gn_atomic_i32_load(&state) == 0)
            gn_yield();
        found += gn_atomic_i32_load(&state) == 2;
    }
    gn_atomic_i32_store(&failures, (int32_t)found);
    gn_wg_done(&all);
}

static void wait_group_reuse(void)
{
    gn_wg_add(&all, 1);
    gn_cpu_start(0, reuse, NULL);
    gn_wg_wait(&all);
    ok(gn_atomic_i32_load(&failures) != 0,
       "TestWaitGroupMisuse3: it is used again before Wait has returned");
}

struct pair {
    struct gn_wg w;
    struct gn_atomic_i32 n;
};

static void add_and_done(void *arg)
{
    struct pair *p = arg;

    gn_atomic_i32_add(&p->n, 1);
    gn_wg_done(&p->w);
}

static void wait_group_race(void)
{
    unsigned wrong = 0;

    for (unsigned i = 0; i < rounds; i++) {
        struct pair p = {.w = {0}};

        gn_wg_add(&p.w, 1);
        go(add_and_done, &p);
        gn_wg_add(&p.w, 1);
        go(add_and_done, &p);
        gn_wg_wait(&p.w);
        wrong += gn_atomic_i32_load(&p.n) != 2;
    }
    IS(wrong, 0, "TestWaitGroupRace: no return before both are done");
}

static void count_up(void *arg)
{
    ++*(int *)arg;
}

static void count_and_exit(void *arg)
{
    ++*(int *)arg;
    gn_goexit();
}

static void spawn_more(void *arg)
{
    struct pair *p = arg;

    if (gn_atomic_i32_add(&p->n, 1) < 50 && gn_wg_go(&p->w, spawn_more, p) != 0)
        gn_atomic_i32_add(&failures, 1);
}

static void wait_group_go(void)
{
    struct gn_wg w = {0};
    struct pair p = {.w = {0}};
    int i = 0;

    ok(gn_wg_go(&w, count_up, &i) == 0, "TestWaitGroupGo: it starts");
    gn_wg_wait(&w);
    IS(i, 1, "TestWaitGroupGo: it has run");
    if (gn_wg_go(&w, count_and_exit, &i) == 0)
        gn_wg_wait(&w);
    IS(i, 2, "TestWaitGroupGo: one that calls gn_goexit is done");
    gn_atomic_i32_store(&failures, 0);
    spawn_more(&p);
    gn_wg_wait(&p.w);
    ok(gn_atomic_i32_load(&p.n) == 50 && gn_atomic_i32_load(&failures) == 0,
       "TestWaitGroupGo: tasks that start tasks");
}

static void many_wait(void)
{
    enum { N = 1000 };
    static struct gn_wg gate;

    gn_atomic_i32_store(&state, 0);
    gn_wg_add(&gate, 1);
    for (int i = 0; i < N; i++)
        go(wait_and_add, &gate);
    until_waiting("sync.WaitGroup.Wait", N);
    gn_wg_done(&gate);
    until_state(N);
    ok(gate.state_ == 0, "TestWaitGroup: 1,000 wait for one");
}

// ---- semaphore ----

struct weighted {
    struct gn_sem s;
    struct gn_atomic_i32 used;
    struct gn_wg done;
};

static struct weighted weighted = {.s = GN_SEM(7)};

static void hammer_weighted(void *arg)
{
    int n = 1 + (int)(uintptr_t)arg;

    for (unsigned i = 0; i < rounds / 10; i++) {
        gn_sem_acquire(&weighted.s, n);
        if (gn_atomic_i32_add(&weighted.used, n) > 7)
            gn_atomic_i32_add(&failures, 1);
        if (i % 8 == 0)
            gn_yield();
        gn_atomic_i32_add(&weighted.used, -n);
        gn_sem_release(&weighted.s, n);
    }
    gn_wg_done(&weighted.done);
}

static void release_one(void *arg)
{
    gn_sem_release(arg, 1);
}

static void acquire_and_note(void *arg)
{
    int n = (int)(uintptr_t)arg;

    gn_sem_acquire(&weighted.s, n);
    order[ordered++] = n; // they hold it all, or the lock of who lets them go
    gn_sem_release(&weighted.s, n);
    gn_wg_done(&all);
}

static void semaphore(void)
{
    struct gn_sem s;

    gn_sem_init(&s, 1);
    ok(panics(release_one, &s, "semaphore: released more than held"),
       "TestWeightedPanic: released more than held");
    gn_sem_init(&s, 2);
    gn_sem_acquire(&s, 1);
    ok(gn_sem_try_acquire(&s, 1) && !gn_sem_try_acquire(&s, 1),
       "TestWeightedTryAcquire: as much as there is");
    gn_sem_release(&s, 2);
    ok(!gn_sem_try_acquire(&s, 3) && gn_sem_try_acquire(&s, 2),
       "TestWeightedTryAcquire: 2 of 2, and 3 never");
    gn_sem_release(&s, 2);
    gn_atomic_i32_store(&failures, 0);
    gn_wg_add(&weighted.done, 8);
    for (uintptr_t i = 0; i < 8; i++)
        go(hammer_weighted, (void *)(i % 7));
    gn_wg_wait(&weighted.done);
    IS(gn_atomic_i32_load(&failures), 0,
       "TestWeighted: 8 that take 1 to 7 of 7");
    ok(gn_sem_try_acquire(&weighted.s, 7), "TestWeighted: all is given back");
    gn_sem_release(&weighted.s, 7);
}

static void waits_for_ever(void *arg)
{
    gn_sem_acquire(arg, 11);
}

static void too_big(void)
{
    static struct gn_sem s = GN_SEM(10);

    go(waits_for_ever, &s); // and stays
    until_waiting("semacquire", 1);
    gn_sem_acquire(&s, 1);
    ok(gn_sem_try_acquire(&s, 9),
       "TestWeightedDoesntBlockIfTooBig: it is in nobody's way");
}

static struct gn_sem large = GN_SEM(3);
static struct gn_atomic_bool had_all;

static void small_ones(void *arg)
{
    (void)arg;
    while (!gn_atomic_bool_load(&had_all)) {
        gn_sem_acquire(&large, 1);
        gn_yield();
        gn_sem_release(&large, 1);
    }
    gn_wg_done(&all);
}

static void large_one(void)
{
    gn_sem_acquire(&large, 3);
    for (int i = 0; i < 6; i++) {
        gn_wg_add(&all, 1);
        go(small_ones, NULL);
    }
    gn_sem_release(&large, 3);
    gn_sem_acquire(&large, 3);
    gn_atomic_bool_store(&had_all, true);
    gn_sem_release(&large, 3);
    gn_wg_wait(&all);
    ok(true, "TestLargeAcquireDoesntStarve: who wants all gets it");
}

static void first_come_first_served(void)
{
    static const int want[] = {7, 4, 6, 5};
    unsigned wrong = 0;

    ordered = 0;
    gn_sem_acquire(&weighted.s, 7);
    gn_wg_add(&all, 4);
    for (int i = 0; i < 4; i++) { // no two of them fit
        go(acquire_and_note, (void *)(uintptr_t)want[i]);
        until_waiting("semacquire", (unsigned)i + 2); // and too_big()'s
    }
    ok(!gn_sem_try_acquire(&weighted.s, 0),
       "TestWeightedAcquire: nobody overtakes who waits, not for 0");
    gn_sem_release(&weighted.s, 7);
    gn_wg_wait(&all);
    for (int i = 0; i < 4; i++)
        wrong += order[i] != want[i];
    IS(wrong, 0, "TestWeightedAcquire: in the order in which they came");
}

// ---- with a context ----

static struct gn_ctx *new_ctx(void)
{
    return need(gn_ctx_cancelable(gn_ctx_background()));
}

static struct acquire {
    struct gn_sem *s;
    struct gn_ctx *ctx;
    int64_t n;
    const char *err;
} acquire;

static void acquires(void *arg)
{
    struct acquire *a = arg;

    a->err = gn_sem_acquire_ctx(a->s, a->n, a->ctx);
    gn_wg_done(&all);
}

static void acquire_canceled(void)
{
    struct gn_sem s = GN_SEM(2);
    struct gn_ctx *ctx = new_ctx();

    acquire = (struct acquire){&s, ctx, 2, NULL};
    gn_sem_acquire(&s, 1);
    gn_wg_add(&all, 1);
    go(acquires, &acquire);
    until_waiting("select", 1);
    gn_ctx_cancel(ctx);
    gn_sem_release(&s, 1);
    gn_wg_wait(&all);
    ok(acquire.err == gn_ctx_canceled && gn_sem_try_acquire(&s, 2),
       "TestWeightedAcquireCanceled: canceled before there is enough");
    gn_sem_release(&s, 2);
    ok(gn_sem_acquire_ctx(&s, 1, ctx) == gn_ctx_canceled &&
           gn_sem_try_acquire(&s, 2),
       "TestWeightedAcquireCanceled: before the call, though there is");
    gn_ctx_free(ctx);
}

static void cancels(void *ctx)
{
    gn_ctx_cancel(ctx);
}

static void cancel_does_not_starve(void)
{
    struct gn_sem s = GN_SEM(10);
    struct gn_ctx *ctx = new_ctx();

    acquire = (struct acquire){&s, ctx, 10, NULL};
    gn_sem_acquire(&s, 1);
    gn_wg_add(&all, 1);
    go(acquires, &acquire);
    while (gn_sem_try_acquire(&s, 1)) {
        gn_sem_release(&s, 1);
        gn_yield();
    }
    go(cancels, ctx);
    gn_sem_acquire(&s, 1); // waits behind the one that is canceled
    gn_wg_wait(&all);
    ok(acquire.err == gn_ctx_canceled && gn_sem_try_acquire(&s, 8) &&
           !gn_sem_try_acquire(&s, 1),
       "TestAllocCancelDoesntStarve: who is behind it goes on");
    gn_ctx_free(ctx);
}

static void acquire_in_time(void)
{
    struct gn_sem s = GN_SEM(2);
    bool good = true;

    for (int i = 0; i < 2; i++) {
        for (int want = 1; want >= 0; want--) {
            struct gn_ctx *ctx = need(
                gn_ctx_timeout(gn_ctx_background(),
                               want ? 3600 * GN_SECOND : 10 * GN_MILLISECOND));
            const char *err = gn_sem_acquire_ctx(&s, want ? 2 : 1, ctx);

            good &= err == (want ? NULL : gn_ctx_deadline_exceeded);
            gn_ctx_free(ctx);
        }
        gn_sem_release(&s, 2);
    }
    ok(good && gn_sem_try_acquire(&s, 2),
       "TestWeightedAcquire: true, false, true, false, by their deadlines");
}

static void too_big_for_now(void)
{
    struct gn_sem s = GN_SEM(2);
    struct gn_ctx *ctx = new_ctx();

    acquire = (struct acquire){&s, ctx, 3, NULL};
    gn_wg_add(&all, 1);
    go(acquires, &acquire);
    until_waiting("chan receive", 1);
    ok(gn_sem_acquire_ctx(&s, 2, ctx) == NULL,
       "TestWeightedDoesntBlockIfTooBig: who wants too much is in nobody's "
       "way");
    gn_ctx_cancel(ctx);
    gn_wg_wait(&all);
    ok(acquire.err == gn_ctx_canceled,
       "TestWeightedDoesntBlockIfTooBig: until it is canceled");
    gn_ctx_free(ctx);
}

// Canceled and let go on at the same time: nothing is lost, and nobody forgotten.
static struct gn_sem raced = GN_SEM(3);
static struct gn_ctx *race_ctx;

static void acquires_by_the_way(void *arg)
{
    int64_t n = (int64_t)(uintptr_t)arg;

    if (gn_sem_acquire_ctx(&raced, n, race_ctx) == NULL) {
        gn_yield();
        gn_sem_release(&raced, n);
    }
    gn_wg_done(&all);
}

static void cancel_and_release(void)
{
    size_t others = gn_go_count();
    unsigned lost = 0;

    for (unsigned r = 0; r < rounds; r++) {
        race_ctx = new_ctx();
        gn_sem_acquire(&raced, 3);
        gn_wg_add(&all, 6);
        for (uintptr_t i = 0; i < 6; i++)
            go(acquires_by_the_way, (void *)(i % 3 + 1));
        if (r % 2 == 0)
            gn_yield();
        go(cancels, race_ctx);
        gn_sem_release(&raced, 3);
        gn_wg_wait(&all);
        lost += !gn_sem_try_acquire(&raced, 3);
        gn_sem_release(&raced, 3);
        while (gn_go_count() > others)
            gn_yield();
        gn_ctx_free(race_ctx);
    }
    IS(lost, 0, "canceled and let go on at once: nothing is lost");
}

// ---- tasks that can fail ----

static int returns_it(void *arg)
{
    return (int)(intptr_t)arg;
}

static void zero_group(void)
{
    static const int cases[][3] = {
        {0, 0, 0}, {5, 0, 0}, {0, 5, 0}, {0, 0, 7}, {5, 5, 5}};
    unsigned wrong = 0;

    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct gn_group g = {0};
        int first = 0;

        for (int i = 0; i < 3; i++) {
            int e = cases[k][i];

            if (gn_group_go(&g, returns_it, (void *)(intptr_t)e) != 0)
                wrong++;
            first = first != 0 ? first : e;
            wrong += gn_group_wait(&g) != first;
        }
    }
    IS(wrong, 0, "TestZeroGroup: Wait returns the first failure");
}

struct cancelled {
    struct gn_atomic_i32 n, failure;
};

static void note_cancel(void *arg, int failure)
{
    struct cancelled *c = arg;

    gn_atomic_i32_add(&c->n, 1);
    gn_atomic_i32_store(&c->failure, failure);
}

static struct cancelled hook;

static int until_cancelled(void *arg)
{
    (void)arg;
    while (gn_atomic_i32_load(&hook.n) == 0)
        gn_yield();
    return 2;
}

static void with_cancel(void)
{
    struct gn_group g = {.cancel = note_cancel, .cancel_arg = &hook}, none = g;

    if (gn_group_go(&g, until_cancelled, NULL) != 0 ||
        gn_group_go(&g, until_cancelled, NULL) != 0 ||
        gn_group_go(&g, returns_it, (void *)41) != 0)
        abort();
    ok(gn_group_wait(&g) == 41 && gn_atomic_i32_load(&hook.failure) == 41,
       "TestWithContext: the first failure cancels, and is returned");
    IS(gn_atomic_i32_load(&hook.n), 2, "TestWithContext: and so does Wait");
    gn_atomic_i32_store(&hook.n, 0);
    gn_atomic_i32_store(&hook.failure, 3);
    if (gn_group_go(&none, returns_it, NULL) != 0)
        abort();
    ok(gn_group_wait(&none) == 0 && gn_atomic_i32_load(&hook.n) == 1 &&
           gn_atomic_i32_load(&hook.failure) == 0,
       "TestWithContext: without a failure only Wait does");
}

static ints release_tasks;

static int until_released(void *arg)
{
    (void)arg;
    return gn_next(release_tasks);
}

static void raise_limit(void *arg)
{
    gn_group_set_limit(arg, 50);
}

static void try_go(void)
{
    enum { N = 42 };
    struct gn_group g = {0};
    bool started;
    unsigned n = 0;

    release_tasks = make(0);
    gn_group_set_limit(&g, N);
    for (int i = 0; i < N; i++)
        n +=
            gn_group_try_go(&g, until_released, NULL, &started) == 0 && started;
    IS(n, N, "TestTryGo: as many as may");
    ok(gn_group_try_go(&g, until_released, NULL, &started) == 0 && !started,
       "TestTryGo: and no more");
    ok(panics(raise_limit, &g,
              "errgroup: modify limit while 42 goroutines in the group are "
              "still active"),
       "TestGoLimit: the limit may not change while tasks run");
    for (int i = 0; i < N; i++)
        gn_send(release_tasks, 0);
    IS(gn_group_wait(&g), 0, "TestTryGo: none fails");
    ok(gn_group_try_go(&g, returns_it, NULL, &started) == 0 && started,
       "TestTryGo: then there is room");
    gn_group_wait(&g);
    gn_group_set_limit(&g, 0);
    ok(gn_group_try_go(&g, returns_it, NULL, &started) == 0 && !started,
       "TestTryGo: a limit of 0");
    gn_group_set_limit(&g, -1);
    ok(gn_group_try_go(&g, returns_it, (void *)1, &started) == 0 && started &&
           gn_group_wait(&g) == 1,
       "TestTryGo: no limit");
}

static struct gn_atomic_i32 active;

static int counts_active(void *arg)
{
    (void)arg;
    if (gn_atomic_i32_add(&active, 1) > 3)
        gn_atomic_i32_add(&failures, 1);
    yield_often();
    gn_atomic_i32_add(&active, -1);
    return 0;
}

static int exits(void *arg)
{
    (void)arg;
    gn_goexit();
}

static void go_limit(void)
{
    struct gn_group g = {0};

    gn_atomic_i32_store(&failures, 0);
    gn_group_set_limit(&g, 3);
    for (unsigned i = 0; i < rounds / 10; i++) {
        if (gn_group_go(&g, counts_active, NULL) != 0)
            abort();
    }
    gn_group_wait(&g);
    IS(gn_atomic_i32_load(&failures), 0, "TestGoLimit: never more than 3");
    for (int i = 0; i < 6; i++) {
        if (gn_group_go(&g, exits, NULL) != 0)
            abort();
    }
    IS(gn_group_wait(&g), 0, "TestGoLimit: who calls gn_goexit makes room");
}

// ---- groups and contexts ----

static int until_its_context(void *ctx)
{
    struct gn_ctx *c = ctx;

    (void)gn_chan_recv(gn_ctx_done(c).raw, NULL);
    return gn_ctx_cause(c) == gn_group_failed ? 7 : 8;
}

static void group_with_context(void)
{
    static const int results[][2] = {{0, 0}, {41, 0}, {0, 41}, {41, 41}};
    unsigned wrong = 0;

    for (int i = -1; i < 4; i++) {
        struct gn_group g = {0};
        struct gn_ctx *ctx = need(gn_group_ctx(&g, gn_ctx_background()));
        int want = i > 0 ? 41 : 0;

        for (int k = 0; i >= 0 && k < 2; k++) {
            if (gn_group_go(&g, returns_it, (void *)(intptr_t)results[i][k]) !=
                0)
                abort();
        }
        wrong += gn_group_wait(&g) != want || gn_group_failure(&g) != want;
        wrong += gn_ctx_err(ctx) != gn_ctx_canceled;
        wrong +=
            gn_ctx_cause(ctx) != (want ? gn_group_failed : gn_ctx_canceled);
        gn_ctx_free(ctx);
    }
    IS(wrong, 0, "TestCancelCause: a failure's, or that all have returned");

    struct gn_group g = {0};
    struct gn_ctx *up = new_ctx(), *ctx = need(gn_group_ctx(&g, up));

    if (gn_group_go(&g, until_its_context, ctx) != 0 ||
        gn_group_go(&g, returns_it, (void *)41) != 0)
        abort();
    ok(gn_group_wait(&g) == 41 && gn_ctx_err(up) == NULL,
       "TestWithContext: one fails, the others see it; the parent does not");
    gn_ctx_free(ctx);
    g = (struct gn_group){0};
    ctx = need(gn_group_ctx(&g, up));
    if (gn_group_go(&g, until_its_context, ctx) != 0)
        abort();
    gn_ctx_cancel(up);
    IS(gn_group_wait(&g), 8, "TestWithContext: canceled with its parent");
    gn_ctx_free(ctx);
    gn_ctx_free(up);
}

// As in Go no limit is allowed while tasks run under one, and nothing else.
static void no_limit_any_more(void)
{
    struct gn_group g = {0};
    struct gn_ctx *ctx = new_ctx();
    bool started = false, good = true;

    gn_group_set_limit(&g, 2);
    for (int i = 0; i < 2; i++)
        good &= gn_group_try_go(&g, until_its_context, ctx, &started) == 0 &&
                started;
    good &=
        gn_group_try_go(&g, until_its_context, ctx, &started) == 0 && !started;
    gn_group_set_limit(&g, -1);
    for (int i = 0; i < 2; i++)
        good &= gn_group_try_go(&g, until_its_context, ctx, &started) == 0 &&
                started;
    gn_ctx_cancel(ctx);
    ok(good && gn_group_wait(&g) == 8,
       "no limit any more, while tasks run under one");
    gn_group_set_limit(&g, 1);
    ok(gn_group_try_go(&g, returns_it, NULL, &started) == 0 && started &&
           gn_group_wait(&g) == 8,
       "and one again, after");
    gn_ctx_free(ctx);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    wait_group();
    wait_group_misuse();
    wait_group_reuse();
    wait_group_race();
    wait_group_go();
    many_wait();
    semaphore();
    too_big();
    first_come_first_served();
    large_one();
    zero_group();
    with_cancel();
    try_go();
    go_limit();
    acquire_canceled();
    cancel_does_not_starve();
    acquire_in_time();
    too_big_for_now();
    cancel_and_release();
    group_with_context();
    no_limit_any_more();
    return tap_end();
}
