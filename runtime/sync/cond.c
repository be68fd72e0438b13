// Conditions.
//
// Who waits is in the queue before it unlocks the mutex: what is signalled from then on
// is for it. So a signal may come before it has parked. Then it finds its record
// `taken`, and does not park.
//
// Locks: the condition's spinlock protects the queue and `parked` and `taken` of those
// in it. last_ is written atomically with it held, so that without anybody can see that
// nobody waits.
//
// Source: Go, src/sync/cond.go and notifyList of src/runtime/sema.go.

#include "runtime/sync/sync.h"

// Release: pairs with the acquire in nobody().
static void set_last(struct gn_cond *c, struct gn_waiter_ *last)
{
    __atomic_store_n(&c->last_, last, __ATOMIC_RELEASE);
}

void gn_cond_wait(struct gn_cond *c, struct gn_mutex *m)
{
    struct gn_waiter_ w = {.g = g_current()};

    spin_lock(SYNC_LOCK(c));
    struct gn_waiter_ *last = c->last_;

    sync_push(&last, &w);
    set_last(c, last);
    spin_unlock(SYNC_LOCK(c));
    gn_mutex_unlock(m);
    spin_lock(SYNC_LOCK(c));
    if (w.taken) {
        spin_unlock(SYNC_LOCK(c));
    } else {
        w.parked = true;
        g_park("sync.Cond.Wait", sync_unlock, SYNC_LOCK(c));
    }
    gn_mutex_lock(m);
}

static bool nobody(struct gn_cond *c)
{
    // Acquire: as if the lock had been taken.
    return __atomic_load_n(&c->last_, __ATOMIC_ACQUIRE) == NULL;
}

// At most n of those that wait.
static void wake(struct gn_cond *c, uint64_t n)
{
    struct gn_waiter_ *woken = NULL, *last;

    if (nobody(c))
        return;
    spin_lock(SYNC_LOCK(c));
    last = c->last_;
    for (; n > 0 && last != NULL; n--) {
        struct gn_waiter_ *w = sync_pop(&last);

        w->taken = true;
        if (w->parked)
            sync_push(&woken, w);
    }
    set_last(c, last);
    spin_unlock(SYNC_LOCK(c));
    sync_ready_all(woken);
}

void gn_cond_signal(struct gn_cond *c)
{
    wake(c, 1);
}

void gn_cond_broadcast(struct gn_cond *c)
{
    wake(c, UINT64_MAX);
}
