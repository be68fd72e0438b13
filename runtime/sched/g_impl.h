// struct g, for runtime/sched, runtime/stack, runtime/libc and host-tests.
#pragma once

#include <stdatomic.h>

#include "runtime/sched/sched.h"

struct _reent;

enum g_state {
    G_FREE,    // the slot is not in use
    G_PARKED,  // waits for g_ready
    G_READY,   // on a run queue or a wake list
    G_RUNNING, // on a CPU
};

// One per stack slot, in a nailed array at ARCH_SLOTS_BASE that is indexed like
// the slots, so that a fault finds the goroutine of an address by a shift. What
// holds a program's pointers (arguments, TLS) lies on the goroutine's own stack
// and not here (R21).
//
// Tags: [s] whoever holds it in its state: the CPU that runs it, or the lock of
// the queue that it is on; [mm] mm_lock; [c] constant while in use.
struct g {
    struct arch_ctx ctx;  // [s]
    struct g *next;       // [s] run queue, wake list, free slots
    struct _reent *reent; // [c] C library state, on its stack
    void *tcb;            // [c] base of %fs
    const char *name;     // [c]
    uint64_t id;          // [c] 1 is main
    uintptr_t low;        // [mm] lowest page that growth has mapped
    uint32_t window;      // [mm] pages mapped by the last growth
    int cpu;              // [s] the only one that runs it, or G_ANY_CPU
    const char *why;      // [s] what it waits for; NULL: for its turn
    uint64_t since;       // [s] arch_mono_ns() when it began to
    void *area;           // [s] see preempt.c
    size_t limit;         // [c] bytes that the stack may have
    uint32_t ran;  // [s] sched_epoch when it last left a CPU, or was made
    uint32_t seen; // sched_epoch when it was last scanned (runtime/gc)
    _Atomic uint8_t state; // enum g_state; relaxed, for reports
    bool interrupted;      // [s] it left the CPU so: its registers are in area

    bool hidden; // [c] one of the runtime's: not counted, nor listed

    // Of the slot: these stay when it changes hands.
    uint32_t slots; // [c] how many belong together, this being the highest
    uint32_t up;    // [c] how many above is the one that counts
    _Atomic uint8_t held; // see suspend.c
    bool warm;            // [mm] not in use, and its top page is mapped
    bool cold;            // [mm] not in use, and its top page was given back
    uint8_t ncold;        // [mm] of the first of 16 slots: how many are cold
    paddr_t table; // [mm] of the first of 16 slots: the leaf table they share
};

_Static_assert(sizeof(struct g) == sizeof(struct arch_ctx) + 120,
               "dead ones keep it");

static inline struct g *g_of_slot(size_t slot)
{
    return (struct g *)ARCH_SLOTS_BASE + slot;
}

// Relaxed: a plain assignment would be a barrier, at every switch.
static inline void g_set_state(struct g *g, enum g_state state)
{
    atomic_store_explicit(&g->state, (uint8_t)state, memory_order_relaxed);
}

static inline size_t g_slot(const struct g *g)
{
    return (size_t)(g - (struct g *)ARCH_SLOTS_BASE);
}
