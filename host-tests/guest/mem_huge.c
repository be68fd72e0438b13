// 1 GiB pages while all CPUs store to the memory: no store and no D bit is lost
// when it is promoted, cut, moved; what lies there is what was stored.
//
// usage: mem_huge [ROUNDS]

#include "host-tests/guest/mem_test.h"
#include "host-tests/guest/par.h"
#include "host-tests/guest/settle.h"

#include <gneiss/cpu.h>

#include "mm/mm.h"

#define GIBI ((size_t)1 << 30)

enum { SLOTS = 64, NAP_NS = 100 * 1000 };

static unsigned rounds = 1; // each takes another block of 1 GiB
static char *volatile base;
static _Atomic unsigned wrong, missed;
static _Atomic bool over;

// Page of the k-th counter of a CPU: all over the gibibyte.
static volatile uint64_t *counter(unsigned cpu, unsigned k)
{
    size_t page = ((size_t)k * 4099 + cpu * 131) % (GIBI / PAGE);

    return (volatile uint64_t *)(base + page * PAGE + 64 * cpu);
}

static size_t noted;
static uint64_t mine[ARCH_MAX_CPUS][SLOTS];

static void store_often(unsigned cpu)
{
    for (unsigned i = 0; !over; i++) {
        unsigned k = i % SLOTS;

        wrong += *counter(cpu, k) != mine[cpu][k];
        *counter(cpu, k) = ++mine[cpu][k];
        // With fewer real CPUs than these, who waits for all waits for long.
        if (k == 0)
            g_sleep_until(arch_mono_ns() + NAP_NS);
    }
}

// Waits until every other CPU has stored once more.
static void let_them_store(void)
{
    for (unsigned cpu = 1; cpu < arch_cpu_count(); cpu++) {
        uint64_t was = *(volatile uint64_t *)&mine[cpu][0];

        while (*(volatile uint64_t *)&mine[cpu][0] == was)
            g_sleep_until(arch_mono_ns() + NAP_NS);
    }
}

// All at once: with gn_watch_collect, which asks again, nobody would be done
// while others store.
static void note(uintptr_t page, void *arg)
{
    (void)arg;
    noted += page >= (uintptr_t)base && page < (uintptr_t)base + GIBI;
}

static void work(unsigned cpu, void *arg)
{
    size_t large = *(size_t *)arg, most = GIBI / HUGE;
    int w;

    if (cpu != 0) {
        store_often(cpu);
        return;
    }
    w = gn_watch_new();
    for (unsigned i = 0; i < rounds; i++) {
        let_them_store();
        IS(gn_advise(base, GIBI, GN_PROMOTE), most, "promoted");
        IS(look(base + GIBI / 2).page_bytes, large, "to the largest pages");
        let_them_store();
        IS(gn_advise(base, GIBI, GN_PROMOTE), most, "they stay");
        IS(gn_watch(w, base), 0, "watched");
        put(base + 5 * PAGE, 1);
        noted = 0;
        (void)dirty_collect(w, (uintptr_t)base, note, NULL);
        missed += noted < large / PAGE;
        IS(gn_watch_end(w), 0, "watched no more");
        w = gn_watch_new();
        // Reading goes on, stores come again when they may.
        IS(gn_protect(base + 7 * PAGE, PAGE, GN_READ), 0, "a page protected");
        IS(look(base + 8 * PAGE).page_bytes, PAGE, "is cut out");
        IS(look(base + 4 * HUGE).page_bytes, HUGE, "of 2 MiB");
        IS(gn_protect(base + 7 * PAGE, PAGE, RW), 0, "and back");
        let_them_store();
    }
    gn_watch_end(w);
    over = true;
}

static bool all_as_stored(void)
{
    for (unsigned cpu = 1; cpu < arch_cpu_count(); cpu++) {
        for (unsigned k = 0; k < SLOTS; k++) {
            if (*counter(cpu, k) != mine[cpu][k])
                return false;
        }
    }
    return true;
}

static void moved_and_shared(size_t large)
{
    char *to, *s;

    IS(gn_advise(base, GIBI, GN_PROMOTE), GIBI / HUGE, "promoted again");
    IS(stats().pages_1gib, large == GIBI, "counted");
    to = gn_remap(base, GIBI, GIBI, GN_MOVE, NULL);
    ok(to != NULL && look(to).page_bytes == large, "moved in one piece");
    base = to;
    ok(all_as_stored(), "with its contents");
    s = gn_snapshot(base + 5 * HUGE, HUGE);
    ok(s != NULL && look(base + 5 * HUGE).cow, "a part is shared");
    IS(look(base).page_bytes, HUGE, "the rest is cut to 2 MiB");
    gn_unmap(s, HUGE);
    ok(gn_remap(base, GIBI, GIBI, GN_FIXED, base + 3 * GIBI + PAGE) != NULL,
       "moved by a page");
    base += 3 * GIBI + PAGE;
    IS(look(base).page_bytes, PAGE, "all is small");
    ok(all_as_stored(), "with its contents");
    IS(gn_advise(base + 100 * PAGE, PAGE, GN_DISCARD), 0, "a page discarded");
    IS(gn_unmap(base, GIBI), 0, "and unmapped");
    IS(stats().pages_2mib + stats().pages_1gib, 0, "none is left");
}

// What a CPU takes the first time stays: pages, and objects of them.
static void use_heap(unsigned cpu, void *arg)
{
    void *volatile p = malloc(16 * KIB); // or the compiler leaves it out

    (void)cpu, (void)arg;
    free(p);
}

int main(int argc, char **argv)
{
    size_t large = pt_max_level >= 3 ? GIBI : HUGE;
    struct accounts before;

    gn_cpu_stay(0);
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 0);
    grow_stack();
    par_run(use_heap, NULL);
    before = settle();
    base = map(GIBI / PAGE, 0);
    IS((uintptr_t)base % GIBI, 0, "at a multiple of 1 GiB");
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++)
        for (unsigned k = 0; k < SLOTS; k++)
            *counter(cpu, k) = 0;
    par_run(work, &large);
    IS(wrong, 0, "every CPU finds what it stored");
    IS(missed, 0, "and the stores are reported");
    ok(all_as_stored(), "all is there in the end");
    moved_and_shared(large);
    mm_check();
    is_settled(&before, "a gibibyte");
    return tap_end();
}
