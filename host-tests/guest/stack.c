// Stacks that grow, and what is per goroutine.
//
// usage: stack [quick]

#include <alloca.h>
#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>

#include "mm/mm.h"
#include "runtime/stack/stack.h"

static unsigned churn = 10000;

// ---- depth ----

enum { FRAME = 1024, DEEP_BYTES = 32 * MIB };

static volatile uintptr_t deepest;

// Fills its frame on the way down and checks it on the way up.
static NOINLINE unsigned recurse(unsigned levels)
{
    volatile unsigned frame[FRAME / sizeof(unsigned)];

    frame[0] = levels;
    frame[FRAME / sizeof(unsigned) - 1] = ~levels;
    deepest = (uintptr_t)frame;
    unsigned below = levels == 0 ? 0 : recurse(levels - 1);

    return below + (frame[0] == levels &&
                    frame[FRAME / sizeof(unsigned) - 1] == ~levels);
}

static unsigned compared;
static unsigned qsort_levels;

static int compare(const void *a, const void *b)
{
    if (compared++ == 0)
        qsort_levels = recurse(DEEP_BYTES / FRAME);
    return *(const int *)a - *(const int *)b;
}

static NOINLINE unsigned big_frame(unsigned levels)
{
    volatile char big[300 * KIB];

    big[0] = 1;
    big[sizeof big - 1] = 2;
    big[sizeof big / 2] = 3;
    unsigned below = levels == 0 ? 0 : big_frame(levels - 1);

    return below + (big[0] == 1 && big[sizeof big - 1] == 2 &&
                    big[sizeof big / 2] == 3);
}

static NOINLINE unsigned call_alloca(size_t bytes, unsigned levels)
{
    volatile char *p = alloca(bytes);

    p[0] = 1;
    p[bytes - 1] = 2;
    unsigned below = levels == 0 ? 0 : call_alloca(bytes, levels - 1);

    return below + (p[0] == 1 && p[bytes - 1] == 2);
}

static void test_depth(void)
{
    int a[] = {5, 3, 1, 4, 2};
    char here;

    IS(recurse(DEEP_BYTES / FRAME), DEEP_BYTES / FRAME + 1,
       "recursion to 32 MiB");
    ok((uintptr_t)&here - deepest > DEEP_BYTES, "it was that deep");
    IS(recurse(DEEP_BYTES / FRAME), DEEP_BYTES / FRAME + 1, "and once more");
    qsort(a, 5, sizeof a[0], compare);
    IS(qsort_levels, DEEP_BYTES / FRAME + 1,
       "recursion to 32 MiB in a call-back of qsort");
    ok(a[0] == 1 && a[1] == 2 && a[2] == 3 && a[3] == 4 && a[4] == 5,
       "which sorts nevertheless");
    IS(big_frame(50), 51, "frames of 300 KiB");
    IS(call_alloca(MIB, 30), 31, "alloca of 1 MiB, 31 times");
    IS(call_alloca(20 * MIB, 0), 1, "alloca of 20 MiB");
}

// Not even in slots, where a page may stay.
static void is_all_back(const struct accounts *before, const char *what)
{
    is_settled(before, what);
    IS(settle().stacks, before->stacks, "no stack keeps more than before");
}

static _Atomic unsigned deep_right;

static void deep_there(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
    if (recurse(8 * MIB / FRAME) == 8 * MIB / FRAME + 1 &&
        big_frame(20) == 21 && call_alloca(MIB, 3) == 4)
        atomic_fetch_add(&deep_right, 1);
}

static void test_all_cpus(void)
{
    settle();                  // its goroutines have slots
    par_run(deep_there, NULL); // a page of each slot stays
    deep_right = 0;
    struct accounts before = settle();

    par_run(deep_there, NULL);
    IS(deep_right, arch_cpu_count(), "all CPUs recurse at once");
    is_all_back(&before, "deep stacks");
}

// ---- addresses ----

static NOINLINE void test_addresses(void)
{
    int local = 42;
    int *volatile address = &local;
    volatile uintptr_t before = (uintptr_t)&local;

    recurse(2 * MIB / FRAME);
    g_yield();
    ok(before == (uintptr_t)&local && *address == 42,
       "a local stays where it is");
    struct g *g = g_current();

    ok((uintptr_t)&local < stack_top(g) &&
           (uintptr_t)&local > stack_top(g) - STACK_SLOT_BYTES &&
           stack_owner((uintptr_t)&local) == g,
       "in the slot of its goroutine");
}

// ---- reuse ----

struct child {
    _Atomic bool done;
    unsigned levels; // of recursion, 0: a few
    bool stay;       // until released
    _Atomic bool *release;
};

static void child(void *arg)
{
    struct child *c = arg;

    recurse(c->levels != 0 ? c->levels : 20);
    while (c->stay && !*c->release)
        g_yield();
    c->done = true;
}

static struct g *start_child(struct child *c, unsigned cpu)
{
    struct g *g = g_create(child, c, "child", (int)cpu);

    if (g == NULL)
        abort();
    g_ready(g);
    return g;
}

// More slots at a time than the test will use, so that all of them are warm.
static void warm_up(unsigned cpu, void *arg)
{
    struct child c[4];
    _Atomic bool release = false;

    (void)arg;
    for (int i = 0; i < 4; i++) {
        c[i] = (struct child){.stay = true, .release = &release};
        start_child(&c[i], cpu);
    }
    for (int i = 0; i < 20; i++)
        g_yield();
    release = true;
    for (int i = 0; i < 4; i++) {
        while (!c[i].done)
            g_yield();
    }
}

static void make_many(unsigned cpu, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < churn / arch_cpu_count(); i++) {
        struct child c = {.stay = false};

        start_child(&c, cpu);
        while (!c.done)
            g_yield();
    }
}

static void test_reuse(void)
{
    par_run(warm_up, NULL);
    par_run(warm_up, NULL);
    struct accounts before = settle();

    par_run(make_many, NULL);
    is_all_back(&before, "goroutines come and go");
    // of what main's own deep stack has left; newlib gives 2 GiB at most
    size_t most = (size_t)(mm_free_frames() / 10 * 9) * PAGE_SIZE;

    if (most > GIB)
        most = GIB;
    void *volatile p = malloc(most);

    ok(p != NULL, "nor is a promise: 90 %% of what is free can be had");
    free(p);
    struct child c = {.levels = 4 * MIB / FRAME};

    before = settle();
    struct g *first = start_child(&c, 0);

    while (!c.done)
        g_yield();
    is_all_back(&before, "a deep stack");
    ok(g_slot(first) < 16 * arch_cpu_count(), "slots are reused");
    arch_on_system_stack((void (*)(void *))(uintptr_t)frame_check, NULL);
}

// ---- per goroutine ----

static _Thread_local int tls_value = 42;
static _Thread_local int tls_zero;
static _Thread_local char tls_text[] = "initial";
static _Thread_local _Alignas(64) char tls_aligned[64];
static _Atomic unsigned tls_wrong, errno_wrong;

static void use_tls(unsigned cpu, void *arg)
{
    (void)arg;
    if (tls_value != 42 || tls_zero != 0 || strcmp(tls_text, "initial") != 0 ||
        (uintptr_t)tls_aligned % 64 != 0 || tls_aligned[63] != 0)
        atomic_fetch_add(&tls_wrong, 1);
    tls_value = (int)cpu;
    tls_zero = (int)cpu + 1;
    tls_aligned[63] = (char)cpu;
    tls_text[0] = (char)('a' + cpu % 26);
    for (int i = 0; i < 100; i++) {
        errno = (int)cpu * 1000 + i;
        g_yield();
        if (errno != (int)cpu * 1000 + i)
            atomic_fetch_add(&errno_wrong, 1);
        if (tls_value != (int)cpu || tls_zero != (int)cpu + 1 ||
            tls_aligned[63] != (char)cpu)
            atomic_fetch_add(&tls_wrong, 1);
    }
}

static void use_tls_pair(unsigned cpu, void *arg)
{
    // Two on each CPU, so that they really take turns.
    par_run_on(cpu, cpu + 1, use_tls, arg);
    use_tls(cpu, arg);
}

static void test_per_goroutine(void)
{
    errno = 77;
    par_run(use_tls_pair, NULL);
    IS(tls_wrong, 0, "_Thread_local variables are per goroutine");
    IS(errno_wrong, 0, "errno is per goroutine");
    IS(errno, 77, "main's errno is its own");
    ok(tls_value == 42 && tls_zero == 0, "main's variables are its own");
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    if (argc > 1 && strcmp(argv[1], "quick") == 0)
        churn = 1000;
    test_depth();
    test_all_cpus();
    test_addresses();
    test_reuse();
    test_per_goroutine();
    return tap_end();
}
