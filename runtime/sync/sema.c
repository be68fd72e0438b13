// Semaphores that the others are made of, and the weighted one of programs.
//
// Locks: the semaphore's spinlock protects it all.
//
// Source: golang.org/x/sync/semaphore.

#include "runtime/sync/sync.h"

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

bool sync_sem_take(struct gn_sem *s, int64_t n)
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
    if (sync_sem_take(s, n)) {
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

struct gn_waiter_ *sync_sem_let_go(struct gn_sem *s)
{
    struct gn_waiter_ *woken = NULL, *w;

    while ((w = sync_first(s->last_)) != NULL && s->size_ - s->used_ >= w->n) {
        s->used_ += w->n;
        sync_pop(&s->last_);
        w->taken = true;
        if (w->tell != NULL)
            w->tell(w);
        else
            sync_push(&woken, w);
    }
    return woken;
}

bool gn_sem_try_acquire(struct gn_sem *s, int64_t n)
{
    spin_lock(SYNC_LOCK(s));
    bool taken = sync_sem_take(s, n);

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
    woken = sync_sem_let_go(s);
    spin_unlock(SYNC_LOCK(s));
    sync_ready_all(woken);
}
