// The interrupt descriptor table and what happens after trap.S.
//
// Interrupts are off from entry to iretq. A handler touches only nailed memory,
// never blocks, and does a bounded amount of work (R4).

#include "arch/x86_64/cpu.h"

struct gate {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_mid;
    uint32_t offset_high, zero;
};

static struct gate idt[256];

enum { GATE_INTERRUPT = 0x8e, ENTRY_BYTES = 16 };

enum exception {
    EXC_NMI = 2,
    EXC_DF = 8,
    EXC_PF = 14,
    EXC_MC = 18,
    EXC_COUNT = 32,
};

enum { PF_WRITE = 2, PF_FETCH = 16 };

static enum ist ist_of(unsigned vector)
{
    switch (vector) {
    case EXC_NMI:
        return IST_NMI;
    case EXC_DF:
        return IST_DF;
    case EXC_PF:
        return IST_PF;
    case EXC_MC:
        return IST_MC;
    default:
        return vector < EXC_COUNT ? IST_FAULT : IST_IRQ;
    }
}

// with_ist: false before the boot CPU has its stacks, when a trap can only
// end in a report.
static void idt_fill(bool with_ist)
{
    extern const char trap_entries[];

    for (unsigned v = 0; v < 256; v++) {
        uintptr_t a = (uintptr_t)trap_entries + v * ENTRY_BYTES;

        idt[v] = (struct gate){
            .offset_low = (uint16_t)a,
            .selector = 8,
            .ist = with_ist ? (uint8_t)ist_of(v) : 0,
            .type = GATE_INTERRUPT,
            .offset_mid = (uint16_t)(a >> 16),
            .offset_high = (uint32_t)(a >> 32),
        };
    }
}

void idt_load(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) p = {sizeof idt - 1, (uint64_t)(uintptr_t)idt};

    __asm__ volatile("lidt %0" ::"m"(p));
}

void idt_init(void)
{
    idt_fill(boot_cpu.sys_low != UINTPTR_MAX);
    idt_load();
}

const char *arch_trap_name(uint64_t vector)
{
    static const char *const names[] = {
        [0] = "divide error",
        [1] = "debug exception",
        [2] = "non-maskable interrupt",
        [3] = "breakpoint",
        [4] = "overflow",
        [5] = "bound range exceeded",
        [6] = "invalid opcode",
        [7] = "no floating-point unit",
        [8] = "double fault",
        [10] = "invalid TSS",
        [11] = "segment not present",
        [12] = "stack segment fault",
        [13] = "general protection fault",
        [14] = "page fault",
        [16] = "x87 floating-point error",
        [17] = "alignment check",
        [18] = "machine check",
        [19] = "SIMD floating-point error",
    };

    if (vector < ARRAY_LEN(names) && names[vector] != NULL)
        return names[vector];
    return "unexpected trap";
}

static void page_fault(struct trap_frame *tf)
{
    unsigned access = PROT_R;

    if (tf->error & PF_WRITE)
        access = PROT_W;
    if (tf->error & PF_FETCH)
        access = PROT_X;
    if (arch_hooks.fault == NULL ||
        !arch_hooks.fault(tf->cr2, access, tf->rsp))
        arch_hooks.fatal(tf);
}

static void interrupt(struct trap_frame *tf)
{
    this_cpu()->nirqs++;
    switch (tf->vector) {
    case VEC_SPURIOUS:
        return; // no EOI for these
    case VEC_TIMER:
        lapic_eoi();
        if (arch_hooks.tick != NULL)
            arch_hooks.tick();
        break;
    case VEC_DOORBELL:
        lapic_eoi();
        tlb_serve();
        call_serve();
        break;
    default:
        lapic_eoi();
        console_irq();
        break;
    }
}

// Interrupts are off; tf lies on the stack that this runs on. Handlers count as
// no-preempt; pending work is done at the end if the interrupted code allows
// it, else when its own count becomes zero (R8).
void trap_dispatch(struct trap_frame *tf)
{
    struct cpu *c = this_cpu();

    if (tf->vector == EXC_NMI)
        arch_stop_this(); // only a panic on another CPU sends one
    c->nopreempt++;
    if (tf->vector >= EXC_COUNT)
        interrupt(tf);
    else if (tf->vector == EXC_PF)
        page_fault(tf);
    else
        arch_hooks.fatal(tf);
    if (c->nopreempt == 1 && arch_hooks.pending != NULL) {
        preempt_clear_pending();
        arch_hooks.pending();
    }
    c->nopreempt--;
}

void preempt_pending_slow(void)
{
    // The count is zero and something is pending: raise it again, so that we
    // stay on this CPU, take the mark back and do the work.
    preempt_disable();
    preempt_clear_pending();
    if (arch_hooks.pending != NULL)
        arch_hooks.pending();
    preempt_enable();
}

void arch_stop_others(void)
{
    if (cpu_count > 1)
        lapic_nmi_others();
}

void arch_stop_this(void)
{
    for (;;)
        __asm__ volatile("cli\n\thlt" ::: "memory");
}

bool arch_is_system_guard(uintptr_t va)
{
    struct cpu *c = this_cpu();

    return c->sys_low != UINTPTR_MAX && va < c->sys_low &&
           va >= c->sys_low - PAGE_SIZE;
}
