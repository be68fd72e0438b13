// Goroutines that are waited for: of wait groups, and of groups of tasks that can fail.
//
// A task is done when its goroutine's deferred calls are made: after a return, or
// gn_goexit. Not while it panics, which is the program's end: who is told that it is
// done could end the program before that is reported.
//
// Source: Go, WaitGroup.Go of src/sync/waitgroup.go; golang.org/x/sync/errgroup.

#include <gneiss/heap.h>
#include <gneiss/panic.h>

#include <errno.h>

#include "runtime/panic/panic.h"
#include "runtime/sync/sync.h"

struct task {
    struct gn_wg *wg;
    struct gn_group *group; // NULL: of a wait group
    void (*fn)(void *);
    int (*may_fail)(void *);
    void *arg;
    bool limited; // it has one of the group's limit
};

static void end(void *arg)
{
    struct task *t = arg;

    if (panic_is_running())
        return;
    if (t->limited)
        gn_sem_release(&t->group->limit_, 1);
    gn_wg_done(t->wg);
}

static void has_failed(struct gn_group *g, int failure)
{
    int none = 0;

    if (__atomic_compare_exchange_n(&g->failure_, &none, failure, false,
                                    __ATOMIC_RELAXED, __ATOMIC_RELAXED) &&
        g->cancel != NULL)
        g->cancel(g->cancel_arg, failure);
}

static void run(void *arg)
{
    struct task t = *(struct task *)arg;

    gn_free(arg);
    gn_defer(end, &t);
    if (t.fn != NULL) {
        t.fn(t.arg);
    } else {
        int failure = t.may_fail(t.arg);

        if (failure != 0)
            has_failed(t.group, failure);
    }
}

static int start(const struct task *t)
{
    struct task *copy = gn_alloc(sizeof *copy, GN_SCAN, 0);
    struct g *g = NULL;

    if (copy != NULL)
        g = g_create(run, copy, "", G_ANY_CPU);
    if (g == NULL) {
        gn_free(copy);
        return -ENOMEM;
    }
    *copy = *t;
    gn_wg_add(t->wg, 1);
    g_ready(g);
    return 0;
}

int gn_wg_go(struct gn_wg *w, void (*fn)(void *), void *arg)
{
    return start(&(struct task){.wg = w, .fn = fn, .arg = arg});
}

// ---- groups of tasks ----

int gn_group_failure(const struct gn_group *g)
{
    return __atomic_load_n(&g->failure_, __ATOMIC_RELAXED);
}

// Those that run under a limit give it back, even if there is none any more.
void gn_group_set_limit(struct gn_group *g, int64_t n)
{
    int64_t active = __atomic_load_n(&g->limit_.used_, __ATOMIC_RELAXED);

    if (n >= 0 && active != 0)
        gn_panic("errgroup: modify limit while %lld goroutines in the group "
                 "are still active",
                 (long long)active);
    g->limited_ = n >= 0;
    if (n >= 0)
        gn_sem_init(&g->limit_, n);
}

static int start_in(struct gn_group *g, int (*fn)(void *), void *arg)
{
    bool limited = g->limited_;
    int r = start(&(struct task){.wg = &g->tasks_,
                                 .group = g,
                                 .may_fail = fn,
                                 .arg = arg,
                                 .limited = limited});

    if (r != 0 && limited)
        gn_sem_release(&g->limit_, 1);
    return r;
}

int gn_group_go(struct gn_group *g, int (*fn)(void *), void *arg)
{
    if (g->limited_)
        gn_sem_acquire(&g->limit_, 1);
    return start_in(g, fn, arg);
}

int gn_group_try_go(struct gn_group *g, int (*fn)(void *), void *arg,
                    bool *started)
{
    *started = !g->limited_ || gn_sem_try_acquire(&g->limit_, 1);
    if (!*started)
        return 0;
    int r = start_in(g, fn, arg);

    *started = r == 0;
    return r;
}

int gn_group_wait(struct gn_group *g)
{
    gn_wg_wait(&g->tasks_);
    if (g->cancel != NULL)
        g->cancel(g->cancel_arg, g->failure_);
    return g->failure_;
}
