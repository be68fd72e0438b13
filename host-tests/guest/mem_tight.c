// No frame is left: a stack still grows, from the reserve of its CPU, which
// nothing else may use (R14); and what comes when the reserve is empty as well.
//
// usage: mem_tight [die]

#include <stdatomic.h>
#include <stdint.h>

#include "host-tests/guest/none_left.h"
#include "host-tests/guest/par.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>

#include "mm/fcache.h"
#include "mm/mm.h"
#include "runtime/stack/stack.h"

enum { RESERVE = 12, GROWTH = 6 }; // frames; pages

// Fills the stack down to address `to`, and checks it on the way back.
static NOINLINE unsigned reach(uintptr_t to)
{
    volatile unsigned frame[128];

    frame[0] = (unsigned)(uintptr_t)frame;
    unsigned below = (uintptr_t)frame > to ? reach(to) : 0;

    return below + (frame[0] != (unsigned)(uintptr_t)frame);
}

static _Atomic unsigned ready, wrong, grown;

static void grow(unsigned cpu, void *arg)
{
    uintptr_t low = g_current()->low;

    (void)arg;
    // Everybody runs before the frames go: a goroutine needs some to begin.
    ready++;
    while (ready < arch_cpu_count())
        g_yield();
    if (cpu == 0) {
        arch_on_system_stack(take_all, NULL);
        ready++;
    }
    while (ready < arch_cpu_count() + 1)
        arch_pause();
    wrong += reach(low - GROWTH * PAGE_SIZE);
    grown += g_current()->low <= low - GROWTH * PAGE_SIZE;
    ready++;
    while (cpu == 0 && ready < 2 * arch_cpu_count() + 1)
        arch_pause();
    if (cpu == 0)
        arch_on_system_stack(give_all, NULL);
}

static void nothing(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
}

static void test_growth(void)
{
    uint64_t before = frame_cache_stats().reserved;

    IS(before, (uint64_t)RESERVE * arch_cpu_count(), "each CPU has a reserve");
    par_run(grow, NULL);
    IS(grown, arch_cpu_count(), "stacks grow when no frame is left");
    IS(wrong, 0, "and hold what is stored in them");
    for (int i = 0; i < 100 && frame_cache_stats().reserved < before; i++)
        par_run(nothing, NULL); // the scheduler of each CPU has a turn
    IS(frame_cache_stats().reserved, before, "the reserves are full again");
    mm_check();
}

// The reserve is enough for some pages, and then there is nothing.
static NOINLINE void die(void)
{
    arch_on_system_stack(take_all, NULL);
    reach(g_current()->low - 100 * PAGE_SIZE);
    ok(false, "memory came from nowhere");
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    frame_zeroed_max = 0;
    par_run(nothing, NULL);
    struct accounts before = settle();

    test_growth();
    is_settled(&before, "stacks that grew");
    if (argc > 1)
        die();
    (void)argv;
    return tap_end();
}
