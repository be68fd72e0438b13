// arch/arch.h's types, constants and small functions for a Linux process.
//
// The page-table format is x86-64's, read by a software walker (host.c); the
// bases are chosen when the process starts, because sanitizers close different
// parts of the address space.
#pragma once

#include <stdatomic.h>

#include "arch/base.h"
#include "arch/x86_64/pte.h"

#define ARCH_DIRECT_SIZE   (UINT64_C(8) << 30)
#define ARCH_HEAP_BASE     (arch_layout.heap)
#define ARCH_HEAP_SIZE     (UINT64_C(1) << 36)
#define ARCH_HEAPMETA_BASE (arch_layout.heapmeta)
#define ARCH_REGION_BASE   (arch_layout.region)
#define ARCH_REGION_END    (arch_layout.region + (UINT64_C(1) << 36))
#define ARCH_STACK_BASE    (arch_layout.stack)
#define ARCH_STACK_END     (arch_layout.stack + (UINT64_C(1) << 38))
#define ARCH_DIRECT_BASE   (arch_layout.direct)
#define ARCH_META_BASE     (arch_layout.meta)
#define ARCH_SLOTS_BASE    (arch_layout.slots)
#define ARCH_MMIO_BASE     (arch_layout.mmio)
#define ARCH_MMIO_END      (arch_layout.mmio + (UINT64_C(1) << 24))

enum {
    ARCH_MAX_CPUS = 64,
};

struct arch_layout {
    uintptr_t region, stack, direct, meta, slots, mmio, heap, heapmeta;
};

extern struct arch_layout arch_layout; // [c] after host_start

struct arch_ctx {
    void *impl; // struct host_ctx, made by arch_ctx_init or the first switch
};

// ---- per-CPU state: a CPU is a thread ----

struct host_cpu {
    uint32_t id;
    uint32_t nopreempt;
    bool pending;
    bool irqs;
    void *current;
    void *local;
};

extern _Thread_local struct host_cpu host_cpu;

// R10: never inlined where the address of a thread-local could be cached.
struct host_cpu *host_this_cpu(void);

static inline void preempt_disable(void)
{
    host_this_cpu()->nopreempt++;
}

void preempt_pending_slow(void);

static inline void preempt_enable(void)
{
    struct host_cpu *c = host_this_cpu();

    if (--c->nopreempt == 0 && c->pending)
        preempt_pending_slow();
}

#define ARCH_CRITICAL

static inline void arch_critical_begin(void)
{
    preempt_disable();
}

static inline void arch_critical_end(void)
{
    preempt_enable();
}

// By one CPU at a time, while others may read: in one piece, not at once.
static inline bool host_bit_put(uint64_t *map, uint64_t bit, bool value)
{
    _Atomic uint64_t *w = (_Atomic uint64_t *)&map[bit / 64];
    uint64_t mask = UINT64_C(1) << bit % 64;
    uint64_t was = atomic_load_explicit(w, memory_order_relaxed);

    atomic_store_explicit(w, value ? was | mask : was & ~mask,
                          memory_order_relaxed);
    return (was & mask) != 0;
}

static inline bool arch_bit_set(uint64_t *map, uint64_t bit)
{
    return host_bit_put(map, bit, true);
}

static inline bool arch_bit_clear(uint64_t *map, uint64_t bit)
{
    return host_bit_put(map, bit, false);
}

static inline bool arch_below(uint64_t v, const uint64_t *limit)
{
    return v < __atomic_load_n(limit, __ATOMIC_RELAXED);
}

static inline void arch_add(uint64_t *p, int n)
{
    *p += (uint64_t)n;
}

static inline unsigned preempt_count(void)
{
    return host_this_cpu()->nopreempt;
}

static inline void preempt_set_pending(void)
{
    host_this_cpu()->pending = true;
}

static inline void preempt_clear_pending(void)
{
    host_this_cpu()->pending = false;
}

static inline unsigned arch_cpu_id(void)
{
    return host_this_cpu()->id;
}

static inline void *arch_current(void)
{
    return host_this_cpu()->current;
}

static inline void *arch_local(void)
{
    return host_this_cpu()->local;
}

static inline void *arch_local_at(size_t off)
{
    return (char *)arch_local() + off;
}

static inline void arch_set_local(void *p)
{
    host_this_cpu()->local = p;
}

static inline void arch_set_current(void *g)
{
    host_this_cpu()->current = g;
}

static inline bool arch_irqs_enabled(void)
{
    return host_this_cpu()->irqs;
}

static inline bool arch_irq_disable(void)
{
    bool was = host_this_cpu()->irqs;

    host_this_cpu()->irqs = false;
    return was;
}

static inline void arch_irq_enable(void)
{
    host_this_cpu()->irqs = true;
}

static inline void arch_irq_restore(bool was)
{
    host_this_cpu()->irqs = was;
}

static inline void arch_pause(void)
{
    __builtin_ia32_pause();
}

static inline uint64_t arch_cycles(void)
{
    return __builtin_ia32_rdtsc();
}

static inline void *arch_direct(paddr_t p)
{
    return (void *)(ARCH_DIRECT_BASE + p.raw);
}

static inline paddr_t arch_direct_to_paddr(const void *v)
{
    return paddr((uintptr_t)v - ARCH_DIRECT_BASE);
}

// Global leaves are nailed: the process's own fault path reads them, so they
// are made real at once instead of by the software walker.
void arch_pte_installed(uintptr_t va, pte_t leaf, int level);
