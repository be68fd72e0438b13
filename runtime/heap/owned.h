// The spans that a CPU owns.
#pragma once

#include "runtime/heap/cache.h"

// A span of this CPU with a free slot: its own, one that others have freed into,
// a central one, a new one. NULL: no memory. Context of all: no-preempt, system
// stack, no lock of the heap held.
struct span *owned_find(struct cache *c, unsigned class, enum heap_kind kind);

// Takes the lowest n free slots, 1 at least, or as many as there are, of a span of
// this CPU: their addresses go to `to`, the lowest last. Returns how many. *fresh:
// none of them was ever handed out, they read as zero.
unsigned owned_take(struct cache *c, struct span *s, unsigned n, void **to,
                    bool *fresh);

// The same for the free slot that has `skip` free ones below it.
void *owned_take_one(struct cache *c, struct span *s, unsigned skip,
                     bool *fresh);

// Puts n free objects, whose alloc bits are clear, back into their spans. Those
// of one span are often neighbours here too.
void owned_put_back(struct cache *c, void **p, size_t n);

// n slots of a span of this CPU, whose alloc bits are clear, are free: by their bits.
void owned_freed(struct cache *c, struct span *s, const uint64_t *slots,
                 unsigned n);

// Tells the owner of a span that somebody, who counts in s->freeing, has set bits
// in `remote`. True: the span is deleted, and the count with it.
MUST_USE bool owned_tell(struct cache *c, struct span *s);

// Takes over what others have freed into spans of this CPU.
void owned_drain(struct cache *c);

// Gives all spans of this CPU to everybody.
void owned_flush(struct cache *c);

// Panics if a list of this CPU, or a span in it, is damaged.
void owned_check(struct cache *c);

void owned_init(void);
