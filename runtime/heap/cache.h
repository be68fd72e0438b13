// The caches of the CPUs (mcache).
#pragma once

#include "runtime/heap/heap.h"

enum {
    CACHE_SLOTS = 256, // pointers in a stack, at most
    CACHE_ALIGN = CACHE_SLOTS * sizeof(void *),
    CACHE_CLASSES = 65, // classes up to HEAP_CACHE_MAX, and 0; cache.c checks
    CACHE_STACKS = 1 + HEAP_KINDS * CACHE_CLASSES,
};

_Static_assert(CACHE_ALIGN == (int)META_BLOCK,
               "a stack ends where a block does");

// For each class of small objects up to HEAP_CACHE_MAX and each kind a stack of
// free objects. A stack ends at a multiple of 2 KiB, grows upwards, and has NULL
// at its bottom: so both ends are recognised without a count. Where the bottom is
// says how many objects it may hold: few of the large ones.
//
//     ____  NULL  obj  obj  obj  ____  ____ |
//                                ^ top      ^ 2 KiB
//
// Stack 0 stands for "not here": always full, and empty.
//
// `classes` says for each heap page which stack takes its objects: 0 unless the
// page belongs to a span of this CPU. So a free finds out that an object is its
// own, and of which class, by one load.
//
// `clean` is what cache_sum gives as long as the stack was filled with objects never
// handed out and none was freed into it: a malloc does not change the sum, a free does.
struct cache_stack {
    void **top;       // [o]
    uint64_t mallocs; // [o] events
};

struct cache {
    struct cache_stack stack[CACHE_STACKS]; // first: the fast paths know it
    uint8_t *classes;                       // [c] by heap page
    uint64_t clean[CACHE_STACKS];           // [o]
    struct span *_Atomic remote; // [a] spans of this CPU that others freed into
    _Atomic uint64_t behind;     // [a] pages of these, about
    struct span *spans[HEAP_KINDS][HEAP_CLASSES];        // [o] with free slots
    uint64_t slow_mallocs[HEAP_CLASSES - CACHE_CLASSES]; // [o]
    uint64_t empty_pages;      // [o] of spans of ours without an object
    struct span_source source; // [o]
    uintptr_t tiny;            // [o] block that is being filled; 0: none
    unsigned tiny_end;         // [o] how far
    uint64_t tiny_mallocs;     // [o]
    uint64_t until_guard;      // [o] allocations, see heap_debug_sample
    _Atomic uint8_t asked;     // [a] by others, bits of cache_wish
};

enum cache_wish {
    CACHE_DRAIN = 1, // take over what others have freed
    CACHE_FLUSH = 2, // somebody needs memory: give back all there is
};

static inline unsigned cache_index(unsigned class, enum heap_kind kind)
{
    return 1 + kind * CACHE_CLASSES + class;
}

static inline uint64_t cache_sum(const struct cache_stack *s)
{
    return s->mallocs * sizeof *s->top + (uintptr_t)s->top;
}

static inline bool cache_is_full(void **top)
{
    return ((uintptr_t)top & (CACHE_ALIGN - 1)) == 0;
}

// Whether free puts objects of a class into stacks. It takes an address that is no
// multiple of 16 for a bad one.
static inline bool cache_takes(unsigned class)
{
    return class < CACHE_CLASSES && class != HEAP_CLASS_TINY &&
           heap_classes[class].size % 16 == 0;
}

// NULL before heap_cpu_init on that CPU.
struct cache *cache_of_cpu(unsigned cpu);

// Where the stack for n bytes of manual memory lies in a struct cache, in bytes.
// With heap.guard always stack 0, so that malloc counts first (fast.c).
extern uint16_t cache_manual_stack[HEAP_FAST_MAX + 1]; // [c]

// Where the fast paths end: each is the last call of one. errno is set.
void *cache_malloc_slow(size_t n);
void *cache_malloc_any(size_t n); // and where that one ends
void cache_free_slow(void *p);

// Frees it, if it is a collected object of a span of this CPU, and no more has to be
// done; looks at it first where a fast free does not. Context: goroutine.
MUST_USE bool cache_free_collected(void *p);

void cache_init(void);

// n bytes, 1..ARCH_HEAP_SIZE / 2, of a kind, 16-byte aligned (24 bytes collected
// memory: 8; below 16 bytes without pointers: as n is divisible). *fresh: they
// read as zero. NULL: no memory.
void *cache_alloc(size_t n, enum heap_kind kind, size_t align, bool *fresh);

// Puts an object, whose alloc bit is set, back: into a stack, its span, or the
// remote bits. Context: no-preempt, system stack.
void cache_free_slot(struct cache *c, struct span *s, void *p);

// Gives all objects of this CPU's cache back to their spans, and the spans to
// everybody.
void cache_flush(void);

// Asks the other CPUs to do the same, which they do when they next get to it.
// False: there are none. And whether all have.
bool cache_flush_others(void);
bool cache_others_flushed(void);

// Panics if this CPU's cache is damaged. Context: no-preempt, system stack,
// heap_lock held.
void cache_check(void);

// Does what another CPU has asked for. Context: no-preempt, system stack.
void cache_serve(void);

// Free objects in the stacks of all CPUs, of a class and kind; as they are, without
// a lock.
uint64_t cache_count(unsigned class, enum heap_kind kind);
uint64_t
cache_mallocs(unsigned class); // and how many were allocated, all kinds
