// Nobody has to free a channel, a timer, a context (R21): many more of them than there is
// memory for, dropped in all states that a program leaves them in.

#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/gc.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include "host-tests/guest/go_test.h"

enum { MANY = 200000 };

static _Atomic int fired;

static void send_seven(void *arg)
{
    ints c = {arg};

    gn_send(c, 7);
}

// With values in them, closed, with somebody who waited.
static NOINLINE bool channels(void)
{
    bool good = true;

    for (int i = 0; i < MANY; i++) {
        ints c = make((size_t)i % 4);
        int v = 0;

        if (i % 4 != 0)
            gn_send(c, i);
        if (i % 3 == 0)
            gn_close(c);
        if (i % 20 != 0)
            continue;
        c = make(0);
        go(send_seven, c.raw);
        good &= gn_recv(c, &v) && v == 7;
    }
    return good;
}

static void fire(void *arg)
{
    (void)arg;
    fired++;
}

// Stopped, gone off, and never asked for again.
static NOINLINE int timers(void)
{
    int expected = 0;

    for (int i = 0; i < MANY; i++) {
        struct gn_timer *t =
            need(gn_after_func(i % 50 == 0 ? 0 : 3600 * GN_SECOND, fire, NULL));

        expected += i % 50 == 0;
        if (i % 50 != 0)
            gn_timer_stop(t);
        if (i % 1000 == 0)
            gn_sleep(GN_MILLISECOND);
    }
    return expected;
}

static char key;

static NOINLINE bool contexts(void)
{
    bool good = true;

    for (int i = 0; i < MANY / 2; i++) {
        struct gn_ctx *a = need(gn_ctx_cancelable(gn_ctx_background()));
        struct gn_ctx *b = need(gn_ctx_with(a, &key, &key));
        struct gn_ctx *c = need(gn_ctx_timeout(b, 3600 * GN_SECOND));

        good &= gn_ctx_value(c, &key) == &key && gn_ctx_err(c) == NULL;
        gn_ctx_cancel(a);
        good &= gn_ctx_err(c) != NULL;
    }
    return good;
}

struct message {
    ints answer;
    int n;
};

static void answer(void *arg)
{
    struct message *m = arg;

    gn_send(m->answer, m->n + 1);
}

// What a goroutine is given is its own.
static NOINLINE bool arguments(void)
{
    bool good = true;

    for (int i = 0; i < MANY / 10; i++) {
        struct message *m = need(gn_new(struct message));
        ints c = make(0);
        int v = 0;

        *m = (struct message){c, i};
        go(answer, m);
        m = NULL;
        if (i % 100 == 0)
            gn_gc();
        good &= gn_recv(c, &v) && v == i + 1;
    }
    return good;
}

int main(void)
{
    struct gn_gc_stats s;

    ok(channels(), "channels");
    int expected = timers();

    for (int i = 0; i < 1000 && fired < expected; i++)
        gn_sleep(GN_MILLISECOND);
    IS(fired, expected, "timers");
    ok(contexts(), "contexts");
    ok(arguments(), "what goroutines are given");
    gn_gc();
    gn_gc_stats(&s);
    ok(s.live < 4 << 20, "little is left");
    printf("# %lu collections, %lu objects freed, %lu KiB left\n",
           (unsigned long)s.cycles, (unsigned long)s.freed,
           (unsigned long)s.live >> 10);
    return tap_end();
}
