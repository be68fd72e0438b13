// Requests for frames that fail on purpose: for tests, and mm.fail=N.
//
// Everything that mm/ allocates (pages, page tables, descriptors, bitmaps,
// batches) is a frame from frame_alloc or frame_cache_take, so these two ask
// here, and a request can be failed exactly, whatever lies in caches. The
// reserves of stacks are not failed: they are what is left when all else fails.
#pragma once

#include <stdatomic.h>

#include "arch/base.h"

// Twice the number of requests until one fails, odd: and all after it; 1: all
// do, 0: none does.
extern _Atomic uint64_t mm_fail_in;

// Fails the nth request from now on, 1 being the next; on: and all after it.
// nth 0: none. Context: any.
static inline void mm_fail_at(uint64_t nth, bool on)
{
    atomic_store_explicit(&mm_fail_in, nth != 0 ? 2 * nth + on : 0,
                          memory_order_relaxed);
}

// True if the nth request has come, and failed. Context: any.
static inline bool mm_has_failed(void)
{
    return atomic_load_explicit(&mm_fail_in, memory_order_relaxed) < 2;
}

// True if this request has to fail; mm_fail_now counts.
bool mm_fail_now(void);

static inline bool mm_fails(void)
{
    return unlikely(atomic_load_explicit(&mm_fail_in, memory_order_relaxed) !=
                    0) &&
           mm_fail_now();
}
