// Spans: runs of heap pages that hold objects of one size, or one large object.
#pragma once

#include "arch/arch.h"
#include "runtime/heap/classes/classes.h"
#include "runtime/heap/pages.h"

enum {
    HEAP_SMALL_MAX = 32768, // larger objects have spans of their own
    HEAP_FAST_MAX = 1024,   // malloc finds the class of these by one load
    HEAP_CACHE_MAX = 16384, // larger ones are not cached
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
// nobody: then it lies in a central list. `free` has a bit for each slot that is
// neither allocated nor in a cache; `remote` one for each that another CPU has
// freed and the owner does not know of yet (R17).
//
// Tags: [o] the owner, no-preempt, or heap_lock if it has none; [h] heap_lock.
struct span {
    struct span *next, *prev; // [o] in the list of its owner, or central
    struct span *_Atomic remote_next; // [a] while queued
    uint32_t page;                    // [c]
    uint32_t npages;                  // [c]
    uint8_t class, kind;              // [c] class 0: one large object
    _Atomic uint8_t owner;            // [o] CPU + 1; 0: nobody
    _Atomic bool queued;              // [a] on a queue of remote frees
    _Atomic uint8_t freeing;          // [a] CPUs that free into it from outside
    bool listed;                      // [o] on a list of spans with free slots
    bool zero;                        // [c] its pages read as zero at first
    uint16_t nfree;                   // [o] bits set in `free`
    uint64_t bits[];                  // [o] free; then [a] remote
};

static inline unsigned span_words(const struct span *s)
{
    return s->class != 0 ? (heap_classes[s->class].slots + 63u) / 64 : 0;
}

static inline uint64_t *span_free_bits(struct span *s)
{
    return s->bits;
}

static inline _Atomic uint64_t *span_remote_bits(struct span *s)
{
    return (_Atomic uint64_t *)(s->bits + span_words(s));
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
    return (unsigned)((va - span_base(s)) * heap_classes[s->class].divide >>
                      32);
}

static inline uintptr_t span_object(const struct span *s, unsigned slot)
{
    return span_base(s) + (uintptr_t)slot * heap_classes[s->class].size;
}

// The span that holds an address of the heap, NULL: none. Context: any; the span
// may go meanwhile unless the caller has an object in it.
struct span *span_of(uintptr_t va);

// Protects pages, the central lists and the making of spans. Outside the locks
// of mm. Taken on the system stack (R5).
extern struct spinlock heap_lock;

// ---- heap_lock held, system stack ----

// A span of a class, empty and owned by nobody: from the central list if there is
// one with free slots, else new. NULL: no memory.
struct span *span_take(unsigned class, enum heap_kind kind);

// A span for one large object of npages. NULL: no memory.
struct span *span_new_large(uint64_t npages, enum heap_kind kind);

// The same at a multiple of so many pages, a power of two, or 0.
struct span *span_new_aligned(uint64_t npages, uint64_t align,
                              enum heap_kind kind);

// Gives a large span another length where it lies. False: no room, or no memory.
MUST_USE bool span_resize(struct span *s, uint64_t npages);

// Panics if a span is damaged.
void span_check(void);

// Puts a span that nobody owns any more on the central list if it has free slots;
// gives its pages back if it has nothing else.
void span_release(struct span *s);

// Gives the pages of a span without objects back, and the struct.
void span_delete(struct span *s);

// Takes over what others have freed: alloc bits go, free bits come. Returns how
// many; the caller adds them to nfree. Context: the owner, or heap_lock.
MUST_USE unsigned span_drain(struct span *s);

// Bytes of structs of spans, used and spare. [heap_lock]
extern uint64_t span_metadata;

void span_init(void);
