// For tests: rules of the collector that are broken on purpose (gc.break=NAME), so that
// the check can be seen to fail, and a place to stand while it marks.
#pragma once

#include "arch/base.h"

// What is left out.
enum gc_rule {
    GC_BREAK_RAN = 1,     // goroutines that ran are scanned again
    GC_BREAK_STACKS = 2,  // so are dirty pages of stacks
    GC_BREAK_DIRTY = 4,   // dirty pages of the heap
    GC_BREAK_IMAGE = 8,   // dirty pages of data and bss
    GC_BREAK_SHOOT = 16,  // a shootdown follows when D bits were cleared
    GC_BREAK_PAST = 32,   // a pointer just past its object keeps it, in code
    GC_BREAK_MANUAL = 64, // blocks of malloc are roots
    GC_BREAK_REGISTERS = 128, // so are registers
    GC_BREAK_TIMERS = 256,    // and timers
    GC_BREAK_FINAL = 512,     // the final stop scans again what has changed
};

extern unsigned
    gc_broken; // [c] a set of them; those of the heap: collect_breaks

static inline bool gc_breaks(enum gc_rule rule)
{
    return unlikely((gc_broken & rule) != 0);
}

// Where a collection is that does not stop the world.
enum gc_step {
    GC_AT_BEGIN, // all is white, nothing was scanned
    GC_AT_ROOTS, // roots and goroutines were scanned, and nothing else
    GC_AT_PIECE, // again and again: some objects were
    GC_AT_ROUND, // dirty pages were scanned again; not yet goroutines
    GC_AT_END,   // the final stop comes next
};

// Called at each of them, if somebody set it. Context: the collector's goroutine, which
// is nobody's root.
extern void (*gc_at_step)(enum gc_step step);

static inline void gc_at(enum gc_step step)
{
    if (unlikely(gc_at_step != NULL))
        gc_at_step(step);
}
