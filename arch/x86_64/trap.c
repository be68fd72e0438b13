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
    EXC_DIVIDE = 0,
    EXC_DB = 1,
    EXC_NMI = 2,
    EXC_DF = 8,
    EXC_PF = 14,
    EXC_MC = 18,
    EXC_COUNT = 32,
    RFLAGS_TF = 0x100,
    RFLAGS_IF = 0x200,
};

enum { PF_PRESENT = 1, PF_WRITE = 2, PF_FETCH = 16 };

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

void idt_init(void)
{
    idt_fill(boot_cpu.sys_low != UINTPTR_MAX);
    idt_load();
}

static const char *trap_name(uint64_t vector)
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

static unsigned access_of(uint64_t error)
{
    if (error & PF_FETCH)
        return PROT_X;
    return error & PF_WRITE ? PROT_W : PROT_R;
}

struct arch_trap arch_trap_read(const struct trap_frame *tf)
{
    struct arch_trap t = {
        .name = trap_name(tf->vector),
        .kind = TRAP_OTHER,
        .pc = tf->rip,
        .fp = tf->rbp,
        .sp = tf->rsp,
        .vector = (unsigned)tf->vector,
        .error = tf->error,
    };

    if (tf->vector == EXC_DIVIDE)
        t.kind = TRAP_DIVIDE;
    if (tf->vector == EXC_PF) {
        t.kind = TRAP_PAGE_FAULT;
        t.va = tf->cr2;
        t.access = access_of(tf->error);
        t.present = (tf->error & PF_PRESENT) != 0;
    }
    return t;
}

// gcc leaves the frame out of leaf functions whatever it is told [seen], so
// rbp may still be the caller's. It is ours once `mov %rsp,%rbp` has run; the
// word on top is then the return address, or below it after `push %rbp`.
uintptr_t arch_trap_frameless_caller(const struct trap_frame *tf,
                                     uintptr_t start,
                                     bool (*readable)(uintptr_t, size_t))
{
    const uint8_t *code = (const uint8_t *)start;
    size_t n = tf->rip - start;
    bool pushed = n >= 1 && code[0] == 0x55;

    for (size_t i = 0; i + 3 <= n; i++) {
        if (code[i] == 0x48 && code[i + 1] == 0x89 && code[i + 2] == 0xe5)
            return 0;
    }
    const uint64_t *sp = (const uint64_t *)tf->rsp + pushed;

    return readable((uintptr_t)sp, sizeof *sp) ? *sp : 0;
}

void arch_trap_print_registers(const struct trap_frame *tf)
{
    const struct {
        const char *name;
        uint64_t value;
    } r[] = {
        {"rax", tf->rax}, {"rbx", tf->rbx}, {"rcx", tf->rcx},
        {"rdx", tf->rdx}, {"rsi", tf->rsi}, {"rdi", tf->rdi},
        {"rbp", tf->rbp}, {"rsp", tf->rsp}, {"r8 ", tf->r8},
        {"r9 ", tf->r9},  {"r10", tf->r10}, {"r11", tf->r11},
        {"r12", tf->r12}, {"r13", tf->r13}, {"r14", tf->r14},
        {"r15", tf->r15}, {"rip", tf->rip}, {"flg", tf->rflags},
    };

    for (unsigned i = 0; i < ARRAY_LEN(r); i++)
        fmt_err("%s%s %016lx%s", i % 4 == 0 ? "  " : " ", r[i].name,
                (unsigned long)r[i].value,
                i % 4 == 3 || i + 1 == ARRAY_LEN(r) ? "\n" : "");
}

static void page_fault(struct trap_frame *tf)
{
    if (arch_hooks.fault == NULL ||
        !arch_hooks.fault(tf->cr2, access_of(tf->error), tf->rsp))
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

static void run_pending(void *arg)
{
    bool *leave = arg;

    preempt_clear_pending();
    *leave = arch_hooks.pending != NULL && arch_hooks.pending();
}

// The count is zero and something is pending. The work takes locks of mm and of
// the scheduler, so it is done on the system stack, which cannot fault (R5).
void preempt_pending_slow(void)
{
    bool leave;

    arch_on_system_stack(run_pending, &leave);
    if (leave)
        arch_hooks.leave();
}

// ---- interrupted contexts ----

size_t arch_full_size(void)
{
    return arch_fpu_size() + align_up(sizeof(struct trap_frame), 64);
}

void arch_ctx_interrupt(struct arch_ctx *ctx, void *area,
                        const struct trap_frame *tf)
{
    struct trap_frame *to = (void *)((char *)area + arch_fpu_size());

    arch_fpu_save(area);
    *to = *tf;
    ctx->rsp = tf->rsp;
    ctx->full = area;
}

bool arch_ctx_where(const struct arch_ctx *ctx,
                    bool (*readable)(uintptr_t va, size_t n), uintptr_t *pc,
                    uintptr_t *fp, const struct trap_frame **tf)
{
    enum { RBP = 6, RIP = 7 }; // words from where save_callee has left rsp

    const char *area = ctx->full;
    const uint64_t *sp = (const uint64_t *)ctx->rsp;

    *tf = NULL;
    if (area != NULL) {
        *tf = (const struct trap_frame *)(area + arch_fpu_size());
        *pc = (*tf)->rip;
        *fp = (*tf)->rbp;
        return true;
    }
    if (!readable((uintptr_t)sp, (RIP + 1) * sizeof *sp))
        return false;
    *pc = sp[RIP];
    *fp = sp[RBP];
    return true;
}

const struct trap_frame *ctx_resume(struct arch_ctx *to);

// Called by arch_ctx_enter with interrupts off. The area stays its goroutine's,
// which runs on this CPU alone: it can go on from there.
const struct trap_frame *ctx_resume(struct arch_ctx *to)
{
    char *area = to->full;
    struct cpu *c = this_cpu();

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

// What a function call leaves of the caller's registers: all are shown, those
// that a call may change as they are now.
void arch_print_registers_here(void)
{
    struct trap_frame tf = {0};

    __asm__ volatile("movq %%rax, %0\n\tmovq %%rcx, %1\n\tmovq %%rdx, %2\n\t"
                     "movq %%rsi, %3\n\tmovq %%rdi, %4"
                     : "=m"(tf.rax), "=m"(tf.rcx), "=m"(tf.rdx), "=m"(tf.rsi),
                       "=m"(tf.rdi));
    __asm__ volatile("movq %%r8, %0\n\tmovq %%r9, %1\n\tmovq %%r10, %2\n\t"
                     "movq %%r11, %3\n\tmovq %%r12, %4\n\tmovq %%r13, %5\n\t"
                     "movq %%r14, %6\n\tmovq %%r15, %7\n\tmovq %%rbx, %8"
                     : "=m"(tf.r8), "=m"(tf.r9), "=m"(tf.r10), "=m"(tf.r11),
                       "=m"(tf.r12), "=m"(tf.r13), "=m"(tf.r14), "=m"(tf.r15),
                       "=m"(tf.rbx));
    __asm__ volatile("pushfq\n\tpopq %0" : "=r"(tf.rflags));
    tf.rbp = *(uint64_t *)__builtin_frame_address(0);
    tf.rsp = (uint64_t)(uintptr_t)__builtin_frame_address(0) + 16;
    tf.rip = (uint64_t)(uintptr_t)__builtin_return_address(0);
    arch_trap_print_registers(&tf);
}
