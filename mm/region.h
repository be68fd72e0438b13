// Regions: ranges of the address space and what a fault in them means.
#pragma once

#include "arch/arch.h"

// What mm_fault found.
enum fault_result {
    FAULT_SERVED, // the instruction can run again
    FAULT_WILD,   // nothing lies there
    FAULT_DENIED, // something does, but not for this access
    FAULT_GUARD,  // the guard of a stack
    FAULT_OOM,    // no frame left
};

struct region;

struct region_ops {
    // Serves a fault at va (access: one prot bit) of code whose stack pointer
    // is rsp. mm_lock held, system stack, interrupts off: nailed memory only,
    // at most 64 KiB of zeroing (R4).
    enum fault_result (*fault)(struct region *r, uintptr_t va, unsigned access,
                               uintptr_t rsp);
    // Says in a few words what va is; for reports. Returns buf.
    const char *(*describe)(struct region *r, uintptr_t va, char *buf,
                            size_t size);
};

// The owner allocates it and fills in the first group; it must outlive the
// region's place in the tree.
struct region {
    uintptr_t start, end; // multiples of 4 KiB
    const struct region_ops *ops;
    const char *name;
    unsigned prot;

    struct region *left, *right; // [mm_lock]
    uint32_t priority;           // [mm_lock]
    uintptr_t next_fault;        // [mm_lock] where fault-around expects more
    uint32_t window;             // [mm_lock] pages mapped by the last fault
};

extern const struct region_ops region_anon_ops; // demand-zero memory

// Protects the tree of regions, the page tables' shape and the stacks' slots.
// Outside frame_lock. Taken on the system stack only (R5).
extern struct spinlock mm_lock;

// Puts r into the tree. Returns 0, or -EEXIST if it overlaps another region.
// Context: any but interrupt; may not be called with mm_lock held.
MUST_USE int region_add(struct region *r);

// Takes r out and gives back every frame mapped in it.
// Context: as region_add. Waits for a shootdown.
void region_remove(struct region *r);

// Changes the end of r; memory beyond a lower end is given back. Returns 0 or
// -EEXIST if the new range would overlap. Context: as region_add.
MUST_USE int region_resize(struct region *r, uintptr_t end);

// The region that holds va, or NULL. Context: mm_lock held, or a report.
struct region *region_find(uintptr_t va);

// The highest region that ends at or below va, or NULL. Context: a report.
struct region *region_below(uintptr_t va);

// Maps a fresh zeroed page at va unless one is there. Returns false when there
// is no frame. Context: mm_lock held.
bool region_map_page(uintptr_t va, unsigned prot);

// Serves a page fault; registered as arch_hooks.fault by mm_init.
bool mm_fault(uintptr_t va, unsigned access, uintptr_t rsp);

// Why the last fault on this CPU was not served. Context: report.
enum fault_result mm_last_fault(void);
