// What the heap does for a collector (runtime/gc), and asks of it.
//
// A white bit for each granule of 16 bytes, like the alloc bits. At the start of a
// cycle it is set for every collected object that is allocated; who reaches the
// object clears it; what is white at the end is dead.
//
// Invariant: where no allocated collected object begins nothing is white. Whoever
// clears the alloc bit of such an object clears its white bit after it, and
// collect_whiten looks at the alloc bits again after it has set white ones: one of
// two sees the other (both are locked instructions, x86's total order). So objects
// that are allocated during a cycle are not white, and who allocates does nothing
// for it.
//
// R18: while pages are held no span of small objects is deleted, and none changes its
// class or kind. Large objects that are freed keep their struct, since it may be in a
// queue; and their pages only if somebody is scanning them (collect_scans).
#pragma once

#include "runtime/heap/cache.h"

#define COLLECT_WHITE_BITS                                                     \
    ((_Atomic uint64_t *)(PAGES_AT_WHITE - ARCH_HEAP_BASE / 128))

// By what the marker finds objects to scan: spans with gray objects are queued. Only
// those of scanned kinds have it, at the end of their struct.
struct span_gray {
    struct span *next;       // [the queue's] in a queue of the marker
    _Atomic uint32_t queued; // [a] it is in one
    uint32_t done;           // [who took it from a queue] large: pages scanned
    _Atomic uint64_t bits[]; // [a] by slot: reached, and not yet scanned
};

static inline unsigned span_gray_words(const struct span *s)
{
    return s->divide != 0 ? span_words(s) : 1;
}

static inline struct span_gray *span_gray(struct span *s)
{
    return (struct span_gray *)(s->bits + 2 * span_words(s));
}

// The granule at va, where a collected object begins or began, is not white. Context:
// any, after its alloc bit is cleared.
static inline void collect_unwhiten(uintptr_t va)
{
    atomic_fetch_and_explicit(&COLLECT_WHITE_BITS[va / 1024],
                              ~(UINT64_C(1) << va / 16 % 64),
                              memory_order_seq_cst);
}

static inline bool collect_is_white(uintptr_t va)
{
    return (atomic_load_explicit(&COLLECT_WHITE_BITS[va / 1024],
                                 memory_order_relaxed) >>
                va / 16 % 64 &
            1) != 0;
}

// Pages are held, or no longer; then what was freed meanwhile is let go of. Context:
// the world is stopped to begin; goroutine.
extern _Atomic bool collect_holding;
void collect_hold(void);
void collect_release(void);

// The marker `who` reads the pages of a large object from now on, until it says NULL.
// False: it was freed. And whether any does.
enum { COLLECT_MARKERS = ARCH_MAX_CPUS };
MUST_USE bool collect_scans(unsigned who, struct span *s);
void collect_scans_none(unsigned who);
bool collect_is_scanned(const struct span *s);

// gc.check: blocks of malloc hold nothing of what was in their place before: the slow
// paths clear what has frames. [c]
extern bool collect_checks;
void collect_clear(uintptr_t va, size_t n);

// For tests: rules that are broken on purpose. [c]
enum { COLLECT_BREAK_MOVE = 1, COLLECT_BREAK_TINY = 2 };
extern unsigned collect_breaks;

// Makes all collected objects in n heap pages from `page` white that are allocated.
// Pages are held. Context: any but interrupt.
void collect_whiten(uint64_t page, uint64_t n);

// What is white from now on is dead, up to the end of the heap. Context: the world is
// stopped. And then it may be swept. Context: any.
void collect_end_marking(void);
void collect_begin_sweep(void);

// Sweeps some pages: their dead objects are free. False: there is nothing left to
// begin. Context: no-preempt, system stack.
bool collect_sweep_some(void);

// The same for whoever is not there. Context: goroutine.
bool collect_sweep(void);

// Whether all that was begun is done.
bool collect_is_swept(void);

// Nothing is white any more: all is swept. Context: who alone begins cycles.
void collect_is_over(void);

// Dead objects found by sweeping since the start, and their bytes.
extern _Atomic uint64_t collect_freed, collect_freed_bytes;

// Bytes of collected memory handed to caches or allocated, since the start. When
// it passes `at`, `wanted` is called.
extern _Atomic uint64_t collect_handed_out, collect_at;

// Something is or may become white: from the stop that begins a cycle until all is swept.
// And: there are objects that `freed` has to hear of. Both relaxed: a CPU sees them at
// the latest when it next leaves no-preempt after a stop, or by its own doing.
extern _Atomic bool collect_active;
extern _Atomic size_t collect_specials;

// malloc.gc: malloc gives collected objects; heap.leaks does so, too. [c]
extern uint64_t collect_malloc, collect_leaks;

struct collector {
    // heap.leaks: malloc gives a block of n bytes. Context: goroutine. NULL: nobody asks
    void (*allocated)(void *p, size_t n);
    // Context: no-preempt, system stack.
    void (*wanted)(void);
    // Before an allocation that is not served by a cache. Context: goroutine.
    void (*assist)(void);
    // The program frees a collected object. Context: goroutine.
    void (*freed)(void *p);
    // There is no memory: collects. False: that brought nothing. Context: goroutine, no lock.
    bool (*collect)(void);
};

extern struct collector collector; // [c] NULL: there is none

// The blocks that the tiny allocators fill are kept; and panics unless they are.
// Context: the world is stopped.
void collect_keep_tiny(void);
void collect_check_tiny(void);

// For cache.c: n bytes of a kind were handed out. Context: no-preempt, system stack.
void collect_count(enum heap_kind kind, uint64_t n);
