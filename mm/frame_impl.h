// Internals of frame.c, for mm/ and host-tests/ only.
#pragma once

#include "mm/frame.h"

// One per frame of RAM, in an array indexed by frame number at ARCH_META_BASE.
// Only the head of a block is meaningful. Links are frame numbers, 0 ends.
struct frame {
    uint32_t next, prev;   // [frame_lock] free list of its order
    _Atomic uint32_t refs; // PTEs that map it, or 1; for a page table the
                           // number of its entries that are not zero [mm_lock]
    uint8_t order;         // [frame_lock] size of the block
    uint8_t state;         // [frame_lock] enum frame_state
    uint8_t counted;       // [o] of a single frame: see frame_set_counted
    uint8_t unused;
};

static inline struct frame *frame_of(uint64_t pfn)
{
    return (struct frame *)ARCH_META_BASE + pfn;
}
