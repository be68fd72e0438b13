// Waiting for a spinlock: of every back end, whose arch_relax says what a CPU does
// meanwhile.

#include "arch/arch.h"

void spin_lock_slow(struct spinlock *l, uint32_t me)
{
    for (;;) {
        uint32_t o = atomic_load_explicit(&l->owner, memory_order_relaxed);

        if (o == me)
            panic("spinlock %p: CPU %u holds it already", (void *)l, me - 1);
        if (o == 0 &&
            atomic_compare_exchange_weak_explicit(
                &l->owner, &o, me, memory_order_acquire, memory_order_relaxed))
            return;
        arch_relax();
    }
}
