// Channels and select, after Go's own tests: src/runtime/chan_test.go. Each point begins with the name of the test
// that it answers (go-tests.tsv lists them all).
//
// usage: go_chan [ROUNDS]

#include "host-tests/guest/go_test.h"

#include <gneiss/chan.h>
#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/heap.h>
#include <gneiss/stack.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

typedef gn_chan(uint64_t) words;

static unsigned rounds = 200;

// ---- TestChan, by capacity ----

static _Atomic int state;

static void recv_one(void *c)
{
    ints in = {c};

    (void)gn_next(in);
    state++;
}

static void send_zero(void *c)
{
    ints out = {c};

    gn_send(out, 0);
    state++;
}

static void send_hundred(void *c)
{
    ints out = {c};

    for (int i = 0; i < 100; i++)
        gn_send(out, i);
}

static void ten_blocked(size_t cap)
{
    ints c = make(cap);

    state = 0;
    go(recv_one, c.raw);
    struct gn_case one = GN_RECV(c, NULL);

    go(recv_one, c.raw);
    yield_often();
    if (!(state == 0 && gn_select_try(&one, 1) == -1 &&
          !gn_try_recv(c, NULL, NULL)))
        ok(false, "TestChan: an empty channel of %zu gives something", cap);
    gn_send(c, 0);
    gn_send(c, 0);
    while (state != 2)
        gn_yield();
    for (size_t i = 0; i < cap; i++)
        gn_send(c, (int)i);
    if (gn_try_send(c, 0))
        ok(false, "TestChan: a full channel of %zu takes more", cap);
    go(send_zero, c.raw);
    yield_often();
    if (state != 2)
        ok(false, "TestChan: who sends to a full channel does not wait");
    (void)gn_next(c);
    while (state != 3)
        gn_yield();
    gn_chan_free(c.raw);
}

static void closed_gives_rest_then_zero(size_t cap)
{
    ints c = make(cap);
    bool got, good = true;
    int v;

    for (size_t i = 0; i < cap; i++)
        gn_send(c, (int)i);
    gn_close(c);
    for (size_t i = 0; i < cap; i++)
        good &= gn_recv(c, &v) && v == (int)i;
    v = 7;
    good &= !gn_recv(c, &v) && v == 0;
    v = 7;
    good &= gn_try_recv(c, &v, &got) && !got && v == 0;
    if (!good)
        ok(false, "TestChan: a closed channel of %zu", cap);
    gn_chan_free(c.raw);
}

static void is_told_of_close(void *arg)
{
    struct pipe *p = arg;
    int v;

    gn_send(p->out, gn_recv(p->c, &v) || v != 0);
}

static void close_wakes(size_t cap)
{
    struct pipe p = {make(cap), make(0)};

    go(is_told_of_close, &p);
    yield_often();
    gn_close(p.c);
    if (gn_next(p.out) != 0)
        ok(false, "TestChan: close of %zu wakes who receives, with zero", cap);
}

static void values_in_order(size_t cap)
{
    ints c = make(cap);
    bool good = true;

    go(send_hundred, c.raw);
    for (int i = 0; i < 100; i++)
        good &= gn_next(c) == i;
    if (!good)
        ok(false, "TestChan: 100 values through %zu come in order", cap);
    yield_often();
    gn_chan_free(c.raw);
}

static struct gn_wg all;

struct many {
    ints c;
    _Atomic int seen[100];
};

static void send_all(void *arg)
{
    struct many *m = arg;

    for (int i = 0; i < 100; i++)
        gn_send(m->c, i);
    gn_wg_done(&all);
}

static void recv_all(void *arg)
{
    struct many *m = arg;

    for (int i = 0; i < 100; i++)
        m->seen[gn_next(m->c)]++;
    gn_wg_done(&all);
}

static void many_to_many(size_t cap)
{
    struct many m = {.c = make(cap)};
    bool good = true;

    gn_wg_add(&all, 8);
    for (int i = 0; i < 4; i++) {
        go(send_all, &m);
        go(recv_all, &m);
    }
    gn_wg_wait(&all);
    for (int i = 0; i < 100; i++)
        good &= m.seen[i] == 4;
    if (!good)
        ok(false, "TestChan: 4 x 100 values through %zu", cap);
    if (gn_len(m.c) != 0 || gn_cap(m.c) != cap)
        ok(false, "TestChan: len and cap of %zu", cap);
}

static void test_chan(void)
{
    int before = tap_failed;

    for (size_t cap = 0; cap < 60; cap++) {
        ten_blocked(cap);
        closed_gives_rest_then_zero(cap);
        close_wakes(cap);
        values_in_order(cap);
        many_to_many(cap);
    }
    ok(tap_failed == before, "TestChan: 60 capacities");
}

// ---- TestNonblockRecvRace, TestNonblockSelectRace(2) ----

static void race_recv(void *c)
{
    struct gn_case one = {.chan = c};

    state = gn_select_try(&one, 1) == 0 ? 1 : 2;
}

static void nonblock_recv_race(void)
{
    unsigned missed = 0;

    for (unsigned i = 0; i < rounds; i++) {
        ints c = make(1);

        state = 0;
        gn_send(c, 1);
        go(race_recv, c.raw);
        gn_close(c);
        (void)gn_next(c);
        while (state == 0)
            gn_yield();
        missed += state == 2;
        gn_chan_free(c.raw);
    }
    IS(missed, 0, "TestNonblockRecvRace: closed or full, it is never empty");
}

static void race_select(void *arg)
{
    struct pipe *p = arg;
    struct gn_case cases[] = {GN_RECV(p->c, NULL), GN_RECV(p->out, NULL)};

    state = gn_select_try(cases, 2) >= 0 ? 1 : 2;
}

// One is filled before the other is emptied: at any time there is a value.
static void nonblock_select_race(bool close)
{
    unsigned missed = 0;

    for (unsigned i = 0; i < rounds; i++) {
        struct pipe p = {make(1), make(1)};

        state = 0;
        gn_send(p.c, 1);
        go(race_select, &p);
        if (close)
            gn_close(p.out);
        else
            gn_send(p.out, 1);
        (void)gn_try_recv(p.c, NULL, NULL);
        while (state == 0)
            gn_yield();
        missed += state == 2;
        gn_chan_free(p.c.raw);
        gn_chan_free(p.out.raw);
    }
    IS(missed, 0,
       close ? "TestNonblockSelectRace2: one is filled, or the other closed"
             : "TestNonblockSelectRace: one is filled or the other");
}

// There is always a value in one of both: it is put into one before it is taken from the
// other, all the time.
static _Atomic unsigned moves;

static void move_about(void *arg)
{
    struct pipe *p = arg;

    while (state == 0) {
        (void)gn_try_send(p->out, 1);
        (void)gn_try_recv(p->c, NULL, NULL);
        (void)gn_try_send(p->c, 1);
        (void)gn_try_recv(p->out, NULL, NULL);
        moves++;
    }
    gn_wg_done(&all);
}

// Tries until it has been moved so often while we looked, if there is another CPU.
static void one_of_two_is_seen(void)
{
    enum { ENOUGH = 20 };
    int64_t until = gn_now() + 2 * GN_SECOND;
    struct pipe p = {make(1), make(1)};
    struct gn_case cases[] = {GN_RECV(p.c, NULL), GN_RECV(p.out, NULL)};
    unsigned missed = 0, meanwhile = 0;

    gn_send(p.c, 1);
    state = 0;
    gn_wg_add(&all, 1);
    go(move_about, &p);
    for (unsigned i = 0; meanwhile < rounds * ENOUGH && gn_now() < until &&
                         (i < rounds || gn_cpu_count() > 1);
         i++) {
        unsigned before = moves;
        ptrdiff_t k = gn_select_try(cases, 2);

        meanwhile += moves != before;
        missed += k < 0;
        (void)gn_try_send(k == 1 ? p.out : p.c, 1); // nobody may miss it
        if (i % 1000 == 0)
            gn_yield();
    }
    state = 1;
    gn_wg_wait(&all);
    IS(missed, 0, "TestNonblockSelectRace: a value that moves about is seen");
    printf("# it was moved %u times while we looked\n", meanwhile);
}

// ---- TestSelfSelect, TestSelectStress, fairness ----

struct self {
    ints c;
    int me;
    unsigned bad;
};

static void select_self(void *arg)
{
    struct self *s = arg;
    int v;

    for (unsigned i = 0; i < rounds; i++) {
        struct gn_case cases[2] = {GN_SEND(s->c, &s->me), GN_RECV(s->c, &v)};

        if (i % 2 == 1) { // the other order
            struct gn_case first = cases[0];

            cases[0] = cases[1];
            cases[1] = first;
        }
        size_t k = gn_select(cases, 2);

        if (!cases[k].send)
            s->bad += v == s->me && gn_cap(s->c) == 0;
    }
    gn_wg_done(&all);
}

static void self_select(void)
{
    unsigned bad = 0;

    for (size_t cap = 0; cap < 2; cap++) {
        ints c = make(cap);
        struct self s[2] = {{c, 1, 0}, {c, 2, 0}};

        gn_wg_add(&all, 2);
        go(select_self, &s[0]);
        go(select_self, &s[1]);
        // One of both may be left over.
        for (int v; all.state_ >> 32 > 0; gn_yield()) {
            gn_try_recv(c, &v, NULL);
            if (gn_cap(c) == 0)
                (void)gn_try_send(c, 3);
        }
        gn_wg_wait(&all);
        bad += s[0].bad + s[1].bad;
    }
    IS(bad, 0, "TestSelfSelect: nobody receives from itself");
}

enum { CHANS = 4 };

static ints stress[CHANS];

static void stress_send(void *arg)
{
    ints c = stress[(uintptr_t)arg];

    for (unsigned i = 0; i < rounds; i++)
        gn_send(c, (int)i);
    gn_wg_done(&all);
}

static void stress_recv(void *arg)
{
    ints c = stress[(uintptr_t)arg];

    for (unsigned i = 0; i < rounds; i++)
        (void)gn_next(c);
    gn_wg_done(&all);
}

static void stress_select(void *arg)
{
    unsigned left[CHANS];
    bool send = arg != NULL;
    int v[CHANS] = {0};

    for (int i = 0; i < CHANS; i++)
        left[i] = rounds;
    for (unsigned n = 0; n < CHANS * rounds; n++) {
        struct gn_case cases[CHANS];

        for (int i = 0; i < CHANS; i++)
            cases[i] =
                (struct gn_case){.chan = left[i] > 0 ? stress[i].raw : NULL,
                                 .elem = &v[i],
                                 .send = send};
        left[gn_select(cases, CHANS)]--;
    }
    gn_wg_done(&all);
}

static void select_stress(void)
{
    for (int i = 0; i < CHANS; i++)
        stress[i] = make(i < 2 ? 0 : 2u + (unsigned)i);
    gn_wg_add(&all, 2 * CHANS + 2);
    for (uintptr_t i = 0; i < CHANS; i++) {
        go(stress_send, (void *)i);
        go(stress_recv, (void *)i);
    }
    go(stress_select, NULL);
    go(stress_select, stress);
    gn_wg_wait(&all);
    unsigned left = 0;

    for (int i = 0; i < CHANS; i++)
        left += gn_len(stress[i]) != 0;
    IS(left, 0, "TestSelectStress: all that was sent was received");
}

static _Atomic bool stop;

static void fill(void *c)
{
    ints out = {c};

    while (!stop) {
        (void)gn_try_send(out, 1);
        gn_yield();
    }
    gn_wg_done(&all);
}

static void select_fairness(void)
{
    enum { TRIALS = 10000 };
    ints c1 = make(TRIALS + 1), c2 = make(TRIALS + 1), c3 = make(0),
         c4 = make(0);
    unsigned n1 = 0, n2 = 0;

    for (int i = 0; i < TRIALS; i++) {
        gn_send(c1, 1);
        gn_send(c2, 2);
    }
    stop = false;
    gn_wg_add(&all, 1);
    go(fill, make(1).raw);
    for (int i = 0; i < TRIALS; i++) {
        struct gn_case cases[] = {GN_RECV(c3, NULL), GN_RECV(c1, NULL),
                                  GN_RECV(c4, NULL), GN_RECV(c2, NULL)};
        size_t k = gn_select(cases, 4);

        n1 += k == 1;
        n2 += k == 3;
    }
    stop = true;
    gn_wg_wait(&all);
    // 10 standard deviations of a fair coin.
    ok(n1 + n2 == TRIALS && n1 > TRIALS / 2 - 500 && n1 < TRIALS / 2 + 500,
       "TestSelectFairness: %u to %u of two that are always ready", n1, n2);
}

static void pseudo_random_send(void)
{
    enum { N = 100 };
    ints c = make(N);
    unsigned zeros = 0;

    for (int i = 0; i < N; i++) {
        int zero = 0, one = 1;
        struct gn_case cases[] = {GN_SEND(c, &zero), GN_SEND(c, &one)};

        gn_select(cases, 2);
    }
    for (int i = 0; i < N; i++)
        zeros += gn_next(c) == 0;
    ok(zeros > 10 && zeros < 90, "TestPseudoRandomSend: %u of %u bits are 0",
       zeros, N);
}

// ---- TestMultiConsumer ----

struct flow {
    words q, r;
};

static void consume(void *arg)
{
    struct flow *f = arg;
    uint64_t v;

    while (gn_recv(f->q, &v)) {
        if (v % 5 == 0)
            gn_yield();
        gn_send(f->r, v);
    }
    gn_wg_done(&all);
}

static void produce(void *arg)
{
    static const unsigned primes[] = {2, 3, 7, 11, 13, 17};
    struct flow *f = arg;

    for (unsigned i = 0; i < 1000; i++)
        gn_send(f->q, primes[i % 6]);
    gn_close(f->q);
    gn_wg_wait(&all);
    gn_close(f->r);
}

static void multi_consumer(void)
{
    struct flow f = {gn_make_chan(words, 3), gn_make_chan(words, 3)};
    uint64_t v, sum = 0, n = 0;

    gn_wg_add(&all, 23);
    for (int i = 0; i < 23; i++)
        go(consume, &f);
    go(produce, &f);
    while (gn_recv(f.r, &v)) {
        sum += v;
        n++;
    }
    ok(n == 1000 && sum == 166 * 53 + 2 + 3 + 7 + 11,
       "TestMultiConsumer: 1000 values through 23, each once");
}

// ---- stacks ----

static NOINLINE size_t deep(size_t n)
{
    volatile char page[512];

    page[0] = (char)n;
    return n == 0 ? 0 : deep(n - 1) + (page[0] == (char)n);
}

static void blocked_send_after_depth(void *c)
{
    ints out = {c};

    for (int i = 0; i < 10; i++) {
        deep(200);
        gn_stack_trim();
        gn_send(out, i);
    }
}

static void shrink_stack_during_blocked_send(void)
{
    ints c = make(0);
    bool good = true;

    go(blocked_send_after_depth, c.raw);
    for (int i = 0; i < 10; i++) {
        yield_often();
        good &= gn_next(c) == i;
    }
    ok(good, "TestShrinkStackDuringBlockedSend: what a trimmed stack sends");
}

static void recv_and_dive(void *arg)
{
    struct pipe *p = arg;
    int v[100] = {0};
    struct gn_case cases[] = {GN_RECV(p->c, &v[50])};

    deep(300);
    gn_select(cases, 1);
    deep(300);
    gn_send(p->out, v[50]);
}

static void select_stack_adjust(void)
{
    struct pipe p = {make(0), make(0)};

    go(recv_and_dive, &p);
    yield_often();
    gn_send(p.c, 4711);
    IS(gn_next(p.out), 4711,
       "TestSelectStackAdjust: received into a stack that has grown");
}

// ---- TestSelectDuplicateChannel ----

static void select_duplicate(void *arg)
{
    struct pipe *p = arg;
    struct gn_case cases[] = {GN_RECV(p->c, NULL), GN_RECV(p->c, NULL),
                              GN_RECV(p->out, NULL)};

    gn_select(cases, 3);
    gn_wg_done(&all);
}

static void recv_second(void *arg)
{
    struct pipe *p = arg;

    (void)gn_next(p->out);
    gn_wg_done(&all);
}

static void select_duplicate_channel(void)
{
    struct pipe p = {make(0), make(0)};

    gn_wg_add(&all, 2);
    go(select_duplicate, &p);
    yield_often();
    go(recv_second, &p);
    yield_often();
    gn_send(p.c, 3); // takes three records out
    gn_send(p.out, 4);
    gn_wg_wait(&all);
    ok(true, "TestSelectDuplicateChannel: one channel in several cases");
}

// ---- elements of any size ----

static void zero_size(void)
{
    struct gn_chan *c = gn_chan_new(0, 2), *u = gn_chan_new(0, 0);

    gn_chan_send(c, NULL);
    gn_chan_send(c, NULL);
    ok(!gn_chan_try_send(c, NULL) && gn_chan_len(c) == 2 &&
           gn_chan_recv(c, NULL) && gn_chan_recv(c, NULL) &&
           !gn_chan_try_recv(c, NULL, NULL),
       "test/chan/zerosize.go: elements without bytes are counted");
    gn_chan_free(c);
    gn_chan_free(u);
}

static void send_large(void *arg)
{
    void **a = arg;

    gn_chan_send(a[0], a[1]);
}

static void any_size(void)
{
    static const size_t sizes[] = {1, 2, 3, 4, 7, 8, 9, 16, 100, 4096, 70000};
    static unsigned char from[70000], to[70002];
    unsigned bad = 0;

    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (unsigned char)(i * 7 + i / 251);
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        for (size_t cap = 0; cap < 3; cap++) {
            size_t n = sizes[k];
            struct gn_chan *c = gn_chan_new(n, cap);
            void *a[] = {c, from};

            memset(to, 0xee, sizeof to);
            go(send_large, a);
            if (cap == 1)
                yield_often();
            gn_chan_recv(c, to + 1);
            bad += memcmp(from, to + 1, n) != 0 || to[0] != 0xee ||
                   to[n + 1] != 0xee;
            yield_often();
            gn_chan_free(c);
        }
    }
    IS(bad, 0, "test/ken/chan.go: elements of 1 to 70,000 bytes");
}

#ifdef __gneiss__
static void send_and_select(void *arg)
{
    struct pipe *p = arg;
    int v = 1;

    for (int i = 0; i < 20000; i++) {
        struct gn_case cases[] = {GN_SEND(p->c, &v), GN_SEND(p->out, &v)};

        gn_select(cases, 2);
    }
    gn_wg_done(&all);
}

static void select_leaks_nothing(void)
{
    struct pipe p = {make(0), make(0)};
    struct gn_heap_stats before, after;

    gn_wg_add(&all, 2);
    go(send_and_select, &p);
    go(send_and_select, &p);
    gn_heap_stats(&before);
    for (int i = 0; i < 40000; i++) {
        struct gn_case cases[] = {GN_RECV(p.c, NULL), GN_RECV(p.out, NULL)};

        gn_select(cases, 2);
    }
    gn_wg_wait(&all);
    gn_heap_stats(&after);
    IS(after.mallocs - before.mallocs, 0,
       "test/chan/select2.go: 80,000 selects allocate nothing");
}
#endif

static void free_waited(void *arg)
{
    struct pipe *p = arg;

    gn_chan_free(p->c.raw);
}

static void checked_free(void)
{
    struct pipe p = {make(0), make(0)};

    go(is_told_of_close, &p);
    yield_often();
    ok(panics(free_waited, &p, "free of a channel that a goroutine waits on"),
       "gn_chan_free: of one that somebody waits on");
    gn_close(p.c);
    (void)gn_next(p.out);
    gn_chan_free(p.c.raw);
    gn_chan_free(NULL);
}

static void many_cases(void)
{
    enum { N = 3000 };
    static struct gn_case cases[N];
    static ints c[N];
    unsigned bad = 0;
    int v = 0;

    for (int i = 0; i < N; i++)
        c[i] = make(1);
    for (int r = 0; r < 20; r++) {
        int at = (r * 7919) % N;

        for (int i = 0; i < N; i++)
            cases[i] = (struct gn_case)GN_RECV(c[(i * 17 + r) % N], &v);
        if (r % 2 == 0)
            gn_send(c[at], r);
        else
            go(send_zero, c[at].raw);
        size_t k = gn_select(cases, N);

        bad += cases[k].chan != c[at].raw || v != (r % 2 == 0 ? r : 0);
    }
    IS(bad, 0, "select of 3,000 cases finds the one");
    for (int i = 0; i < N; i++)
        gn_chan_free(c[i].raw);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    test_chan();
    nonblock_recv_race();
    nonblock_select_race(false);
    nonblock_select_race(true);
    one_of_two_is_seen();
    self_select();
    select_stress();
    select_fairness();
    pseudo_random_send();
    multi_consumer();
    shrink_stack_during_blocked_send();
    select_stack_adjust();
    select_duplicate_channel();
    zero_size();
    any_size();
    checked_free();
#ifdef __gneiss__
    select_leaks_nothing();
#endif
    many_cases();
    return tap_end();
}
