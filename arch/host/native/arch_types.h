// arch/arch.h's types, constants and small functions for the heap as the malloc
// of a Linux program: the native back end, which measures and does not model.
//
// A CPU is a thread. It gets its number at its first call and leaves it, with
// what is in the heap's cache of that number, to a later thread. Nothing
// preempts a thread in the sense of R6: no other one runs under its number.
//
// Only what runtime/heap needs is here. The memory comes from the kernel, by
// tools/bench-heap/gneiss.c.
#pragma once

#include <stdatomic.h>

#include "arch/base.h"
#include "arch/x86_64/pte.h"

// As in the product, but for the tables, which lie in the half of programs.
#define ARCH_HEAP_BASE     UINT64_C(0x000000c000000000)
#define ARCH_REGION_BASE   UINT64_C(0x0000100000000000) // of nothing here
#define ARCH_HEAP_SIZE     (UINT64_C(1) << 40)
#define ARCH_HEAPMETA_BASE UINT64_C(0x0000100000000000)

enum {
    ARCH_MAX_CPUS = 224, // threads at a time; a span has 8 bits for its owner
};

struct arch_ctx {
    void *none;
};

struct native_cpu {
    void *local;     // arch_local
    uint32_t number; // CPU id + 1; 0: not yet started
};

extern _Thread_local struct native_cpu native_cpu
    __attribute__((tls_model("initial-exec")));

// Makes the calling thread a CPU if it is none. A thread begins with
// native_nobody as its arch_local(): what the fast paths find there must send
// them to the system stack, on the way to which the thread starts.
void native_start(void);

static inline void preempt_disable(void)
{
}

static inline void preempt_enable(void)
{
}

#define ARCH_CRITICAL

static inline void arch_critical_begin(void)
{
}

static inline void arch_critical_end(void)
{
}

void preempt_pending_slow(void);

static inline void preempt_set_pending(void)
{
}

static inline unsigned preempt_count(void)
{
    return 1;
}

static inline unsigned arch_cpu_id(void)
{
    return native_cpu.number - 1;
}

// There are no goroutines.
static inline void *arch_current(void)
{
    return NULL;
}

static inline void *arch_local(void)
{
    return native_cpu.local;
}

static inline void *arch_local_at(size_t off)
{
    return (char *)arch_local() + off;
}

static inline void arch_set_local(void *p)
{
    native_cpu.local = p;
}

typedef uint16_t __attribute__((may_alias)) native_bits;

// In a register: on memory these instructions are slow. And in small pieces, so that
// fewer objects wait for what has just been stored for another.
static inline bool arch_bit_set(uint64_t *map, uint64_t bit)
{
    native_bits *part = (native_bits *)map + bit / 16;
    uint32_t word = *part;
    bool was;

    __asm__("btsw %w2, %w0" : "+r"(word), "=@ccc"(was) : "r"(bit));
    *part = (uint16_t)word;
    return was;
}

static inline bool arch_bit_clear(uint64_t *map, uint64_t bit)
{
    native_bits *part = (native_bits *)map + bit / 16;
    uint32_t word = *part;
    bool was;

    __asm__("btrw %w2, %w0" : "+r"(word), "=@ccc"(was) : "r"(bit));
    *part = (uint16_t)word;
    return was;
}

static inline bool arch_below(uint64_t v, const uint64_t *limit)
{
    return v < *(const volatile uint64_t *)limit;
}

// In one instruction: gcc would join two into a vector, which waits for both.
static inline void arch_add(uint64_t *p, int n)
{
    __asm__("addq %1, %0" : "+m"(*p) : "i"(n) : "cc");
}

static inline void arch_pause(void)
{
    __builtin_ia32_pause();
}

static inline uint64_t arch_cycles(void)
{
    return __builtin_ia32_rdtsc();
}
