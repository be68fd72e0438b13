// Every frame that is not lost, wherever it is: for tests on one thread that compare
// before and after.
//
// What mm keeps is counted by name: frames in caches and in the reserve, page
// tables, pages of descriptors. Nothing else is kept, but for a frame per CPU that
// it takes to give memory back (frames_start).
#pragma once

#include "host-tests/mm/descriptors.h"

#include "mm/fcache.h"
#include "mm/mm.h"

// Before the first count.
static inline void frames_start(void)
{
    mm_cpu_init();
}

// Those that no page has.
static inline uint64_t frames_known(void)
{
    spin_lock(&mm_lock);
    struct descriptors d = descriptors_count();

    spin_unlock(&mm_lock);
    return mm_free_frames() + frame_cache_stats().reserved + pt_tables() +
           descriptors_frames(d);
}
