// Contexts, after Go's own tests: src/context/context_test.go, x_test.go,
// afterfunc_test.go. Each point begins with the name of the test that it answers
// (go-tests.tsv lists them all).
//
// usage: go_context [ROUNDS]

#include "host-tests/guest/go_test.h"

#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/cpu.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "runtime/sched/p.h"

enum { MS = 1000000 };

static unsigned rounds = 100;
static struct gn_wg all;
static _Atomic int calls;

static void count_call(void *arg)
{
    (void)arg;
    calls++;
}

// ---- contexts ----

static struct gn_ctx *bg(void)
{
    return gn_ctx_background();
}

static bool is_done(struct gn_ctx *c)
{
    return gn_chan_try_recv(gn_ctx_done(c).raw, NULL, NULL);
}

static void await(struct gn_ctx *c)
{
    (void)gn_chan_recv(gn_ctx_done(c).raw, NULL);
}

static int key1, key2;

static void background(void)
{
    ok(gn_ctx_done(bg()).raw == NULL && gn_ctx_err(bg()) == NULL &&
           !gn_ctx_has_deadline(bg(), NULL) &&
           gn_ctx_value(bg(), &key1) == NULL,
       "TestBackground: nothing");
    gn_ctx_cancel(bg());
    ok(gn_ctx_err(bg()) == NULL, "TestBackground: it is not canceled");
}

static void with_cancel(void)
{
    struct gn_ctx *c = need(gn_ctx_cancelable(bg()));

    ok(!is_done(c) && gn_ctx_err(c) == NULL && gn_ctx_cause(c) == NULL,
       "TestWithCancel: not yet");
    gn_ctx_cancel(c);
    ok(is_done(c) && gn_ctx_err(c) == gn_ctx_canceled &&
           gn_ctx_cause(c) == gn_ctx_canceled,
       "TestWithCancel: canceled");
    gn_ctx_cancel(c);
    ok(is_done(c), "TestWithCancel: twice");
    gn_ctx_free(c);
}

static void parent_finishes_child(void)
{
    struct gn_ctx *parent = need(gn_ctx_cancelable(bg())),
                  *child = need(gn_ctx_cancelable(parent)),
                  *value = need(gn_ctx_with(parent, &key1, &key1)),
                  *timer = need(gn_ctx_timeout(value, 3600 * GN_SECOND)),
                  *without = need(gn_ctx_without_cancel(value));

    ok(!is_done(child) && !is_done(value) && !is_done(timer),
       "TestParentFinishesChild: not yet");
    gn_ctx_cancel(parent);
    ok(is_done(child) && is_done(value) && is_done(timer) &&
           gn_ctx_err(timer) == gn_ctx_canceled,
       "TestParentFinishesChild: with it");
    ok(gn_ctx_done(without).raw == NULL && gn_ctx_err(without) == NULL &&
           gn_ctx_value(without, &key1) == &key1,
       "TestCause, WithoutCancel: its values, and nothing else");
    struct gn_ctx *precanceled = need(gn_ctx_cancelable(timer));

    ok(is_done(precanceled) && gn_ctx_err(precanceled) == gn_ctx_canceled,
       "TestParentFinishesChild: made of one that is canceled");
    gn_ctx_free(precanceled);
    gn_ctx_free(without);
    gn_ctx_free(timer);
    gn_ctx_free(value);
    gn_ctx_free(child);
    gn_ctx_free(parent);
}

static void child_finishes_first(void)
{
    struct gn_ctx *parents[] = {bg(), need(gn_ctx_cancelable(bg())),
                                need(gn_ctx_with(bg(), &key1, &key2))};
    bool good = true;

    for (int i = 0; i < 3; i++) {
        struct gn_ctx *child = need(gn_ctx_cancelable(parents[i]));

        gn_ctx_cancel(child);
        good &= is_done(child) && gn_ctx_err(parents[i]) == NULL;
        gn_ctx_free(child);
        gn_ctx_free(parents[i]);
    }
    ok(good, "TestChildFinishesFirst: its parent goes on");
}

static void deadlines(void)
{
    int64_t at = gn_now() + 5 * MS, found = 0;
    struct gn_ctx *c = need(gn_ctx_deadline(bg(), at, NULL));

    ok(gn_ctx_has_deadline(c, &found) && found == at,
       "TestDeadline: it is told");
    await(c);
    ok(gn_now() >= at && gn_ctx_err(c) == gn_ctx_deadline_exceeded &&
           gn_ctx_cause(c) == gn_ctx_deadline_exceeded,
       "TestDeadline: it comes");
    gn_ctx_free(c);
    struct gn_ctx *outer = need(gn_ctx_timeout(bg(), 5 * MS)),
                  *v = need(gn_ctx_with(outer, &key1, NULL)),
                  *inner = need(gn_ctx_timeout(v, 3600 * GN_SECOND));

    gn_ctx_has_deadline(outer, &at);
    ok(gn_ctx_has_deadline(inner, &found) && found == at,
       "TestLayersTimeout: the earlier one is kept");
    await(inner);
    ok(gn_ctx_err(inner) == gn_ctx_deadline_exceeded,
       "TestLayersTimeout: and comes");
    gn_ctx_free(inner);
    gn_ctx_free(v);
    gn_ctx_free(outer);
    c = need(gn_ctx_timeout(bg(), -1));
    ok(is_done(c) && gn_ctx_err(c) == gn_ctx_deadline_exceeded,
       "TestTimeout: of nothing has come already");
    gn_ctx_free(c);
}

static void canceled_timeout(void)
{
    struct gn_ctx *c = need(gn_ctx_timeout(bg(), GN_SECOND * 3600)),
                  *far = need(gn_ctx_timeout(c, INT64_MAX));

    gn_ctx_cancel(c);
    ok(gn_ctx_err(c) == gn_ctx_canceled && is_done(far),
       "TestCanceledTimeout: canceled before");
    gn_ctx_free(far);
    gn_ctx_free(c);
}

static void values(void)
{
    struct gn_ctx *a = need(gn_ctx_with(bg(), &key1, "one")),
                  *b = need(gn_ctx_with(a, &key2, "two")),
                  *c = need(gn_ctx_cancelable(b)),
                  *d = need(gn_ctx_with(c, &key1, "other"));

    ok(gn_ctx_value(a, &key2) == NULL &&
           strcmp(gn_ctx_value(b, &key1), "one") == 0 &&
           strcmp(gn_ctx_value(c, &key2), "two") == 0,
       "TestValues: of itself and its parents");
    ok(strcmp(gn_ctx_value(d, &key1), "other") == 0 &&
           strcmp(gn_ctx_value(c, &key1), "one") == 0,
       "TestValues: the nearest counts");
    ok(gn_ctx_value(d, &calls) == NULL, "TestValues: there is none");
    gn_ctx_free(d);
    gn_ctx_free(c);
    gn_ctx_free(b);
    gn_ctx_free(a);
}

static const char why[] = "why", other[] = "other";

static void causes(void)
{
    struct gn_ctx *a = need(gn_ctx_cancelable(bg())),
                  *b = need(gn_ctx_cancelable(a));

    gn_ctx_cancel_cause(a, why);
    ok(gn_ctx_err(b) == gn_ctx_canceled && gn_ctx_cause(b) == why &&
           gn_ctx_cause(a) == why,
       "TestCause: of the parent");
    gn_ctx_cancel_cause(a, other);
    ok(gn_ctx_cause(a) == why, "TestCause: the first counts");
    gn_ctx_free(b);
    gn_ctx_free(a);
    a = need(gn_ctx_cancelable(bg()));
    b = need(gn_ctx_cancelable(a));
    gn_ctx_cancel_cause(b, why);
    gn_ctx_cancel_cause(a, other);
    ok(gn_ctx_cause(b) == why && gn_ctx_cause(a) == other,
       "TestCause: of the child, before");
    gn_ctx_free(b);
    gn_ctx_free(a);
    a = need(gn_ctx_deadline(bg(), gn_now() + MS, why));
    await(a);
    ok(gn_ctx_err(a) == gn_ctx_deadline_exceeded && gn_ctx_cause(a) == why,
       "TestCause, WithDeadlineCause: of the time");
    gn_ctx_free(a);
    a = need(gn_ctx_deadline(bg(), gn_now() + GN_SECOND * 3600, why));
    gn_ctx_cancel(a);
    ok(gn_ctx_cause(a) == gn_ctx_canceled,
       "TestCause, WithTimeoutCause: canceled before has none");
    gn_ctx_free(a);
}

static void after_canceled(void *wg)
{
    calls++;
    gn_wg_done(wg);
}

static void after_funcs(void)
{
    struct gn_ctx *a = need(gn_ctx_cancelable(bg())),
                  *v = need(gn_ctx_with(a, &key1, &key1));
    struct gn_ctx_call *x, *y;

    calls = 0;
    gn_wg_add(&all, 1);
    x = need(gn_ctx_after_func(v, after_canceled, &all));
    y = need(gn_ctx_after_func(a, count_call, NULL));
    ok(gn_ctx_call_stop(y) && !gn_ctx_call_stop(y),
       "TestAfterFuncNotCalledAfterStop: stopped");
    gn_ctx_cancel(a);
    gn_wg_wait(&all);
    ok(calls == 1 && !gn_ctx_call_stop(x),
       "TestAfterFuncCalledAfterCancel: once");
    gn_ctx_call_free(x);
    gn_ctx_call_free(y);
    gn_wg_add(&all, 1);
    x = need(gn_ctx_after_func(v, after_canceled, &all));
    gn_wg_wait(&all);
    ok(calls == 2, "TestAfterFuncCalledImmediately: of one that is canceled");
    gn_ctx_call_free(x);
    gn_ctx_free(v);
    gn_ctx_free(a);
    a = need(gn_ctx_timeout(bg(), 2 * MS));
    gn_wg_add(&all, 1);
    x = need(gn_ctx_after_func(a, after_canceled, &all));
    gn_wg_wait(&all);
    ok(calls == 3, "TestAfterFuncCalledAfterTimeout: by its deadline");
    gn_ctx_call_free(x);
    gn_ctx_free(a);
    y = need(gn_ctx_after_func(bg(), count_call, NULL));
    ok(gn_ctx_call_stop(y),
       "TestAfterFuncNotCalledAfterStop: of the background");
    gn_ctx_call_free(y);
    gn_ctx_call_free(NULL);
}

static void cancel_it(void *c)
{
    gn_ctx_cancel(c);
    gn_wg_done(&all);
}

static void derive(void *c)
{
    for (unsigned i = 0; i < rounds; i++) {
        struct gn_ctx *child = need(gn_ctx_cancelable(c)),
                      *grand = need(gn_ctx_timeout(child, MS / 2));

        if (i % 3 == 0)
            gn_ctx_cancel(child);
        else
            await(grand);
        gn_ctx_free(grand);
        gn_ctx_free(child);
    }
    gn_wg_done(&all);
}

static void simultaneous(void)
{
    struct gn_ctx *root = need(gn_ctx_cancelable(bg())), *m[50];
    bool good = true;

    for (int i = 0; i < 50; i++)
        m[i] = need(gn_ctx_cancelable(i < 5 ? root : m[i - 5]));
    gn_wg_add(&all, 50);
    for (int i = 0; i < 50; i++)
        go(cancel_it, m[(i * 7) % 50]);
    gn_wg_wait(&all);
    for (int i = 49; i >= 0; i--) {
        good &= is_done(m[i]);
        gn_ctx_free(m[i]);
    }
    ok(good && gn_ctx_err(root) == NULL, "TestSimultaneousCancels: 50 at once");
    gn_wg_add(&all, 11);
    for (int i = 0; i < 10; i++)
        go(derive, root);
    gn_sleep(MS);
    go(cancel_it, root);
    gn_wg_wait(&all);
    ok(gn_ctx_err(root) == gn_ctx_canceled,
       "TestInterlockedCancels: made while their parent is canceled");
    gn_ctx_free(root);
}

static void layers(void)
{
    enum { DEPTH = 10000 };
    struct gn_ctx *c = bg(), *first = NULL;

    for (int i = 0; i < DEPTH; i++) {
        c = need(gn_ctx_cancelable(c));
        if (i == 0)
            first = c;
    }
    gn_ctx_cancel(first);
    ok(is_done(c), "TestLayersCancel: %d of each other", DEPTH);
}

static void free_used(void *c)
{
    gn_ctx_free(c);
}

static void checked_free(void)
{
    struct gn_ctx *a = need(gn_ctx_cancelable(bg())),
                  *b = need(gn_ctx_with(a, &key1, NULL));

    ok(panics(free_used, a, "free of a context that others are made from"),
       "gn_ctx_free: of one that others are made from");
    gn_ctx_free(b);
    gn_ctx_free(a);
    gn_ctx_free(NULL);
}

// ---- timers of what is canceled ----

static unsigned timers_set(void)
{
    unsigned n = 0;

    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++)
        n += *(const volatile unsigned *)&p_of_cpu(cpu)->timers.n;
    return n;
}

enum { DEEP_CHILDREN = 40 };

// Children, and theirs, each with an earlier deadline than its parent.
static void canceled_timers_go(void)
{
    static struct gn_ctx *c[2 * DEEP_CHILDREN];
    struct gn_ctx *top = need(gn_ctx_timeout(bg(), 3600 * GN_SECOND));
    unsigned before = timers_set();

    for (int i = 0; i < 2 * DEEP_CHILDREN; i += 2) {
        c[i] = need(gn_ctx_timeout(top, (3000 - i) * GN_SECOND));
        c[i + 1] = need(gn_ctx_timeout(c[i], (2000 - i) * GN_SECOND));
    }
    IS(timers_set(), before + 2 * DEEP_CHILDREN, "a timer for each deadline");
    gn_ctx_cancel(c[0]);
    IS(timers_set(), before + 2 * DEEP_CHILDREN - 2,
       "a child is canceled: its timer goes, and its child's");
    gn_ctx_cancel(top);
    IS(timers_set(), before - 1,
       "all are canceled by one call: no timer stays");
    struct gn_ctx *late = need(gn_ctx_timeout(top, GN_SECOND));

    IS(timers_set(), before - 1, "nor is one set for what is canceled");
    gn_ctx_free(late);
    for (int i = 2 * DEEP_CHILDREN - 1; i >= 0; i--)
        gn_ctx_free(c[i]);
    gn_ctx_free(top);
}

static _Atomic bool made;
static struct gn_ctx *family;

// Makes and frees while its parent is canceled, or goes off.
static void makes_children(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        struct gn_ctx *c = need(gn_ctx_timeout(family, 3600 * GN_SECOND)),
                      *d = need(gn_ctx_timeout(c, 3000 * GN_SECOND));

        made = true;
        gn_yield();
        gn_ctx_free(d);
        gn_ctx_free(c);
    }
    gn_wg_done(&all);
}

static void children_race(void)
{
    unsigned before = timers_set();

    for (unsigned r = 0; r < rounds; r++) {
        made = false;
        family = need(r % 4 == 0 ? gn_ctx_timeout(bg(), MS / 10)
                                 : gn_ctx_cancelable(bg()));
        gn_wg_add(&all, 4);
        for (int i = 0; i < 4; i++)
            go(makes_children, NULL);
        while (!made)
            gn_yield();
        gn_ctx_cancel(family);
        gn_wg_wait(&all);
        gn_ctx_free(family);
    }
    IS(timers_set(), before,
       "children made and freed while their parent is canceled: no timer "
       "stays");
}

// ---- made and asked while it is canceled ----

static const char because[] = "because";

static void cancels_because(void *c)
{
    gn_ctx_cancel_cause(c, because);
    gn_wg_done(&all);
}

// c, about to be canceled by another goroutine.
static struct gn_ctx *doomed(void)
{
    struct gn_ctx *c = need(gn_ctx_cancelable(bg()));

    gn_wg_add(&all, 1);
    go(cancels_because, c);
    return c;
}

static void asked_while_canceled(void)
{
    unsigned open = 0, wrong = 0;

    for (unsigned r = 0; r < rounds; r++) {
        struct gn_ctx *c = doomed();

        while (gn_ctx_err(c) == NULL)
            ;
        open += !is_done(c);
        gn_wg_wait(&all);
        gn_ctx_free(c);
        c = doomed();
        while (gn_ctx_cause(c) == NULL)
            gn_yield();
        wrong += gn_ctx_cause(c) != because;
        gn_wg_wait(&all);
        gn_ctx_free(c);
    }
    IS(open, 0, "TestContextErrDoneRace: with an error it is done");
    IS(wrong, 0, "TestCauseRace: the cause is there as soon as the error");
}

static void made_while_canceled(void)
{
    unsigned wrong = 0;

    for (unsigned r = 0; r < rounds; r++) {
        struct gn_ctx *p = doomed(), *c = need(gn_ctx_cancelable(p));

        (void)gn_chan_recv(gn_ctx_done(c).raw, NULL);
        wrong += gn_ctx_err(c) != gn_ctx_canceled || gn_ctx_cause(c) != because;
        gn_wg_wait(&all);
        gn_ctx_free(c);
        gn_ctx_free(p);
    }
    IS(wrong, 0, "TestWithCancelSimultaneouslyCanceledParent: with its cause");

    struct gn_ctx *p = need(gn_ctx_cancelable(bg()));

    gn_ctx_cancel_cause(p, because);
    struct gn_ctx *c = need(gn_ctx_cancelable(p));

    ok(is_done(c) && gn_ctx_err(c) == gn_ctx_canceled &&
           gn_ctx_cause(c) == because,
       "TestWithCancelCanceledParent: done at once, with its cause");
    gn_ctx_free(c);
    gn_ctx_free(p);
    struct gn_ctx *v = need(gn_ctx_with(bg(), &key1, &key2)),
                  *w = need(gn_ctx_without_cancel(v));

    ok(!gn_ctx_has_deadline(w, NULL) && gn_ctx_done(w).raw == NULL &&
           gn_ctx_err(w) == NULL && gn_ctx_value(w, &key1) == &key2,
       "TestWithoutCancel: nothing but the values");
    gn_ctx_free(w);
    gn_ctx_free(v);
}

static void sends_one(void *c)
{
    ints out = {c};

    gn_send(out, 1);
}

static void called_asynchronously(void)
{
    struct gn_ctx *c = need(gn_ctx_cancelable(bg()));
    ints done = make(0);
    struct gn_ctx_call *call = need(gn_ctx_after_func(c, sends_one, done.raw));

    gn_ctx_cancel(c); // returns, though the call waits for us
    IS(gn_next(done), 1,
       "TestAfterFuncCalledAsynchronously: it need not return");
    gn_ctx_call_free(call);
    gn_ctx_free(c);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    background();
    with_cancel();
    parent_finishes_child();
    child_finishes_first();
    deadlines();
    canceled_timeout();
    values();
    causes();
    after_funcs();
    simultaneous();
    layers();
    checked_free();
    canceled_timers_go();
    children_race();
    asked_while_canceled();
    made_while_canceled();
    called_asynchronously();
    return tap_end();
}
