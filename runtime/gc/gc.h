// The collector: concurrent mark and sweep without a write barrier. What programs
// see of it is <gneiss/gc.h>.
//
//   cycle.c   what a collection does, step by step, and when one begins
//   roots.c   where marking begins: the image, blocks of malloc, timers
//   stacks.c  and goroutines
//   mark.c    from object to object
//   special.c weak pointers, cleanups, finalizers
//   pace.c    when a collection begins; help.c: who marks beside its goroutine
//   runtime/heap/collect.c  white bits and sweeping
#pragma once

#include "runtime/gc/mark.h"

// Starts it; [data, end) are the image's data and bss. Context: boot.
void gc_init(uintptr_t data, uintptr_t end);

// heap.leaks: see leaks.h. Context: the first goroutine, before main.
void leaks_at_exit(void);

// What one collection did, for gc.trace. Times in nanoseconds, sizes in bytes.
struct gc_report {
    uint64_t number, start;
    uint64_t stop_ns[2], mark_ns;
    uint64_t before, after, live, goal; // when it began, when it ended
    uint64_t rounds, round_pages, final_pages;
    uint64_t goroutines, stack_pages;
    uint64_t objects, scanned;
};

void gc_trace(const struct gc_report *r);

// ---- roots.c ----

void roots_init(uintptr_t data, uintptr_t end);

// What was stored to up to now is forgotten: what is scanned later is as it is then.
// False: stores cannot be watched, for want of memory.
MUST_USE bool roots_begin(void);

// Scans the image and all blocks of malloc.
void roots_scan(struct marker *m);

// Scans again what was stored to since the last call. Returns the pages of the heap
// and the image that were.
uint64_t roots_rescan(struct marker *m);

// What is scanned in the final stop in any case, O(CPUs).
void roots_scan_always(struct marker *m);

void roots_check(struct marker *m);
