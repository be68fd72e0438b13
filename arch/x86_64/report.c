// What a trap was, and registers, for reports.

#include "arch/arch.h"
#include "arch/fmt.h"

enum { EXC_DIVIDE = 0, EXC_PF = 14 };

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
        t.access = trap_access(tf->error);
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
    uintptr_t pc = *(const volatile uint64_t *)&tf->rip;
    size_t n = pc - start;
    bool pushed = n >= 1 && code[0] == 0x55;

    if (pc < start)
        return 0; // it has gone on since
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
