// 100,000 random operations on ranges against a model, with every page's
// contents compared, as on the host (host-tests/mm/test_vm.c). The CPUs take turns:
// each finds what the others left, through translations that it may remember from
// its last turn. Those whose turn it is not map, store and unmap meanwhile, in
// memory of their own, and sleep between: where there are fewer real CPUs than
// these, each shootdown waits for all that don't until the host has run them.
//
// usage: mem_model [STEPS [SEED]]

#include <stdint.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/tap.h"

#include "mm/fcache.h"
#include "mm/mm.h"

static uint64_t seed = 20261121;

// splitmix64.
static uint64_t support_random(void)
{
    uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t support_below(uint64_t n)
{
    return support_random() % n;
}

static void __attribute__((format(printf, 1, 2), noreturn))
fail_msg(const char *format, ...)
{
    va_list ap;

    va_start(ap, format);
    printf("not ok - ");
    vprintf(format, ap);
    printf("\n");
    va_end(ap);
    exit(1);
}

#include "host-tests/mm/model.h"

enum { TURN = 32, CHECK_EVERY = 500, NAP_NS = 200 * 1000 }; // steps, steps, ns

static int steps = 100000;
static _Atomic int next_step; // [the CPU whose turn it is] writes
static _Atomic unsigned foreign, noises;

// Whose turn the step is; pairs with the release in work().
static unsigned turn_of(int step)
{
    return (unsigned)(step / TURN) % arch_cpu_count();
}

static int now(void)
{
    return atomic_load_explicit(&next_step, memory_order_acquire);
}

static void noise(unsigned cpu, uint64_t i)
{
    uintptr_t va = 0;
    size_t n = 1 + i % 9;

    if (vm_map(&va, n * PAGE_SIZE, MODEL_RW, 0, "noise") != 0)
        return;
    for (size_t k = 0; k < n; k++) {
        foreign += *model_word(va + k * PAGE_SIZE) != 0;
        *model_word(va + k * PAGE_SIZE) = (i << 8) + cpu;
    }
    for (unsigned k = 0; k < 200; k++)
        arch_pause();
    for (size_t k = 0; k < n; k++)
        foreign += *model_word(va + k * PAGE_SIZE) != (i << 8) + cpu;
    foreign += vm_unmap(va, n * PAGE_SIZE) != 0;
    noises++;
}

static void work(unsigned cpu, void *arg)
{
    uint64_t i = 1;

    (void)arg;
    for (int step = now(); step < steps; step = now()) {
        if (turn_of(step) == cpu) {
            int end = step + TURN < steps ? step + TURN : steps;

            model_do(step, end, CHECK_EVERY, NULL);
            atomic_store_explicit(&next_step, end, memory_order_release);
        } else {
            if (turn_of(step + TURN) == cpu)
                noise(cpu, i++);
            g_sleep_until(arch_mono_ns() + NAP_NS);
        }
    }
}

static void flush(void *arg)
{
    (void)arg;
    frame_cache_flush();
}

static uint64_t settled(void)
{
    arch_on_system_stack(flush, NULL);
    return mm_free_frames() + pt_tables();
}

static void nothing(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        steps = atoi(argv[1]);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 0);
    printf("# seed %llu\n", (unsigned long long)seed);
    frame_zeroed_max = 0; // idle CPUs hold no frames while they are counted
    par_run(nothing, NULL);
    // A half is for tables and for what the others map.
    model_most = room_for(MODEL_PAGES, 2);
    model_has_large = model_most > 2 * MODEL_LARGE_PAGES;
    uint64_t before = settled();

    par_run(work, NULL);
    model_end(steps);
    printf("# %u times something else\n", (unsigned)noises);
    ok(true, "%d random steps agree with a model", steps);
    IS(foreign, 0, "nobody else's memory was touched");
    // Descriptors stay, a batch for each CPU, and a page of a goroutine's stack.
    ok(settled() + 8 + 6 * arch_cpu_count() >= before,
       "the frames are free again (%lu, were %lu)", (unsigned long)settled(),
       (unsigned long)before);
    return tap_end();
}
