// Run queues: a ring for each CPU, which others steal from, and one list for all.
//
// Source: Go, src/runtime/proc.go (runqput, runqget, runqgrab, globrunqget).
#pragma once

#include <stdatomic.h>

#include "arch/arch.h"

struct g;

enum { RUNQ_SIZE = 256 };

// The owner puts at the tail and takes at the head; thieves take at the head.
// `next` is run before all of the ring: whom the running goroutine has just made
// ready, mostly because it is about to wait for it.
struct runq {
    _Atomic uint32_t head;             // [a] CAS; release: the slots were read
    _Atomic uint32_t tail;             // [o] release: the slots were written
    struct g *_Atomic next;            // [a] CAS
    struct g *_Atomic ring[RUNQ_SIZE]; // [a] relaxed
};

// Puts g on the owner's queue: first of all, or at the end. When the ring is full,
// a quarter of it goes to the common list. Context: the owner, no-preempt.
void runq_put(struct runq *q, struct g *g, bool first);

// Takes one; *inherit: it was put first, and goes on in the slice of who did so.
// NULL: there is none. Context: the owner, no-preempt.
struct g *runq_get(struct runq *q, bool *inherit);

// Moves half of what another CPU has to an empty queue of ours, and returns one of
// them; with take_next also its `next`, if it has nothing else. NULL: it has none.
// Context: the owner of `to`, no-preempt.
struct g *runq_steal(struct runq *to, struct runq *from, bool take_next);

// Whether anything is there: a moment ago.
bool runq_has(struct runq *q);

// ---- the common list ----

// Puts a chain of n goroutines, by `next`, at the end.
void globq_put(struct g *first, struct g *last, unsigned n);

// Takes a fair share for one of ncpus, at most `most`: returns the first, the
// others go to q. Context: the owner of q, no-preempt.
struct g *globq_get(struct runq *q, unsigned ncpus, unsigned most);

bool globq_has(void);
