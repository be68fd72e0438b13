// Who waits, for runtime/sync.
#pragma once

#include <gneiss/sync.h>

#include "runtime/debug/debug.h"
#include "runtime/libc/libc.h"
#include "runtime/sched/sched.h"

// Ends the program as Go does, status 2: nobody recovers. What C's streams hold is
// written first.
NORETURN static inline void sync_fatal(const char *text)
{
    enum { STATUS = 2 };

    libc_flush();
    panic_status(STATUS, text);
}

// On the stack of who waits; it is its goroutine's again when that has been made ready.
struct gn_waiter_ {
    struct gn_waiter_ *next;
    struct g *g;
    int64_t n; // of a semaphore: what it wants
    // Of a semaphore: how it is let go, with the lock held; NULL: it is parked.
    void (*tell)(struct gn_waiter_ *w);
    bool owns;   // of a mutex: it was handed over
    bool parked; // of a condition: else it has yet to look at `taken`
    bool taken;
};

// A queue is a ring that is known by its last: the next of that one is the first.
static inline void sync_push_front(struct gn_waiter_ **last,
                                   struct gn_waiter_ *w)
{
    if (*last == NULL) {
        w->next = w;
        *last = w;
    } else {
        w->next = (*last)->next;
        (*last)->next = w;
    }
}

static inline void sync_push(struct gn_waiter_ **last, struct gn_waiter_ *w)
{
    sync_push_front(last, w);
    *last = w;
}

// The first; NULL: there is none.
static inline struct gn_waiter_ *sync_first(struct gn_waiter_ *last)
{
    return last != NULL ? last->next : NULL;
}

// Takes the first, which there is.
static inline struct gn_waiter_ *sync_pop(struct gn_waiter_ **last)
{
    struct gn_waiter_ *w = (*last)->next;

    if (w == *last)
        *last = NULL;
    else
        (*last)->next = w->next;
    return w;
}

// Takes out w, which is there.
static inline void sync_remove(struct gn_waiter_ **last, struct gn_waiter_ *w)
{
    struct gn_waiter_ *before = *last;

    while (before->next != w)
        before = before->next;
    if (before == w) {
        *last = NULL;
        return;
    }
    before->next = w->next;
    if (*last == w)
        *last = before;
}

// The spinlock of an object. It is taken on goroutine stacks, like a channel's (R5): a
// fault is served while it is held, and nothing that serves faults takes it.
#define SYNC_LOCK(object) ((struct spinlock *)(void *)(object)->lock_)

_Static_assert(sizeof(struct spinlock) <= sizeof(uint32_t[2]), "lock_");

static inline void sync_unlock(void *lock)
{
    spin_unlock(lock);
}

// Makes all of a queue ready that was taken as a whole, the first first.
static inline void sync_ready_all(struct gn_waiter_ *last)
{
    while (last != NULL)
        g_ready(sync_pop(&last)->g);
}

// Semaphores as the others are made of. Takes one; waits while there is none. What is
// released goes to who waits first, never to one that comes later.
void sync_sema_acquire(struct gn_sema_ *s, const char *why);

// Releases n.
void sync_sema_release(struct gn_sema_ *s, uint32_t n);

// Of a weighted semaphore, with its lock held: takes n if that can be done at once.
bool sync_sem_take(struct gn_sem *s, int64_t n);

// Likewise: lets those go on for whom there is enough. Nobody overtakes the first,
// however little they want. Who is returned has to be made ready without the lock.
struct gn_waiter_ *sync_sem_let_go(struct gn_sem *s);
