// Waiting for a spinlock: of every back end, whose arch_relax says what a CPU does
// meanwhile.
//
// Who has not got it looks again later, and later still: meanwhile the CPU that has it
// can do several things with what it protects, in its own cache.

#include "arch/arch.h"

enum { FIRST_WAIT = 16, MOST_WAIT = 64 }; // times arch_relax

void spin_lock_slow(struct spinlock *l, uint32_t me)
{
    for (unsigned wait = FIRST_WAIT;;
         wait = wait < MOST_WAIT ? 2 * wait : wait) {
        uint32_t o = atomic_load_explicit(&l->owner, memory_order_relaxed);

        if (o == me)
            panic("spinlock %p: CPU %u holds it already", (void *)l, me - 1);
        if (o == 0 &&
            atomic_compare_exchange_weak_explicit(
                &l->owner, &o, me, memory_order_acquire, memory_order_relaxed))
            return;
        for (unsigned i = 0; i < wait; i++)
            arch_relax();
    }
}
