// Who has every frame and every promise, exactly: for tests that compare before
// and after.
//
// Frames that a test has not lost are still not where they were: in caches of the
// CPUs, in the heap's, in the slots of goroutines that have ended (each keeps a
// warm page and the tables to it), or about to be given back by a CPU that has not
// come to it. So a goroutine that never ends, the *caretaker*, runs on each CPU
// when settle() asks: what ended there before is buried then, and it empties the
// CPU's caches. What is left out of place is counted by name.
//
// What is made once, at the first use, is no loss either: a round to warm up comes
// before the first settle() that counts.
#pragma once

#include <gneiss/heap.h>
#include <stdatomic.h>

#include "host-tests/guest/tap.h"
#include "host-tests/mm/descriptors.h"

#include "mm/fcache.h"
#include "mm/mm.h"
#include "runtime/sched/p.h"
#include "runtime/sched/sched.h"
#include "runtime/stack/stack.h"

struct accounts {
    uint64_t free, reserved; // frames that nobody has; of the stacks' reserve
    uint64_t tables;         // page tables, all of them
    uint64_t top_tables;     // of these: the top level of regions, which stay
    uint64_t stacks;         // pages of stacks, and what else goroutines have
    uint64_t stack_tables;   // tables to these
    uint64_t descriptors;    // frames with those of regions
    uint64_t committed;      // promised pages
};

static struct caretaker {
    struct g *g;
    _Atomic bool parked;
} caretakers[ARCH_MAX_CPUS];

// ---- the caretakers ----

static void tend(void *arg)
{
    (void)arg;
    frame_cache_flush();
    frame_reserve_refill();
}

// Runs in the scheduler: the goroutine can be woken from now on.
static void has_parked(void *arg)
{
    struct caretaker *c = arg;

    atomic_store(&c->parked, true);
}

static void caretaker(void *arg)
{
    for (;;) {
        g_park("a caretaker's turn", has_parked, arg);
        gn_heap_trim();
        arch_on_system_stack(tend, NULL);
    }
}

static void wait_until_parked(struct caretaker *c)
{
    while (!atomic_load(&c->parked))
        g_sleep_until(arch_mono_ns() + 50 * 1000);
}

static void start_caretakers(void)
{
    for (unsigned i = 0; i < arch_cpu_count(); i++) {
        struct caretaker *c = &caretakers[i];

        c->g = g_create(caretaker, c, "caretaker", (int)i);
        if (c->g == NULL)
            abort();
        g_ready(c->g);
        wait_until_parked(c);
    }
}

// ---- counting ----

// Tables of the levels above `level` in [start, end), of which `table` is one.
static uint64_t tables_in(const pte_t *table, int level, uintptr_t base,
                          uintptr_t start, uintptr_t last)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        pte_t e = pt_get(&table[i]);
        uintptr_t va = base + i * pte_span(level);

        if (level == PT_LEVELS && i >= PT_ENTRIES / 2)
            va |= UINT64_C(0xffff) << 48;
        if (!pte_present(e) || pte_is_leaf(e, level) || va > last ||
            va + (pte_span(level) - 1) < start)
            continue;
        n += (level > 2 || (e & PTE_SHARED) == 0) +
             (level > 2 ? tables_in(arch_direct(pte_paddr(e)), level - 1, va,
                                    start, last)
                        : 0);
    }
    return n;
}

static uint64_t tables_of(uintptr_t start, uintptr_t end)
{
    return tables_in(arch_pt_root(), PT_LEVELS, 0, start, end - 1);
}

static uint64_t top_tables_of(uintptr_t start, uintptr_t end)
{
    uint64_t n = 0;

    for (uintptr_t va = start; va < end; va += pte_span(PT_LEVELS))
        n += pte_present(pt_get(&arch_pt_root()[pte_index(va, PT_LEVELS)]));
    return n;
}

static void count_locked(struct accounts *a)
{
    const uintptr_t slots = ARCH_SLOTS_BASE, slots_end = slots + pte_span(3);

    a->tables = pt_tables();
    a->top_tables = top_tables_of(ARCH_REGION_BASE, ARCH_REGION_END);
    a->stack_tables = pt_shared_tables() +
                      tables_of(ARCH_STACK_BASE, ARCH_STACK_END) +
                      tables_of(slots, slots_end);
    a->descriptors = descriptors_frames(descriptors_count());
}

static uint64_t pages_of_stacks(void)
{
    size_t slots = 0;

    while (stack_nth(slots) != NULL)
        slots++;
    uintptr_t va = ARCH_STACK_BASE + slots * STACK_SLOT_BYTES;
    // Structs are mapped before slots count: those of a call that failed stay.
    uintptr_t end = (uintptr_t)g_of_slot(slots + STACK_LIMIT_MAX / (64 * MIB));

    return mm_count_resident(ARCH_STACK_BASE, va) +
           mm_count_resident(ARCH_SLOTS_BASE, align_up(end, PAGE_SIZE));
}

static void count_all(void *arg)
{
    struct accounts *a = arg;

    spin_lock(&mm_lock);
    count_locked(a);
    spin_unlock(&mm_lock);
    a->stacks = pages_of_stacks() +
                atomic_load_explicit(&preempt_frames, memory_order_relaxed);
    a->free = mm_free_frames();
    a->reserved = frame_cache_stats().reserved;
    a->committed = mm_commit().committed;
}

// ---- for tests ----

// Has everything given back that can be, and counts. Context: the goroutine of
// main(), when no other works.
static struct accounts settle(void)
{
    struct accounts a = {0};
    uint64_t zeroed = frame_zeroed_max;

    frame_zeroed_max = 0; // idle CPUs take none while it is counted
    if (caretakers[0].g == NULL) {
        printf("# frames are counted\n"); // the buffer of stdout is there
        start_caretakers();
    }
    // Twice: objects that another CPU has freed go home first.
    for (unsigned i = 0; i < 2 * arch_cpu_count(); i++) {
        struct caretaker *c = &caretakers[i % arch_cpu_count()];

        atomic_store(&c->parked, false);
        g_ready(c->g);
        wait_until_parked(c);
    }
    arch_on_system_stack(count_all, &a);
    frame_zeroed_max = zeroed;
    return a;
}

// Frames that are accounted for.
static uint64_t frames_known(const struct accounts *a)
{
    return a->free + a->reserved + a->tables + a->stacks + a->descriptors;
}

// Those that no page of a program has, now.
__attribute__((unused)) static uint64_t known_now(void)
{
    struct accounts a = settle();

    return frames_known(&a);
}

// Three points: not one frame, table or promise is lost, or there twice.
static void is_settled(const struct accounts *before, const char *what)
{
    struct accounts after = settle();

    printf("# %s: %lu frames free, were %lu; of stacks %lu, were %lu\n", what,
           (unsigned long)after.free, (unsigned long)before->free,
           (unsigned long)after.stacks, (unsigned long)before->stacks);
    IS(frames_known(&after), frames_known(before), "every frame comes back");
    IS(after.tables - after.stack_tables - after.top_tables,
       before->tables - before->stack_tables - before->top_tables,
       "every page table, too");
    IS(after.committed - after.stacks - after.stack_tables,
       before->committed - before->stacks - before->stack_tables,
       "and every promise");
}
