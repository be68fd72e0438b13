// Marking: from words that may be pointers to objects, and on from what is in these.
//
// White objects that are reached lose their white bit; those that hold pointers
// become gray first: a bit in their span, and the span in a queue. Who takes a span
// from a queue scans all its gray objects in the order of their addresses. So a span
// that is reached often in a short time is scanned once; what is to be done lies in
// bitmaps, and there is no stack that could overflow.
//
//   white  --reached-->  white and gray, span queued  --taken-->  black
//
// Source: Go 1.26, src/runtime/mgcmark_greenteagc.go (the idea of scanning spans).
#pragma once

#include "runtime/heap/collect.h"

// Who marks: one goroutine at a time.
struct marker {
    unsigned number;
    struct span *first, *last; // queue of its own: spans with gray objects
    uint64_t queued;           // spans in it
    uintptr_t heap_bytes;      // of the heap's range that is looked at
    uint64_t marked;           // bytes of objects that lost their white bit
    uint64_t objects;          // and how many
    uint64_t scanned;          // bytes
};

// number: below COLLECT_MARKERS, nobody else's.
void mark_begin(struct marker *m, unsigned number);

// Words of [lo, hi), whole and aligned, that may point into objects. Reads memory
// that others change meanwhile; it may fault if it is a goroutine's that calls.
void mark_range(struct marker *m, uintptr_t lo, uintptr_t hi);

// The same of registers, stacks and TLS: a pointer just past an object keeps it,
// too (R24).
void mark_range_of_code(struct marker *m, uintptr_t lo, uintptr_t hi);

// What the page at va holds of manual objects and of collected ones that are not
// white: of objects that lie across its borders the part in it. Returns 1 if it may hold
// pointers, else 0.
unsigned mark_page(struct marker *m, uintptr_t va);

// What is in a collected object, but not the object itself.
void mark_inside(struct marker *m, uintptr_t object);

// All manual objects in n heap pages from `page` on.
void mark_manual(struct marker *m, uint64_t page, uint64_t n);

// Scans what is gray, others' included, until there is nothing, or for about `bytes`.
// True: there is nothing in m's queue and in the common one.
bool mark_drain(struct marker *m, uint64_t bytes);

// Gives m's queue to everybody.
void mark_share(struct marker *m);

// Whether the common queue is empty.
bool mark_is_idle(void);

// Whether a white object of a span waits to be scanned.
bool mark_is_gray(struct span *s, uintptr_t object);

// Panics unless every word of [lo, hi) leads to objects that are not white.
void mark_check_range(struct marker *m, uintptr_t lo, uintptr_t hi,
                      const char *what);

// The same of registers, stacks and TLS (R24).
void mark_check_range_of_code(struct marker *m, uintptr_t lo, uintptr_t hi,
                              const char *what);

// The same for all objects in n heap pages that are not white themselves.
void mark_check_pages(struct marker *m, uint64_t page, uint64_t n);
