// What the machine and a process of it share of arch/arch.h's types and functions:
// nothing here is privileged. %gs points at the CPU's block (percpu.h); in a
// process that is a thread's.
#pragma once

#include "arch/base.h"
#include "arch/x86_64/percpu.h"
#include "arch/x86_64/pte.h"

// What a context switch leaves on the stack it left; the rest is on that stack. Of
// interrupted code all is in `full` (arch_ctx_interrupt), and rsp its own.
struct arch_ctx {
    uint64_t rsp;
    void *full;
};

// The interrupted state, as trap.S lays it out.
struct trap_frame {
    uint64_t cr2; // faulting address; 0 for other vectors
    uint64_t pad;
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
    uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector;
    uint64_t error;
    uint64_t rip, cs, rflags, rsp, ss;
};

_Static_assert(sizeof(struct trap_frame) == TF_WORDS * 8, "trap.S pushes it");
_Static_assert(offsetof(struct trap_frame, rsp) == TF_RSP, "trap.S reads it");

// Of a back end's struct cpu: it begins as percpu.h says.
#define CHECK_PERCPU(cpu)                                                      \
    _Static_assert(offsetof(cpu, self) == CPU_SELF &&                          \
                       offsetof(cpu, id) == CPU_ID &&                          \
                       offsetof(cpu, nopreempt) == CPU_NOPREEMPT &&            \
                       offsetof(cpu, current) == CPU_CURRENT &&                \
                       offsetof(cpu, sys_sp) == CPU_SYS_SP &&                  \
                       offsetof(cpu, sys_low) == CPU_SYS_LOW &&                \
                       offsetof(cpu, canary) == CPU_CANARY &&                  \
                       offsetof(cpu, sys_top) == CPU_SYS_TOP &&                \
                       offsetof(cpu, emergency_top) == CPU_EMERGENCY_TOP &&    \
                       offsetof(cpu, local) == CPU_LOCAL,                      \
                   "percpu.h")

// Of the flags register.
enum { RFLAGS_IF = 1 << 9, RFLAGS_DF = 1 << 10 };

// Of a page fault's error code.
enum { PF_PRESENT = 1, PF_WRITE = 2, PF_FETCH = 16 };

// What was tried: a prot bit.
static inline unsigned trap_access(uint64_t error)
{
    if (error & PF_FETCH)
        return PROT_X;
    return error & PF_WRITE ? PROT_W : PROT_R;
}

// ---- no-preempt count (R6) ----
//
// Bit 31 is set while nothing is pending. Incrementing needs no return value
// and is one instruction; it stays on the CPU that executes it, and from then
// on so does the code.

static inline void preempt_disable(void)
{
    __asm__ volatile("incl %%gs:%c0" ::"i"(CPU_NOPREEMPT) : "memory", "cc");
}

void preempt_pending_slow(void);

static inline void preempt_enable(void)
{
    __asm__ volatile goto("decl %%gs:%c0\n\tjz %l1"
                          :
                          : "i"(CPU_NOPREEMPT)
                          : "memory", "cc"
                          : pending);
    return;
pending:
    preempt_pending_slow();
}

// Nesting depth; 0 means that a tick may take the CPU away.
static inline unsigned preempt_count(void)
{
    uint32_t n;

    __asm__ volatile("movl %%gs:%c1, %0" : "=r"(n) : "i"(CPU_NOPREEMPT));
    return n & ~NOPREEMPT_IDLE;
}

// Something waits for this CPU's count to become zero.
static inline void preempt_set_pending(void)
{
    __asm__ volatile("andl %1, %%gs:%c0" ::"i"(CPU_NOPREEMPT),
                     "i"(~NOPREEMPT_IDLE)
                     : "memory", "cc");
}

static inline void preempt_clear_pending(void)
{
    __asm__ volatile("orl %1, %%gs:%c0" ::"i"(CPU_NOPREEMPT),
                     "i"(NOPREEMPT_IDLE)
                     : "memory", "cc");
}

// ---- bits ----
//
// Of a bitmap of any size, by one instruction each; not atomic. Return what the
// bit was.

#define ARCH_BIT(name, instruction)                                            \
    static inline bool name(uint64_t *map, uint64_t bit)                       \
    {                                                                          \
        bool was;                                                              \
                                                                               \
        __asm__ volatile(instruction " %2, (%1)"                               \
                         : "=@ccc"(was)                                        \
                         : "r"(map), "r"(bit)                                  \
                         : "memory");                                          \
        return was;                                                            \
    }

ARCH_BIT(arch_bit_set, "btsq")
ARCH_BIT(arch_bit_clear, "btrq")

// v < *limit, and *p += n: one instruction each, of which an interrupt sees all or
// nothing. What another CPU stores is seen some time.
static inline bool arch_below(uint64_t v, const uint64_t *limit)
{
    bool below;

    __asm__ volatile("cmpq %1, %2" : "=@ccb"(below) : "m"(*limit), "r"(v));
    return below;
}

static inline void arch_add(uint64_t *p, int n)
{
    __asm__ volatile("addq %1, %0" : "+m"(*p) : "i"(n) : "cc");
}

// ---- who and where ----

// Dense index of the CPU that executes this; may be another one at the next
// instruction unless no-preempt is above zero (R10: volatile, never hoisted).
static inline unsigned arch_cpu_id(void)
{
    uint32_t id;

    __asm__ volatile("movl %%gs:%c1, %0" : "=r"(id) : "i"(CPU_ID));
    return id;
}

static inline void *arch_current(void)
{
    void *g;

    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(g) : "i"(CPU_CURRENT));
    return g;
}

// One pointer per CPU for the layers above. Context: no-preempt above zero.
static inline void *arch_local(void)
{
    void *p;

    __asm__ volatile("movq %%gs:%c1, %0" : "=r"(p) : "i"(CPU_LOCAL));
    return p;
}

static inline void *arch_local_at(size_t off)
{
    __asm__ volatile("addq %%gs:%c1, %0" : "+r"(off) : "i"(CPU_LOCAL) : "cc");
    return (void *)off;
}

static inline void arch_set_local(void *p)
{
    __asm__ volatile("movq %1, %%gs:%c0" ::"i"(CPU_LOCAL), "r"(p) : "memory");
}

static inline void arch_set_current(void *g)
{
    __asm__ volatile("movq %1, %%gs:%c0" ::"i"(CPU_CURRENT), "r"(g) : "memory");
}

// ---- small things ----

static inline void arch_pause(void)
{
    __asm__ volatile("pause");
}

static inline uint64_t arch_cycles(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}
