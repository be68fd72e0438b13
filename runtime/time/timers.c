// <gneiss/time.h>, over the heaps of timers (runtime/sched/time.c).
//
// What is sent is sent with the heap's lock held, and a stop or reset empties the
// channel with it: so what was sent before is never received after.
//
// Locks: `turn` is held by who sets or stops a timer, so that it is in one heap at most
// and stays there; the heap's lock is taken inside it, by who fires alone, and the
// channel's inside that. `period` changes with `turn`, while the timer is in no heap.

#include <gneiss/time.h>

#include <gneiss/heap.h>
#include <gneiss/sync.h>

#include <errno.h>

#include "runtime/chan/chan.h"
#include "runtime/panic/panic.h"
#include "runtime/sched/sched.h"
#include "runtime/sched/timer.h"

enum { RETRY_NS = 1000000 };

struct gn_timer {
    struct timer t; // t.period: of a ticker, else 0
    struct gn_mutex turn;
    struct gn_chan *chan;
    void (*fn)(void *); // of gn_after_func
    void *arg;
};

int64_t gn_now(void)
{
    return (int64_t)arch_mono_ns();
}

static uint64_t in(int64_t d)
{
    int64_t at;

    if (d < 0)
        d = 0;
    if (__builtin_add_overflow(gn_now(), d, &at))
        at = INT64_MAX;
    return (uint64_t)at;
}

void gn_sleep(int64_t d)
{
    if (d > 0)
        g_sleep_until(in(d));
}

// ---- going off ----

static struct gn_timer *of(const struct timer *t)
{
    return container_of((struct timer *)(uintptr_t)t, struct gn_timer, t);
}

static uint64_t send(struct timer *t, uint64_t when, uint64_t now)
{
    int64_t v = (int64_t)when;

    gn_chan_try_send(of(t)->chan, &v);
    // Of the times that have passed meanwhile one was enough, and none moves the others.
    return t->period != 0 ? when + t->period * (1 + (now - when) / t->period)
                          : 0;
}

static bool is_waited_for(const struct timer *t)
{
    return chan_has_receiver(of(t)->chan);
}

static uint64_t start(struct timer *t, uint64_t when, uint64_t now)
{
    struct g *g = g_create(of(t)->fn, of(t)->arg, "", G_ANY_CPU);

    (void)when;
    if (g == NULL)
        return now + RETRY_NS;
    g_ready(g);
    return 0;
}

// ---- making, stopping ----

static struct gn_timer *make(bool channel, uint64_t period, uint64_t at,
                             void (*fn)(void *), void *arg)
{
    struct gn_timer *t = gn_alloc(sizeof *t, GN_SCAN, 0);

    if (t == NULL)
        return NULL;
    t->t.fire = channel ? send : start;
    t->t.wakes = channel ? is_waited_for : NULL;
    t->t.period = period;
    t->fn = fn;
    t->arg = arg;
    if (channel)
        t->chan = chan_new_of_timer(sizeof(int64_t));
    if ((channel && t->chan == NULL) || !timer_set(&t->t, at)) {
        gn_chan_free(t->chan);
        gn_free(t);
        errno = ENOMEM;
        return NULL;
    }
    return t;
}

struct gn_timer *gn_timer_new(int64_t d)
{
    return make(true, 0, in(d), NULL, NULL);
}

gn_times gn_after(int64_t d)
{
    struct gn_timer *t = gn_timer_new(d);

    return (gn_times){t != NULL ? t->chan : NULL};
}

struct gn_timer *gn_after_func(int64_t d, void (*fn)(void *), void *arg)
{
    return make(false, 0, in(d), fn, arg);
}

struct gn_timer *gn_ticker_new(int64_t d)
{
    if (d <= 0)
        panic_go("non-positive interval for NewTicker");
    return make(true, (uint64_t)d, in(d), NULL, NULL);
}

gn_times gn_timer_channel(const struct gn_timer *t)
{
    return (gn_times){t->chan};
}

// With the heap's lock held.
static bool forget_sent(struct timer *t)
{
    return of(t)->chan != NULL && gn_chan_try_recv(of(t)->chan, NULL, NULL);
}

bool gn_timer_stop(struct gn_timer *t)
{
    gn_mutex_lock(&t->turn);
    bool was = timer_stop(&t->t, forget_sent);

    gn_mutex_unlock(&t->turn);
    return was;
}

bool gn_timer_reset(struct gn_timer *t, int64_t d)
{
    if (t->t.period != 0 && d <= 0)
        panic_go("non-positive interval for Ticker.Reset");
    gn_mutex_lock(&t->turn);
    bool was = timer_stop(&t->t, forget_sent);

    if (t->t.period != 0)
        t->t.period = (uint64_t)d;
    while (!timer_set(&t->t, in(d)))
        g_yield();
    gn_mutex_unlock(&t->turn);
    return was;
}

void gn_timer_free(struct gn_timer *t)
{
    if (t == NULL)
        return;
    gn_timer_stop(t);
    gn_chan_free(t->chan);
    gn_free(t);
}
