// What the files of mm/ share among themselves.
#pragma once

#include "mm/mm.h"
#include "mm/pt.h"

extern struct mm_image_part mm_image[5]; // [c] after mm_init
extern unsigned mm_nimage;               // [c]

// Events since boot. [mm_lock] Read anywhere, as a hint.
struct mm_counters {
    _Atomic uint64_t faults;
    _Atomic uint64_t zero_fills; // pages mapped by them, fault-around too
    _Atomic uint64_t cow_faults, moves;
    _Atomic uint64_t shootdowns; // [any]
    _Atomic uint64_t large[2];   // pages of 2 MiB and of 1 GiB that there are
};

// Changes what is written under one lock only: no locked instruction.
static inline void mm_count(_Atomic uint64_t *c, uint64_t by)
{
    atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

extern struct mm_counters mm_counters;

// There are n more (or fewer) pages of this level; small ones are not counted.
static inline void mm_count_large(int level, uint64_t n)
{
    if (level > 1)
        mm_count(&mm_counters.large[level - 2], n);
}

// arch_tlb_shootdown, counted. mm_lock not held.
static inline void mm_shootdown(uintptr_t va, size_t npages)
{
    atomic_fetch_add_explicit(&mm_counters.shootdowns, 1, memory_order_relaxed);
    arch_tlb_shootdown(va, npages);
}

// Pages whose frame is being replaced now (PTE_BUSY). [mm_lock]
extern unsigned mm_nbusy;

// Takes the shared zero frame. Context: boot.
void fault_init(void);
extern paddr_t mm_zero_frame; // [c] after fault_init

static inline bool mm_is_zero_frame(paddr_t p)
{
    return p.raw == mm_zero_frame.raw;
}

// A cleared frame for a page table; from the reserve while a stack grows.
paddr_t fault_table_frame(void);

// pt_make_parent and pt_make for pages of r: its tables are promised, or counted
// now. False, NULL: no frame. mm_lock held.
MUST_USE bool mm_make_tables(const struct region *r, uintptr_t va, int level);
MUST_USE pte_t *mm_make_entry(const struct region *r, uintptr_t va);

// The entry that shows frame p in r; cow: without the right to store.
static inline pte_t mm_leaf(const struct region *r, paddr_t p, bool cow)
{
    pte_t e = pte_make_leaf(p, r->prot & (PROT_R | PROT_W | PROT_X), 1) &
              pt_valid_bits;

    if (cow)
        e = (e & ~PTE_WRITE) | PTE_COW;
    if (r->prot == 0)
        e = (e & ~(PTE_PRESENT | PTE_WRITE)) | PTE_PARKED;
    return e;
}

// The address in r of the page that q shows at va; 0 if r does not show it.
uintptr_t mm_peer_address(const struct region *q, uintptr_t va,
                          const struct region *r);
