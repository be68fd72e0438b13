// Threads of execution: goroutines on stacks that grow, scheduled per CPU.
//
// A goroutine runs until it parks, yields or exits, or until others have waited for
// a slice; then the CPU is taken from it at any instruction, if no-preempt is zero.
// The scheduler of a CPU is a loop on its system stack.
#pragma once

#include "arch/arch.h"

struct g;

enum { G_ANY_CPU = -1 };

// What _Thread_local variables start from (ELF TLS, variant II).
struct g_tls_image {
    const void *start;
    size_t file_size, size, align; // bytes; the rest of size is zero
};

// Starts the scheduler's data; before any other call. Copies *tls.
// Context: boot.
void sched_init(const struct g_tls_image *tls);

// Runs goroutines on this CPU for ever. Context: system stack, no-preempt 1.
NORETURN void sched_run(void);

// Waits until the other CPUs run goroutines, too: from then on all can be asked for, and
// counted.
// Context: the boot CPU, before it lets the first goroutine run.
void sched_await_others(void);

// Makes a goroutine that will call fn(arg) on a fresh stack, not yet ready.
// name is not copied. cpu pins it (0..arch_cpu_count()-1) or is G_ANY_CPU.
// Returns NULL when there is no memory or no slot. Context: goroutine or boot.
MUST_USE struct g *g_create(void (*fn)(void *), void *arg, const char *name,
                            int cpu);

// The same with a limit of its stack in bytes (stack.h); 0: the default.
MUST_USE struct g *g_create_limited(void (*fn)(void *), void *arg,
                                    const char *name, int cpu, size_t limit);

// The caller's goroutine; NULL on a system stack before or between goroutines.
struct g *g_current(void);

// Ends the caller; its stack is reused. Context: goroutine, no-preempt 0.
NORETURN void g_exit(void);

// Stops the caller until g_ready(it). why: what it waits for, in Go's words, for
// reports; not copied. After the switch, when its stack and
// context are safe to use for another CPU, unlock(arg) runs on the system stack
// (NULL: nothing): release there what makes the caller findable.
// Context: goroutine, no-preempt 0 or held only by the lock that unlock frees.
void g_park(const char *why, void (*unlock)(void *), void *arg);

// Has a parked or new goroutine run: next on this CPU, unless it is pinned.
// Context: any but interrupt and NMI.
void g_ready(struct g *g);

// The same from an interrupt: pushes it on this CPU's wake list (R8).
void g_ready_from_interrupt(struct g *g);

// n more goroutines wait, or are about to, for what an interrupt says; or -n fewer,
// which go on. While there are any it is no deadlock that nobody runs.
void sched_await_interrupt(int n);

// Lets others run first. Context: goroutine, no-preempt 0.
void g_yield(void);

// Parks until arch_mono_ns() >= mono_ns. Context: goroutine, no-preempt 0.
void g_sleep_until(uint64_t mono_ns);

// A call at a time. The caller owns the struct; it is set on one CPU at a time.
struct sched_timer {
    // Called with the time, on a system stack, no-preempt above zero, at times with
    // interrupts off: it is short. Returns when to be called again, UINT64_MAX:
    // never. A time that is past means soon.
    uint64_t (*fn)(uint64_t now);
    uint64_t at;
    struct sched_timer *next;
    bool wakes_nobody; // a deadlock is one nevertheless
};

// Has t->fn called on this CPU at mono_ns or soon after, whatever it runs then. t
// is not set. Context: any but interrupt and NMI.
void sched_timer_set(struct sched_timer *t, uint64_t mono_ns);

// Has fn called on every CPU that something was made pending on (R8), before it
// goes on: on a system stack, no-preempt above zero, at times with interrupts off.
// Once. Context: boot.
void sched_on_pending(void (*fn)(void));

// Starts what the option sched.watchdog asks for (watchdog.c). Context: the boot CPU,
// before the first goroutine.
void watchdog_init(void);

// Brings all other CPUs to rest, with no goroutine on them and no-preempt zero
// before, runs fn(arg) on this CPU's system stack, and lets them go on. Returns the
// nanoseconds until the last had stopped. Several callers take turns. Context:
// goroutine, no-preempt 0.
uint64_t sched_stop_world(void (*fn)(void *), void *arg);

// The two halves of it: in between the caller runs on its own stack, which may grow,
// with no-preempt raised.
uint64_t sched_world_stop(void);
void sched_world_start(void);

// Counts up when a collector begins to look at goroutines: who leaves a CPU notes it.
extern _Atomic uint32_t sched_epoch;

// Brings one goroutine to rest, wherever it is: it has left its CPU with all its
// registers saved, and runs no more until g_resume(g), whoever wakes it meanwhile.
// Several callers take turns. Returns false, and there is nothing to resume, if it
// has ended; another one may have its struct by then. g is not the caller. Waits for
// it to come to no-preempt zero, and for memory for its registers. Context:
// goroutine, no-preempt 0.
MUST_USE bool g_suspend(struct g *g);

// Keeps those of n goroutines from running that don't run now, with one interrupt for
// all: they move to the front of the array, and their number is returned. Who runs, or
// is held by somebody else, is not among them. Some may have ended. To be let go by
// g_resume, soon. Context: goroutine, no-preempt 0.
size_t g_hold_resting(struct g **g, size_t n);

// Lets it go on, if somebody woke it or it had not parked. Context: any but interrupt.
void g_resume(struct g *g);

// One that was made and is not yet ready is the runtime's own: it is not counted, and
// not in dumps; it never ends.
void g_hide(struct g *g);

// How many goroutines exist. Context: any.
size_t g_count(void);

// A pointer for the values of the caller (go.c), and what g_exit calls with it if
// it is not NULL, on the goroutine.
void *g_locals(void);
void g_set_locals(void *locals, void (*drop)(void *));

// The caller's records of what it has deferred and tried (runtime/panic).
void **g_unwind(void);

// Locks of the C library that the caller holds (runtime/libc/locks.c counts them): while
// it does, nothing may jump out of its calls.
unsigned g_locks(void);
void g_add_locks(int n);

// Whether to wait actively for who runs elsewhere is worth it: nobody waits for this CPU,
// and another one runs somebody. Context: goroutine, no-preempt 0.
bool sched_may_spin(void);

// 0..n-1, from this CPU's source. Context: any but interrupt and NMI.
uint32_t sched_random_below(uint32_t n);

uint64_t g_id(const struct g *g);
const char *g_name(const struct g *g);
const char *g_state_name(const struct g *g);

// For how long it has waited for what its state says, 0: it does not. Context: any;
// it may go on meanwhile.
uint64_t g_waits_ns(const struct g *g);
