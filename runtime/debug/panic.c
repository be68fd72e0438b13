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

bool (*panic_of_trap)(struct trap_frame *, const struct arch_trap *);

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
        fmt_err("\npanic: again, on CPU %u, while reporting the first: giving "
                "up\n",
                arch_cpu_id());
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

static NORETURN void report_here(int status, uintptr_t fp)
{
    print_where();
    arch_print_registers_here();
    backtrace_print(0, 0, fp);
    dump_goroutines(g_current());
    arch_power_off(status);
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

void panic_report(void (*print)(const void *), const void *arg)
{
    struct g *g = g_current();

    enter();
    print(arg);
    fmt_err("\ngoroutine %lu [running]: %s\n", (unsigned long)g->id, g->name);
    backtrace_print(0, 0, (uintptr_t)__builtin_frame_address(0));
    dump_goroutines(g);
    arch_power_off(STATUS_PANIC);
}

void panic_deadlock(void)
{
    const struct g *me = g_current();

    enter();
    fmt_err("fatal error: %s - deadlock!\n",
            g_count() > (me != NULL) ? "all goroutines are asleep"
                                     : "no goroutines (main called gn_goexit)");
    dump_goroutines(me);
    arch_power_off(STATUS_PANIC);
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

static const char *access_name(unsigned access)
{
    if (access == PROT_X)
        return "execution";
    return access == PROT_W ? "write" : "read";
}

static void page_fault_headline(const struct arch_trap *t)
{
    struct g *g = stack_owner(t->va);
    const char *access = access_name(t->access),
               *what = "invalid memory access";

    switch (mm_last_fault()) {
    case FAULT_GUARD:
        fmt_err("runtime: goroutine stack exceeds %lu-byte limit\n"
                "fatal error: stack overflow (goroutine %lu, %s)\n",
                (unsigned long)g->limit, (unsigned long)g->id, g->name);
        return;
    case FAULT_OOM: {
        struct mm_commit c = mm_commit();

        fmt_err("fatal error: out of memory: no frame left for the %s of "
                "0x%lx; run with more MEM\n  %lu of %lu pages are promised, "
                "%lu page tables, %lu frames in reserves\n",
                access, (unsigned long)t->va, (unsigned long)c.committed,
                (unsigned long)c.limit, (unsigned long)pt_tables(),
                (unsigned long)frame_cache_stats().reserved);
        return;
    }
    default:
        break;
    }
    if (t->va < PAGE_SIZE)
        what = "runtime error: invalid memory address or nil pointer "
               "dereference";
    else if (t->present || mm_last_fault() == FAULT_DENIED)
        what = "forbidden memory access";
    fmt_err("panic: %s (%s of 0x%lx)\n", what, access, (unsigned long)t->va);
}

static void headline(const struct arch_trap *t)
{
    char buf[160];

    if (t->kind == TRAP_PAGE_FAULT && arch_is_system_guard(t->va)) {
        fmt_err("fatal error: system stack overflow on CPU %u\n",
                arch_cpu_id());
    } else if (t->kind == TRAP_PAGE_FAULT) {
        page_fault_headline(t);
    } else if (t->kind == TRAP_DIVIDE) {
        fmt_err("panic: runtime error: integer divide by zero (or the quotient "
                "is too large)\n");
    } else {
        fmt_err("panic: %s (vector %u, error 0x%lx)\n", t->name, t->vector,
                (unsigned long)t->error);
    }
    if (t->kind == TRAP_PAGE_FAULT)
        fmt_err("  0x%lx: %s\n", (unsigned long)t->va,
                mm_describe(t->va, buf, sizeof buf));
    if (t->kind != TRAP_PAGE_FAULT || t->pc != t->va)
        fmt_err("  code 0x%lx: %s\n", (unsigned long)t->pc,
                mm_describe(t->pc, buf, sizeof buf));
    fmt_err("  stack 0x%lx: %s\n", (unsigned long)t->sp,
            mm_describe(t->sp, buf, sizeof buf));
}

static void print_backtrace(const struct trap_frame *tf,
                            const struct arch_trap *t)
{
    uintptr_t ret = 0;

    // After the call of a bad pointer the caller is on top of the stack.
    if (t->kind == TRAP_PAGE_FAULT && t->pc == t->va) {
        if (mm_readable(t->sp, sizeof(uintptr_t)))
            ret = *(const uintptr_t *)t->sp;
        backtrace_print(0, ret, t->fp);
        return;
    }
    backtrace_print(t->pc, backtrace_frameless(tf, t->pc), t->fp);
}

static void fatal(struct trap_frame *tf)
{
    struct arch_trap t = arch_trap_read(tf);

    if (panic_of_trap != NULL && panic_of_trap(tf, &t))
        return;
    enter();
    headline(&t);
    print_where();
    arch_trap_print_registers(tf);
    print_backtrace(tf, &t);
    dump_goroutines(g_current());
    arch_power_off(STATUS_PANIC);
}

void debug_init(void)
{
    arch_hooks.fatal = fatal;
}
