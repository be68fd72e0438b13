// All of a CPU's floating point and vector state survives that it is taken away at
// any instruction: 16 ymm registers of 256 bits, MXCSR, the x87 unit's control word
// and eight registers, with AVX-512 the mask registers.
//
// Each goroutine fills all with patterns of its own, in one piece of assembly that
// calls nothing, waits, and stores them again.
//
// usage: go_fpu [ROUNDS]

#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <cpuid.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "arch/arch.h"

enum {
    VECTOR_REGISTERS = 16,
    MASKS = 8,
    X87 = 8,
    WAIT = 200, // turns of a loop between filling and storing
    TURNS = 200,
    MXCSR = 0x1f80, // as at the start
    FCW = 0x37f,
    ROUND_SHIFT = 13,    // MXCSR: two bits
    X87_ROUND_SHIFT = 10 // the control word: two bits
};

struct state {
    uint8_t vector[VECTOR_REGISTERS][32];
    double x87[X87];
    uint64_t mask[MASKS];
    uint32_t mxcsr;
    uint16_t fcw;
} __attribute__((aligned(32)));

static bool has_avx, has_avx512;

static uint64_t xcr0(void)
{
    uint32_t lo, hi;

    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static void look_at_cpu(void)
{
    enum { YMM = 0x6, ZMM = 0xe6 };
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) ||
        !(c & bit_AVX) || (xcr0() & YMM) != YMM)
        return;
    has_avx = true;
    has_avx512 = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_AVX512F) &&
                 (xcr0() & ZMM) == ZMM;
}

#define EACH16(op, at, step)                                                   \
    op(0, at, step) op(1, at, step) op(2, at, step) op(3, at, step)            \
        op(4, at, step) op(5, at, step) op(6, at, step) op(7, at, step)        \
            op(8, at, step) op(9, at, step) op(10, at, step) op(11, at, step)  \
                op(12, at, step) op(13, at, step) op(14, at, step)             \
                    op(15, at, step)
#define EACH8(op, at, step)                                                    \
    op(0, at, step) op(1, at, step) op(2, at, step) op(3, at, step)            \
        op(4, at, step) op(5, at, step) op(6, at, step) op(7, at, step)

#define LOAD_YMM(i, at, step)                                                  \
    "vmovdqu " #i "*" #step "(" at "), %%ymm" #i "\n\t"
#define STORE_YMM(i, at, step)                                                 \
    "vmovdqu %%ymm" #i ", " #i "*" #step "(" at ")\n\t"
#define LOAD_XMM(i, at, step) "movdqu " #i "*" #step "(" at "), %%xmm" #i "\n\t"
#define STORE_XMM(i, at, step)                                                 \
    "movdqu %%xmm" #i ", " #i "*" #step "(" at ")\n\t"
#define LOAD_X87(i, at, step)  "fldl " #i "*" #step "(" at ")\n\t"
#define STORE_X87(i, at, step) "fstpl " #i "*" #step "(" at ")\n\t"
#define LOAD_K(i, at, step)    "kmovw " #i "*" #step "(" at "), %%k" #i "\n\t"
#define STORE_K(i, at, step)   "kmovw %%k" #i ", " #i "*" #step "(" at ")\n\t"

#define CHANGED                                                                \
    "rcx", "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5",     \
        "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",    \
        "xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)", "st(4)", "st(5)",   \
        "st(6)", "st(7)"

// 0: s->vector, 1: s->x87, 2: s->mask; 3 to 5: where they come to.
#define KEEP(load, store, load_k, store_k)                                     \
    __asm__ volatile(                                                          \
        "ldmxcsr %6\n\tfldcw %7\n\t" load EACH8(LOAD_X87, "%1", 8) load_k      \
        "movl %10, %%ecx\n"                                                    \
        "1:\tdecl %%ecx\n\tjnz 1b\n\t" store EACH8(STORE_X87, "%4", 8) store_k \
        "stmxcsr %8\n\tfnstcw %9\n\t"                                          \
        :                                                                      \
        : "r"(s->vector), "r"(s->x87), "r"(s->mask), "r"(t->vector),           \
          "r"(t->x87), "r"(t->mask), "m"(s->mxcsr), "m"(s->fcw),               \
          "m"(t->mxcsr), "m"(t->fcw), "i"(WAIT)                                \
        : CHANGED)

static void keep_sse(const struct state *s, struct state *t)
{
    KEEP(EACH16(LOAD_XMM, "%0", 32), EACH16(STORE_XMM, "%3", 32), "", "");
}

static void keep_avx(const struct state *s, struct state *t)
{
    KEEP(EACH16(LOAD_YMM, "%0", 32), EACH16(STORE_YMM, "%3", 32), "",
         "vzeroupper\n\t");
}

static void keep_avx512(const struct state *s, struct state *t)
{
    KEEP(EACH16(LOAD_YMM, "%0", 32), EACH16(STORE_YMM, "%3", 32),
         EACH8(LOAD_K, "%2", 8), EACH8(STORE_K, "%5", 8) "vzeroupper\n\t");
}

static void to_default(void)
{
    uint32_t mxcsr = MXCSR;
    uint16_t fcw = FCW;

    __asm__ volatile("ldmxcsr %0\n\tfldcw %1" : : "m"(mxcsr), "m"(fcw));
}

static struct gn_wg all;
static _Atomic unsigned wrong_vectors, wrong_x87, wrong_masks, wrong_modes;

static void make_state(struct state *s, unsigned seed)
{
    for (size_t i = 0; i < sizeof s->vector; i++)
        ((uint8_t *)s->vector)[i] = (uint8_t)(seed * 131 + i * 7 + i / 32);
    for (unsigned i = 0; i < X87; i++)
        s->x87[i] = seed * 1000.5 + i;
    for (unsigned i = 0; i < MASKS; i++)
        s->mask[i] = (seed * 257 + i * 4099) & 0xffff;
    s->mxcsr = MXCSR | (seed % 4) << ROUND_SHIFT;
    s->fcw = (uint16_t)(FCW | (seed / 2 % 4) << X87_ROUND_SHIFT);
}

static void compare(const struct state *s, const struct state *t)
{
    for (unsigned i = 0; i < VECTOR_REGISTERS; i++)
        wrong_vectors +=
            memcmp(s->vector[i], t->vector[i], has_avx ? 32 : 16) != 0;
    for (unsigned i = 0; i < X87; i++) // they come back in the other order
        wrong_x87 += s->x87[i] != t->x87[X87 - 1 - i];
    for (unsigned i = 0; has_avx512 && i < MASKS; i++)
        wrong_masks += s->mask[i] != t->mask[i];
    wrong_modes += s->mxcsr != t->mxcsr || s->fcw != t->fcw;
}

static unsigned turns = TURNS;

static void keep_all(void *arg)
{
    struct state s, t = {0};

    for (unsigned i = 0; i < turns; i++) {
        make_state(&s, (unsigned)(uintptr_t)arg * 977 + i);
        if (has_avx512)
            keep_avx512(&s, &t);
        else if (has_avx)
            keep_avx(&s, &t);
        else
            keep_sse(&s, &t);
        to_default();
        compare(&s, &t);
    }
    gn_wg_done(&all);
}

int main(int argc, char **argv)
{
    unsigned n = 4 * gn_cpu_count();

    turns *= argc > 1 ? (unsigned)atoi(argv[1]) : 10;
    look_at_cpu();
    printf("# %s\n", has_avx512 ? "AVX-512: ymm and mask registers"
                     : has_avx  ? "AVX: ymm registers, no mask registers"
                                : "no AVX: skipped but for xmm registers");
    gn_wg_add(&all, n);
    for (uintptr_t i = 0; i < n; i++) {
        if (gn_go(keep_all, (void *)i) != 0)
            abort();
    }
    gn_wg_wait(&all);
    IS(wrong_vectors, 0, "all vector registers survive");
    IS(wrong_x87, 0, "those of the x87 unit, too");
    IS(wrong_masks, 0, "the masks");
    IS(wrong_modes, 0, "and the rounding modes of both");
    return tap_end();
}
