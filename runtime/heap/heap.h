// The heap, for the C library and the rest of the runtime. Programs have malloc
// and <gneiss/heap.h>.
#pragma once

#include "runtime/heap/span.h"

// Starts the heap; before the first allocation. Context: boot.
void heap_init(void);

// Makes the cache of the CPU that calls it; before it allocates. Panics without
// memory. Context: boot, or the CPU's start.
void heap_cpu_init(void);

// malloc and free: n bytes of manual memory, 16-byte aligned; NULL and errno: no
// memory. One no-preempt section of two dozen instructions, no lock (fast.h).
// Context: any but interrupt.
void *heap_malloc(size_t n);
void heap_free(void *p);

// n bytes of a kind, aligned to a power of two; zero: cleared. NULL: no memory, or
// n is absurd. Context: any but interrupt.
void *heap_alloc(size_t n, enum heap_kind kind, size_t align, bool zero);

// Bytes that may be used at p, which is an object's address. Panics, like
// heap_free, if it is none.
size_t heap_usable(const void *p);

// As realloc. Large objects move by their page-table entries.
void *heap_realloc(void *p, size_t n);

// Gives idle caches of this CPU and free pages back to mm; returns how many
// frames. Context: goroutine or scheduler, no lock held.
uint64_t heap_trim(void);

// Panics if a structure of the heap is damaged. Context: any but interrupt.
void heap_check(void);

// Where an address lies, for reports: fills out and returns true if it is in the
// heap's range.
struct heap_place {
    const struct span *span; // NULL: free pages
    uintptr_t object;        // begin of the object or slot
    size_t size;
    bool allocated;
};

bool heap_place_of(uintptr_t va, struct heap_place *place);

struct heap_class_stats {
    uint32_t size;
    uint64_t spans, live, cached; // objects
    uint64_t mallocs, frees;
};

struct heap_stats {
    uint64_t range, used, promised, free; // bytes
    uint64_t metadata;
    uint64_t live_bytes, live_objects;
    uint64_t mallocs, frees;
    uint64_t large_spans, large_bytes;
};

void heap_stats(struct heap_stats *s);
