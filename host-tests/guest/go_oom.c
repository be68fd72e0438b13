// Each allocation of channels, timers, contexts and tasks failed in turn (heap.fail=N): the
// call that needs it returns NULL and ENOMEM, loses nothing, and works when it is tried
// again; all others work.
//
// usage: go_oom, with -o heap.fail=N or N+

#include "host-tests/guest/tap.h"

#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/go.h>
#include <gneiss/heap.h>
#include <gneiss/sync.h>
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

static int one_more(void *n)
{
    ++*(_Atomic unsigned *)n;
    return 0;
}

static void one_more_thing(void *n)
{
    (void)one_more(n);
}

// What is refused does not run, is waited for by nobody, and takes no place.
static void tasks(void)
{
    struct gn_wg w = {0};
    struct gn_group g = {0};
    _Atomic unsigned ran = 0;
    unsigned started = 0;
    bool did;
    struct gn_ctx *ctx = may_fail(gn_group_ctx(&g, gn_ctx_background()));

    gn_group_set_limit(&g, 1);
    for (int i = 0; i < 3; i++) {
        int err[] = {gn_wg_go(&w, one_more_thing, &ran),
                     gn_group_go(&g, one_more, &ran), 0};

        gn_wg_wait(&w);
        if (gn_group_wait(&g) != 0 || gn_group_failure(&g) != 0)
            ok(false, "it is no failure of the group");
        err[2] = gn_group_try_go(&g, one_more, &ran, &did);
        if (did != (err[2] == 0))
            ok(false, "a task that was %sstarted", did ? "" : "not ");
        (void)gn_group_wait(&g);
        for (int k = 0; k < 3; k++) {
            refused += err[k] != 0;
            started += err[k] == 0;
            if (err[k] != 0 && err[k] != -ENOMEM)
                ok(false, "error %d, not -ENOMEM", err[k]);
        }
    }
    if (ran != started)
        ok(false, "%u tasks have run, of %u", ran, started);
    gn_ctx_free(ctx);
}

int main(void)
{
    uint64_t before = live(), left;
    unsigned first;

    channels();
    timers();
    contexts();
    tasks();
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
    tasks();
    while (gn_go_count() > 1)
        gn_yield();
    printf("# refused %u, then %u\n", first, refused);
    return tap_end();
}
