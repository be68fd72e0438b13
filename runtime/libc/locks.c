// The C library's locks, newlib's included.
//
// A lock has an owner, a depth and a queue of waiters, all guarded by a
// spinlock that is held for a few instructions. Who finds the lock taken
// parks; the release hands the lock to the first in the queue before it makes
// that one ready. So waiting is first come, first served, and nobody who wakes
// up has to try again. A waiter's record lies on its own stack: a lock needs no
// memory to be waited for.
//
//     free --acquire--> held by g --release--> free
//                       |  ^   release, with a waiter w: held by w
//         acquire by w: park
//
// Before the scheduler runs there is one thread of execution, g_current() is
// NULL, and no lock can be found taken by another.
//
// A stack page may be missing when the spinlock is taken (stacks grow by
// faults), and a fault with a spinlock held is forbidden (R5). So the caller's
// stack is touched beforehand, as deep as the section and g_park() go.
//
// Invariants, under `guard`:
//   L1  depth == 0: no owner, no waiter
//   L2  a waiter is parked, or about to be with `guard` held
//
// newlib's part: it wants nine lock objects and ten functions; all of them are
// here, since its own versions come as one object and would clash.
//
// Field tags: [l] guard

#include "runtime/libc/lock.h"

#include "arch/arch.h"
#include "runtime/sched/sched.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/lock.h>

struct waiter {
    struct g *g;
    struct waiter *next;
};

struct __lock {
    struct spinlock guard;
    unsigned depth;              // [l] times taken by the owner
    struct g *owner;             // [l] NULL also for start-up code
    struct waiter *first, *last; // [l] last is set while first is
};

enum {
    // Use of the stack with a guard held, generously: the calls below, and
    // g_park() up to its switch to the system stack.
    PARK_STACK_BYTES = 768,
};

// Maps the stack below the caller's frame, so that no fault comes later.
static inline void touch_stack(void)
{
    const char *frame = __builtin_frame_address(0);

    (void)*(const volatile char *)(frame - PARK_STACK_BYTES);
}

static void unlock_guard(void *guard)
{
    spin_unlock(guard);
}

// Takes the lock if it is free or the caller's. Under guard.
static bool take(struct __lock *l, struct g *self)
{
    if (l->depth > 0 && l->owner != self)
        return false;
    l->owner = self;
    l->depth++;
    return true;
}

void lock_acquire(struct __lock *l)
{
    struct g *self = g_current();
    struct waiter w = {.g = self};

    if (self != NULL)
        g_add_locks(1);
    touch_stack();
    spin_lock(&l->guard);
    if (take(l, self)) {
        spin_unlock(&l->guard);
        return;
    }
    ASSERT(self); // else: start-up or scheduler code would wait for ever
    if (l->first)
        l->last->next = &w;
    else
        l->first = &w;
    l->last = &w;
    g_park("sync.Mutex.Lock", unlock_guard, &l->guard);
    // The lock is ours: lock_release() has set owner and depth.
}

bool lock_try_acquire(struct __lock *l)
{
    struct g *self = g_current();
    bool taken;

    touch_stack();
    spin_lock(&l->guard);
    taken = take(l, self);
    spin_unlock(&l->guard);
    if (taken && self != NULL)
        g_add_locks(1);
    return taken;
}

void lock_release(struct __lock *l)
{
    struct g *self = g_current(), *next = NULL;

    touch_stack();
    spin_lock(&l->guard);
    ASSERT(l->depth > 0 && l->owner == self);
    if (--l->depth == 0) {
        l->owner = NULL;
        if (l->first) {
            next = l->first->g;
            l->first = l->first->next;
            l->owner = next;
            l->depth = 1;
        }
    }
    spin_unlock(&l->guard);
    if (self != NULL)
        g_add_locks(-1);
    if (next)
        g_ready(next);
}

static struct __lock file_system;

void fs_lock(void)
{
    lock_acquire(&file_system);
}

void fs_unlock(void)
{
    lock_release(&file_system);
}

// newlib.

struct __lock __lock___sinit_recursive_mutex;
struct __lock __lock___sfp_recursive_mutex;
struct __lock __lock___atexit_recursive_mutex;
struct __lock __lock___malloc_recursive_mutex;
struct __lock __lock___env_recursive_mutex;
struct __lock __lock___at_quick_exit_mutex;
struct __lock __lock___tz_mutex;
struct __lock __lock___dd_hash_mutex;
struct __lock __lock___arc4random_mutex;

// Stands in for a FILE's lock that there was no memory for: fopen() has no way
// to report that, and a shared lock is slow but right.
static struct __lock shared;

static struct __lock *or_shared(_LOCK_T l)
{
    return l ? l : &shared;
}

void __retarget_lock_init(_LOCK_T *l)
{
    *l = calloc(1, sizeof(**l));
}

void __retarget_lock_init_recursive(_LOCK_T *l)
{
    *l = calloc(1, sizeof(**l));
}

void __retarget_lock_close(_LOCK_T l)
{
    free(l);
}

void __retarget_lock_close_recursive(_LOCK_T l)
{
    free(l);
}

void __retarget_lock_acquire(_LOCK_T l)
{
    lock_acquire(or_shared(l));
}

void __retarget_lock_acquire_recursive(_LOCK_T l)
{
    lock_acquire(or_shared(l));
}

int __retarget_lock_try_acquire(_LOCK_T l)
{
    return lock_try_acquire(or_shared(l)) ? 0 : EBUSY;
}

int __retarget_lock_try_acquire_recursive(_LOCK_T l)
{
    return lock_try_acquire(or_shared(l)) ? 0 : EBUSY;
}

void __retarget_lock_release(_LOCK_T l)
{
    lock_release(or_shared(l));
}

void __retarget_lock_release_recursive(_LOCK_T l)
{
    lock_release(or_shared(l));
}
