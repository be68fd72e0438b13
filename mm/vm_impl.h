// What the files of the range operations share. All: mm_lock held, unless said.
#pragma once

#include "mm/vm.h"

enum {
    VM_RUNS = 16,   // tables looked at in one go
    VM_BATCH = 384, // frames given back after one shootdown
};

// Of the frames of a page of this level: 0, 9, 18.
static inline unsigned vm_order(int level)
{
    return 9 * ((unsigned)level - 1);
}

#define VM_HUGE_BYTES pte_span(2)

// Arguments, on the caller's stack; the work is done on the system stack.
struct vm_call {
    uintptr_t va, to;
    size_t bytes, new_bytes;
    unsigned prot, flags;
    const char *name;
    uint64_t give_back; // promised pages, when their frames are free
    long result;
};

// ---- accounts ----

// Frames that a region can take there, with its tables; only these if another is
// charged for the memory, or it is none of ours; 0 if nothing is promised.
uint64_t vm_cost_of(unsigned flags, uintptr_t va, size_t bytes);
uint64_t vm_cost(const struct region *r);

MUST_USE bool vm_charge(uint64_t npages);
void vm_charge_anyway(uint64_t npages); // what cannot be refused
void vm_uncharge(uint64_t npages);

// The same in two steps, for what is still mapped: the regions cost less from now
// on, but nobody else gets the promise before vm_given_back(), when the frames
// are free. Else a store of theirs could find none (R14).
void vm_uncharge_later(struct vm_call *c, uint64_t npages);
void vm_given_back(struct vm_call *c); // mm_lock not held

// ---- one operation at a time ----

// Operations on ranges exclude each other from first look to last frame given
// back: what one has checked stays true while it lets mm_lock go, and nobody
// maps where another still cleans up. Faults need only mm_lock, so a shootdown
// may be waited for (R13).
//
// Runs fn(arg) on the system stack as the only operation. It must not start
// another. Context: any but interrupt, mm_lock not held.
void vm_run(void (*fn)(void *), void *arg);

// The same for calls that promise memory: if vm_charge finds too little, the
// reclaimers are asked, with no lock held, and fn has another try. fn must have
// changed nothing when it fails but c->to and c->flags.
void vm_run_charging(void (*fn)(void *), struct vm_call *c);

// ---- ranges ----

// 0, or -EINVAL: empty, not of whole pages, or not within the area of regions
// (va 0 stands for any place). No lock needed.
MUST_USE int vm_check_range(uintptr_t va, size_t bytes);

// Gives mm_lock up for a moment, so that faults get on.
void vm_breathe(void);

// A large page that lies across va becomes smaller ones, until none lies across
// it. 0 or -ENOMEM.
MUST_USE int vm_split_at(uintptr_t va);

// No page in [va, end) is larger than this level's, 1 or 2. 0 or -ENOMEM.
MUST_USE int vm_split_all(uintptr_t va, uintptr_t end, int level);

// Makes regions end at va and at end. holes: they are no error. Returns 0,
// -ENOMEM (a hole, or no memory) or -EPERM (the runtime's).
MUST_USE int vm_isolate(uintptr_t va, uintptr_t end, bool holes);

// After an operation: regions in [va, end) and at its ends that say the same
// become one again, and the accounts follow.
void vm_unite(uintptr_t va, uintptr_t end);

// True if the frame of a page of [va, end) is being replaced now.
bool vm_busy_in(uintptr_t va, uintptr_t end);

// See the head of vm_range.c. Releases mm_lock while it waits. _range: all
// regions of [va, end), of which vm_isolate has made whole ones.
void vm_freeze(struct region *r);
void vm_thaw(struct region *r);
void vm_freeze_range(uintptr_t va, uintptr_t end);
void vm_thaw_range(uintptr_t va, uintptr_t end);

// The first region that has a part in [va, end), and the one behind r; or NULL.
struct region *vm_first_in(uintptr_t va, uintptr_t end);
struct region *vm_next_in(struct region *r, uintptr_t end);

// Pages of the memory, from *lo up to *hi, that both regions of a ring show.
// False: none.
bool vm_overlap(const struct region *p, const struct region *r, uint64_t *lo,
                uint64_t *hi);

// A free place for so many bytes: at the wish, if it is free. 0: none.
uintptr_t vm_place(uintptr_t wish, size_t bytes);

// True if bytes at va, and a guard page behind, are free. next: the first region
// that ends above va.
bool vm_is_gap(uintptr_t va, size_t bytes, const struct region *next);

// A region that is not in the tree; NULL: no memory.
MUST_USE struct region *vm_new_region(uintptr_t va, size_t bytes, unsigned prot,
                                      unsigned flags, const char *name);

// Puts it into a place that vm_place found.
void vm_insert_free(struct region *r);

// A page of this CPU's until it gives frames back, so that nothing need be taken
// from what is promised. Context: system stack.
void *vm_scratch(void);

// ---- before frames go ----

// The small entry for va, or NULL (va 0 too).
pte_t *vm_small_entry(uintptr_t va);

// The same, and where to go on: at the next page, or behind what has no table.
pte_t *vm_small_entry_or_gap(uintptr_t va, uintptr_t end, uintptr_t *next);

// Hands the frames of [va, end) that only r has an entry for to another of the
// ring that shows them and does not lie in [gone, gone_end), which goes too.
// 0 or -ENOMEM.
MUST_USE int vm_hand_over(struct region *r, uintptr_t va, uintptr_t end,
                          uintptr_t gone, uintptr_t gone_end);

// What r shows from va on goes: aliases of the ring are charged for what they
// show of it.
void vm_bequeath(struct region *r, uintptr_t va);
