// What is mapped where, and how much, as values: for gn_where() and statistics.
#pragma once

#include "mm/region.h"

// What mm knows about one address. The range is the region's; without one
// (in_region false) it is the gap between two, and only the page's part counts.
struct mm_look {
    uintptr_t start, end; // end 0: the end of the address space
    bool in_region;
    const struct region_ops *ops;
    const char *name;
    unsigned prot, flags; // enum prot; enum region_flags
    unsigned views;       // regions that show the memory, this one counted

    int level;       // of the entry that maps it, 1..3; 0: none does
    bool mapped;     // the hardware finds a frame there
    bool kept;       // there is a frame, but no right to it now
    unsigned rights; // what the entry allows
    bool accessed, dirty, cow, zero_frame;
    uint64_t frame; // number of the 4 KiB frame, if mapped or kept
    uint32_t users; // entries that share it; 0: not counted
};

// Context: mm_lock held.
void mm_look(uintptr_t va, struct mm_look *l);

// One step of the hardware's walk from the root to the entry for an address.
struct mm_walk_step {
    int level; // 4 down to 1
    unsigned index;
    pte_t entry;
    bool present, leaf;
};

// Returns the number of steps, 0 if va is not canonical. Context: mm_lock held.
unsigned mm_walk(uintptr_t va, struct mm_walk_step steps[PT_LEVELS]);

// Pages of [start, end) that have a frame (those that show the zero frame
// don't). Context: system stack; takes mm_lock, for short spans.
uint64_t mm_count_resident(uintptr_t start, uintptr_t end);

// Events since boot.
struct mm_events {
    uint64_t faults;     // page faults, growing stacks included
    uint64_t zero_fills; // pages that they gave a cleared frame
    uint64_t cow_faults; // stores to a shared frame or the zero frame
    uint64_t moves;      // ranges moved
    uint64_t shootdowns; // of translations, on all CPUs
    uint64_t large[2];   // no events: pages of 2 MiB and 1 GiB that there are
};

struct mm_events mm_events(void);
