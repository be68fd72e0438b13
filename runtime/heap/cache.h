// The caches of the CPUs.
#pragma once

#include "runtime/heap/heap.h"

enum {
    CACHE_SLOTS = 256, // pointers in a stack, at most
    CACHE_ALIGN = CACHE_SLOTS * sizeof(void *),
    CACHE_CLASSES = 65, // classes up to HEAP_CACHE_MAX, and 0; cache.c checks
};

// For each class of small objects up to HEAP_CACHE_MAX and each kind a stack of
// free objects. A stack ends at a multiple of 2 KiB, grows upwards, and has NULL
// at its bottom: so both ends are recognised without a count. Where the bottom is
// says how many objects it may hold: few of the large ones.
//
//     ____  NULL  obj  obj  obj  ____  ____ |
//                                ^ top      ^ 2 KiB
//
// Index 0 of `top` stands for "not here": always full.
//
// `classes` says for each heap page which stack takes its objects: 0 unless the
// page belongs to a span of this CPU. So a free finds out that an object is its
// own, and of which class, by one load.
struct cache {
    void **top[1 + HEAP_KINDS * CACHE_CLASSES];       // [o]
    uint8_t *classes;                                 // [c] by heap page
    uint64_t mallocs[1 + HEAP_KINDS * CACHE_CLASSES]; // [o] events
    struct span *_Atomic remote; // [a] spans of this CPU that others freed into
    struct span *spans[HEAP_CLASSES][HEAP_KINDS];        // [o] with free slots
    uint64_t slow_mallocs[HEAP_CLASSES - CACHE_CLASSES]; // [o]
    uint64_t empty_pages; // [o] of spans of ours without an object
};

static inline unsigned cache_index(unsigned class, enum heap_kind kind)
{
    return 1 + kind * CACHE_CLASSES + class;
}

static inline bool cache_is_full(void **top)
{
    return ((uintptr_t)top & (CACHE_ALIGN - 1)) == 0;
}

// Index of the stack for n bytes of manual memory, by (n + 15) / 16.
extern uint8_t cache_manual_index[HEAP_FAST_MAX / 16 + 1]; // [c]

// Where the fast paths end: each is the last call of one. _empty and _full end
// its no-preempt section; cache_pending returns its argument. errno is set.
void *cache_malloc_slow(size_t n);
void *cache_malloc_empty(size_t n);
void *cache_pending(void *p);
void cache_free_slow(void *p);
void cache_free_full(void *p);

void cache_init(void);
void *cache_alloc(size_t n, enum heap_kind kind, size_t align);
void cache_flush(void);
void cache_stats(struct heap_stats *s);
