// What the programs of tools/bench-heap share: blocks that are stamped when
// taken and checked when given back, random numbers, threads.
//
// Plain C with malloc, free and threads, for any allocator. A program is called
// with the number of threads, 1 or 2; the work is the same for both, divided.
// It prints one line "name: n operations ..." and leaves with status 0, or says
// what is wrong and leaves with 1.
#pragma once

#define _GNU_SOURCE

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 2, TOUCH_BYTES = 4096, MIN_BLOCK = 8 };

static inline void fail(const char *what)
{
    fprintf(stderr, "bench-heap: %s\n", what);
    exit(1);
}

// ---- random numbers ----
//
// Source: xorshift64*, S. Vigna, "An experimental exploration of Marsaglia's
// xorshift generators, scrambled", 2016.

struct rng {
    uint64_t x; // not 0
};

static inline uint32_t rng_next(struct rng *r)
{
    r->x ^= r->x >> 12;
    r->x ^= r->x << 25;
    r->x ^= r->x >> 27;
    return (uint32_t)((r->x * UINT64_C(0x2545f4914f6cdd1d)) >> 32);
}

// One of 0..n-1.
static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(((uint64_t)rng_next(r) * n) >> 32);
}

// A size of low..low*2^doublings-1, each doubling as likely as the others.
static inline uint32_t rng_size(struct rng *r, uint32_t low, uint32_t doublings)
{
    uint32_t base = low << rng_below(r, doublings);

    return base + rng_below(r, base);
}

// ---- blocks ----

// Somebody's block. The tag differs between any two blocks that live at a time,
// so memory that was given to both is noticed.
struct block {
    char *p; // NULL: none
    uint32_t size;
    uint32_t tag;
};

// Makes the compiler believe that somebody else reads and writes *p.
static inline void escape(void *p)
{
    __asm__ volatile("" : : "r"(p) : "memory");
}

static inline void block_stamp(const struct block *b)
{
    memcpy(b->p, &b->tag, sizeof b->tag);
    b->p[b->size - 1] = (char)b->tag;
    for (uint32_t at = TOUCH_BYTES; at < b->size - 1; at += TOUCH_BYTES)
        b->p[at] = (char)b->tag;
}

static inline void block_check(const struct block *b)
{
    uint32_t tag;

    memcpy(&tag, b->p, sizeof tag);
    if (tag != b->tag || b->p[b->size - 1] != (char)b->tag)
        fail("a block lost its contents");
}

// Takes a block of size bytes, at least MIN_BLOCK, and touches all its pages.
static inline struct block block_take(uint32_t size, uint32_t tag)
{
    struct block b = {malloc(size), size, tag};
    uintptr_t aligned = size >= 16 ? 16 : 8;

    if (b.p == NULL)
        fail("no memory");
    if ((uintptr_t)b.p % aligned != 0)
        fail("a block is not aligned");
    block_stamp(&b);
    escape(b.p);
    return b;
}

// Gives back what block_take returned; nothing if the block is none.
static inline void block_give(struct block *b)
{
    if (b->p == NULL)
        return;
    block_check(b);
    free(b->p);
    b->p = NULL;
}

// ---- threads ----

static inline unsigned threads_of(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 1;

    if (n < 1 || n > MAX_THREADS)
        fail("usage: PROGRAM [1 or 2 threads]");
    return (unsigned)n;
}

// Keeps the calling thread, and those it makes, on the i-th CPU, if there are so
// many: else two threads that both wait for the same CPU look like one.
static inline void stay_on_cpu(unsigned i)
{
    cpu_set_t all, one;

    if (sched_getaffinity(0, sizeof all, &all) != 0)
        return;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (CPU_ISSET(cpu, &all) && i-- == 0) {
            CPU_SET(cpu, &one);
            sched_setaffinity(0, sizeof one, &one);
            return;
        }
    }
}

struct start {
    void *(*fn)(void *);
    uintptr_t i;
};

static inline void *start_thread(void *arg)
{
    const struct start *s = arg;

    stay_on_cpu((unsigned)s->i);
    return s->fn((void *)s->i);
}

// Runs fn(i) for i of 0..n-1, each in a thread and on a CPU of its own if there
// are several, and waits for all.
static inline void run_threads(unsigned n, void *(*fn)(void *))
{
    pthread_t t[MAX_THREADS];
    struct start s[MAX_THREADS];

    if (n == 1) {
        fn(0);
        return;
    }
    for (unsigned i = 0; i < n; i++) {
        s[i] = (struct start){fn, i};
        if (pthread_create(&t[i], NULL, start_thread, &s[i]) != 0)
            fail("no thread");
    }
    for (unsigned i = 0; i < n; i++)
        pthread_join(t[i], NULL);
}
