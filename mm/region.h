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

enum region_flags {
    REGION_FIXED = 1,     // the runtime's: programs can't change it
    REGION_SPARSE = 2,    // reads map the shared zero frame (R12: never stacks)
    REGION_UNCHARGED = 4, // charged as it is touched: that may end in OOM (R14)
    REGION_DEVICE = 8,    // frames are not ours (PTE_FOREIGN)
    REGION_RESERVED = 16, // only addresses: charged when it gets rights
    REGION_ALIAS = 32,    // another of the ring is charged for the memory
    REGION_VIEW = 64,     // made by vm_alias
    REGION_SNAPSHOT = 128, // made by vm_clone
};

struct region;
struct dirty_log;

struct region_ops {
    // Serves a fault at va (access: one prot bit) of code whose stack pointer
    // is rsp. mm_lock held, system stack, interrupts off: nailed memory only,
    // at most 64 KiB of zeroing or copying (R4). May release mm_lock while it
    // waits for a shootdown; holds it again when it returns.
    enum fault_result (*fault)(struct region *r, uintptr_t va, unsigned access,
                               uintptr_t rsp);
    // Says in a few words what va is; for reports. Returns buf or a constant.
    const char *(*describe)(struct region *r, uintptr_t va, char *buf,
                            size_t size);
};

// All fields: mm_lock, unless [c] constant while in the tree.
struct region {
    uintptr_t start, end;         // multiples of 4 KiB
    const struct region_ops *ops; // [c]
    const char *name;             // [c] not copied
    unsigned prot;                // PROT_R | PROT_W | PROT_X, or none
    unsigned flags;               // enum region_flags

    // Regions that show the same memory (aliases) form a ring; page i of the
    // memory lies at start + (i - object_page) pages in each.
    struct region *peer; // the next of the ring, itself if it is alone
    uint64_t object_page;
    unsigned frozen; // a clone is being made: stores wait

    // Where not all of it is promised: how many of n pages from va on may
    // fault-around map? [c] NULL: all. Context: mm_lock held.
    unsigned (*ahead)(uintptr_t va, unsigned n);
    // Where fault-around expects more; a page's number, since the heap's address would
    // keep an object.
    uint64_t next_fault;
    uint32_t window;        // pages mapped by the last fault
    struct dirty_log *logs; // clients that watch it (dirty.h)

    struct region *left, *right;
    uint32_t priority;
    bool pooled; // from region_new
};

extern const struct region_ops region_anon_ops; // demand-zero memory

// Protects the tree of regions, the page tables and the stacks' slots. Outside
// frame_lock. Taken on the system stack only (R5).
extern struct spinlock mm_lock;

// ---- the tree: mm_lock held unless it says otherwise ----

// The region that holds va, or NULL. Context: also reports.
struct region *region_find(uintptr_t va);

// The lowest region that ends above va, or NULL.
struct region *region_first_above(uintptr_t va);

// The highest region that ends at or below va, or NULL. Context: also reports.
struct region *region_below(uintptr_t va);

// Puts r into the tree, alone in its ring. Returns 0 or -EEXIST.
MUST_USE int region_insert(struct region *r);

// Takes r out of the tree and of its ring. What it maps stays mapped.
void region_erase(struct region *r);

// Gives r, which is in the tree, another range, which is free.
void region_rekey(struct region *r, uintptr_t start, uintptr_t end);

// Cuts r in two at va, which lies inside it. Returns the upper part, or NULL
// when there is no memory for it. Rings and logs are cut as well.
MUST_USE struct region *region_cut(struct region *r, uintptr_t va);

// The opposite of region_cut: if the next region begins where lo ends and says
// the same of its pages, both become lo. Returns whether they did.
bool region_unite(struct region *lo);

// Makes fresh (not in the tree) a member of r's ring, showing page for page
// what r shows from `at`.
void region_join(struct region *fresh, struct region *r, uintptr_t at);

// A descriptor in nailed memory, all zero but for ops; and back.
// Context: mm_lock held. NULL when there is no frame.
MUST_USE struct region *region_new(void);
void region_free(struct region *r);

// Calls visit for every region in address order. Context: mm_lock held.
void region_each(void (*visit)(struct region *r, void *arg), void *arg);

// Panics if regions overlap, are out of order, or a ring is broken.
void region_check(void);

// ---- for the layers above ----

// Puts a region of their own into the tree. Returns 0, or -EEXIST if it
// overlaps another. Context: any but interrupt; not with mm_lock held.
MUST_USE int region_add(struct region *r);

// Takes it out and gives back every frame mapped in it. Waits for a shootdown.
// Context: as region_add.
void region_remove(struct region *r);

// Changes its end; memory beyond a lower end is given back. Returns 0 or
// -EEXIST if the new range would overlap, -ENOMEM. Context: as region_add.
MUST_USE int region_resize(struct region *r, uintptr_t end);

// Gives back what is mapped in [start, end) of r; it reads as zero afterwards.
// Returns the number of frames. Context: as region_add; may wait.
uint64_t region_discard(uintptr_t start, uintptr_t end);

// Moves the pages of [from, from + bytes) of r to `to` in it, where nothing may be
// mapped, by their entries; `from` reads as zero afterwards. r is alone in its
// ring. Returns 0 or -ENOMEM. Context: as region_add; may wait.
MUST_USE int region_move_pages(struct region *r, uintptr_t from, uintptr_t to,
                               size_t bytes);

// Shows what it can of [start, end) by large pages, which are taken and cleared
// where there was nothing. Who gives parts of it back or moves them (region_discard)
// keeps to whole ones. Returns how many of 2 MiB there are. Context: as region_add;
// may wait.
uint64_t region_promote(uintptr_t start, uintptr_t end);

// Maps cleared nailed memory wherever [va, va + bytes), whole pages, has none;
// it is counted, and stays. Returns false when there is no frame.
// Context: as region_add.
MUST_USE bool region_map_nailed(uintptr_t va, size_t bytes);

// ---- faults ----

// pt_unshare for a stack that grows: the table may come from the reserve.
bool region_unshare(uintptr_t va);

// Maps a fresh zeroed page at va unless one is there. Returns false when there
// is no frame. for_stack: may use this CPU's reserve. Context: mm_lock held.
bool region_map_page(uintptr_t va, unsigned prot, bool for_stack);

// Serves a page fault; registered as arch_hooks.fault by mm_init.
bool mm_fault(uintptr_t va, unsigned access, uintptr_t rsp);

// Why the last fault on this CPU was not served. Context: report.
enum fault_result mm_last_fault(void);
