// Single frames without the buddy allocator's lock.
#pragma once

#include "mm/frame.h"

// A frame with one user: cleared (FRAME_ZERO) or not. Returns paddr 0 when
// there is none left but the reserve. Context: system stack, no-preempt.
MUST_USE paddr_t frame_cache_take(enum frame_flags flags);

// Up to n of them at once, cleared; returns how many, 0 when there is none.
// Context: as above.
MUST_USE unsigned frame_cache_take_many(paddr_t *out, unsigned n);

// The same for the path that grows a stack: falls back to this CPU's reserve,
// which nothing else uses, and then asks for pressure. Context: as above.
MUST_USE paddr_t frame_cache_take_for_stack(void);

// Takes frames that have no user any more. Context: as above.
void frame_cache_give(const paddr_t *p, unsigned n);

// Fills this CPU's reserve again. Context: system stack, no lock held.
void frame_reserve_refill(void);

// True if the reserve of this CPU is not full. Context: no-preempt.
bool frame_reserve_low(void);

// Clears a frame in advance, up to the bound; returns false when there is
// nothing to do. For idle CPUs. Context: scheduler, system stack.
bool frame_zero_ahead(void);

// Gives all that the CPUs hold, but their reserves, back to the buddy allocator.
void frame_cache_flush(void);

struct frame_cache_stats {
    uint64_t cached;   // single frames in caches of CPUs, zeroed ones too
    uint64_t zeroed;   // of these, cleared in advance
    uint64_t reserved; // in the reserves
    uint64_t from_zeroed, cleared; // served from the zeroed list; cleared late
};

struct frame_cache_stats frame_cache_stats(void);

// The bound on frames cleared in advance (mm.zeroed); 0 switches it off.
extern uint64_t frame_zeroed_max;

// From frame.c: up to n single frames at once, under one lock.
unsigned frame_take_batch(paddr_t *out, unsigned n);
void frame_give_batch(const paddr_t *p, unsigned n);
