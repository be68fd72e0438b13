// The interrupt descriptor table and what happens after trap.S.
//
// Interrupts are off from entry to iretq. A handler touches only nailed memory,
// never blocks, and does a bounded amount of work (R4).

#include "arch/fmt.h"
#include "arch/x86_64/cpu.h"

struct gate {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_mid;
    uint32_t offset_high, zero;
};

// As many as there are vectors in use; another one would be a general protection
// fault.
static struct gate idt[VECTORS];

enum { GATE_INTERRUPT = 0x8e, ENTRY_BYTES = 16 };

enum exception {
    EXC_DB = 1,
    EXC_NMI = 2,
    EXC_DF = 8,
    EXC_PF = 14,
    EXC_MC = 18,
    EXC_COUNT = 32,
    RFLAGS_TF = 0x100,
};

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
COLD static void idt_fill(bool with_ist)
{
    extern const char trap_entries[];

    for (unsigned v = 0; v < VECTORS; v++) {
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

COLD void idt_init(void)
{
    idt_fill(boot_cpu.sys_low != UINTPTR_MAX);
    idt_load();
}

static void page_fault(struct trap_frame *tf)
{
    if (arch_hooks.fault == NULL ||
        !arch_hooks.fault(tf->cr2, trap_access(tf->error), tf->rsp))
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
        if (arch_hooks.kick != NULL)
            arch_hooks.kick();
        break;
    default:
        lapic_eoi();
        console_irq();
        break;
    }
}

extern const char critical_start[], critical_end[]; // linker.ld

static bool in_critical_text(const struct trap_frame *tf)
{
    return tf->rip - (uintptr_t)critical_start <
           (uintptr_t)critical_end - (uintptr_t)critical_start;
}

// Critical text that was interrupted runs on by single steps until it has left
// the section, some twenty at most; then what is pending is done.
static void step(struct cpu *c, struct trap_frame *tf, bool on)
{
    c->stepping = on;
    tf->rflags =
        on ? tf->rflags | RFLAGS_TF : tf->rflags & ~(uint64_t)RFLAGS_TF;
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
    else if (tf->vector != EXC_DB || !c->stepping)
        arch_hooks.fatal(tf);
    if (c->stepping)
        step(c, tf, false);
    if (c->nopreempt == 1 && arch_hooks.pending != NULL) {
        if (in_critical_text(tf)) {
            step(c, tf, true);
        } else {
            preempt_clear_pending();
            if (arch_hooks.pending() && (tf->rflags & RFLAGS_IF) != 0)
                arch_hooks.preempt(tf);
        }
    }
    c->nopreempt--;
}

// ---- interrupted contexts ----

void arch_ctx_interrupt(struct arch_ctx *ctx, void *area,
                        const struct trap_frame *tf)
{
    struct trap_frame *to = (void *)((char *)area + arch_fpu_size());

    arch_fpu_save(area);
    *to = *tf;
    ctx->rsp = tf->rsp;
    ctx->full = area;
}

const struct trap_frame *ctx_resume(struct arch_ctx *to);

// Called by arch_ctx_enter. The area stays its goroutine's, which runs on this CPU
// alone: it can go on from there.
const struct trap_frame *ctx_resume(struct arch_ctx *to)
{
    char *area = to->full;
    struct cpu *c = this_cpu();

    (void)arch_irq_disable(); // until the frame is left
    to->full = NULL;
    arch_fpu_restore(area);
    if (--c->nopreempt == 0)
        arch_kick(c->id); // something is pending: an interrupt sees to it
    return (struct trap_frame *)(area + arch_fpu_size());
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
