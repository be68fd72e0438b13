// Heap pages of 8 KiB: which are free, and which have been used before.
//
// An address-ordered first fit over bitmaps, found through a radix tree of
// summaries. The heap is one range that grows at its end.
//
// Source: Go, src/runtime/mpagealloc.go and design 35112 (the idea of summaries
// of start, max, end).
#pragma once

#include <stdatomic.h>

#include "arch/arch.h"

enum {
    HEAP_PAGE_SHIFT = 13,
    HEAP_PAGE = 1 << HEAP_PAGE_SHIFT,
    HEAP_PAGE_FRAMES = HEAP_PAGE / PAGE_SIZE,
};

// A heap page's number is its distance from ARCH_HEAP_BASE in pages.
static inline uint64_t heap_page_of(uintptr_t va)
{
    return (va - ARCH_HEAP_BASE) >> HEAP_PAGE_SHIFT;
}

static inline uintptr_t heap_page_address(uint64_t page)
{
    return ARCH_HEAP_BASE + (page << HEAP_PAGE_SHIFT);
}

#define HEAP_NO_PAGE UINT64_MAX

// Protects what is here, and large spans. Inside the locks of central lists,
// outside those of mm. Taken on the system stack (R5).
extern struct spinlock heap_lock;

// Takes n adjacent pages, promised (R14), the first a multiple of `align`, a power
// of two. Returns the first, or HEAP_NO_PAGE when there is no memory. *zero: all
// of them read as zero. Context of all here: heap_lock held, system stack.
MUST_USE uint64_t pages_alloc(uint64_t n, uint64_t align, bool *zero);

// Takes exactly these pages, if all are free (the heap grows for it). As above.
MUST_USE bool pages_take(uint64_t page, uint64_t n, bool *zero);

// Takes free pages of one aligned group of 64, the lowest that has n adjacent
// ones: these and what is free behind them, `most` in all. Sets the group's first
// page, the pages taken and those of them that read as zero. False: no memory.
MUST_USE bool pages_alloc_group(uint64_t n, unsigned most, uint64_t *first,
                                uint64_t *taken, uint64_t *fresh);

// Gives pages back; they stay promised, with what is in them, for a while.
void pages_free(uint64_t page, uint64_t n);

// The same for pages that pages_alloc_group said read as zero, and still do. It will
// say so again.
void pages_free_zero(uint64_t page, uint64_t n);

// Gives the frames of free pages, and their promise, back to mm: about n pages
// (or all), from the end of the heap. Returns how many pages.
uint64_t pages_scavenge(uint64_t n);

// Does what is due at this time of pages_delay's. Returns when to be called
// next, UINT64_MAX: nothing will be due. now: arch_mono_ns().
uint64_t pages_tick(uint64_t now);

// How many of n frames from va on are promised, for sure: fewer at worst. Takes no
// lock: pages_scavenge withdraws the promise before it drops the frames.
// Context: mm_lock held.
unsigned pages_promised(uintptr_t va, unsigned n);

struct pages_stats {
    uint64_t total;    // in the heap's range
    uint64_t free;     // of these
    uint64_t promised; // of all: used, or free and not yet given back
    uint64_t metadata; // bytes of tables, bitmaps and summaries
};

extern struct pages_stats pages_stats; // [heap_lock]

// The policy of giving back: free pages above pages_keep that were not needed for
// pages_delay nanoseconds. [heap_lock]
extern uint64_t pages_keep, pages_delay;

// A tenth of the pages in use.
#define PAGES_KEEP_TENTH UINT64_MAX

// Changes both.
void pages_set_keep(uint64_t keep, uint64_t delay);

// Most pages that may be promised. [heap_lock]
extern uint64_t pages_limit;

// Set at boot, called with heap_lock held when something will be due at a time:
// pages_tick is to be called then. NULL: pages_free looks at the clock.
extern void (*pages_arm)(uint64_t mono_ns);

// Granules of 16 bytes up to the end of the heap. [heap_lock] Read anywhere.
extern _Atomic uint64_t pages_granules;

static inline uint64_t pages_granules_now(void)
{
    return *(volatile uint64_t *)&pages_granules;
}

static inline uintptr_t pages_end(void)
{
    return ARCH_HEAP_BASE +
           16 * atomic_load_explicit(&pages_granules, memory_order_acquire);
}

// Bit per granule of 16 bytes: an object begins there. By address / 16.
#define PAGES_ALLOC_BITS                                                       \
    ((uint64_t *)(ARCH_HEAPMETA_BASE - ARCH_HEAP_BASE / 128))

// Span of each page, or NULL: behind these bits.
#define PAGES_AT_SPANS (ARCH_HEAPMETA_BASE + ARCH_HEAP_SIZE / 16 / 8)

static inline struct span **pages_spans(void)
{
    return (struct span **)PAGES_AT_SPANS;
}

// Bit per granule, behind all tables: see collect.h. Mapped from the first collected
// span on, as far as the heap goes.
#define PAGES_AT_WHITE                                                         \
    (PAGES_AT_SPANS + (ARCH_HEAP_SIZE >> HEAP_PAGE_SHIFT) *                    \
                          (2 * sizeof(struct span *) + ARCH_MAX_CPUS))

// Maps it, once. False: no memory.
MUST_USE bool pages_add_white(void);
extern _Atomic bool pages_have_white;

// A CPU's byte per page; see cache.h.
uint8_t *pages_classes(unsigned cpu);

// Maps a CPU's table of classes as far as the heap goes, once it has one.
MUST_USE bool pages_add_cpu(unsigned cpu);

bool pages_is_free(uint64_t page);

// Panics if a summary does not fit its bitmap, or the counts do not. Context:
// heap_lock held.
void pages_check(void);
