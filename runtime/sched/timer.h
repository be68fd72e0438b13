// Timers: something is done at a time, on the CPU where it was asked for. Each CPU has
// a heap of them, with four children to a node, and its LAPIC timer goes off for the
// first; so nobody ticks.
//
// Source: Go, src/runtime/time.go.
#pragma once

#include "arch/arch.h"

// The owner's memory. Tags: [l] the lock of the heap that it is in.
struct timer {
    // Called when it is due, since `when`, with the heap's lock held, on a system stack, no-preempt
    // above zero, at times with interrupts off: it is short. It takes no lock but a
    // channel's, mm's and the scheduler's. Returns when to be called again, 0: never.
    uint64_t (*fire)(struct timer *t, uint64_t when, uint64_t now);
    // Whether it may wake somebody, as things are: else a deadlock is one nevertheless.
    // Called with the heap's lock held, while no goroutine runs. NULL: it may.
    bool (*wakes)(const struct timer *t);
    uint64_t period;      // [l] of fire, as it likes
    unsigned at;          // [l] place in the heap + 1; 0: it is in none
    _Atomic uint16_t cpu; // whose heap it is or was in; changed when in none
};

// Sets a timer that is not set. False: there is no memory. A time that is past means
// soon. Nobody else sets or stops it meanwhile. Context: goroutine, no-preempt 0; may
// allocate.
MUST_USE bool timer_set(struct timer *t, uint64_t mono_ns);

// Stops it; when this returns, fire neither runs nor will. then(t), if not NULL, is
// called with the lock held, whether it was set or not. Returns whether it was, or what
// then returned was true. Context: goroutine, no-preempt 0.
bool timer_stop(struct timer *t, bool (*then)(struct timer *t));

// Whether a timer of this CPU may wake somebody. Context: loop, while all CPUs idle.
struct timers;
bool timers_wake(struct timers *h);
