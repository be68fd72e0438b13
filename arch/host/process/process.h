// A CPU as a thread: its block, and how it starts.
//
// Field tags: [c] constant once the CPU runs, [o] its own CPU, signals or not,
// [a] atomic, any CPU.
#pragma once

#include <stdatomic.h>
#include <sys/types.h>
#include <time.h>

#include "arch/arch.h"

struct cpu {
    struct cpu *self;        // [c] the offsets up to here: percpu.h
    uint32_t id;             // [c]
    uint32_t nopreempt;      // [o]
    void *current;           // [o]
    uintptr_t sys_sp;        // [o]
    uintptr_t sys_low;       // [c] of the thread's own stack
    uint64_t canary;         // not used: glibc has one in %fs
    uintptr_t sys_top;       // [c]
    uintptr_t emergency_top; // not used
    void *local;             // [o]

    int *error;                // [c] errno of the thread
    char *signal_stack;        // [c] SIGNAL_STACK bytes
    pid_t thread;              // [c]
    timer_t timer;             // [c]
    uint64_t armed;            // [o] when the timer goes off, at the latest
    uint64_t deadline;         // [o] what arch_timer_set asked for
    uint64_t retry;            // [o] when to look again whether it can leave
    bool leave;                // [o] who runs is to leave as soon as it can
    bool irqs_off;             // [o]
    bool missed;               // [o] a signal came meanwhile
    _Atomic uint32_t doorbell; // [a] counts what may end its rest
    _Atomic bool idle;         // [a] it rests, or is about to

    _Atomic uint64_t call_inbox;   // [a] CPUs whose call awaits us
    void (*call_fn)(void *);       // [o] written before the signal
    void *call_arg;                // [o]
    _Atomic uint64_t call_waiting; // [a]
};

CHECK_PERCPU(struct cpu);

enum { SIGNAL_STACK = 64 * KIB };

extern struct cpu *cpu_table[ARCH_MAX_CPUS]; // by id
extern _Thread_local struct cpu *my_cpu;     // NULL: the thread is no CPU

// May be another CPU's at the next instruction (R10).
static inline struct cpu *this_cpu(void)
{
    struct cpu *c;

    __asm__ volatile("movq %%gs:0, %0" : "=r"(c));
    return c;
}

// CPUs that Linux lets this process use, ARCH_MAX_CPUS at most.
unsigned process_cpus(void);

// Makes the calling thread CPU 0 of n, with no-preempt 1. Context: once.
void process_start(unsigned n);

// Starts the others; each runs entry() with no-preempt 1. Context: CPU 0.
void process_start_others(void (*entry)(void));

// Has the timer interrupt at mono_ns as well, whatever else it is set to.
void timer_retry(struct cpu *c, uint64_t mono_ns);

// What is due at this time: whether arch_timer_set's is, and *retry.
bool timer_serve(struct cpu *c, bool *retry);

// ---- signal.c ----

// Installs the handlers, once; and what a thread needs of its own.
void signal_init(void);
void signal_init_cpu(struct cpu *c);

// Interrupts a CPU.
void signal_send(struct cpu *c);

// ---- switch.S ----

void ctx_switch(struct arch_ctx *from, const struct arch_ctx *to);
NORETURN void ctx_leave(const struct arch_ctx *to);
