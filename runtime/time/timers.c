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

static uint64_t send(struct timer *timer, uint64_t now)
{
    struct gn_timer *t = container_of(timer, struct gn_timer, t);
    int64_t v = (int64_t)now;

    gn_chan_try_send(t->chan, &v);
    return timer->period != 0 ? now + timer->period : 0;
}

static uint64_t start(struct timer *timer, uint64_t now)
{
    struct gn_timer *t = container_of(timer, struct gn_timer, t);
    struct g *g = g_create(t->fn, t->arg, "", G_ANY_CPU);

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
    t->t.period = period;
    t->fn = fn;
    t->arg = arg;
    if (channel)
        t->chan = gn_chan_new(sizeof(int64_t), 1);
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
static void forget_sent(struct timer *timer)
{
    struct gn_timer *t = container_of(timer, struct gn_timer, t);

    if (t->chan != NULL)
        (void)gn_chan_try_recv(t->chan, NULL, NULL);
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
