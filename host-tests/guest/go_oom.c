// Each allocation of channels, timers and contexts failed in turn (heap.fail=N): the
// call that needs it returns NULL and ENOMEM, loses nothing, and works when it is tried
// again; all others work.
//
// usage: go_oom, with -o heap.fail=N or N+

#include "host-tests/guest/tap.h"

#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/go.h>
#include <gneiss/heap.h>
#include <gneiss/time.h>

#include <errno.h>

enum { TIMERS = 70 }; // more than need no memory

static unsigned refused;

// Notes a refusal; returns p.
static void *may_fail(void *p)
{
    if (p == NULL) {
        refused++;
        if (errno != ENOMEM)
            ok(false, "errno is %d, not ENOMEM", errno);
    }
    errno = 0;
    return p;
}

static void nothing(void *arg)
{
    (void)arg;
}

static uint64_t live(void)
{
    struct gn_heap_stats s;

    gn_heap_stats(&s);
    return s.mallocs - s.frees;
}

static void channels(void)
{
    gn_chan_free(may_fail(gn_chan_new(8, 0)));
    gn_chan_free(may_fail(gn_chan_new(100, 1000)));
}

static void timers(void)
{
    static struct gn_timer *t[TIMERS];

    for (int i = 0; i < TIMERS; i++)
        t[i] = may_fail(i % 2 ? gn_timer_new(GN_SECOND * 3600)
                              : gn_after_func(GN_SECOND * 3600, nothing, NULL));
    for (int i = 0; i < TIMERS; i++)
        gn_timer_free(t[i]);
    gn_timer_free(may_fail(gn_ticker_new(GN_SECOND)));
}

static void contexts(void)
{
    struct gn_ctx *bg = gn_ctx_background(), *c;

    c = may_fail(gn_ctx_cancelable(bg));
    if (c != NULL) {
        struct gn_ctx *d = may_fail(gn_ctx_timeout(c, GN_SECOND * 3600)),
                      *v = may_fail(gn_ctx_with(c, &refused, NULL)),
                      *w = may_fail(gn_ctx_without_cancel(c));
        struct gn_ctx_call *call =
            may_fail(gn_ctx_after_func(c, nothing, NULL));

        gn_ctx_cancel(c);
        gn_ctx_call_free(call);
        gn_ctx_free(d);
        gn_ctx_free(v);
        gn_ctx_free(w);
    }
    gn_ctx_free(c);
}

int main(void)
{
    uint64_t before = live(), left;
    unsigned first;

    channels();
    timers();
    contexts();
    first = refused;
    while (gn_go_count() > 1)
        gn_yield();
    // The array of a CPU's timers stays.
    left = live() - before;
    ok(left <= 1, "all is given back: %lu objects more", (unsigned long)left);
    refused = 0;
    channels();
    timers();
    contexts();
    while (gn_go_count() > 1)
        gn_yield();
    printf("# refused %u, then %u\n", first, refused);
    return tap_end();
}
