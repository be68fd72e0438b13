// Spans: runs of heap pages that hold objects of one size, or one large object.
#pragma once

#include "arch/arch.h"
#include "runtime/heap/classes/classes.h"
#include "runtime/heap/meta.h"
#include "runtime/heap/page_cache.h"

enum {
    HEAP_SMALL_MAX = 32768, // larger objects have spans of their own
    HEAP_FAST_MAX = 1024,   // malloc finds the class of these by one load
    HEAP_CACHE_MAX = 16384, // larger ones are not cached
    // The class of 8 bytes: its objects are blocks of 16 that tiny.c shares out.
    // Since there is an alloc bit for 16 bytes, nothing else can be smaller.
    HEAP_CLASS_TINY = 1,
};

enum heap_kind {
    HEAP_MANUAL, // malloc: freed by free only
    HEAP_SCAN,   // may hold pointers
    HEAP_NOSCAN, // holds none
    HEAP_KINDS,
};

struct heap_class {
    uint16_t size;   // bytes of an object
    uint8_t pages;   // heap pages of a span
    uint16_t slots;  // objects of a span
    uint32_t divide; // offset * divide >> 32 is the slot; offset < 2^17
};

extern struct heap_class heap_classes[HEAP_CLASSES]; // [c] after heap_init

// The class of an object of n bytes, 1..HEAP_SMALL_MAX, by its multiple of 8 up
// to 1 KiB and of 128 above.
extern uint8_t heap_class_small[HEAP_FAST_MAX / 8 + 1];
extern uint8_t heap_class_large[(HEAP_SMALL_MAX - HEAP_FAST_MAX) / 128 + 1];

static inline unsigned heap_class_of(size_t n)
{
    return n <= HEAP_FAST_MAX
               ? heap_class_small[(n + 7) / 8]
               : heap_class_large[(n - HEAP_FAST_MAX + 127) / 128];
}

// A span belongs to a CPU, whose cache alone takes and puts objects, or to
// nobody: then it lies in a central list (central.h), or is full. `free` has a
// bit for each slot that is neither allocated nor in a cache; `remote` one for
// each that another CPU has freed and the owner does not know of yet (R17).
//
// Who has an object in a span may use its struct. A CPU that frees into it from
// outside counts itself in `freeing` before the object is gone. A struct that was
// freed stays one: a late reader finds other values, never other memory.
//
// Tags: [o] the owner, no-preempt, or the central list's lock if it has none.
struct span {
    struct span *next, *prev; // [o] in the list of its owner, or central
    struct span *_Atomic remote_next; // [a] while queued
    uint32_t page;                    // [c]
    uint32_t npages;                  // [c] large: heap_lock
    uint32_t divide;       // [c] as in the class; 0: one large object
    uint16_t slots;        // [c]
    uint16_t nfree;        // [o] bits set in `free`
    uint16_t fresh;        // [o] slots from here on were never handed out: zero
    uint8_t class, kind;   // [c] class 0: one large object
    _Atomic uint8_t owner; // [o] CPU + 1; 0: nobody
    _Atomic bool queued;   // [a] on a queue of remote frees
    _Atomic uint8_t freeing; // [a] CPUs that free into it from outside
    bool listed : 1;         // [o] on a list of spans with free slots
    bool zero : 1;           // [o] its pages read as zero when it was made
    bool huge : 1;           // [o] it may have large pages: dropped as a whole
    uint64_t bits[];         // [o] free; then [a] remote
};

static inline unsigned span_words(const struct span *s)
{
    return s->divide != 0 ? (s->slots + 63u) / 64 : 0;
}

static inline uint64_t *span_free_bits(struct span *s)
{
    return s->bits;
}

static inline _Atomic uint64_t *span_remote_bits(struct span *s)
{
    return (_Atomic uint64_t *)(s->bits + span_words(s));
}

// Whether another CPU has freed an object that the owner does not know of yet.
static inline bool span_freed_remotely(struct span *s, unsigned slot)
{
    return s->divide != 0 &&
           (atomic_load_explicit(&span_remote_bits(s)[slot / 64],
                                 memory_order_relaxed) >>
                slot % 64 &
            1) != 0;
}

static inline uintptr_t span_base(const struct span *s)
{
    return heap_page_address(s->page);
}

static inline size_t span_bytes(const struct span *s)
{
    return (size_t)s->npages << HEAP_PAGE_SHIFT;
}

// The slot that an address in a span of small objects lies in.
static inline unsigned span_slot(const struct span *s, uintptr_t va)
{
    return (unsigned)((va - span_base(s)) * s->divide >> 32);
}

static inline uintptr_t span_object(const struct span *s, unsigned slot)
{
    return span_base(s) + (uintptr_t)slot * heap_classes[s->class].size;
}

// The span that holds an address of the heap, NULL: none. Context: any; the span
// may go meanwhile unless the caller has an object in it.
struct span *span_of(uintptr_t va);

static inline bool span_is_empty(const struct span *s)
{
    return s->nfree == s->slots;
}

// ---- making them: no-preempt, on the system stack ----

// What a CPU makes spans of. [o] the CPU
struct span_source {
    struct meta meta;
    struct page_cache pages;
};

// A span of a class with all slots free, in no list. It belongs to the CPU that
// calls. NULL: no memory.
struct span *span_new(struct span_source *from, unsigned class,
                      enum heap_kind kind);

// Gives the pages of a span of small objects back, and the struct. Nobody frees
// into it, and it is in no list.
void span_delete(struct span_source *from, struct span *s);

// The same for one large object of npages, at a multiple of `align` pages (a power
// of two, or 0). heap_lock held.
struct span *span_new_large(struct span_source *from, uint64_t npages,
                            uint64_t align, enum heap_kind kind);
void span_delete_large(struct span_source *from, struct span *s);

// Deletes what span_delete_large has kept while pages were held (collect.h).
// heap_lock held.
void span_delete_held(struct span_source *from);

// Gives a large span another length where it lies. False: no room, or no memory.
// heap_lock held.
MUST_USE bool span_resize(struct span *s, uint64_t npages);

// Panics if a span is damaged. heap_lock held.
void span_check(void);

// Panics, with object (0: none), class and span, unless a span of small objects is
// what its class and the table say. A few loads, for the slow paths.
void span_must_be_sound(const struct span *s, uintptr_t object);

// Takes over what others have freed: alloc bits go, free bits come. Returns how
// many. Context: the owner, or the central list's lock.
unsigned span_drain(struct span *s);

// Large objects since the start, and their bytes. [heap_lock]
extern struct span_large_stats {
    uint64_t mallocs, frees;
    uint64_t bytes, freed_bytes; // allocated, growth included; freed
} span_large;

void span_init(void);
