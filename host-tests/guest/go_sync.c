// Mutexes and all that waits, after Go's own tests: src/sync/*_test.go,
// src/sync/atomic/atomic_test.go, golang.org/x/sync's of semaphore and errgroup. Each
// point begins with the name of the test that it answers (go-tests.tsv lists them
// all); those in words of their own are about what only C needs. What ends the program
// is in go_die.c.
//
// usage: go_sync [ROUNDS]

#include "host-tests/guest/go_test.h"

#include <gneiss/atomic.h>
#include <gneiss/chan.h>
#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdint.h>
#include <string.h>

static unsigned rounds = 1000;

static bool waits_so(const struct gn_go_info *i, const char *why)
{
    return strcmp(i->state, why) == 0;
}

// Until n goroutines wait for this.
static void until_waiting(const char *why, unsigned n)
{
    static struct gn_go_info list[1200];

    for (unsigned found = 0; found != n; gn_sleep(20 * GN_MICROSECOND)) {
        size_t all = gn_go_list(list, sizeof list / sizeof list[0]);

        found = 0;
        for (size_t i = 0; i < all; i++)
            found += waits_so(&list[i], why);
    }
}

static struct gn_atomic_i32 state, failures;

static void yield_often(void)
{
    for (int i = 0; i < 20; i++)
        gn_yield();
}

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

// ---- atomics ----

// Op for op, as atomic_test.go: with a guard on both sides.
#define TEST_NUMBER(S, T)                                                      \
    static bool test_##S(void)                                                 \
    {                                                                          \
        struct {                                                               \
            T before;                                                          \
            struct gn_atomic_##S x;                                            \
            T after;                                                           \
        } v;                                                                   \
        const T magic = (T)0xdeddeadbeefbeef;                                  \
        T j = 0;                                                               \
        bool good = true;                                                      \
                                                                               \
        memset(&v, 0, sizeof v);                                               \
        v.before = v.after = magic;                                            \
        for (T delta = 1; delta > 0 && delta + delta > delta;                  \
             delta = (T)(delta + delta)) {                                     \
            T k = gn_atomic_##S##_swap(&v.x, delta);                           \
                                                                               \
            good &= k == j && gn_atomic_##S##_load(&v.x) == delta;             \
            j = (T)(delta + 1);                                                \
            good &= gn_atomic_##S##_add(&v.x, 1) == j;                         \
            good &= !gn_atomic_##S##_cas(&v.x, delta, 5) &&                    \
                    gn_atomic_##S##_load(&v.x) == j;                           \
            good &= gn_atomic_##S##_cas(&v.x, j, delta);                       \
            good &= gn_atomic_##S##_or(&v.x, 1) == delta &&                    \
                    gn_atomic_##S##_load(&v.x) == (delta | 1);                 \
            good &= gn_atomic_##S##_and(&v.x, (T)~1) == (delta | 1);           \
            j = delta & (T)~1;                                                 \
            good &= gn_atomic_##S##_load(&v.x) == j;                           \
            gn_atomic_##S##_store_order(&v.x, (T)-3, __ATOMIC_RELEASE);        \
            good &=                                                            \
                gn_atomic_##S##_load_order(&v.x, __ATOMIC_ACQUIRE) == (T)-3;   \
            good &= gn_atomic_##S##_add_order(&v.x, 3, __ATOMIC_RELAXED) == 0; \
            good &= gn_atomic_##S##_cas_order(&v.x, 0, j, __ATOMIC_ACQ_REL);   \
            gn_atomic_##S##_store(&v.x, j);                                    \
        }                                                                      \
        return good && v.before == magic && v.after == magic;                  \
    }

TEST_NUMBER(i32, int32_t)
TEST_NUMBER(i64, int64_t)
TEST_NUMBER(u32, uint32_t)
TEST_NUMBER(u64, uint64_t)
TEST_NUMBER(uptr, uintptr_t)

static bool test_pointer(void)
{
    struct gn_atomic_ptr p = {NULL};
    int a, b;

    return gn_atomic_ptr_load(&p) == NULL &&
           gn_atomic_ptr_swap(&p, &a) == NULL &&
           !gn_atomic_ptr_cas(&p, &b, NULL) && gn_atomic_ptr_cas(&p, &a, &b) &&
           gn_atomic_ptr_load(&p) == &b;
}

static bool test_bool(void)
{
    struct gn_atomic_bool b = {false};

    return !gn_atomic_bool_swap(&b, true) && gn_atomic_bool_load(&b) &&
           gn_atomic_bool_cas(&b, true, false) && !gn_atomic_bool_load(&b);
}

static struct gn_atomic_i32 n32;
static struct gn_atomic_u64 n64;

static void hammer_atomics(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < rounds; i++) {
        gn_atomic_i32_add(&n32, 1);
        for (uint64_t v = gn_atomic_u64_load(&n64);
             !gn_atomic_u64_cas(&n64, v, v + 1); v = gn_atomic_u64_load(&n64))
            ;
    }
    gn_wg_done(&all);
}

static struct gn_atomic_u64 halves;

static void swap_halves(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t was =
            gn_atomic_u64_swap(&halves, (uint64_t)i << 32 | (uint32_t)i);

        if ((uint32_t)was != was >> 32)
            gn_atomic_i32_add(&failures, 1);
        gn_atomic_u64_store(&halves, (uint64_t)i << 32 | (uint32_t)i);
        was = gn_atomic_u64_load(&halves);
        if ((uint32_t)was != was >> 32)
            gn_atomic_i32_add(&failures, 1);
    }
    gn_wg_done(&all);
}

// Both store, then both look: one sees the other's.
static struct gn_atomic_i32 shown[2], seen[2][3];

static void store_then_load(void *arg)
{
    int me = arg != NULL, he = 1 - me;

    for (int32_t i = 1; i < (int32_t)rounds / 4; i++) {
        gn_atomic_i32_store(&shown[me], i);
        int32_t my = gn_atomic_i32_load(&shown[he]), his;

        gn_atomic_i32_store(&seen[me][i % 3], my);
        while ((his = gn_atomic_i32_load(&seen[he][i % 3])) == -1)
            gn_yield();
        if ((my != i && my != i - 1) || (his != i && his != i - 1) ||
            (my != i && his != i))
            gn_atomic_i32_add(&failures, 1);
        gn_atomic_i32_store(&seen[me][(i - 1) % 3], -1);
    }
    gn_wg_done(&all);
}

static struct {
    struct gn_atomic_i32 signal;
    char pad[128];
    int32_t data;
} message;

static void release_acquire(void *arg)
{
    int me = arg != NULL;

    for (int32_t i = 1; i < (int32_t)rounds / 4; i++) {
        if ((i + me) % 2 == 0) {
            message.data = i;
            gn_atomic_i32_store_order(&message.signal, i, __ATOMIC_RELEASE);
        } else {
            while (gn_atomic_i32_load_order(&message.signal,
                                            __ATOMIC_ACQUIRE) != i)
                gn_yield();
            if (message.data != i)
                gn_atomic_i32_add(&failures, 1);
        }
    }
    gn_wg_done(&all);
}

static int32_t two(void (*fn)(void *), int n)
{
    gn_atomic_i32_store(&failures, 0);
    gn_wg_add(&all, n);
    for (int i = 0; i < n; i++)
        go(fn, i % 2 != 0 ? &all : NULL);
    gn_wg_wait(&all);
    return gn_atomic_i32_load(&failures);
}

static void add_to_nil(void *arg)
{
    gn_atomic_i64_add(arg, 1);
}

static void atomics(void)
{
    ok(test_i32(), "TestSwapInt32 and all of int32");
    ok(test_i64(), "TestSwapInt64 and all of int64");
    ok(test_u32(), "TestSwapUint32 and all of uint32");
    ok(test_u64(), "TestSwapUint64 and all of uint64");
    ok(test_uptr(), "TestSwapUintptr and all of uintptr");
    ok(test_pointer(), "TestSwapPointer and all of pointers");
    ok(test_bool(), "atomic.Bool");
    two(hammer_atomics, 4);
    IS(gn_atomic_i32_load(&n32), 4 * rounds, "TestHammer32: Add");
    IS(gn_atomic_u64_load(&n64), 4 * rounds, "TestHammer64: CompareAndSwap");
    IS(two(swap_halves, 4), 0, "TestHammerStoreLoad: no halves");
    for (int i = 0; i < 6; i++)
        gn_atomic_i32_store(&seen[i / 3][i % 3], -1);
    IS(two(store_then_load, 2), 0, "TestStoreLoadSeqCst32: one sees the other");
    IS(two(release_acquire, 2), 0,
       "TestStoreLoadRelAcq32: and what was before");
    ok(panics(add_to_nil, NULL,
              "runtime error: invalid memory address or nil pointer "
              "dereference"),
       "TestNilDeref: an atomic at nil");
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
    atomics();
    return tap_end();
}
