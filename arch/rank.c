// The order of locks, watched: only in debug builds (`make DEBUG=1`).
//
// Each CPU has a list of the ranks that it holds, written by itself with no-preempt
// above zero. Interrupts take no lock, so nothing comes in between.

#include "arch/arch.h"

enum {
    MOST = 8 + ARCH_MAX_CPUS
}; // a select of many channels holds more: these
    // are not watched

static struct held {
    unsigned n;
    unsigned unwatched;
    struct {
        const struct spinlock *lock;
        uint32_t rank; // here, since a lock may lie where a fault is to come
    } of[MOST];
} held[ARCH_MAX_CPUS]; // [o] by CPU

void rank_take(const struct spinlock *l)
{
    uint32_t rank = l->rank;
    struct held *h = &held[arch_cpu_id()];

    for (unsigned i = 0; i < h->n; i++) {
        if (h->of[i].rank > rank ||
            (h->of[i].rank == rank && rank != RANK_FCACHE &&
             (rank != RANK_CHAN || h->of[i].lock >= l)))
            panic("spinlock %p of rank %u: CPU %u holds %p of rank %u",
                  (const void *)l, rank, arch_cpu_id(),
                  (const void *)h->of[i].lock, h->of[i].rank);
    }
    if (h->n == MOST) {
        h->unwatched++;
        return;
    }
    h->of[h->n].lock = l;
    h->of[h->n++].rank = rank;
}

void rank_drop(const struct spinlock *l)
{
    struct held *h = &held[arch_cpu_id()];
    unsigned i = h->n;

    while (i > 0 && h->of[i - 1].lock != l)
        i--;
    ASSERT(i > 0 || h->unwatched > 0);
    if (i == 0)
        h->unwatched--;
    else
        h->of[i - 1] = h->of[--h->n];
}
