// What must end in a report: `mustdie NAME` does one forbidden thing.
//
// A line that ends in "DIES NAME" is where the report's backtrace has to say
// that it happened; host-tests/guest/suites.sh compares. Returning from the
// deed is a failure, with a status of its own.

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>

#include "arch/x86_64/cpu.h"
#include "mm/mm.h"
#include "runtime/debug/debug.h"
#include "runtime/sched/g_impl.h"
#include "runtime/stack/stack.h"

enum { STATUS_SURVIVED = 99, STATUS_UNKNOWN = 98 };

#define IMAGE_BASE UINT64_C(0xffffffff80000000)

static volatile int zero;
static volatile int sink; // writing it last keeps a call from being a jump
static const char code_rodata[] = {(char)0xc3};
static char code_data[] = {(char)0xc3};

static NOINLINE char read_byte(volatile char *p)
{
    return *p; // DIES read
}

static NOINLINE void write_byte(volatile char *p)
{
    *p = (char)0xc3; // DIES write
}

static NOINLINE void call(uintptr_t code)
{
    ((void (*)(void))code)(); // DIES call
    sink = 0;                 // no tail call
}

static NOINLINE void write_text(void)
{
    write_byte((char *)(uintptr_t)read_byte);
    sink = 0;
}

static NOINLINE void write_text_direct(void)
{
    write_byte(arch_direct(paddr((uintptr_t)read_byte - IMAGE_BASE)));
    sink = 0;
}

static NOINLINE void write_rodata(void)
{
    write_byte((char *)(uintptr_t)code_rodata);
    sink = 0;
}

static NOINLINE void write_rodata_direct(void)
{
    write_byte(arch_direct(paddr((uintptr_t)code_rodata - IMAGE_BASE)));
    sink = 0;
}

static NOINLINE void exec_heap(void)
{
    char *p = malloc(64);

    *(volatile char *)p = (char)0xc3;
    call((uintptr_t)p);
    sink = 0;
}

static NOINLINE void exec_stack(void)
{
    volatile char code[16] = {(char)0xc3};

    call((uintptr_t)code);
    sink = 0;
}

static NOINLINE void exec_rodata(void)
{
    call((uintptr_t)code_rodata);
    sink = 0;
}

static NOINLINE void exec_data(void)
{
    call((uintptr_t)code_data);
    sink = 0;
}

static NOINLINE void exec_direct(void)
{
    call((uintptr_t)arch_direct(paddr((uintptr_t)read_byte - IMAGE_BASE)));
    sink = 0;
}

static NOINLINE void nil_read(void)
{
    read_byte((char *)(intptr_t)(zero + 16));
    sink = 0;
}

static NOINLINE void nil_write(void)
{
    write_byte((char *)(intptr_t)zero);
    sink = 0;
}

static NOINLINE void nil_call(void)
{
    call((uintptr_t)zero);
    sink = 0;
}

static NOINLINE void low_read(void)
{
    read_byte((char *)(uintptr_t)(0x12345678u + (unsigned)zero));
    sink = 0;
}

static NOINLINE void wild_write(void)
{
    write_byte((char *)(UINT64_C(0x200000000000) + (unsigned)zero));
    sink = 0;
}

static NOINLINE void not_canonical(void)
{
    read_byte((char *)(UINT64_C(0x1234000000000000) + (unsigned)zero));
    sink = 0;
}

// ---- stacks ----

// The highest page of the guard.
static uintptr_t my_guard(void)
{
    return stack_bottom(g_current()) - PAGE_SIZE;
}

// The highest byte of the guard below the lowest page.
static NOINLINE void guard_byte(void)
{
    write_byte((char *)(my_guard() + PAGE_SIZE - 1));
    sink = 0;
}

// One page above the guard, but far below the stack pointer.
static NOINLINE void far_below_sp(void)
{
    write_byte((char *)(my_guard() + PAGE_SIZE));
    sink = 0;
}

// A megabyte below the top of the slot of main, which is in use.
static void next_slot(void *arg)
{
    uintptr_t top_of_next = stack_top(g_current()) - STACK_SLOT_BYTES;

    (void)arg;
    write_byte((char *)(top_of_next - MIB));
    sink = 0;
}

static void run_on(void (*fn)(void *), int cpu)
{
    struct g *g = g_create(fn, NULL, "victim", cpu);

    if (g == NULL)
        exit(STATUS_UNKNOWN);
    g_ready(g);
    g_sleep_until(UINT64_MAX);
}

static NOINLINE void overflow_megabyte(void)
{
    run_on(next_slot, 0);
    sink = 0;
}

static NOINLINE int smash(volatile int n)
{
    char small[16];

    for (int i = 0; i < n; i++)
        ((volatile char *)small)[i] = 'x';
    return small[zero]; // DIES smash
}

static NOINLINE void smash_canary(void)
{
    sink = smash(32 + zero);
}

static NOINLINE int deep(int n)
{
    volatile char local[100];

    local[0] = (char)n;
    return zero == 1 ? 0 : deep(n + 1) + local[0]; // DIES deep
}

static NOINLINE void stack_overflow(void)
{
    deep(0);
    sink = 0;
}

static void overflow_there(void *arg)
{
    (void)arg;
    deep(0);
    sink = 0;
}

static NOINLINE void stack_overflow_cpu1(void)
{
    run_on(overflow_there, 1);
    sink = 0;
}

static int compare_deep(const void *a, const void *b)
{
    (void)a, (void)b;
    return deep(0);
}

static NOINLINE void stack_overflow_qsort(void)
{
    int a[] = {3, 1, 2};

    qsort(a, 3, sizeof a[0], compare_deep); // DIES qsort
}

static int compare_nil(const void *a, const void *b)
{
    (void)a, (void)b;
    return read_byte((char *)(intptr_t)zero); // DIES compare
}

static NOINLINE void nil_in_qsort(void)
{
    int a[] = {3, 1, 2};

    qsort(a, 3, sizeof a[0], compare_nil); // DIES nil_in_qsort
}

// In interrupt context; each level takes a good part of a page.
static IRQ_FN NOINLINE int deep_irq(int n)
{
    volatile char local[256];

    local[0] = (char)n;
    return zero == 1 ? 0 : deep_irq(n + 1) + local[0]; // DIES deep_irq
}

static IRQ_FN void overflow_irq(void *arg)
{
    (void)arg;
    deep_irq(0);
}

static NOINLINE void system_overflow(void)
{
    arch_call_others(overflow_irq, NULL);
    sink = 0;
}

// ---- traps ----

static NOINLINE int divide(int n)
{
    return n / zero; // DIES divide
}

static NOINLINE void divide_by_zero(void)
{
    sink = divide(10);
}

static NOINLINE void invalid_opcode(void)
{
    __asm__ volatile("ud2"); // DIES invalid_opcode
}

// With the table cut behind vector 8 a page fault finds no gate, nor does the
// protection fault that this is: a double fault.
static NOINLINE void double_fault(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) p;

    arch_irq_disable();
    __asm__ volatile("sidt %0" : "=m"(p));
    p.limit = 9 * 16 - 1;
    __asm__ volatile("lidt %0" ::"m"(p));
    read_byte((char *)(intptr_t)zero);
    sink = 0;
}

static NOINLINE void fails_assert(void)
{
    assert(zero == 1); // DIES fails_assert
}

static NOINLINE void calls_abort(void)
{
    abort(); // DIES calls_abort
}

static NOINLINE void calls_panic(void)
{
    panic("test: %d and %s", 42, "text"); // DIES calls_panic
}

// ---- the report itself ----

static void panic_inside_locks(void *arg)
{
    (void)arg;
    spin_lock(&mm_lock);
    frame_free(paddr(PAGE_SIZE), 0); // panics with frame_lock held
}

static NOINLINE void panic_locked(void)
{
    arch_on_system_stack(panic_inside_locks, NULL);
    sink = 0;
}

static void fault_inside_lock(void *arg)
{
    (void)arg;
    spin_lock(&mm_lock);
    read_byte((char *)(my_guard() + PAGE_SIZE));
    sink = 0;
}

static NOINLINE void fault_locked(void)
{
    arch_on_system_stack(fault_inside_lock, NULL);
    sink = 0;
}

static _Atomic unsigned running;

static void run_for_ever(void *arg)
{
    (void)arg;
    atomic_fetch_add(&running, 1);
    for (;;)
        free(malloc(100));
}

static void panic_here(void *arg)
{
    (void)arg;
    while (atomic_load(&running) < 2)
        g_yield();
    calls_panic();
    sink = 0;
}

// CPU 0 waits with interrupts off, 1 and 2 are in malloc, 3 panics.
static NOINLINE void panic_cpu3(void)
{
    struct g *g;

    for (int i = 1; i < 4; i++) {
        g = g_create(i == 3 ? panic_here : run_for_ever, NULL, "worker", i);
        if (g == NULL)
            exit(STATUS_UNKNOWN);
        g_ready(g);
    }
    arch_irq_disable();
    for (;;)
        arch_pause();
}

static IRQ_FN void panic_irq(void *arg)
{
    (void)arg;
    panic("test: in an interrupt"); // DIES panic_irq
}

static NOINLINE void panic_in_interrupt(void)
{
    arch_call_others(panic_irq, NULL);
    sink = 0;
}

// Every CPU panics at once: one report, in one piece.
static void panic_together(void *arg)
{
    (void)arg;
    atomic_fetch_add(&running, 1);
    while (atomic_load(&running) < arch_cpu_count())
        arch_pause();
    panic("test: all at once");
}

static NOINLINE void panic_everywhere(void)
{
    for (unsigned i = 1; i < arch_cpu_count(); i++) {
        struct g *g = g_create(panic_together, NULL, "worker", (int)i);

        if (g == NULL)
            exit(STATUS_UNKNOWN);
        g_ready(g);
    }
    panic_together(NULL);
    sink = 0;
}

// The formatter faults while it prints the first line.
static NOINLINE void nested_fault(void)
{
    panic("%s", (const char *)(intptr_t)(zero + 1));
}

// ---- memory ----

static NOINLINE int fill_stack(int n)
{
    char local[64 * KIB];

    memset(local, n, sizeof local);
    return n == 0 ? local[zero] : fill_stack(n - 1) + local[zero];
}

static void fill_and_stay(void *arg)
{
    (void)arg;
    fill_stack(16 * 30); // 30 MiB
    g_sleep_until(UINT64_MAX);
}

static NOINLINE void out_of_memory_stacks(void)
{
    for (int i = 0; i < 100; i++) {
        struct g *g = g_create(fill_and_stay, NULL, "hungry", 0);

        if (g == NULL)
            break; // one more can't begin: one of those that grow will meet it
        g_ready(g);
        g_yield();
    }
    g_sleep_until(UINT64_MAX);
}

// ---- by name ----

#define DEED(fn)                                                               \
    {                                                                          \
#fn, fn                                                                \
    }

static const struct {
    const char *name;
    void (*fn)(void);
} deeds[] = {
    DEED(write_text),
    DEED(write_text_direct),
    DEED(write_rodata),
    DEED(write_rodata_direct),
    DEED(exec_heap),
    DEED(exec_stack),
    DEED(exec_rodata),
    DEED(exec_data),
    DEED(exec_direct),
    DEED(nil_read),
    DEED(nil_write),
    DEED(nil_call),
    DEED(low_read),
    DEED(wild_write),
    DEED(not_canonical),
    DEED(guard_byte),
    DEED(far_below_sp),
    DEED(overflow_megabyte),
    DEED(smash_canary),
    DEED(stack_overflow),
    DEED(stack_overflow_cpu1),
    DEED(stack_overflow_qsort),
    DEED(nil_in_qsort),
    DEED(system_overflow),
    DEED(divide_by_zero),
    DEED(invalid_opcode),
    DEED(double_fault),
    DEED(fails_assert),
    DEED(calls_abort),
    DEED(calls_panic),
    DEED(panic_locked),
    DEED(fault_locked),
    DEED(panic_cpu3),
    DEED(panic_in_interrupt),
    DEED(panic_everywhere),
    DEED(nested_fault),
    DEED(out_of_memory_stacks),
};

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    for (unsigned i = 0; i < sizeof deeds / sizeof deeds[0]; i++) {
        if (argc > 1 && strcmp(argv[1], deeds[i].name) == 0) {
            deeds[i].fn();
            return STATUS_SURVIVED;
        }
    }
    return STATUS_UNKNOWN;
}
