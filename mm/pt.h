// The page tables of the only address space.
//
// Source: Intel SDM vol. 3, 4.5 and 4.10 (invalidation).
#pragma once

#include "arch/arch.h"

// Software's own bits of an entry.
//
// PTE_COW: present, not writable although the region is; a store must first get
// a frame of its own. PTE_BUSY: not present while a frame is being replaced
// (R12): who faults on it tries again, who wants to change it waits.
// PTE_PARKED: not present, but the frame is there: the region has no rights now.
#define PTE_COW    (UINT64_C(1) << 9)
#define PTE_BUSY   (UINT64_C(1) << 10)
#define PTE_PARKED (UINT64_C(1) << 11)

static inline bool pt_has_frame(pte_t e)
{
    return (e & (PTE_PRESENT | PTE_PARKED)) != 0;
}

struct pt_garbage {
    unsigned n;
    paddr_t tables[64];
};

// Starts an empty set of tables; table frames come from alloc (cleared, or
// paddr 0 when there is none) and go back to release. Context: boot.
void pt_init(paddr_t root, paddr_t (*alloc)(void), void (*release)(paddr_t));

// From now on table frames come from alloc.
void pt_set_alloc(paddr_t (*alloc)(void));

// Maps size bytes at va to the frames from pa, all multiples of 4 KiB, with the
// largest pages up to max_level that alignment allows. Nothing may be mapped
// there. Returns 0 or -ENOMEM (no frame for a table; what was mapped stays).
// Context: mm_lock held, or boot.
MUST_USE int pt_map(uintptr_t va, paddr_t pa, uint64_t size, unsigned prot,
                    int max_level);

// The leaf entry for va and its level, or NULL if no table reaches it. The
// entry may be not present. Context: mm_lock held, or a report.
pte_t *pt_find(uintptr_t va, int *level);

// The entry for va at level 1, its tables made. NULL: no frame for a table.
// The page must not be part of a larger one. Context: mm_lock held.
pte_t *pt_make(uintptr_t va);

// Makes the tables for va down to level 2 only. False: no frame.
bool pt_make_parent(uintptr_t va);

// Puts a large page in place of the table of 4 KiB entries at va, which is
// added to the garbage. Context: mm_lock held; the caller flushes.
void pt_promote(uintptr_t va, pte_t leaf, struct pt_garbage *g);

// Reads, and changes, a leaf entry. pt_set returns what was there, with the A
// and D bits that the hardware set until then. pt_try_set changes e from `from`
// to `to` only if it is exactly `from`. Context: mm_lock held.
pte_t pt_get(const pte_t *e);
pte_t pt_set(pte_t *e, pte_t to);
bool pt_try_set(pte_t *e, pte_t from, pte_t to);

// Makes 512 entries of the next smaller size of the large page at va, all with
// its permissions and its D bit. Returns 0 or -ENOMEM. The caller flushes
// [va, va + the large page) before it relies on single entries (R13).
// Context: mm_lock held.
MUST_USE int pt_split(uintptr_t va);

// Takes the entry out that maps the table or large page of [va, va + 2 MiB) and
// puts it to `to`, where no table may be; both aligned to 2 MiB. Returns false
// if there is nothing below va. Moves no leaf (R15: D goes along).
// Context: mm_lock held; the caller flushes.
bool pt_relink(uintptr_t va, uintptr_t to);

// Takes tables of [va, end) that map nothing any more out and adds them to the
// garbage, to be freed after a shootdown (R13).
void pt_prune(uintptr_t va, uintptr_t end, struct pt_garbage *g);
void pt_free_garbage(struct pt_garbage *g);

// Starts counting entries, once the frame array is there. Context: boot.
void pt_count_boot_tables(void);

// Number of page tables in use, the root not counted.
uint64_t pt_tables(void);

// Calls visit for every present leaf of [start, end), in address order.
void pt_walk(uintptr_t start, uintptr_t end,
             void (*visit)(uintptr_t va, pte_t e, int level, void *arg),
             void *arg);

// Panics if the count of entries of any table is wrong. Context: mm_lock held.
void pt_check(void);

// Drops everything mapped under top-level slot 0..511 on every CPU and frees its
// tables (not the frames that they map). Context: boot.
void pt_drop_top(unsigned slot);

extern uint64_t pt_valid_bits; // bits this CPU knows: without NX, all but 63
extern int pt_max_level;       // 3 if there are 1 GiB pages, else 2
