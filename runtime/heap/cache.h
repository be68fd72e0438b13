// The caches of the CPUs.
#pragma once

#include "runtime/heap/heap.h"

enum {
    CACHE_SLOTS = 64,   // pointers in a stack, the lowest one NULL
    CACHE_CLASSES = 35, // classes up to HEAP_FAST_MAX, and 0; cache.c checks
};

// For each class of small objects up to HEAP_FAST_MAX and each kind a stack of
// free objects. A stack is 512 bytes at a multiple of 512, grows upwards, and has
// NULL at its bottom: so both ends are recognised without a count.
//
//     NULL  obj  obj  obj  ____  ____
//                          ^ top
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
};

static inline unsigned cache_index(unsigned class, enum heap_kind kind)
{
    return 1 + kind * CACHE_CLASSES + class;
}

void cache_init(void);
void *cache_alloc(size_t n, enum heap_kind kind);
void cache_flush(void);
void cache_stats(struct heap_stats *s);
