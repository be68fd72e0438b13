// A CPU's own heap pages: those that were free in one aligned group of 64, from
// which it makes spans without a lock. So its spans, and their alloc bits, also
// lie together: no two CPUs write to neighbouring cache lines.
//
// Source: Go, src/runtime/mpagecache.go.
#pragma once

#include "runtime/heap/pages.h"

// Most pages of a run that comes from here.
enum { PAGE_CACHE_RUN = 16 };

// [o] the CPU, no-preempt
struct page_cache {
    uint64_t first;       // a multiple of 64
    uint64_t free, fresh; // bit per page; fresh: free, and reads as zero
};

// How many pages a cache takes at once, at most. [c] after heap_init; 0: none,
// memory is too small for it
extern unsigned page_cache_most;

// Takes n adjacent pages; as pages_alloc, which it falls back to. Context of all:
// no-preempt, system stack, heap_lock not held.
MUST_USE uint64_t page_cache_alloc(struct page_cache *c, uint64_t n,
                                   bool *zero);
void page_cache_free(struct page_cache *c, uint64_t page, uint64_t n);

// Gives all its pages to everybody.
void page_cache_flush(struct page_cache *c);

// Panics if it holds what is not its own. Context: heap_lock held.
void page_cache_check(const struct page_cache *c);
