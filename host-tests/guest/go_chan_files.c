// Channels and select, after Go's own tests that are programs: test/chan/*.go,
// test/closedchan.go, test/chancap.go. Each point begins with the name of the test
// that it answers (go-tests.tsv lists them all).
//
// usage: go_chan_files

#include "host-tests/guest/go_test.h"

#include <gneiss/chan.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>

typedef gn_chan(uint64_t) words;

static _Atomic int state;
static struct gn_wg all;

// ---- test/chan ----

static ints order_in[11], order_c;
static int order_n;

static void wait_turn(void *arg)
{
    uintptr_t i = (uintptr_t)arg;

    (void)gn_next(order_in[i]);
    if (gn_next(order_c) == (int)i)
        order_n++;
    gn_send(order_in[i + 1], 1);
}

static void fifo(void)
{
    ints c = make(10);
    bool good = true;

    for (int i = 0; i < 10; i++)
        gn_send(c, i);
    for (int i = 0; i < 10; i++)
        good &= gn_next(c) == i;
    order_c = make(0);
    for (int i = 0; i <= 10; i++)
        order_in[i] = make(1);
    for (uintptr_t i = 0; i < 10; i++)
        go(wait_turn, (void *)i);
    gn_send(order_in[0], 1);
    for (int i = 0; i < 10; i++)
        gn_send(order_c, i);
    (void)gn_next(order_in[10]);
    ok(good && order_n == 10, "test/chan/fifo.go: first come, first served");
}

static void pass_on(void *arg)
{
    struct pipe *p = arg;

    gn_send(p->out, gn_next(p->c));
}

static void goroutines(void)
{
    enum { N = 1000 };
    static struct pipe p[N];
    ints first = make(0), c = first;

    for (int i = 0; i < N; i++) {
        p[i] = (struct pipe){c, make(0)};
        c = p[i].out;
        go(pass_on, &p[i]);
    }
    gn_send(first, 1);
    IS(gn_next(c), 1, "test/chan/goroutines.go: through 1,000 goroutines");
}

static void nonblock_recv(void *c)
{
    ints in = {c};

    (void)gn_next(in);
    state = 1;
}

static void nonblock(void)
{
    ints c = make(0), b = make(1);
    int v = 5;
    bool got, good = true;

    good &= !gn_try_recv(c, &v, &got) && v == 5;
    good &= !gn_try_send(c, 1);
    state = 0;
    go(nonblock_recv, c.raw);
    while (!gn_try_send(c, 123))
        gn_yield();
    while (state == 0)
        gn_yield();
    good &= gn_try_send(b, 9) && !gn_try_send(b, 10);
    good &= gn_try_recv(b, &v, &got) && got && v == 9;
    good &= !gn_try_recv(b, &v, &got);
    ok(good, "test/chan/nonblock.go: nothing waits");
}

static void double_select_send(void *arg)
{
    ints *c = arg;

    for (int i = 0; i < 1000; i++) {
        struct gn_case cases[] = {GN_SEND(c[0], &i), GN_SEND(c[1], &i),
                                  GN_SEND(c[2], &i), GN_SEND(c[3], &i)};

        gn_select(cases, 4);
    }
    for (int i = 0; i < 4; i++)
        gn_close(c[i]);
}

static void mux(void *arg)
{
    struct pipe *p = arg;
    int v;

    while (gn_recv(p->c, &v))
        gn_send(p->out, v);
    gn_wg_done(&all);
}

static void close_when_done(void *c)
{
    gn_wg_wait(&all);
    gn_chan_close(c);
}

static void double_select(void)
{
    static unsigned char seen[1000];
    ints c[4], out = make(0);
    struct pipe p[4];
    unsigned twice = 0, n = 0;
    int v;

    gn_wg_add(&all, 4);
    for (int i = 0; i < 4; i++) {
        c[i] = make(0);
        p[i] = (struct pipe){c[i], out};
        go(mux, &p[i]);
    }
    go(double_select_send, c);
    go(close_when_done, out.raw);
    while (gn_recv(out, &v)) {
        twice += seen[v]++ != 0;
        n++;
    }
    ok(n == 1000 && twice == 0,
       "test/chan/doubleselect.go: each value is sent by one case");
}

static int counter, shift;

static int get_value(void)
{
    counter++;
    return 1 << shift;
}

static void select_go(void)
{
    ints c = make(0), d = make(1), nil = {0};
    int v = get_value();
    struct gn_case cases[] = {GN_SEND(c, &v), GN_SEND(nil, &v), GN_SEND(d, &v)};
    bool good = gn_select(cases, 3) == 2 && gn_next(d) == 1;

    shift = 3;
    v = get_value();
    struct gn_case again[] = {GN_SEND(nil, &v), GN_SEND(d, &v)};

    good &= gn_select(again, 2) == 1 && gn_next(d) == 8 && counter == 2;
    ok(good, "test/chan/select.go: only what can be done is");
}

// Blocked for ever, or not, or a panic: test/chan/select3.go.
struct attempt {
    int what;
    ints c;
    _Atomic int went_on;
};

enum {
    RECV,
    SEND,
    SELECT_RECV,
    SELECT_SEND,
    SELECT_NONE,
    SELECT_NILS,
    SELECT_BOTH
};

static void do_it(void *arg)
{
    struct attempt *a = arg;
    int v = 1;
    struct gn_case none[1], recv[] = {GN_RECV(a->c, &v)},
                            send[] = {GN_SEND(a->c, &v)};
    struct gn_case both[] = {GN_RECV(a->c, &v), GN_SEND(a->c, &v)};
    struct gn_case nils[] = {{.chan = NULL}, {.chan = NULL, .send = true}};

    switch (a->what) {
    case RECV:
        (void)gn_next(a->c);
        break;
    case SEND:
        gn_send(a->c, 1);
        break;
    case SELECT_RECV:
        gn_select(recv, 1);
        break;
    case SELECT_SEND:
        gn_select(send, 1);
        break;
    case SELECT_NONE:
        gn_select(none, 0);
        break;
    case SELECT_NILS:
        gn_select(nils, 2);
        break;
    default:
        gn_select(both, 2);
    }
}

static void attempt(void *arg)
{
    struct attempt *a = arg;
    struct gn_panic p;

    a->went_on = gn_try(do_it, a, &p) ? 1 : 2;
}

enum { BLOCKS, GOES_ON, PANICS };

static bool result_is(int what, ints c, int expected)
{
    static struct attempt kept[64]; // those that wait do so for ever
    static int n;
    struct attempt *a = &kept[n++];

    a->what = what;
    a->c = c;
    go(attempt, a);
    for (int i = 0; i < 1000 && a->went_on == 0 && expected != BLOCKS; i++)
        gn_sleep(GN_MILLISECOND);
    yield_often();
    if (a->went_on != expected)
        printf("# %d: %d, not %d\n", what, a->went_on, expected);
    return a->went_on == expected;
}

static void select3(void)
{
    ints nil = {0}, empty = make(0), closed = make(0), full = make(1),
         buffered = make(1), closed_full = make(2);
    bool good = true;

    gn_close(closed);
    gn_send(full, 1);
    gn_send(closed_full, 1);
    gn_close(closed_full);
    for (int k = 0; k < 2; k++) { // plain, then as the only case
        good &= result_is(k ? SELECT_RECV : RECV, nil, BLOCKS);
        good &= result_is(k ? SELECT_SEND : SEND, nil, BLOCKS);
        good &= result_is(k ? SELECT_RECV : RECV, closed, GOES_ON);
        good &= result_is(k ? SELECT_SEND : SEND, closed, PANICS);
        good &= result_is(k ? SELECT_SEND : SEND, full, BLOCKS);
        good &= result_is(k ? SELECT_RECV : RECV, make(0), BLOCKS);
        good &= result_is(k ? SELECT_SEND : SEND, make(0), BLOCKS);
        good &= result_is(k ? SELECT_SEND : SEND, make(1), GOES_ON);
        good &= result_is(k ? SELECT_RECV : RECV, buffered, BLOCKS);
    }
    ok(good, "test/chan/select3.go: sends and receives that wait, or do not");
    good = result_is(RECV, closed_full, GOES_ON);
    good &= result_is(RECV, closed_full, GOES_ON);
    good &= result_is(SEND, closed_full, PANICS);
    ok(good, "test/chan/select3.go: closed channels with a buffer");
    good = result_is(SELECT_NONE, nil, BLOCKS);
    good &= result_is(SELECT_NILS, nil, BLOCKS);
    good &= result_is(SELECT_BOTH, empty, BLOCKS);
    good &= result_is(SELECT_BOTH, nil, BLOCKS);
    good &= result_is(SELECT_BOTH, make(1), GOES_ON);
    ok(good, "test/chan/select3.go: no cases, nil ones, both of one channel");
}

static void select4(void)
{
    ints c = make(1), c1 = make(0);
    int v = 0, f = 5;

    gn_send(c, 42);
    struct gn_case cases[] = {GN_SEND(c1, &f), GN_RECV(c, &v)};

    ok(gn_select(cases, 2) == 1 && v == 42 && cases[1].ok,
       "test/chan/select4.go: a case that waits does not disturb");
}

// Two that select to send to, and to receive from each other: select6, select7.
static void send_by_select(void *c)
{
    ints out = {c};
    int v = 1;
    struct gn_case one[] = {GN_SEND(out, &v)};

    gn_select(one, 1);
}

static void recv_by_select(void *c)
{
    ints in = {c};
    struct gn_case one[] = {GN_RECV(in, NULL)};

    gn_select(one, 1);
    gn_wg_done(&all);
}

static void select6(void)
{
    ints c1 = make(0), c2 = make(0);

    go(send_by_select, c1.raw);
    yield_often();
    // A record at the end of the queue of c2, of a select that c1 has served.
    struct gn_case cases[] = {GN_RECV(c1, NULL), GN_RECV(c2, NULL)};

    gn_wg_add(&all, 1);
    go(recv_by_select, c2.raw);
    yield_often();
    gn_select(cases, 2);
    gn_send(c2, 1);
    gn_wg_wait(&all);
    ok(true, "test/chan/select6.go: records of others stay in the queue");
}

static void select7_from(void (*sender)(void *), bool twice)
{
    ints c = make(0);

    go(sender, c.raw);
    if (twice)
        yield_often();
    (void)gn_next(c); // not freed: the sender's select may not have returned
}

static void plain_send(void *c)
{
    ints out = {c};

    gn_send(out, 1);
}

static void try_send_until(void *c)
{
    ints out = {c};

    while (!gn_try_send(out, 1))
        gn_yield();
}

static void select7(void)
{
    for (int k = 0; k < 2; k++) {
        select7_from(plain_send, k);
        select7_from(send_by_select, k);
        select7_from(try_send_until, k);
        ints c = make(0);

        gn_wg_add(&all, 1);
        go(recv_by_select, c.raw);
        yield_often();
        gn_send(c, 1);
        gn_wg_wait(&all);
    }
    ok(true,
       "test/chan/select7.go: sends and receives meet, however they wait");
}

static void close_it(void *c)
{
    gn_chan_close(c);
}

static void send_it(void *c)
{
    ints out = {c};

    gn_send(out, 1);
}

static void try_send_it(void *c)
{
    ints out = {c};

    gn_try_send(out, 1);
}

static void closed_chan(void)
{
    ints c = make(0), b = make(3);
    bool got, good;
    int v;

    gn_send(b, 10);
    gn_close(c);
    gn_close(b);
    v = 1;
    good = gn_recv(b, &v) && v == 10 && !gn_recv(b, &v) && v == 0;
    ok(good, "test/closedchan.go: what was in it comes first");
    for (int i = 0; i < 3; i++) {
        v = 1;
        good &= !gn_recv(c, &v) && v == 0;
        v = 1;
        good &= gn_try_recv(c, &v, &got) && !got && v == 0;
        struct gn_case one[] = {GN_RECV(c, &v)};

        v = 1;
        good &= gn_select(one, 1) == 0 && !one[0].ok && v == 0;
    }
    ok(good, "test/closedchan.go: then zeroes, for ever");
    good = panics(send_it, c.raw, "send on closed channel") &&
           panics(try_send_it, b.raw, "send on closed channel") &&
           panics(send_by_select, c.raw, "send on closed channel");
    ok(good, "test/closedchan.go: a send panics, in all its forms");
    ok(panics(close_it, c.raw, "close of closed channel"),
       "test/closedchan.go: close of closed channel");
    ok(panics(close_it, NULL, "close of nil channel"),
       "test/closedchan.go: close of nil channel");
}

static void try_to_send(void *c)
{
    struct gn_panic p;

    state = gn_try(send_it, c, &p) ? 1 : 2;
}

static void closed_while_sending(void)
{
    ints c = make(0);

    state = 0;
    go(try_to_send, c.raw);
    yield_often();
    gn_close(c);
    while (state == 0)
        gn_yield();
    IS(state, 2, "TestChan: who waits to send panics when it is closed");
}

static void chan_cap(void)
{
    ints nil = {0};

    ok(gn_cap(nil) == 0 && gn_len(nil) == 0, "test/chancap.go: of nil");
    ok(gn_cap(make(0)) == 0 && gn_cap(make(10)) == 10,
       "test/chancap.go: as made");
    errno = 0;
    ok(gn_chan_new(8, SIZE_MAX / 8 + 1) == NULL && errno == EINVAL,
       "test/chancap.go: too large to be addressed");
    errno = 0;
    ok(gn_chan_new(1, SIZE_MAX / 4) == NULL && errno == ENOMEM,
       "test/chancap.go: too large for the memory there is");
}

int main(void)
{
    closed_while_sending();
    fifo();
    goroutines();
    nonblock();
    double_select();
    select_go();
    select3();
    select4();
    select6();
    select7();
    closed_chan();
    chan_cap();
    return tap_end();
}
