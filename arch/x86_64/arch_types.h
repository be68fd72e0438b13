// arch/arch.h's types, constants and one-instruction functions for x86-64.
#pragma once

#include "arch/x86_64/shared.h"

// Address space (DESIGN 3).
#define ARCH_HEAP_BASE     UINT64_C(0x000000c000000000)
#define ARCH_HEAP_SIZE     (UINT64_C(1) << 40)
#define ARCH_REGION_BASE   UINT64_C(0x0000100000000000)
#define ARCH_REGION_END    UINT64_C(0x0000300000000000)
#define ARCH_STACK_BASE    UINT64_C(0x0000400000000000)
#define ARCH_STACK_END     UINT64_C(0x00007ffffc000000) // the last slot unmapped
#define ARCH_DIRECT_BASE   UINT64_C(0xffff800000000000)
#define ARCH_DIRECT_SIZE   (UINT64_C(1) << 46)
#define ARCH_META_BASE     UINT64_C(0xffffc00000000000) // struct frame array
#define ARCH_SLOTS_BASE    UINT64_C(0xffffd00000000000) // struct stack array
#define ARCH_HEAPMETA_BASE UINT64_C(0xffffd80000000000) // bitmaps of the heap
#define ARCH_MMIO_BASE     UINT64_C(0xffffe00000000000) // devices, CPU stacks
#define ARCH_MMIO_END      UINT64_C(0xffffe80000000000)

enum {
    ARCH_MAX_CPUS = 64,
};

// Critical text: between begin and end nothing takes the CPU away, as with
// no-preempt, at no cost. What an interrupt makes pending waits until the code has
// left the section (trap.c). For functions of a few instructions that call nothing,
// fault nowhere and hold no lock, marked ARCH_CRITICAL as a whole.
#define ARCH_CRITICAL __attribute__((section(".text.critical")))

static inline void arch_critical_begin(void)
{
    __asm__ volatile("" ::: "memory");
}

static inline void arch_critical_end(void)
{
    __asm__ volatile("" ::: "memory");
}

// Who is interrupted where it may not leave its CPU is asked no second time.
static inline bool arch_leave_asked(void)
{
    return false;
}

// ---- interrupts ----

static inline bool arch_irqs_enabled(void)
{
    uint64_t flags;

    __asm__ volatile("pushfq\n\tpopq %0" : "=r"(flags)::"memory");
    return (flags & 0x200) != 0;
}

static inline bool arch_irq_disable(void)
{
    bool was = arch_irqs_enabled();

    __asm__ volatile("cli" ::: "memory");
    return was;
}

static inline void arch_irq_enable(void)
{
    __asm__ volatile("sti" ::: "memory");
}

static inline void arch_irq_restore(bool was)
{
    if (was)
        arch_irq_enable();
}

// ---- small things ----

// Where the direct map shows a frame.
static inline void *arch_direct(paddr_t p)
{
    return (void *)(ARCH_DIRECT_BASE + p.raw);
}

static inline paddr_t arch_direct_to_paddr(const void *v)
{
    return paddr((uint64_t)(uintptr_t)v - ARCH_DIRECT_BASE);
}

// A leaf was written where none was: the hardware walker will find it.
static inline void arch_pte_installed(uintptr_t va, pte_t leaf, int level)
{
    (void)va, (void)leaf, (void)level;
}
