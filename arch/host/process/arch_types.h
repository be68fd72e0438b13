// arch/arch.h's types, constants and small functions for a program with goroutines
// as a Linux process: a CPU is a thread, an interrupt a signal, and %gs points at
// the CPU's block as on the machine itself.
//
// Linux has the page tables; what needs them (mm/) is not linked.
#pragma once

#include "arch/x86_64/shared.h"

// The stacks and their structs g; all else lies where Linux puts it.
#define ARCH_STACK_BASE UINT64_C(0x0000100000000000)
#define ARCH_STACK_END  UINT64_C(0x0000540000000000)
#define ARCH_SLOTS_BASE UINT64_C(0x00000c0000000000)

// Of mm/, and of no meaning here.
#define ARCH_DIRECT_BASE UINT64_C(0)
#define ARCH_META_BASE   UINT64_C(0)

enum {
    ARCH_MAX_CPUS = 64,
};

// Whether the calling thread is a CPU, and not one that the program has made for
// itself: that has the %gs of who made it, and must not use what is below.
bool arch_is_cpu(void);

// Who runs on this CPU could not leave it when a signal asked, and is to as soon as it
// can. Context: no-preempt above zero.
bool arch_leave_asked(void);

// No signal is served until they are enabled again.
bool arch_irqs_enabled(void);
bool arch_irq_disable(void);
void arch_irq_enable(void);

static inline void arch_irq_restore(bool was)
{
    if (was)
        arch_irq_enable();
}

// A frame is memory from Linux, at its own address.
static inline void *arch_direct(paddr_t p)
{
    return (void *)p.raw;
}
