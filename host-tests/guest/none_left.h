// Takes all frames of the machine, so that the next request finds none, and gives
// them back.
#pragma once

#include "mm/fail.h"
#include "mm/fcache.h"
#include "mm/mm.h"

static uint64_t taken; // the list's first block

// Largest blocks first, so that 8 GiB take no longer than 2 MiB. Each begins
// with the address of the next; the order is in the low bits.
static inline void keep(paddr_t p, unsigned order)
{
    *(uint64_t *)arch_direct(p) = taken;
    taken = p.raw | order;
}

// But for the reserves of the CPUs. Context: system stack.
static inline void take_all(void *arg)
{
    paddr_t p;

    (void)arg;
    for (unsigned order = FRAME_MAX_ORDER; order > 0; order--) {
        while ((p = frame_alloc(order, FRAME_DIRTY)).raw != 0)
            keep(p, order);
    }
    // Single ones with the caches of all CPUs.
    while ((p = frame_cache_take(FRAME_DIRTY)).raw != 0)
        keep(p, 0);
}

// This CPU's reserve, too: it stays empty until no-preempt is zero. Context: as above.
static inline void take_reserve(void)
{
    paddr_t p;

    mm_fail_at(1, true);
    while ((p = frame_cache_take_for_stack()).raw != 0)
        keep(p, 0);
    mm_fail_at(0, false);
}

static inline void give_all(void *arg)
{
    (void)arg;
    while (taken != 0) {
        unsigned order = taken % PAGE_SIZE;
        paddr_t p = paddr(taken - order);

        taken = *(uint64_t *)arch_direct(p);
        if (order > 0)
            frame_free(p, order);
        else
            frame_put(p);
    }
}
