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

struct spinlock {
    _Atomic uint32_t owner; // CPU id + 1, 0 when free
};

#define SPINLOCK_INIT                                                          \
    {                                                                          \
        0                                                                      \
    }

void spin_lock_slow(struct spinlock *l, uint32_t me);

// Context: any but interrupt and NMI; nests under other locks in the order of
// the layer's table. Acquire, pairs with the release in spin_unlock.
static inline void spin_lock(struct spinlock *l)
{
    preempt_disable();
    uint32_t me = arch_cpu_id() + 1, free_ = 0;

    if (likely(atomic_compare_exchange_strong_explicit(
            &l->owner, &free_, me, memory_order_acquire, memory_order_relaxed)))
        return;
    spin_lock_slow(l, me);
}

static inline void spin_unlock(struct spinlock *l)
{
    atomic_store_explicit(&l->owner, 0, memory_order_release);
    preempt_enable();
}

// True if this CPU holds the lock; for assertions.
static inline bool spin_held(struct spinlock *l)
{
    return atomic_load_explicit(&l->owner, memory_order_relaxed) ==
           arch_cpu_id() + 1;
}
