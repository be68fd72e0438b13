// The heap on all CPUs at once: every block carries a signature, blocks are freed
// where they were not allocated, nothing is handed out twice, and all of it comes
// back.
//
//   heap [STEPS [SEED]]

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/tap.h"
#include "mm/mm.h"
#include <gneiss/cpu.h>
#include <gneiss/heap.h>

#include "runtime/heap/heap.h"

enum { SLOTS = 4096, STEPS = 60000, MANY = 4096, MANY_BYTES = 2048 };

struct block {
    size_t n;
    uint64_t seed;
    uint64_t words[];
};

static struct block *_Atomic shared[SLOTS]; // whoever exchanges it owns it
static _Atomic unsigned wrong;
static unsigned steps = STEPS;
static uint64_t seed = 1;

static uint64_t next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    return *s ^= *s << 17;
}

// Small ones mostly; a few of many pages.
static size_t some_size(uint64_t r)
{
    unsigned k = r % 100;

    r /= 100;
    if (k < 70)
        return r % 512;
    if (k < 90)
        return r % 4096;
    return k < 99 ? r % 40000 : r % 300000;
}

static void sign(struct block *b, size_t n, uint64_t s)
{
    b->n = n;
    b->seed = s;
    size_t words = (n - sizeof *b) / 8;

    for (size_t i = 0; i < words; i += words / 16 + 1)
        b->words[i] = s + i;
    if (words > 0)
        b->words[words - 1] = s + words - 1;
}

static bool intact(const struct block *b)
{
    size_t words = (b->n - sizeof *b) / 8;

    for (size_t i = 0; i < words; i += words / 16 + 1) {
        if (b->words[i] != b->seed + i)
            return false;
    }
    return words == 0 || b->words[words - 1] == b->seed + words - 1;
}

static struct block *make(uint64_t *s)
{
    size_t n = sizeof(struct block) + some_size(next(s));
    unsigned how = next(s) % 8;
    struct block *b;

    if (how == 0) {
        size_t align = (size_t)16 << next(s) % 10;

        b = memalign(align, n);
        if (b != NULL && (uintptr_t)b % align != 0)
            wrong++;
    } else if (how == 1) {
        b = calloc(1, n);
        for (size_t i = 0; b != NULL && i < n; i++) {
            if (((char *)b)[i] != 0) {
                wrong++;
                break;
            }
        }
    } else {
        b = malloc(n);
    }
    if (b == NULL)
        return NULL;
    if ((uintptr_t)b % 16 != 0 || malloc_usable_size(b) < n)
        wrong++;
    sign(b, n, next(s));
    return b;
}

static struct block *resize(struct block *b, uint64_t *s)
{
    size_t n = sizeof(struct block) + some_size(next(s));
    struct block old = *b, *q = realloc(b, n);

    if (q == NULL)
        return b;
    if (q->n != old.n || q->seed != old.seed)
        wrong++;
    sign(q, n, next(s));
    return q;
}

static void churn(unsigned cpu, void *arg)
{
    uint64_t s = seed * 77 + cpu * 0x9e3779b97f4a7c15u + 1;

    (void)arg;
    for (unsigned i = 0; i < steps; i++) {
        struct block *_Atomic *at = &shared[next(&s) % SLOTS];
        struct block *b = atomic_exchange(at, NULL);

        if (b != NULL && !intact(b)) {
            wrong++;
            return;
        }
        if (b == NULL)
            b = make(&s);
        else if (next(&s) % 8 == 0)
            b = resize(b, &s);
        else {
            free(b);
            continue;
        }
        b = atomic_exchange(at, b);
        free(b); // another CPU was quicker
    }
}

static void free_all(void)
{
    for (unsigned i = 0; i < SLOTS; i++)
        free(atomic_exchange(&shared[i], NULL));
}

static void test_torture(void)
{
    par_run(churn, NULL);
    gn_heap_check();
    IS(wrong, 0, "blocks keep their contents, on all CPUs");
    free_all();
    gn_heap_check();
    ok(true, "and the heap its structures");
}

static void trim_here(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
    heap_trim();
}

static void test_it_comes_back(void)
{
    struct gn_heap_stats st;

    // Twice: what one CPU gives back may be another's.
    par_run(trim_here, NULL);
    par_run(trim_here, NULL);
    gn_heap_stats(&st);
    gn_heap_check();
    ok(st.promised < 4 * MIB, "what was freed is given back: %llu KiB are left",
       (unsigned long long)st.promised / KIB);
}

static void fill_up(unsigned cpu, void *arg)
{
    struct link {
        struct link *next;
    } *all = NULL, *l;
    size_t size = (size_t)48 << cpu % 4 * 3;
    unsigned n = 0;

    while ((l = malloc(size)) != NULL) {
        memset(l, 1, size);
        l->next = all;
        all = l;
        n++;
    }
    if (errno != ENOMEM || n == 0)
        wrong++;
    while (all != NULL) {
        l = all->next;
        free(all);
        all = l;
    }
    (void)arg;
}

static void test_out_of_memory(void)
{
    if (frame_stats().total > GIB / PAGE_SIZE)
        return; // it would take too long
    par_run(fill_up, NULL);
    gn_heap_check();
    IS(wrong, 0, "memory is filled up by all CPUs at once, ENOMEM, and freed");
    void *p = malloc(100000);

    ok(p != NULL, "there is some again");
    free(p);
}

// 80 % of memory in one block, from frames wherever they are. Of very much only a
// part is touched: it would take long.
static void test_most_of_memory(void)
{
    size_t n = (size_t)(frame_stats().total * 8 / 10 * PAGE_SIZE);
    size_t step = n > (size_t)2 * GIB ? 64 * PAGE_SIZE : PAGE_SIZE;
    char *p;

    if (frame_stats().total < 8 * MIB / PAGE_SIZE)
        return; // the image and the stacks are more than the rest
    heap_trim();
    p = calloc(1, n);
    if (!ok(p != NULL, "80 %% of memory at once: %u MiB", (unsigned)(n / MIB)))
        return;
    unsigned bad = 0;

    for (size_t i = 0; i < n; i += step) {
        bad += p[i] != 0;
        *(uint64_t *)(p + i) = i;
    }
    for (size_t i = 0; i < n; i += step)
        bad += *(uint64_t *)(p + i) != i;
    IS(bad, 0, "it can be used, all of it");
    free(p);
    heap_trim();
}

// Half of memory is freed: a second later 95 % of its frames are free, whether
// the CPU is idle or not. How long it really takes is a matter for benchmarks:
// here it may take a minute.
static void test_half_of_memory(bool idle)
{
    size_t n = (size_t)(frame_stats().total / 2 * PAGE_SIZE);
    uint64_t before = mm_free_frames(), end, now;
    char *p = malloc(n);

    if (p == NULL) {
        ok(false, "half of memory at once");
        return;
    }
    for (size_t i = 0; i < n; i += PAGE_SIZE)
        p[i] = 1;
    free(p);
    now = arch_mono_ns();
    end = now + UINT64_C(60000000000);
    while (mm_free_frames() + n / PAGE_SIZE / 20 + 64 < before &&
           arch_mono_ns() < end) {
        if (idle)
            usleep(1000);
    }
    ok(arch_mono_ns() < end, "of a large free 95 %% comes back while %s",
       idle ? "idle" : "busy");
    printf("# after %u ms\n", (unsigned)((arch_mono_ns() - now) / 1000000));
}

// Small objects of one CPU that another frees: their owner does nothing more with
// the heap, and what they lay in goes back all the same.
static void take_many(unsigned cpu, void *arg)
{
    (void)cpu;
    for (unsigned i = 0; i < MANY; i++)
        ((void **)arg)[i] = malloc(MANY_BYTES);
}

static void free_many(unsigned cpu, void *arg)
{
    (void)cpu;
    for (unsigned i = 0; i < MANY; i++)
        free(((void **)arg)[i]);
}

static void test_freed_elsewhere(void)
{
    static void *many[MANY];
    struct gn_heap_stats st;

    if (arch_cpu_count() == 1 || frame_stats().total < 64 * MIB / PAGE_SIZE)
        return;
    par_run(trim_here, NULL);
    par_run(trim_here, NULL);
    gn_heap_stats(&st);
    uint64_t before = st.promised;

    par_run_on(1, 2, take_many, many);
    par_run_on(0, 1, free_many, many);
    for (int ms = 0; ms < 60000; ms++) {
        gn_heap_stats(&st);
        if (st.promised < before + MANY * MANY_BYTES / 4)
            break;
        usleep(1000);
    }
    ok(st.promised < before + MANY * MANY_BYTES / 4,
       "what another CPU frees goes back: %llu of %u KiB are left",
       (unsigned long long)(st.promised - before) / KIB,
       MANY * MANY_BYTES / KIB);
    gn_heap_check();
}

// First of all: it moves to pages that were never used, but that heap.fill has
// stored to.
static void test_realloc_moves(void)
{
    enum { BYTES = 512 * 1024 };
    char *p = malloc(BYTES);
    char *volatile behind = malloc(BYTES); // or the compiler leaves it out
    const volatile uintptr_t was = (uintptr_t)p;

    if (!ok(p != NULL && behind != NULL, "two blocks of 512 KiB"))
        return;
    memset(p, 1, BYTES);
    char *q = realloc(p, 2 * BYTES);

    ok((uintptr_t)q != was && q[0] == 1 && memcmp(q, q + 1, BYTES - 1) == 0,
       "realloc of a large object that has no room behind it");
    free(q);
    free(behind);
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    if (argc > 1)
        steps = (unsigned)atoi(argv[1]);
    if (argc > 2)
        seed = (uint64_t)atoll(argv[2]);
    printf("# seed %llu, %u steps on each of %u CPUs\n",
           (unsigned long long)seed, steps, arch_cpu_count());
    test_realloc_moves();
    test_torture();
    test_it_comes_back();
    test_most_of_memory();
    test_half_of_memory(true);
    test_half_of_memory(false);
    test_freed_elsewhere();
    test_torture();
    test_out_of_memory();
    test_it_comes_back();
    return tap_end();
}
