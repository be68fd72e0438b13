// Loops over an array that nobody else knows: while one calls a function and is not yet
// done, a register or a word of its frame points into the array or just past its end
// (R11, R24). Optimizers that turn an index into a pointer that runs ahead break that.
//
// Each loop is run three times: to count its calls; to look, in each call but the last,
// at the registers that it keeps and at its frame; and with collections in it, when what
// it reads must be what was stored.
//

#include <gneiss/gc.h>
#include <gneiss/go.h>

#include <stdint.h>
#include <string.h>

#include "host-tests/guest/tap.h"

void visit(int64_t value);
#include "host-tests/guest/idioms.h"

void looked_at(const uint64_t *kept, uint64_t value);

// Registers that a callee keeps, and from `kept` on the caller's frame.
__asm__(".text\n"
        ".globl visit\n"
        "visit:\n"
        "    pushq %rbx\n"
        "    pushq %rbp\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    subq $8, %rsp\n"
        "    movq %rdi, %rsi\n"
        "    leaq 8(%rsp), %rdi\n"
        "    call looked_at\n"
        "    addq $8, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbp\n"
        "    popq %rbx\n"
        "    ret\n");

// ---- looking ----

static enum { COUNT, LOOK, COLLECT } mode;
static uint64_t hidden; // the array's address, negated
static unsigned calls, calls_in_all, unseen;
static uint64_t sum, first_sum;
static const uint64_t *frame_end;

static bool is_known(const uint64_t *kept)
{
    uint64_t lo = ~hidden;

    for (; kept < frame_end; kept++) {
        if (*kept - lo <= N * sizeof(int64_t))
            return true;
    }
    return false;
}

static NOINLINE void litter(void)
{
    for (int i = 0; i < 40; i++) {
        int64_t *p = gn_alloc(N * sizeof *p, GN_SCAN, 0);

        memset(p, 0x55, N * sizeof *p);
    }
}

__attribute__((used)) void looked_at(const uint64_t *kept, uint64_t value)
{
    calls++;
    sum = sum * 31 + value;
    if (mode == LOOK && calls < calls_in_all)
        unseen += !is_known(kept);
    if (mode == COLLECT && calls % 16 == 1) {
        gn_gc();
        litter();
    }
}

// Nobody above the loop knows the array.
static NOINLINE void call(void (*fn)(const int64_t *, size_t))
{
    frame_end = __builtin_frame_address(0);
    calls = 0;
    sum = 0;
    __asm__ volatile("movq %0, %%rdi\n"
                     "notq %%rdi\n"
                     "movq %1, %%rsi\n"
                     "xorl %%ebx, %%ebx\n"
                     "xorl %%r12d, %%r12d\n"
                     "xorl %%r13d, %%r13d\n"
                     "xorl %%r14d, %%r14d\n"
                     "xorl %%r15d, %%r15d\n"
                     "call *%2\n"
                     :
                     : "m"(hidden), "i"(N), "a"(fn)
                     : "rdi", "rsi", "rbx", "rcx", "rdx", "r8", "r9", "r10",
                       "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

static NOINLINE void make(void)
{
    int64_t *a = gn_alloc(N * sizeof *a, GN_SCAN, 0);

    for (int i = 0; i < N; i++)
        a[i] = i * 3;
    hidden = ~(uint64_t)a;
}

static void try(unsigned i)
{
    make();
    mode = COUNT;
    call(loops[i].fn);
    calls_in_all = calls;
    first_sum = sum;
    mode = LOOK;
    unseen = 0;
    call(loops[i].fn);
    ok(unseen == 0, "%s: in %u calls of %u nothing points to the array",
       loops[i].name, unseen, calls_in_all);
    make();
    mode = COLLECT;
    call(loops[i].fn);
    ok(sum == first_sum && calls == calls_in_all,
       "%s: with collections it reads what was stored", loops[i].name);
}

int main(void)
{
    gn_gc_percent(-1);
    for (unsigned i = 0; i < sizeof loops / sizeof *loops; i++)
        try(i);
    return tap_end();
}
