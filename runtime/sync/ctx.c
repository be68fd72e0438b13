// What is given up when a context is canceled: waiting for a semaphore, and the tasks of
// a group.
//
// Who waits for both waits in a select, for a channel on its own stack that who lets it
// go on closes, with the semaphore's lock held. So it takes that lock before it goes away.
//
// Source: golang.org/x/sync/semaphore, errgroup.

#include <gneiss/context.h>

#include "runtime/chan/chan.h"
#include "runtime/sync/sync.h"

// ---- semaphores ----

struct canceled {
    struct gn_waiter_ w;
    struct gn_chan ready;
};

static void tell(struct gn_waiter_ *w)
{
    gn_chan_close(&container_of(w, struct canceled, w)->ready);
}

// Until it has what it wants, or ctx is canceled. Returns why it has it not.
static const char *wait_for_either(struct gn_sem *s, struct canceled *c,
                                   struct gn_ctx *ctx)
{
    struct gn_case cases[] = {GN_RECV(gn_ctx_done(ctx), NULL),
                              {.chan = &c->ready}};
    struct gn_waiter_ *woken = NULL;

    gn_select(cases, 2);
    const char *err = gn_ctx_err(ctx);

    spin_lock(SYNC_LOCK(s));
    if (err != NULL && c->w.taken)
        s->used_ -= c->w.n; // too late
    else if (err != NULL)
        sync_remove(&s->last_, &c->w);
    if (err != NULL)
        woken = sync_sem_let_go(s);
    spin_unlock(SYNC_LOCK(s));
    sync_ready_all(woken);
    return err;
}

const char *gn_sem_acquire_ctx(struct gn_sem *s, int64_t n, struct gn_ctx *ctx)
{
    struct canceled c;

    if (gn_ctx_err(ctx) != NULL)
        return gn_ctx_err(ctx);
    spin_lock(SYNC_LOCK(s));
    bool taken = sync_sem_take(s, n);

    if (!taken && n <= s->size_) {
        c.w = (struct gn_waiter_){.n = n, .tell = tell};
        chan_init_signal(&c.ready);
        sync_push(&s->last_, &c.w);
    }
    spin_unlock(SYNC_LOCK(s));
    if (taken)
        return NULL;
    if (n <= s->size_)
        return wait_for_either(s, &c, ctx);
    gn_chan_recv(gn_ctx_done(ctx).raw, NULL);
    return gn_ctx_err(ctx);
}

// ---- groups of tasks ----

const char gn_group_failed[] = "errgroup: a task has failed";

static void give_up(void *ctx, int failure)
{
    gn_ctx_cancel_cause(ctx, failure != 0 ? gn_group_failed : NULL);
}

struct gn_ctx *gn_group_ctx(struct gn_group *g, struct gn_ctx *parent)
{
    struct gn_ctx *c = gn_ctx_cancelable(parent);

    if (c != NULL) {
        g->cancel = give_up;
        g->cancel_arg = c;
    }
    return c;
}
