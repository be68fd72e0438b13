// What `make bench` runs inside the guest. Plain C, so that it also runs on
// Linux, where the same source is the peer.
//
//   bench-guest              events per page, frame and call, by the TSC; under
//                            -icount the TSC counts instructions, exactly
//   bench-guest out KIB      KIB of lines to stdout, then its rate on stderr
//
// A result is a line "name value".

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    PAGE = 4096,
    PAGES = 4096, // 16 MiB
    DEPTH = 2048, // frames of a page
    CALLS = 100000,
};

static uint64_t cycles(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence\n\trdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return (uint64_t)hi << 32 | lo;
}

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

static void pairs(void)
{
    uint64_t start = cycles();

    for (int i = 0; i < CALLS; i++) {
        void *volatile p = malloc(64);

        free(p);
    }
    result("malloc_free_64", cycles() - start, CALLS);
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
    puts("end");
    return 0;
}
