// The one report at the end of a program that cannot go on.
//
// First come, first served: the first CPU to panic stops the others by NMI and
// reports; it waits for none of them. A fault inside the report ends it with a
// line. Nothing here takes a lock, allocates, or reads memory that may be
// unmapped; the text goes out through our own formatter.
//
// Exit status: 2, as of a Go program that panics; 134 for abort().

#include "runtime/debug/debug.h"

#include <stdatomic.h>

#include "arch/fmt.h"
#include "mm/mm.h"
#include "runtime/sched/g_impl.h"
#include "runtime/stack/stack.h"

enum { STATUS_PANIC = 2, NOBODY = -1 };

static _Atomic int panicking = NOBODY; // CPU id of the first

// Returns when this CPU is the one to report.
static void enter(void)
{
    int nobody = NOBODY, me = (int)arch_cpu_id();

    arch_irq_disable();
    if (atomic_compare_exchange_strong(&panicking, &nobody, me)) {
        arch_stop_others();
        return;
    }
    if (nobody == me) {
        fmt_err("panic: again, while reporting the first: giving up\n");
        arch_power_off(STATUS_PANIC);
    }
    arch_stop_this();
}

static void print_where(void)
{
    struct g *g = g_current();
    uint64_t us = arch_mono_ns() / 1000;

    fmt_err("  CPU %u of %u, %lu.%06lu s after boot, ", arch_cpu_id(),
            arch_cpu_count(), (unsigned long)(us / 1000000),
            (unsigned long)(us % 1000000));
    if (g != NULL)
        fmt_err("goroutine %lu (%s)\n", (unsigned long)g->id, g->name);
    else
        fmt_err("in the runtime\n");
}

static void print_registers(const struct trap_frame *tf)
{
    const struct {
        const char *name;
        uint64_t value;
    } r[] = {
        {"rax", tf->rax}, {"rbx", tf->rbx}, {"rcx", tf->rcx}, {"rdx", tf->rdx},
        {"rsi", tf->rsi}, {"rdi", tf->rdi}, {"rbp", tf->rbp}, {"rsp", tf->rsp},
        {"r8 ", tf->r8},  {"r9 ", tf->r9},  {"r10", tf->r10}, {"r11", tf->r11},
        {"r12", tf->r12}, {"r13", tf->r13}, {"r14", tf->r14}, {"r15", tf->r15},
        {"rip", tf->rip}, {"flg", tf->rflags},
    };

    for (unsigned i = 0; i < ARRAY_LEN(r); i++)
        fmt_err("%s%s %016lx%s", i % 4 == 0 ? "  " : " ", r[i].name,
                (unsigned long)r[i].value,
                i % 4 == 3 || i + 1 == ARRAY_LEN(r) ? "\n" : "");
}

static NORETURN void finish(int status)
{
    arch_power_off(status);
}

static NORETURN void report_here(int status, uintptr_t fp)
{
    print_where();
    backtrace_print(0, fp);
    finish(status);
}

void panic(const char *fmt, ...)
{
    va_list ap;

    enter();
    fmt_err("panic: ");
    va_start(ap, fmt);
    fmt_verr(fmt, ap);
    va_end(ap);
    fmt_err("\n");
    report_here(STATUS_PANIC, (uintptr_t)__builtin_frame_address(0));
}

void panic_status(int status, const char *what)
{
    enter();
    fmt_err("%s\n", what);
    report_here(status, (uintptr_t)__builtin_frame_address(0));
}

// The canary of a returning function is damaged (-fstack-protector).
NORETURN void __stack_chk_fail(void);

void __stack_chk_fail(void)
{
    enter();
    fmt_err("panic: stack smashed: a function wrote past an array on its "
            "stack\n");
    report_here(STATUS_PANIC, (uintptr_t)__builtin_frame_address(0));
}

// ---- faults ----

enum { DIVIDE = 0, OPCODE = 6, DOUBLE_FAULT = 8, PROTECTION = 13, PF = 14 };
enum { ERR_PRESENT = 1, ERR_WRITE = 2, ERR_FETCH = 16 };

static const char *access_name(uint64_t error)
{
    if (error & ERR_FETCH)
        return "execution";
    return error & ERR_WRITE ? "write" : "read";
}

static void page_fault_headline(const struct trap_frame *tf)
{
    struct g *g = stack_owner(tf->cr2);
    uintptr_t va = tf->cr2;
    const char *access = access_name(tf->error);

    switch (mm_last_fault()) {
    case FAULT_GUARD:
        fmt_err("runtime: goroutine stack exceeds %lu-byte limit\n"
                "fatal error: stack overflow (goroutine %lu, %s)\n",
                (unsigned long)STACK_LIMIT_BYTES, (unsigned long)g->id,
                g->name);
        return;
    case FAULT_OOM:
        fmt_err("fatal error: out of memory: no frame left for the %s of "
                "0x%lx; run with more MEM\n",
                access, (unsigned long)va);
        return;
    default:
        break;
    }
    if (va < PAGE_SIZE)
        fmt_err("panic: nil pointer dereference (%s of 0x%lx)\n", access,
                (unsigned long)va);
    else if (tf->error & ERR_PRESENT)
        fmt_err("panic: forbidden %s of 0x%lx\n", access, (unsigned long)va);
    else
        fmt_err("panic: invalid memory access (%s of 0x%lx)\n", access,
                (unsigned long)va);
}

static bool on_system_guard(const struct trap_frame *tf)
{
    return tf->vector == PF && arch_is_system_guard(tf->cr2);
}

static void headline(const struct trap_frame *tf)
{
    char buf[160];

    if (on_system_guard(tf)) {
        fmt_err("fatal error: system stack overflow on CPU %u (guard at "
                "0x%lx)\n",
                arch_cpu_id(), (unsigned long)tf->cr2);
        return;
    }
    if (tf->vector == PF) {
        page_fault_headline(tf);
        fmt_err("  0x%lx: %s\n", (unsigned long)tf->cr2,
                mm_describe(tf->cr2, buf, sizeof buf));
        return;
    }
    if (tf->vector == DIVIDE)
        fmt_err("panic: integer divide error (by zero, or the quotient is too "
                "large)\n");
    else
        fmt_err("panic: %s (vector %lu, error 0x%lx)\n",
                arch_trap_name(tf->vector), (unsigned long)tf->vector,
                (unsigned long)tf->error);
    fmt_err("  at 0x%lx: %s\n", (unsigned long)tf->rip,
            mm_describe(tf->rip, buf, sizeof buf));
}

static NORETURN void fatal(const struct trap_frame *tf)
{
    char buf[160];

    enter();
    headline(tf);
    print_where();
    if (tf->vector == PF && tf->rip == tf->cr2 &&
        mm_readable(tf->rsp, sizeof(uintptr_t))) {
        // A call of a bad pointer: the caller is on top of the stack.
        print_registers(tf);
        backtrace_print(*(const uintptr_t *)tf->rsp - 1, tf->rbp);
    } else {
        fmt_err("  stack: %s\n", mm_describe(tf->rsp, buf, sizeof buf));
        print_registers(tf);
        backtrace_print(tf->rip, tf->rbp);
    }
    finish(STATUS_PANIC);
}

static void fatal_hook(const struct trap_frame *tf)
{
    fatal(tf);
}

void debug_init(void)
{
    arch_hooks.fatal = fatal_hook;
}
