// Spans that no CPU owns and that have free slots, by class and kind (mcentral).
// Each list has its lock.
#pragma once

#include "runtime/heap/span.h"

// Takes a span for the calling CPU, which owns it when this returns. NULL: there
// is none. Context of all: no-preempt, system stack; no lock of the heap held.
struct span *central_take(unsigned class, enum heap_kind kind);

// Gives a span of the calling CPU to everybody; without objects its pages go back.
void central_put(struct span_source *from, struct span *s);

// Takes over what others have freed into a span that is queued and that nobody
// owns. freeing: how many of those that count in s->freeing the caller is, 0 or 1.
// False: somebody owns it, nothing was done. *gone: the span is deleted, and the
// count with it.
MUST_USE bool central_drain(struct span_source *from, struct span *s,
                            unsigned freeing, bool *gone);

// Gives the pages of all spans without objects back.
void central_trim(struct span_source *from);

// All lists, in order, for heap_lock_all.
void central_lock_all(void);
void central_unlock_all(void);

// Panics if a span in a list is damaged.
void central_check(void);

// Memory for the lists, before any other call. False: there is none.
MUST_USE bool central_init(void);
