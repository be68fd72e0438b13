// What `make bench` runs inside the guest. Plain C, so that it also runs on
// Linux, where the same source is the peer.
//
//   bench-guest              events per page, frame and call, by the TSC; under
//                            -icount the TSC counts instructions, exactly
//   bench-guest out KIB      KIB of lines to stdout, then its rate on stderr
//
// A result is a line "name value".

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cycles.h"

enum {
    PAGE = 4096,
    PAGES = 4096, // 16 MiB
    DEPTH = 2048, // frames of a page
    CALLS = 100000,
};

static void result(const char *name, uint64_t total, uint64_t n)
{
    printf("%s %.1f\n", name, (double)total / (double)n);
}

// The first write to each page of fresh memory, in order.
static void touch(void)
{
    volatile char *p = malloc((size_t)PAGES * PAGE + PAGE);

    if (p == NULL)
        exit(1);
    uint64_t start = cycles();

    for (size_t i = 0; i < PAGES; i++)
        p[i * PAGE] = 1;
    result("touch_page", cycles() - start, PAGES);
    free((void *)p);
}

__attribute__((noinline)) static int deep(int n)
{
    volatile char frame[PAGE - 64];

    frame[0] = (char)n;
    return n == 0 ? 0 : deep(n - 1) + frame[0];
}

// The first and the second descent: growth, and what the calls themselves take.
static void grow(void)
{
    uint64_t start = cycles();

    deep(DEPTH);
    uint64_t first = cycles() - start;

    start = cycles();
    deep(DEPTH);
    result("stack_page", first - (cycles() - start), DEPTH);
}

// The loop itself is taken off: what is left are the two calls.
static void pairs(void)
{
    uint64_t start = cycles();

    for (int i = 0; i < CALLS; i++) {
        void *volatile p = malloc(64);

        free(p);
    }
    uint64_t with = cycles() - start;

    start = cycles();
    for (int i = 0; i < CALLS; i++) {
        void *volatile p = &with;

        (void)p;
    }
    result("malloc_free_64", with - (cycles() - start), CALLS);
}

// 1,000 live blocks of 64 bytes; each step frees one and allocates it anew: the
// oldest, or any. The order is made in advance.
static void live_blocks(const char *name, bool any)
{
    enum { LIVE = 1000 };
    static void *block[LIVE];
    static uint16_t order[CALLS];
    uint32_t rng = 1;

    for (int i = 0; i < CALLS; i++) {
        rng = rng * 1664525 + 1013904223;
        order[i] = (uint16_t)(any ? (rng >> 8) % LIVE : (uint32_t)i % LIVE);
    }
    for (int i = 0; i < LIVE; i++)
        block[i] = malloc(64);
    uint64_t start = cycles();

    for (int i = 0; i < CALLS; i++) {
        free(block[order[i]]);
        block[order[i]] = malloc(64);
    }
    uint64_t with = cycles() - start;

    start = cycles();
    for (int i = 0; i < CALLS; i++)
        *(void *volatile *)&block[order[i]] = block[order[i]];
    result(name, with - (cycles() - start), CALLS);
    for (int i = 0; i < LIVE; i++)
        free(block[i]);
}

// All 1,000 are allocated and freed, in the order in which they came or in any.
static void batches(const char *name, bool any)
{
    enum { LIVE = 1000, ROUNDS = CALLS / LIVE };
    static void *block[LIVE];
    static uint16_t order[LIVE];
    uint32_t rng = 1;

    for (int i = 0; i < LIVE; i++)
        order[i] = (uint16_t)i;
    for (int i = LIVE - 1; any && i > 0; i--) {
        rng = rng * 1664525 + 1013904223;
        uint32_t k = (rng >> 8) % (uint32_t)(i + 1);
        uint16_t t = order[i];

        order[i] = order[k];
        order[k] = t;
    }
    uint64_t start = cycles();

    for (int r = 0; r < ROUNDS; r++) {
        for (int i = 0; i < LIVE; i++)
            block[i] = malloc(64);
        for (int i = 0; i < LIVE; i++)
            free(block[order[i]]);
    }
    result(name, cycles() - start, ROUNDS * LIVE);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void out(long kib)
{
    static const char line[] =
        "the quick brown fox jumps over the lazy dog and runs away 12345";
    double start = seconds();

    for (long i = 0; i < kib * 16; i++)
        puts(line); // 64 bytes with its newline
    fflush(stdout);
    fprintf(stderr, "\nout_kib_per_s %.0f\n",
            (double)kib / (seconds() - start));
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "out") == 0) {
        out(atol(argv[2]));
        return 0;
    }
    touch();
    grow();
    pairs();
    live_blocks("live_oldest", false);
    live_blocks("live_any", true);
    batches("batch_in_order", false);
    batches("batch_any_order", true);
    puts("end");
    return 0;
}
