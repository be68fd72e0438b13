// Mutexes, conditions, once, after Go's own tests: src/sync/*_test.go. Each
// point begins with the name of the test that it answers (go-tests.tsv lists them
// all); those in words of their own are about what only C needs. What ends the program
// is in go_die.c.
//
// usage: go_sync [ROUNDS]

#include "host-tests/guest/go_test.h"

#include <gneiss/atomic.h>
#include <gneiss/chan.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdint.h>
#include <string.h>

static unsigned rounds = 1000;

static struct gn_atomic_i32 state, failures;

static void until_state(int32_t n)
{
    while (gn_atomic_i32_load(&state) != n)
        gn_yield();
}

// ---- mutex ----

struct hammer {
    struct gn_mutex m;
    struct gn_wg done;
    unsigned in, sum;
};

static void hammer_mutex(void *arg)
{
    struct hammer *h = arg;

    for (unsigned i = 0; i < rounds; i++) {
        if (i % 3 == 0) {
            if (gn_mutex_try_lock(&h->m)) {
                h->sum++;
                gn_mutex_unlock(&h->m);
            }
            continue;
        }
        gn_mutex_lock(&h->m);
        if (h->in++ != 0)
            gn_atomic_i32_add(&failures, 1);
        h->sum++;
        if (i % 64 == 1)
            gn_yield();
        h->in--;
        gn_mutex_unlock(&h->m);
    }
    gn_wg_done(&h->done);
}

static void mutex(void)
{
    static struct hammer h;
    struct gn_mutex m = {0};

    gn_mutex_lock(&m);
    ok(!gn_mutex_try_lock(&m), "TestMutex: TryLock of a locked one");
    gn_mutex_unlock(&m);
    ok(gn_mutex_try_lock(&m), "TestMutex: TryLock of an unlocked one");
    gn_mutex_unlock(&m);
    gn_wg_add(&h.done, 10);
    for (int i = 0; i < 10; i++)
        go(hammer_mutex, &h);
    gn_wg_wait(&h.done);
    IS(gn_atomic_i32_load(&failures), 0,
       "HammerMutex: one at a time, of 10 goroutines");
    ok(h.sum >= 10 * (rounds - (rounds + 2) / 3) && h.sum <= 10 * rounds,
       "HammerMutex: what it protects is counted right");
    ok(h.m.state_ == 0 && h.m.last_ == NULL, "HammerMutex: it is as new then");
}

struct fair {
    struct gn_mutex m;
    struct gn_atomic_bool stop;
    struct gn_wg done;
};

static void holds_long(void *arg)
{
    struct fair *f = arg;

    while (!gn_atomic_bool_load(&f->stop)) {
        gn_mutex_lock(&f->m);
        gn_sleep(100 * GN_MICROSECOND);
        gn_mutex_unlock(&f->m);
    }
    gn_wg_done(&f->done);
}

static void mutex_fairness(void)
{
    static struct fair f;

    gn_wg_add(&f.done, 1);
    go(holds_long, &f);
    for (int i = 0; i < 10; i++) {
        gn_sleep(100 * GN_MICROSECOND);
        gn_mutex_lock(&f.m);
        gn_mutex_unlock(&f.m);
    }
    gn_atomic_bool_store(&f.stop, true);
    gn_wg_wait(&f.done);
    ok(true, "TestMutexFairness: who waits for a busy one gets it");
}

// ---- hand-over ----

enum { LOCKED = 1, STARVING = 8 }; // of mutex.c

static struct gn_mutex contended;
static int order[8];
static unsigned ordered;
static struct gn_wg all;

static bool is_starving(void)
{
    return (__atomic_load_n(&contended.state_, __ATOMIC_RELAXED) & STARVING) !=
           0;
}

static void lock_and_note(void *arg)
{
    gn_mutex_lock(&contended);
    order[ordered++] = (int)(uintptr_t)arg;
    gn_mutex_unlock(&contended);
    gn_wg_done(&all);
}

// With the mutex locked: the first of its queue is woken, but it is locked again before
// that one comes, who has waited too long by then. False: that one was quicker.
static bool starve_the_first(void)
{
    gn_sleep(2 * GN_MILLISECOND);
    gn_mutex_unlock(&contended);
    gn_mutex_lock(&contended);
    if (ordered > 0)
        return false;
    while (!is_starving())
        gn_yield();
    return true;
}

static bool hand_over_once(void)
{
    bool good;

    ordered = 0;
    gn_mutex_lock(&contended);
    for (uintptr_t i = 0; i < 4; i++) {
        gn_wg_add(&all, 1);
        go(lock_and_note, (void *)i);
        until_waiting("sync.Mutex.Lock", (unsigned)i + 1);
    }
    good = starve_the_first();
    gn_mutex_unlock(&contended);
    if (good && gn_mutex_try_lock(&contended)) {
        good = ordered == 4; // it is not to be had between two of them
        gn_mutex_unlock(&contended);
        if (!good)
            gn_atomic_i32_add(&failures, 1);
    }
    gn_wg_wait(&all);
    for (int i = 0; good && i < 4; i++) {
        if (order[i] != i)
            gn_atomic_i32_add(&failures, 1);
    }
    return good;
}

static void starvation(void)
{
    unsigned starved = 0;

    gn_atomic_i32_store(&failures, 0);
    for (int i = 0; i < 200 && starved < 3; i++)
        starved += hand_over_once();
    ok(starved == 3, "TestMutexFairness: who has waited for 1 ms is not "
                     "overtaken any more");
    IS(gn_atomic_i32_load(&failures), 0,
       "TestMutexFairness: then it goes from one to the next, in order");
    IS(contended.state_, 0, "TestMutexFairness: and the last ends that");
}

// ---- a mutex may go after its last unlock ----

struct shared {
    struct gn_mutex m;
    unsigned refs;
    struct gn_atomic_u32 ended;
};

static void drop(void *arg)
{
    struct shared *s = arg;

    for (int i = 0; i < 3; i++) {
        gn_mutex_lock(&s->m);
        gn_yield();
        gn_mutex_unlock(&s->m);
    }
    gn_mutex_lock(&s->m);
    bool last = --s->refs == 0;

    gn_mutex_unlock(&s->m);
    if (last)
        memset(&s->m, 0xa5, sizeof s->m);
    gn_atomic_u32_add(&s->ended, 1);
}

static void mutex_may_go(void)
{
    enum { OF = 4 };
    unsigned bad = 0;

    for (unsigned i = 0; i < rounds / 10; i++) {
        struct shared s = {.refs = OF};
        struct gn_mutex gone;

        memset(&gone, 0xa5, sizeof gone);
        for (int k = 0; k < OF; k++)
            go(drop, &s);
        while (gn_atomic_u32_load(&s.ended) != OF)
            gn_yield();
        bad += memcmp(&s.m, &gone, sizeof gone) != 0;
    }
    IS(bad, 0, "a mutex is left alone after its last unlock");
}

static void panic_locked(void *arg)
{
    gn_mutex_lock(arg);
    gn_defer(gn_deferred_unlock, arg);
    gn_panic("locked");
}

static void deferred_unlock(void)
{
    struct gn_mutex m = {0};
    bool panicked = panics(panic_locked, &m, "locked");

    ok(panicked && gn_mutex_try_lock(&m),
       "a panic unlocks what gn_defer is to unlock");
}

// ---- readers and writers ----

struct readers {
    struct gn_rwmutex rw;
    ints locked, unlock, done;
};

static void parallel_reader(void *arg)
{
    struct readers *r = arg;

    gn_rwmutex_rlock(&r->rw);
    gn_send(r->locked, 1);
    (void)gn_next(r->unlock);
    gn_rwmutex_runlock(&r->rw);
    gn_send(r->done, 1);
}

static void parallel_readers(int n)
{
    struct readers r = {.locked = make(0), .unlock = make(0), .done = make(0)};

    for (int i = 0; i < n; i++)
        go(parallel_reader, &r);
    for (int i = 0; i < n; i++)
        (void)gn_next(r.locked);
    for (int i = 0; i < n; i++)
        gn_send(r.unlock, 1);
    for (int i = 0; i < n; i++)
        (void)gn_next(r.done);
    gn_chan_free(r.locked.raw);
    gn_chan_free(r.unlock.raw);
    gn_chan_free(r.done.raw);
}

struct rw_hammer {
    struct gn_rwmutex rw;
    struct gn_atomic_i32 activity; // readers + 10000 * writers
    struct gn_wg done;
    unsigned plain;
};

// Others come meanwhile, on a single CPU as well.
static void pause(unsigned turn)
{
    for (volatile int i = 0; i < 100; i++)
        ;
    if (turn % 8 == 0)
        gn_yield();
}

static void hammer_read(void *arg)
{
    struct rw_hammer *h = arg;

    for (unsigned i = 0; i < rounds / 4; i++) {
        gn_rwmutex_rlock(&h->rw);
        int32_t n = gn_atomic_i32_add(&h->activity, 1);

        if (n < 1 || n >= 10000)
            gn_atomic_i32_add(&failures, 1);
        pause(i);
        gn_atomic_i32_add(&h->activity, -1);
        gn_rwmutex_runlock(&h->rw);
    }
    gn_wg_done(&h->done);
}

static void hammer_write(void *arg)
{
    struct rw_hammer *h = arg;

    for (unsigned i = 0; i < rounds / 4; i++) {
        gn_rwmutex_lock(&h->rw);
        if (gn_atomic_i32_add(&h->activity, 10000) != 10000)
            gn_atomic_i32_add(&failures, 1);
        pause(i);
        h->plain++;
        gn_atomic_i32_add(&h->activity, -10000);
        gn_rwmutex_unlock(&h->rw);
    }
    gn_wg_done(&h->done);
}

static void hammer_rwmutex(int readers)
{
    static struct rw_hammer h;

    memset(&h, 0, sizeof h);
    gn_wg_add(&h.done, 2 + readers);
    go(hammer_write, &h);
    for (int i = 0; i < readers; i++) {
        if (i == readers / 2)
            go(hammer_write, &h);
        go(hammer_read, &h);
    }
    gn_wg_wait(&h.done);
    if (h.plain != rounds / 4 * 2)
        gn_atomic_i32_add(&failures, 1);
}

static struct gn_rwmutex book;

static void read_it(void *arg)
{
    (void)arg;
    gn_rwmutex_rlock(&book);
    gn_atomic_i32_add(&state, 1);
    gn_rwmutex_runlock(&book);
}

static void write_it(void *arg)
{
    (void)arg;
    gn_rwmutex_lock(&book);
    gn_atomic_i32_add(&state, 100);
    gn_rwmutex_unlock(&book);
}

static void readers_wait(int n)
{
    gn_atomic_i32_store(&state, 0);
    gn_rwmutex_lock(&book);
    for (int i = 0; i < n; i++)
        go(read_it, NULL);
    until_waiting("sync.RWMutex.RLock", (unsigned)n);
    if (gn_atomic_i32_load(&state) != 0)
        gn_atomic_i32_add(&failures, 1);
    gn_rwmutex_unlock(&book);
    until_state(n);
}

static void a_writer_keeps_readers_out(void)
{
    gn_atomic_i32_store(&failures, 0);
    readers_wait(1);
    readers_wait(10);
    IS(gn_atomic_i32_load(&failures), 0,
       "TestRWMutex: 1 or 10 readers wait for a writer, and go on");
    gn_atomic_i32_store(&state, 0);
    gn_rwmutex_rlock(&book);
    go(write_it, NULL);
    until_waiting("sync.RWMutex.Lock", 1);
    ok(!gn_rwmutex_try_rlock(&book), "TestRWMutex: no reader overtakes a "
                                     "writer that waits");
    for (int i = 0; i < 3; i++)
        go(read_it, NULL);
    until_waiting("sync.RWMutex.RLock", 3);
    IS(gn_atomic_i32_load(&state), 0, "TestRWMutex: they wait behind it");
    gn_rwmutex_runlock(&book);
    until_state(103);
    ok(gn_rwmutex_try_lock(&book), "TestRWMutex: then all had it");
    gn_rwmutex_unlock(&book);
}

// Made by hand: a writer has come, and has yet to count who reads.
static void reader_leaves_early(void)
{
    struct gn_rwmutex rw = {.readers_ = 2 - (1 << 30)};

    gn_rwmutex_runlock(&rw);
    ok(rw.leaving_ == -1 && rw.writer_.count_ == 0,
       "TestRWMutex: a reader that leaves before it is waited for");
    rw.leaving_ += 2;
    gn_rwmutex_runlock(&rw);
    ok(rw.leaving_ == 0 && rw.writer_.count_ == 1,
       "TestRWMutex: the last lets the writer go on");
}

static void rwmutex(void)
{
    struct gn_rwmutex rw = {0};

    parallel_readers(1);
    parallel_readers(3);
    parallel_readers(4);
    ok(true, "TestParallelReaders: 1, 3, 4 read at a time");
    gn_rwmutex_lock(&rw);
    ok(!gn_rwmutex_try_lock(&rw), "TestRWMutex: TryLock of a locked one");
    ok(!gn_rwmutex_try_rlock(&rw), "TestRWMutex: TryRLock of a locked one");
    gn_rwmutex_unlock(&rw);
    ok(gn_rwmutex_try_lock(&rw), "TestRWMutex: TryLock of an unlocked one");
    gn_rwmutex_unlock(&rw);
    ok(gn_rwmutex_try_rlock(&rw) && gn_rwmutex_try_rlock(&rw),
       "TestRWMutex: TryRLock of one that is unlocked, or read");
    ok(!gn_rwmutex_try_lock(&rw), "TestRWMutex: TryLock of one that is read");
    gn_rwmutex_runlock(&rw);
    gn_rwmutex_runlock(&rw);
    gn_atomic_i32_store(&failures, 0);
    hammer_rwmutex(1);
    hammer_rwmutex(3);
    hammer_rwmutex(10);
    IS(gn_atomic_i32_load(&failures), 0,
       "HammerRWMutex: 2 writers, 1 to 10 readers: never both");
    a_writer_keeps_readers_out();
    reader_leaves_early();
}

// ---- conditions ----

struct meeting {
    struct gn_mutex m;
    struct gn_cond c;
    ints running, awake;
    bool exit;
};

static void wait_once(void *arg)
{
    struct meeting *t = arg;

    gn_mutex_lock(&t->m);
    gn_send(t->running, 1);
    gn_cond_wait(&t->c, &t->m);
    gn_send(t->awake, 1);
    gn_mutex_unlock(&t->m);
}

static void signal_one(struct meeting *t)
{
    gn_mutex_lock(&t->m);
    gn_cond_signal(&t->c);
    gn_mutex_unlock(&t->m);
}

static void cond_signal(void)
{
    enum { N = 2 };
    struct meeting t = {.running = make(N), .awake = make(N)};
    unsigned early = 0, many = 0;

    for (int i = 0; i < N; i++)
        go(wait_once, &t);
    for (int i = 0; i < N; i++)
        (void)gn_next(t.running);
    for (int i = 0; i < N; i++) {
        early += gn_try_recv(t.awake, NULL, NULL);
        signal_one(&t);
        (void)gn_next(t.awake);
        yield_often();
        many += gn_try_recv(t.awake, NULL, NULL);
    }
    gn_cond_signal(&t.c);
    IS(early, 0, "TestCondSignal: nobody wakes up without");
    IS(many, 0, "TestCondSignal: one signal wakes one");
}

static struct meeting generations;

static void wait_numbered(void *arg)
{
    int me = (int)(uintptr_t)arg;

    gn_mutex_lock(&generations.m);
    gn_send(generations.running, me);
    gn_cond_wait(&generations.c, &generations.m);
    gn_send(generations.awake, me);
    gn_mutex_unlock(&generations.m);
}

static void cond_signal_generations(void)
{
    enum { N = 100 };
    unsigned wrong = 0;

    generations = (struct meeting){.running = make(N), .awake = make(N)};
    for (uintptr_t i = 0; i < N; i++) {
        go(wait_numbered, (void *)i);
        if (i > 0)
            wrong += gn_next(generations.awake) != (int)i - 1;
        (void)gn_next(generations.running);
        signal_one(&generations);
    }
    (void)gn_next(generations.awake);
    IS(wrong, 0, "TestCondSignalGenerations: a signal is for who waited then");
    for (uintptr_t i = 0; i < N; i++) {
        go(wait_numbered, (void *)i);
        (void)gn_next(generations.running);
        gn_mutex_lock(&generations.m); // so it waits
        gn_mutex_unlock(&generations.m);
    }
    for (int i = 0; i < N; i++) {
        signal_one(&generations);
        wrong += gn_next(generations.awake) != i;
    }
    IS(wrong, 0, "TestCondSignalGenerations: the one that waited longest");
}

static struct meeting crowd;

static void wait_until_exit(void *arg)
{
    int me = (int)(uintptr_t)arg;

    gn_mutex_lock(&crowd.m);
    while (!crowd.exit) {
        gn_send(crowd.running, me);
        gn_cond_wait(&crowd.c, &crowd.m);
        gn_send(crowd.awake, me);
    }
    gn_mutex_unlock(&crowd.m);
}

static void cond_broadcast(void)
{
    enum { N = 100, TIMES = 20 };
    unsigned early = 0, twice = 0;

    crowd = (struct meeting){.running = make(N), .awake = make(N)};
    for (uintptr_t i = 0; i < N; i++)
        go(wait_until_exit, (void *)i);
    for (int t = 0; t < TIMES; t++) {
        bool seen[N] = {false};

        for (int i = 0; i < N; i++)
            (void)gn_next(crowd.running);
        gn_mutex_lock(&crowd.m);
        crowd.exit = t == TIMES - 1;
        early += gn_try_recv(crowd.awake, NULL, NULL);
        gn_cond_broadcast(&crowd.c);
        gn_mutex_unlock(&crowd.m);
        for (int i = 0; i < N; i++) {
            int g = gn_next(crowd.awake);

            twice += seen[g];
            seen[g] = true;
        }
    }
    IS(early, 0, "TestCondBroadcast: nobody wakes up without");
    IS(twice, 0, "TestCondBroadcast: each of 100 once");
    ok(!gn_try_recv(crowd.running, NULL, NULL), "TestCondBroadcast: all go");
    gn_cond_broadcast(&crowd.c);
}

struct race {
    struct gn_mutex m;
    struct gn_cond c;
    struct gn_wg done;
    int x;
};

static void race_one(void *arg)
{
    struct race *r = arg;

    gn_mutex_lock(&r->m);
    r->x = 1;
    gn_cond_wait(&r->c, &r->m);
    if (r->x != 2)
        gn_atomic_i32_add(&failures, 1);
    r->x = 3;
    gn_cond_signal(&r->c);
    gn_mutex_unlock(&r->m);
    gn_wg_done(&r->done);
}

static void race_two(void *arg)
{
    struct race *r = arg;

    gn_mutex_lock(&r->m);
    while (r->x != 1) {
        gn_mutex_unlock(&r->m);
        gn_yield();
        gn_mutex_lock(&r->m);
    }
    r->x = 2;
    gn_cond_signal(&r->c);
    gn_mutex_unlock(&r->m);
    gn_wg_done(&r->done);
}

static void race_three(void *arg)
{
    struct race *r = arg;

    gn_mutex_lock(&r->m);
    while (r->x != 2 && r->x != 3) {
        gn_mutex_unlock(&r->m);
        gn_yield();
        gn_mutex_lock(&r->m);
    }
    if (r->x == 2) {
        gn_cond_wait(&r->c, &r->m);
        if (r->x != 3)
            gn_atomic_i32_add(&failures, 1);
    }
    gn_mutex_unlock(&r->m);
    gn_wg_done(&r->done);
}

static void cond_race(void)
{
    gn_atomic_i32_store(&failures, 0);
    for (unsigned i = 0; i < rounds / 10; i++) {
        struct race r = {.x = 0};

        gn_wg_add(&r.done, 3);
        go(race_one, &r);
        go(race_two, &r);
        go(race_three, &r);
        gn_wg_wait(&r.done);
    }
    IS(gn_atomic_i32_load(&failures), 0, "TestRace: three and a variable");
}

struct stealing {
    struct gn_mutex m;
    struct gn_cond c;
    ints ch;
    struct gn_wg done;
    bool stop;
};

static void first_waiter(void *arg)
{
    struct stealing *s = arg;

    gn_mutex_lock(&s->m);
    gn_send(s->ch, 1);
    gn_cond_wait(&s->c, &s->m);
    gn_mutex_unlock(&s->m);
    gn_send(s->ch, 2);
    gn_wg_done(&s->done);
}

static void broadcasts(void *arg)
{
    struct stealing *s = arg;

    gn_cond_broadcast(&s->c);
    gn_wg_done(&s->done);
}

static void second_waiter(void *arg)
{
    struct stealing *s = arg;

    gn_mutex_lock(&s->m);
    while (!s->stop)
        gn_cond_wait(&s->c, &s->m);
    gn_mutex_unlock(&s->m);
    gn_wg_done(&s->done);
}

static void cond_signal_stealing(void)
{
    ints ch = make(0);

    for (unsigned i = 0; i < rounds; i++) {
        struct stealing s = {.ch = ch};

        gn_wg_add(&s.done, 3);
        go(first_waiter, &s);
        (void)gn_next(ch);
        gn_mutex_lock(&s.m);
        gn_mutex_unlock(&s.m);
        go(broadcasts, &s);
        go(second_waiter, &s);
        (void)gn_next(ch);
        gn_mutex_lock(&s.m);
        s.stop = true;
        gn_mutex_unlock(&s.m);
        gn_cond_broadcast(&s.c);
        gn_wg_wait(&s.done);
    }
    ok(true, "TestCondSignalStealing: who came first is woken");
    gn_chan_free(ch.raw);
}

static struct gn_cond early;

static void signals_early(void *arg)
{
    gn_mutex_lock(&contended);
    ordered++;
    gn_cond_signal(&early);
    gn_mutex_unlock(&contended);
    (void)arg;
}

// The unlock in gn_cond_wait hands the mutex over: on a single CPU the other one signals
// before we have parked.
static void signal_before_parking(void)
{
    bool starved = false;

    for (int i = 0; i < 200 && !starved; i++) {
        ordered = 0;
        gn_mutex_lock(&contended);
        go(signals_early, NULL);
        until_waiting("sync.Mutex.Lock", 1);
        starved = starve_the_first();
        if (starved)
            gn_cond_wait(&early, &contended);
        gn_mutex_unlock(&contended);
    }
    ok(starved && ordered == 1,
       "TestCondSignal: a signal that comes before who waits has parked");
}

// ---- once ----

static struct gn_once once;
static int times_run;

static void run_slowly(void *arg)
{
    yield_often();
    times_run += (int)(uintptr_t)arg;
}

static void run_once(void *arg)
{
    (void)arg;
    gn_once_do(&once, run_slowly, (void *)1);
    if (times_run != 1)
        gn_atomic_i32_add(&failures, 1);
    gn_wg_done(&all);
}

static void once_panics(void *arg)
{
    times_run++;
    gn_panic("%s", (char *)arg);
}

static void do_panicking(void *arg)
{
    gn_once_do(arg, once_panics, (void *)"failed");
}

static void once_exits(void *arg)
{
    (void)arg;
    times_run++;
    gn_goexit();
}

static void do_exiting(void *arg)
{
    gn_defer(gn_deferred_done, &all);
    gn_once_do(arg, once_exits, NULL);
}

static void test_once(void)
{
    struct gn_once panicking = {0}, exiting = {0};

    gn_atomic_i32_store(&failures, 0);
    gn_wg_add(&all, 10);
    for (int i = 0; i < 10; i++)
        go(run_once, NULL);
    gn_wg_wait(&all);
    IS(times_run, 1, "TestOnce: of ten one does it");
    IS(gn_atomic_i32_load(&failures), 0, "TestOnce: nobody returns before");
    times_run = 0;
    ok(panics(do_panicking, &panicking, "failed"), "TestOncePanic: it panics");
    do_panicking(&panicking);
    IS(times_run, 1, "TestOncePanic: and that was that");
    times_run = 0;
    gn_wg_add(&all, 1);
    go(do_exiting, &exiting);
    gn_wg_wait(&all);
    gn_once_do(&exiting, once_exits, NULL);
    IS(times_run, 1,
       "TestOnceFuncGoexit: the end of its goroutine counts, too");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    mutex();
    mutex_fairness();
    starvation();
    mutex_may_go();
    deferred_unlock();
    rwmutex();
    cond_signal();
    cond_signal_generations();
    cond_broadcast();
    cond_race();
    cond_signal_stealing();
    signal_before_parking();
    test_once();
    return tap_end();
}
