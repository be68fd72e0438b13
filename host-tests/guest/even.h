// What must come out even in tests of mm's calls that fail requests for frames: its
// own frames and promises. (settle.h counts those of the layers above, too.)
#pragma once

#include "host-tests/guest/tap.h"
#include "host-tests/mm/descriptors.h"

#include "mm/fcache.h"
#include "mm/mm.h"

struct accounts {
    uint64_t frames, tables, committed;
};

static uint64_t even_taken;

// Takes all descriptors of regions, so that the next call needs a frame; puts them
// back; fills the reserve of stacks. Context: system stack.
static inline void even_take(void *arg)
{
    (void)arg;
    spin_lock(&mm_lock);
    even_taken = descriptors_take();
    spin_unlock(&mm_lock);
}

static inline void even_give(void *arg)
{
    (void)arg;
    spin_lock(&mm_lock);
    descriptors_give();
    spin_unlock(&mm_lock);
}

static inline void even_refill(void *arg)
{
    (void)arg;
    frame_reserve_refill();
}

static inline struct accounts accounts(void)
{
    struct accounts a;

    arch_on_system_stack(even_take, NULL);
    a.tables = pt_tables();
    a.frames = mm_free_frames() + frame_cache_stats().reserved + a.tables +
               even_taken / (PAGE_SIZE / sizeof(struct region));
    arch_on_system_stack(even_give, NULL);
    a.committed = mm_commit().committed;
    return a;
}

__attribute__((unused)) static NOINLINE unsigned deep(unsigned levels)
{
    volatile unsigned here[256];

    here[0] = levels;
    return levels == 0 ? 0 : deep(levels - 1) + (here[0] == levels);
}

// Before anything is counted.
static inline void accounts_start(void)
{
    frame_zeroed_max = 0; // idle CPUs hold no frames while they are counted
    deep(64);             // the stack takes no frame later
    printf("# %u CPUs\n", arch_cpu_count());
}
