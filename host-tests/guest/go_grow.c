// Stacks that grow where it is least convenient: on all CPUs at once with the
// reserves of frames empty, while others take memory back all the time, inside the C
// library and its call-backs, and while another goroutine writes into their frames.
//
// usage: go_grow [ROUNDS]

#include "host-tests/guest/none_left.h"
#include "host-tests/guest/par.h"
#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/stack.h>
#include <gneiss/sync.h>

#include <stdint.h>
#include <string.h>

static unsigned rounds = 3;
static _Atomic unsigned wrong;

// Fills `bytes` of stack at least and looks whether all is kept.
static NOINLINE unsigned dive(size_t bytes)
{
    volatile uintptr_t frame[64];
    unsigned bad = 0;

    for (size_t i = 0; i < ARRAY_LEN(frame); i++)
        frame[i] = (uintptr_t)&frame[i] ^ bytes;
    if (bytes > sizeof frame)
        bad = dive(bytes - sizeof frame);
    for (size_t i = 0; i < ARRAY_LEN(frame); i++)
        bad += frame[i] != ((uintptr_t)&frame[i] ^ bytes);
    return bad;
}

// ---- with empty reserves ----

enum { EMPTY_GROWTH = 64 * 1024 };

static _Atomic unsigned begun, turn, grown;

static void empty_reserve(void *arg)
{
    (void)arg;
    take_reserve();
}

// The reserve stays empty while no-preempt is above zero; one after another, since
// requests of all fail meanwhile.
static void grow_without(unsigned cpu, void *arg)
{
    unsigned n = arch_cpu_count();

    (void)arg;
    begun++;
    while (begun < n) // whoever starts the others has done so
        gn_yield();
    preempt_disable();
    while (turn != cpu)
        arch_relax();
    arch_on_system_stack(empty_reserve, NULL);
    turn++;
    while (turn < n) // then all at once
        arch_relax();
    wrong += dive(EMPTY_GROWTH);
    grown += frame_reserve_low();
    turn++;
    while (turn < 2 * n)
        arch_relax();
    preempt_enable();
}

static void reserves_are_empty(void)
{
    unsigned n = arch_cpu_count();

    for (unsigned i = 0; i < rounds; i++) {
        begun = turn = grown = 0;
        par_run(grow_without, NULL);
        arch_on_system_stack(give_all, NULL);
        if (grown != n)
            break;
    }
    IS(grown, n, "stacks grow on all CPUs, reserves empty");
    IS(wrong, 0, "and keep what is stored in them");
}

// ---- in the C library ----

static struct gn_wg all;

enum { NUMBERS = 60, TEXT = 40 };

static uint32_t next(uint32_t *r)
{
    *r = *r * 1664525 + 1013904223;
    return *r >> 8;
}

static int compare_deep(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;

    wrong += dive((size_t)(x ^ y) % 40000);
    if (y % 31 == 0)
        gn_stack_trim();
    return x < y ? -1 : x > y;
}

static void sort_deep(uint32_t *r)
{
    int n[NUMBERS];

    for (unsigned i = 0; i < NUMBERS; i++)
        n[i] = (int)next(r);
    qsort(n, NUMBERS, sizeof n[0], compare_deep);
    for (unsigned i = 1; i < NUMBERS; i++)
        wrong += n[i - 1] > n[i];
}

// Just above a page, or some pages, that the stack has not had yet, or no more.
static NOINLINE void print_at_depth(uint32_t *r, size_t bytes)
{
    volatile char frame[256];

    frame[0] = 1;
    if (bytes > sizeof frame) {
        print_at_depth(r, bytes - sizeof frame);
    } else {
        char text[TEXT], again[TEXT];
        double x = (double)next(r) / 1024 + 0.125;
        char *end;

        snprintf(text, sizeof text, "%.10f;", x);
        double y = strtod(text, &end);

        snprintf(again, sizeof again, "%.10f;", y);
        wrong += x != y || *end != ';' || strcmp(text, again) != 0;
    }
    wrong += frame[0] != 1;
}

static void use_library(void *arg)
{
    uint32_t r = (uint32_t)(uintptr_t)arg * 7919 + 1;

    for (unsigned i = 0; i < rounds; i++) {
        sort_deep(&r);
        gn_stack_trim();
        print_at_depth(&r, next(&r) % 60000);
        gn_stack_trim();
        print_at_depth(&r, next(&r) % 6000);
    }
    gn_wg_done(&all);
}

static void in_the_library(void)
{
    unsigned n = 3 * gn_cpu_count();

    wrong = 0;
    gn_wg_add(&all, n);
    for (uintptr_t i = 0; i < n; i++) {
        if (gn_go(use_library, (void *)i) != 0)
            abort();
    }
    gn_wg_wait(&all);
    IS(wrong, 0, "stacks grow in printf, strtod and call-backs of qsort");
}

// ---- two write into each other's frames ----

enum { CELLS = 600 }; // more than a page

struct frame {
    _Atomic unsigned cell[CELLS];
};

static struct pair {
    struct frame *_Atomic frame[2];
    _Atomic unsigned left;
} pairs[2 * ARCH_MAX_CPUS];

static void write_over(void *arg)
{
    unsigned id = (unsigned)(uintptr_t)arg, me = id % 2;
    struct pair *pair = &pairs[id / 2];
    struct frame mine;
    uint32_t r = id * 104729 + 1;

    for (unsigned i = 0; i < CELLS; i++)
        mine.cell[i] = 0;
    pair->frame[me] = &mine;
    while (pair->frame[1 - me] == NULL)
        gn_yield();
    struct frame *other = pair->frame[1 - me];

    for (unsigned i = 0; i < CELLS * rounds; i++) {
        atomic_fetch_add(&other->cell[i % CELLS], 1);
        if (i % 32 == 0)
            wrong += dive(next(&r) % 150000);
        if (me == 0 && i % 64 == 0)
            gn_stack_trim();
    }
    pair->left++;
    while (pair->left < 2)
        gn_yield();
    for (unsigned i = 0; i < CELLS; i++)
        wrong += mine.cell[i] != rounds;
    pair->left++;
    while (pair->left < 4) // the other may look at nothing of mine any more
        gn_yield();
    gn_wg_done(&all);
}

static void into_each_other(void)
{
    unsigned n = 2 * (gn_cpu_count() + 1);

    wrong = 0;
    memset(pairs, 0, sizeof pairs);
    gn_wg_add(&all, n);
    for (uintptr_t i = 0; i < n; i++) {
        if (gn_go(write_over, (void *)i) != 0)
            abort();
    }
    gn_wg_wait(&all);
    IS(wrong, 0,
       "two write into each other's frames, both grow, one is trimmed");
}

// ---- under pressure ----

static _Atomic bool stop;
static struct gn_wg reclaimers;

static void take_back(void *arg)
{
    enum { PAUSE_NS = 1000000 };

    (void)arg;
    while (!stop) {
        mm_reclaim(64);
        g_sleep_until(arch_mono_ns() + PAUSE_NS);
    }
    gn_wg_done(&reclaimers);
}

static void leave_little(void *arg)
{
    enum { LEFT = 3000 };
    paddr_t p;

    (void)arg;
    while (mm_free_frames() > LEFT &&
           (p = frame_alloc(6, FRAME_DIRTY)).raw != 0)
        keep(p, 6);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    reserves_are_empty();
    in_the_library();
    into_each_other();
    printf("# the same with little memory, which is taken back all the time\n");
    stop = false;
    gn_wg_add(&reclaimers, 1);
    if (gn_go(take_back, NULL) != 0)
        abort();
    arch_on_system_stack(leave_little, NULL);
    in_the_library();
    into_each_other();
    stop = true;
    gn_wg_wait(&reclaimers);
    arch_on_system_stack(give_all, NULL);
    mm_check();
    return tap_end();
}
