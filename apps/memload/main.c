// A memory workload in ISO C and one clock: the same source runs as a Linux
// program, as init of a Linux guest, and here. Under ICOUNT=1 a nanosecond is
// one guest instruction, so the figures don't depend on the load.
//
// Prints, for each phase,
//
//   MEM <phase> ops=<n> total_ns=<t> ns_per_op=<x.y>
//
// and at the end "MEM done".

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PAGE = 4096,
    TOUCH_MIB = 32, // touched for the first time
    SLOTS = 4096,   // live objects of the churn
    CHURN = 200000,
    LARGE = 500,
    GROWS = 20,
    GROW_BYTES = 4 << 20,
};

static void *slots[SLOTS];

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// Xorshift. Source: Marsaglia, "Xorshift RNGs", 2003.
static uint32_t next_random(void)
{
    static uint32_t state = 12345;

    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void report(const char *phase, unsigned long ops, uint64_t ns)
{
    unsigned long tenths = (unsigned long)(ns * 10 / ops);

    printf("MEM %-10s ops=%lu total_ns=%lu ns_per_op=%lu.%lu\n", phase, ops,
           (unsigned long)ns, tenths / 10, tenths % 10);
    fflush(stdout);
}

// A store to each page.
static void touch(volatile char *p, size_t bytes, char value)
{
    for (size_t i = 0; i < bytes; i += PAGE)
        p[i] = value;
}

static bool read_clock(void)
{
    uint64_t t = now_ns();

    for (int i = 0; i < 1000; i++)
        (void)now_ns();
    report("clock", 1000, now_ns() - t);
    return true;
}

// Timed with the malloc, which may map the block.
static bool touch_large_block(void)
{
    size_t bytes = (size_t)TOUCH_MIB << 20;
    uint64_t t = now_ns();
    char *p = malloc(bytes);

    if (p == NULL)
        return false;
    touch(p, bytes, 1);
    report("touch4k", bytes / PAGE, now_ns() - t);
    t = now_ns();
    touch(p, bytes, 2);
    report("retouch4k", bytes / PAGE, now_ns() - t);
    free(p);
    return true;
}

static bool pairs_of_64_bytes(void)
{
    uint64_t t = now_ns();

    for (int i = 0; i < CHURN; i++) {
        volatile char *p = malloc(64);

        if (p == NULL)
            return false;
        p[0] = 1;
        free((void *)p);
    }
    report("pair64", CHURN, now_ns() - t);
    return true;
}

static bool churn(void)
{
    uint64_t t = now_ns();

    for (int i = 0; i < CHURN; i++) {
        unsigned slot = next_random() % SLOTS;

        free(slots[slot]);
        size_t n = 16 + next_random() % 1009;
        char *p = malloc(n);

        if (p == NULL)
            return false;
        p[0] = p[n - 1] = 1;
        slots[slot] = p;
    }
    report("churn", CHURN, now_ns() - t);
    return true;
}

static bool free_all(void)
{
    uint64_t t = now_ns();

    for (int i = 0; i < SLOTS; i++) {
        free(slots[i]);
        slots[i] = NULL;
    }
    report("freeall", SLOTS, now_ns() - t);
    return true;
}

// 64 KiB to 1 MiB.
static bool large_blocks(void)
{
    uint64_t t = now_ns();

    for (int i = 0; i < LARGE; i++) {
        size_t n = 65536 + (size_t)(next_random() % 240) * PAGE;
        char *p = malloc(n);

        if (p == NULL)
            return false;
        touch(p, n, 1);
        free(p);
    }
    report("large", LARGE, now_ns() - t);
    return true;
}

static bool growing_arrays(void)
{
    uint64_t t = now_ns();

    for (int i = 0; i < GROWS; i++) {
        size_t n = 16;
        char *p = malloc(n);

        while (p != NULL && n < GROW_BYTES) {
            char *q = realloc(p, n *= 2);

            if (q == NULL)
                break;
            p = q;
            p[n - 1] = 1;
        }
        if (p == NULL || n < GROW_BYTES)
            return false;
        free(p);
    }
    report("realloc", GROWS, now_ns() - t);
    return true;
}

int main(void)
{
    if (!read_clock() || !touch_large_block() || !pairs_of_64_bytes() ||
        !churn() || !free_all() || !large_blocks() || !growing_arrays()) {
        puts("MEM nomem");
        return 1;
    }
    puts("MEM done");
    return fflush(stdout) == 0 ? 0 : 1;
}
