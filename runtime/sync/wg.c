// <gneiss/sync.h>: the wait group.
//
// Locks: the group's spinlock protects count and waiters, whose records lie on
// their stacks. It is taken on the system stack (R5).

#include <gneiss/sync.h>

#include <stdatomic.h>

#include "runtime/sched/sched.h"

struct waiter {
    struct g *g;
    struct waiter *next;
};

_Static_assert(sizeof(struct spinlock) <= offsetof(struct gn_wg, n_), "lock_");

static struct spinlock *lock_of(struct gn_wg *w)
{
    return (struct spinlock *)&w->lock_;
}

struct add_call {
    struct gn_wg *w;
    int64_t n, left;
    struct waiter *woken;
};

static void add_call(void *arg)
{
    struct add_call *c = arg;

    spin_lock(lock_of(c->w));
    c->left = c->w->n_ + c->n;
    // Release: who reads it finds the group locked, or what was done before.
    __atomic_store_n(&c->w->n_, c->left, __ATOMIC_RELEASE);
    if (c->left == 0) {
        c->woken = c->w->waiters_;
        c->w->waiters_ = NULL;
    }
    spin_unlock(lock_of(c->w));
}

void gn_wg_add(struct gn_wg *w, int64_t n)
{
    struct add_call c = {.w = w, .n = n};

    arch_on_system_stack(add_call, &c);
    if (c.left < 0)
        panic("sync: negative WaitGroup counter");
    while (c.woken != NULL) {
        struct waiter *next = c.woken->next;

        g_ready(c.woken->g); // its record may be gone from here on
        c.woken = next;
    }
}

void gn_wg_done(struct gn_wg *w)
{
    gn_wg_add(w, -1);
}

struct wait_call {
    struct gn_wg *w;
    struct waiter me;
};

// In the loop: the caller has left its stack.
static void wait_call(void *arg)
{
    struct wait_call *c = arg;

    spin_lock(lock_of(c->w));
    bool wait = c->w->n_ > 0;

    if (wait) {
        c->me.next = c->w->waiters_;
        c->w->waiters_ = &c->me;
    }
    spin_unlock(lock_of(c->w));
    if (!wait)
        g_ready(c->me.g);
}

void gn_wg_wait(struct gn_wg *w)
{
    struct wait_call c = {.w = w, .me = {.g = g_current()}};

    // Acquire: pairs with the release in add_call. While it is locked, who made it
    // 0 has yet to unlock it, and the caller may have it on its stack: it must not
    // go before. Then we queue up for the lock.
    if (__atomic_load_n(&w->n_, __ATOMIC_ACQUIRE) == 0 &&
        atomic_load_explicit(&w->lock_, memory_order_acquire) == 0)
        return;
    g_park("sync.WaitGroup.Wait", wait_call, &c);
}
