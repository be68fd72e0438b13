// A spinlock that implies no-preempt (R6) and serves shootdowns while it waits
// (R7).
//
// Held only for short, bounded sections that touch nailed memory. Interrupt
// handlers take none: they push on lock-free lists (R8), so interrupts stay on.
// Not recursive: a CPU that asks for a lock it holds is reported.
#pragma once

#include <stdatomic.h>

#include "arch/base.h"
#include "arch_types.h"

// The order of locks: who holds one takes only those further down. In debug builds
// (`make DEBUG=1`) each knows its rank, and who breaks the order is reported.
enum lock_rank {
    RANK_SYNC,    // 0, what zero means: of a program's objects. One at a time
    RANK_TIMER,   // runtime/sched/time.c
    RANK_CTX,     // runtime/context/context.c
    RANK_CHAN,    // runtime/chan: several, in the order of their addresses
    RANK_ASKING,  // runtime/heap/heap.c
    RANK_CENTRAL, // runtime/heap/central.c
    RANK_HEAP,    // runtime/heap/pages.c
    RANK_META,    // runtime/heap/meta.c
    RANK_OP,      // mm/vm_range.c
    RANK_MM,      // mm/region.c
    RANK_FCACHE,  // mm/fcache.c: several, in the order of their CPUs
    RANK_ZEROED,  // mm/fcache.c
    RANK_FRAME,   // mm/frame.c
    RANK_SCHED,   // runtime/sched: queues. One at a time
};

struct spinlock {
    _Atomic uint32_t owner; // CPU id + 1, 0 when free
#ifdef GN_DEBUG
    uint32_t rank; // [c]
#endif
};

#ifdef GN_DEBUG
#define SPINLOCK_INIT(rank)                                                    \
    {                                                                          \
        0, rank                                                                \
    }

// What the calling CPU holds, checked and kept. Context: no-preempt above zero.
void rank_take(const struct spinlock *l);
void rank_drop(const struct spinlock *l);
#else
#define SPINLOCK_INIT(rank)                                                    \
    {                                                                          \
        0                                                                      \
    }

static inline void rank_take(const struct spinlock *l)
{
    (void)l;
}

static inline void rank_drop(const struct spinlock *l)
{
    (void)l;
}
#endif

// Of a lock in memory that is zero.
static inline void spin_init(struct spinlock *l, enum lock_rank rank)
{
#ifdef GN_DEBUG
    l->rank = rank;
#else
    (void)l, (void)rank;
#endif
}

void spin_lock_slow(struct spinlock *l, uint32_t me);

// Context: any but interrupt and NMI; nests under other locks in the order above. Acquire, pairs with the release in spin_unlock.
static inline void spin_lock(struct spinlock *l)
{
    preempt_disable();
    rank_take(l);
    uint32_t me = arch_cpu_id() + 1, free_ = 0;

    if (likely(atomic_compare_exchange_strong_explicit(
            &l->owner, &free_, me, memory_order_acquire, memory_order_relaxed)))
        return;
    spin_lock_slow(l, me);
}

static inline void spin_unlock(struct spinlock *l)
{
    rank_drop(l);
    atomic_store_explicit(&l->owner, 0, memory_order_release);
    preempt_enable();
}

// True if this CPU holds the lock; for assertions.
static inline bool spin_held(struct spinlock *l)
{
    return atomic_load_explicit(&l->owner, memory_order_relaxed) ==
           arch_cpu_id() + 1;
}
