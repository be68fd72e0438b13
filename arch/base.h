// What every layer may use: stateless helpers, assertions, panic.
//
// This is the only header that is for everybody (STYLE 10); it holds no state
// and depends on nothing but the compiler's freestanding headers.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_USE __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))
#define BOOT_ONLY                                                              \
    __attribute__((section(".bss.0boot"))) // zero, given back later
#define NOINLINE         __attribute__((noinline))
#define COLD             __attribute__((cold, noinline)) // small rather than fast
#define PRINTF(f, a)     __attribute__((format(printf, f, a)))
#define WEAK             __attribute__((weak))
#define ARRAY_LEN(a)     (sizeof(a) / sizeof((a)[0]))
#define likely(x)        __builtin_expect(!!(x), 1)
#define unlikely(x)      __builtin_expect(!!(x), 0)
#define GN_STRINGIFY_(x) #x
#define GN_STRINGIFY(x)  GN_STRINGIFY_(x)

// The struct that holds `member` at address `ptr`.
#define container_of(ptr, type, member)                                        \
    ((type *)((char *)(ptr)-offsetof(type, member)))

enum {
    PAGE_SHIFT = 12,
    PAGE_SIZE = 1 << PAGE_SHIFT,
    KIB = 1 << 10,
    MIB = 1 << 20,
    GIB = 1 << 30,
};

// A physical address. One member, so that mixing it up with a pointer or a
// virtual address does not compile.
typedef struct {
    uint64_t raw;
} paddr_t;

static inline paddr_t paddr(uint64_t raw)
{
    return (paddr_t){raw};
}

static inline uint64_t align_up(uint64_t x, uint64_t pow2)
{
    return (x + pow2 - 1) & ~(pow2 - 1);
}

static inline uint64_t align_down(uint64_t x, uint64_t pow2)
{
    return x & ~(pow2 - 1);
}

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

// Ends the program with one report: the message, where execution stood, a
// backtrace. Works with any lock held, on any CPU, in any context; allocates
// nothing. For broken invariants and impossible hardware states only.
NORETURN void panic(const char *fmt, ...) PRINTF(1, 2);

// A condition that the surrounding code relies on; cheap enough to stay on.
#define ASSERT(cond)                                                           \
    do {                                                                       \
        if (unlikely(!(cond)))                                                 \
            panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #cond);   \
    } while (0)
