// Runs loops over an array an instruction at a time and looks, before each, whether a
// register or a word of the loop's frame points into the array or just past its end: the
// collector may come between any two (R11, R24). After the last access it need not.
//
// A process of Linux: the trap flag steps, and pages without rights tell accesses.
// Prints a line for each loop that has been without such a pointer; status 1 then.

#define _GNU_SOURCE
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define NOINLINE __attribute__((noinline))

void visit(int64_t value);
#include "host-tests/guest/idioms.h"

enum { BYTES = N * 8, MOST = 100000, PAGE = 4096, TRAP_FLAG = 0x100 };

static char *page;         // the array is at its end
static uint64_t hidden;    // its address, negated
static uint64_t frame_end; // of what is looked at
static unsigned char known[MOST];
static unsigned steps, last_access;
static volatile bool stepping;
static volatile int64_t sum;

NOINLINE void visit(int64_t value)
{
    sum = sum * 31 + value;
}

static bool points(uint64_t word)
{
    return word - ~hidden <= BYTES;
}

static bool look(const ucontext_t *u)
{
    const greg_t *r = u->uc_mcontext.gregs;
    const uint64_t *sp = (const uint64_t *)(r[REG_RSP] & ~7);

    for (int i = REG_R8; i <= REG_RSP; i++) {
        if (points((uint64_t)r[i]))
            return true;
    }
    for (; (uint64_t)sp < frame_end; sp++) {
        if (points(*sp))
            return true;
    }
    for (int i = 0; i < 16; i++) {
        uint64_t x[2];

        memcpy(x, &u->uc_mcontext.fpregs->_xmm[i], sizeof x);
        if (points(x[0]) || points(x[1]))
            return true;
    }
    return false;
}

static void on_trap(int n, siginfo_t *info, void *context)
{
    ucontext_t *u = context;

    (void)n, (void)info;
    if (!stepping) {
        u->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
        return;
    }
    mprotect(page, PAGE, PROT_NONE);
    if (steps < MOST - 1)
        known[++steps] = look(u);
}

static void on_access(int n, siginfo_t *info, void *context)
{
    (void)n, (void)info, (void)context;
    last_access = steps; // of the instruction that comes next
    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
}

__attribute__((used)) static uint64_t stack_was;

static NOINLINE void call(void (*fn)(const int64_t *, size_t))
{
    frame_end = (uint64_t)__builtin_frame_address(0);
    __asm__ volatile("movq %%rsp, stack_was(%%rip)\n"
                     "subq $256, %%rsp\n"
                     "andq $-16, %%rsp\n"
                     "pushfq\n"
                     "movq %0, %%rdi\n"
                     "notq %%rdi\n"
                     "movq %1, %%rsi\n"
                     "xorl %%ebx, %%ebx\n"
                     "xorl %%r12d, %%r12d\n"
                     "xorl %%r13d, %%r13d\n"
                     "xorl %%r14d, %%r14d\n"
                     "xorl %%r15d, %%r15d\n"
                     "orl $0x100, (%%rsp)\n"
                     "popfq\n"
                     "call *%2\n"
                     "movb $0, %3\n"
                     "nop\n"
                     "movq stack_was(%%rip), %%rsp\n"
                     :
                     : "m"(hidden), "i"(N), "a"(fn), "m"(stepping)
                     : "rdi", "rsi", "rbx", "rcx", "rdx", "r8", "r9", "r10",
                       "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm1",
                       "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "memory", "cc");
}

static void handle(int n, void (*fn)(int, siginfo_t *, void *))
{
    struct sigaction a = {.sa_sigaction = fn,
                          .sa_flags = SA_SIGINFO | SA_ONSTACK};

    sigaction(n, &a, NULL);
}

// What must be found: a pointer far behind the array.
static NOINLINE void far_behind(const int64_t *a, size_t n)
{
    __asm__ volatile("addq $0x4000, %0\n"
                     "1: movq -0x4000(%0), %%rax\n"
                     "addq $8, %0\n"
                     "decq %1\n"
                     "jnz 1b\n"
                     "xorl %k0, %k0\n"
                     : "+r"(a), "+r"(n)
                     :
                     : "rax", "memory", "cc");
}

// Of how many instructions, up to the last access, there was no pointer.
static unsigned run(void (*fn)(const int64_t *, size_t))
{
    unsigned without = 0;

    mprotect(page, PAGE, PROT_READ | PROT_WRITE);
    for (int64_t k = 0; k < N; k++)
        ((int64_t *)~hidden)[k] = k * 3;
    steps = last_access = 0;
    mprotect(page, PAGE, PROT_NONE);
    stepping = true;
    call(fn);
    for (unsigned k = 1; k <= last_access; k++)
        without += !known[k];
    return last_access >= N / 8 ? without : MOST; // it did not step
}

int main(void)
{
    static char stack[65536];
    stack_t s = {.ss_sp = stack, .ss_size = sizeof stack};
    unsigned bad = 0, most = 0;

    sigaltstack(&s, NULL);
    handle(SIGTRAP, on_trap);
    handle(SIGSEGV, on_access);
    page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                -1, 0);
    hidden = ~(uint64_t)(page + PAGE / 2);
    if (run(far_behind) < N) {
        puts("what has no pointer is not found");
        return 1;
    }
    for (unsigned i = 0; i < sizeof loops / sizeof *loops; i++) {
        unsigned without = run(loops[i].fn);

        if (without > 0)
            printf("%s: before %u of %u instructions nothing pointed to the "
                   "array\n",
                   loops[i].name, without, last_access);
        bad += without > 0;
        most += last_access;
    }
    printf("%zu loops, %u instructions, %u loops without a pointer\n",
           sizeof loops / sizeof *loops, most, bad);
    return bad != 0;
}
