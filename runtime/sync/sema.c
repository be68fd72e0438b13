// Semaphores that the others are made of, and the weighted one of programs.
//
// Who waits for a context, too, waits in a select, for a channel of its own that who lets
// it go on closes.
//
// Locks: the semaphore's spinlock protects it all. A channel's is taken inside it.
//
// Source: golang.org/x/sync/semaphore.

#include "runtime/sync/sync.h"

#include <gneiss/context.h>

#include "runtime/chan/chan.h"
#include "runtime/panic/panic.h"

void sync_sema_acquire(struct gn_sema_ *s, const char *why)
{
    struct gn_waiter_ w = {.g = g_current()};

    spin_lock(SYNC_LOCK(s));
    if (s->count_ > 0) {
        s->count_--;
        spin_unlock(SYNC_LOCK(s));
        return;
    }
    sync_push(&s->last_, &w);
    g_park(why, sync_unlock, SYNC_LOCK(s));
}

void sync_sema_release(struct gn_sema_ *s, uint32_t n)
{
    struct gn_waiter_ *woken = NULL;

    spin_lock(SYNC_LOCK(s));
    for (; n > 0 && s->last_ != NULL; n--)
        sync_push(&woken, sync_pop(&s->last_));
    s->count_ += n;
    spin_unlock(SYNC_LOCK(s));
    sync_ready_all(woken);
}

// ---- weighted ----

void gn_sem_init(struct gn_sem *s, int64_t n)
{
    *s = (struct gn_sem)GN_SEM(n);
}

// With the lock held.
static bool take(struct gn_sem *s, int64_t n)
{
    if (s->size_ - s->used_ < n || s->last_ != NULL)
        return false;
    s->used_ += n;
    return true;
}

void gn_sem_acquire(struct gn_sem *s, int64_t n)
{
    struct gn_waiter_ w = {.g = g_current(), .n = n};

    spin_lock(SYNC_LOCK(s));
    if (take(s, n)) {
        spin_unlock(SYNC_LOCK(s));
        return;
    }
    // Who can never have it does not stand in the way of the others.
    while (n > s->size_) {
        g_park("semacquire", sync_unlock, SYNC_LOCK(s));
        spin_lock(SYNC_LOCK(s));
    }
    sync_push(&s->last_, &w);
    g_park("semacquire", sync_unlock, SYNC_LOCK(s));
}

// Lets those go on for whom there is enough. Nobody overtakes the first, however little
// they want. With the lock held; who is returned has to be made ready without.
static struct gn_waiter_ *let_go(struct gn_sem *s)
{
    struct gn_waiter_ *woken = NULL, *w;

    while ((w = sync_first(s->last_)) != NULL && s->size_ - s->used_ >= w->n) {
        s->used_ += w->n;
        sync_pop(&s->last_);
        w->taken = true;
        if (w->ready != NULL)
            gn_chan_close(w->ready); // it takes the lock before it goes away
        else
            sync_push(&woken, w);
    }
    return woken;
}

// Until it has what it wants, or ctx is canceled. Returns why it has it not.
static const char *wait_for_either(struct gn_sem *s, struct gn_waiter_ *w,
                                   struct gn_ctx *ctx)
{
    struct gn_case cases[] = {GN_RECV(gn_ctx_done(ctx), NULL),
                              {.chan = w->ready}};
    struct gn_waiter_ *woken = NULL;

    gn_select(cases, 2);
    const char *err = gn_ctx_err(ctx);

    spin_lock(SYNC_LOCK(s));
    if (err != NULL && w->taken)
        s->used_ -= w->n; // too late
    else if (err != NULL)
        sync_remove(&s->last_, w);
    if (err != NULL)
        woken = let_go(s);
    spin_unlock(SYNC_LOCK(s));
    sync_ready_all(woken);
    return err;
}

const char *gn_sem_acquire_ctx(struct gn_sem *s, int64_t n, struct gn_ctx *ctx)
{
    struct gn_chan ready;
    struct gn_waiter_ w = {.n = n, .ready = &ready};

    if (gn_ctx_err(ctx) != NULL)
        return gn_ctx_err(ctx);
    spin_lock(SYNC_LOCK(s));
    bool taken = take(s, n);

    if (!taken && n <= s->size_) {
        chan_init_signal(&ready);
        sync_push(&s->last_, &w);
    }
    spin_unlock(SYNC_LOCK(s));
    if (taken)
        return NULL;
    if (n <= s->size_)
        return wait_for_either(s, &w, ctx);
    gn_chan_recv(gn_ctx_done(ctx).raw, NULL);
    return gn_ctx_err(ctx);
}

bool gn_sem_try_acquire(struct gn_sem *s, int64_t n)
{
    spin_lock(SYNC_LOCK(s));
    bool taken = take(s, n);

    spin_unlock(SYNC_LOCK(s));
    return taken;
}

void gn_sem_release(struct gn_sem *s, int64_t n)
{
    struct gn_waiter_ *woken;

    spin_lock(SYNC_LOCK(s));
    s->used_ -= n;
    if (s->used_ < 0) {
        spin_unlock(SYNC_LOCK(s));
        panic_go("semaphore: released more than held");
    }
    woken = let_go(s);
    spin_unlock(SYNC_LOCK(s));
    sync_ready_all(woken);
}
