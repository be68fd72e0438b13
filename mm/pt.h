// The page tables of the only address space.
//
// Source: Intel SDM vol. 3, 4.5 and 4.10 (invalidation).
#pragma once

#include <stdatomic.h>

#include "arch/arch.h"

// Software's own bits of an entry.
//
// PTE_COW: present, not writable although the region is; a store must first get
// a frame of its own. PTE_BUSY: not present while a frame is being replaced
// (R12): who faults on it tries again, who wants to change it waits.
// PTE_PARKED: not present, but the frame is there: the region has no rights now.
#define PTE_COW  (UINT64_C(1) << 9)
#define PTE_BUSY (UINT64_C(1) << 10)
// PTE_FOREIGN: the frame is not ours (device registers): never counted or freed.
#define PTE_PARKED  (UINT64_C(1) << 11)
#define PTE_FOREIGN (UINT64_C(1) << 52)

static inline bool pt_has_frame(pte_t e)
{
    return (e & (PTE_PRESENT | PTE_PARKED)) != 0;
}

// True if a present entry lets less happen afterwards.
static inline bool pt_loses(pte_t v, pte_t to)
{
    return (v & ~to & (PTE_PRESENT | PTE_WRITE)) || (to & ~v & PTE_NX);
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

// Makes the tables for va down to this level only. False: no frame.
bool pt_make_parent(uintptr_t va, int level);

// A stretch of addresses that one walk explains: n pages from the address asked
// for. level 1: e[0..n) are their entries. Above: e alone maps them all. e NULL:
// no entry of them is set, or no table is there.
struct pt_run {
    pte_t *e;
    size_t n;
    int level;
};

// How many entries that is.
static inline size_t pt_run_entries(const struct pt_run *run)
{
    return run->e == NULL ? 0 : run->level == 1 ? run->n : 1;
}

// The stretch that begins at va and goes no further than end. The way to look at
// many entries: a walk for up to 512. Context: mm_lock held, or a report.
struct pt_run pt_run(uintptr_t va, uintptr_t end);

// Puts a large page of this level in place of the table at va, which is added to
// the garbage. Context: mm_lock held; the caller flushes.
void pt_promote(uintptr_t va, int level, pte_t leaf, struct pt_garbage *g);

// The number of entries of e's table that are set changed. Context: mm_lock held.
void pt_counted(const pte_t *e, int change);

// True if no entry of e's table is set. Context: mm_lock held.
bool pt_is_empty(const pte_t *e);

// Reads, and changes, a leaf entry. pt_set returns what was there, with the A
// and D bits that the hardware set until then. pt_try_set changes e from `from`
// to `to` only if it is exactly `from`. Context: mm_lock held.
static inline pte_t pt_get(const pte_t *e)
{
    return atomic_load_explicit((const _Atomic pte_t *)e, memory_order_relaxed);
}

pte_t pt_set(pte_t *e, pte_t to);

static inline bool pt_try_set(pte_t *e, pte_t from, pte_t to)
{
    pte_t expect = from;

    if (!atomic_compare_exchange_strong_explicit((_Atomic pte_t *)e, &expect,
                                                 to, memory_order_acq_rel,
                                                 memory_order_relaxed))
        return false;
    if ((from != 0) != (to != 0))
        pt_counted(e, (to != 0) - (from != 0));
    return true;
}

// For many entries of one table: pt_swap is pt_set without the count of the
// table's entries, which the caller corrects by pt_counted, once, before it
// releases mm_lock. Context: mm_lock held.
static inline pte_t pt_swap(pte_t *e, pte_t to)
{
    // Release: the frame's contents are there before a walker can reach it.
    return atomic_exchange_explicit((_Atomic pte_t *)e, to,
                                    memory_order_acq_rel);
}

// Makes 512 entries of the next smaller size of the large page at va, all with
// its permissions and its D bit. Returns 0 or -ENOMEM. The caller flushes
// [va, va + the large page) before it relies on single entries (R13).
// Context: mm_lock held.
MUST_USE int pt_split(uintptr_t va);

// Moves up to n entries of this level, 2 or 3 (tables and large pages), from va
// to `to`, where nothing may be mapped and whose parents are made; both aligned
// to the level's span. Returns for how many it did, which is at least 1: to the
// end of a table on either side. Moves no leaf of 4 KiB (R15: D goes along).
// Context: mm_lock held; the caller flushes.
size_t pt_relink(uintptr_t va, uintptr_t to, size_t n, int level);

// Takes tables of [va, end) that map nothing any more out and adds them to the
// garbage, to be freed after a shootdown (R13).
void pt_prune(uintptr_t va, uintptr_t end, struct pt_garbage *g);
void pt_free_garbage(struct pt_garbage *g);

// ---- tables of level 1 that neighbours share (R19) ----
//
// 16 owners, each with a part of PT_PART entries, by the address; the 2 MiB around
// each part lead to the same table. What lies outside its part is not there for an
// owner: no call finds or changes it. The lowest entry of a part is never set, so
// that who runs out of it downwards, or into it from above, faults.

enum { PT_PART = 32 };

#define PTE_SHARED     (UINT64_C(1) << 9)  // an entry of level 2: such a table
#define PTE_PART_SHIFT 52                  // and the number of the part
#define PTE_FENCE      (UINT64_C(1) << 53) // keeps it when nothing is mapped

// Whether the entry of level 2 lets va be reached.
static inline bool pt_in_part(pte_t e, uintptr_t va)
{
    return (e & PTE_SHARED) == 0 ||
           pte_index(va, 1) / PT_PART == (e >> PTE_PART_SHIFT) % 16;
}

// A new table to share; paddr 0: no frame. How many there are. And its end: none of the
// 2 MiB shares it any more, and that was shot down. Context: mm_lock held.
paddr_t pt_new_shared(void);
void pt_free_shared(paddr_t table);
uint64_t pt_shared_tables(void);

// Has the 2 MiB around va, which have no table, use the part of `table` that va lies
// in. False: no frame for the tables above. Context: mm_lock held.
bool pt_share(uintptr_t va, paddr_t table);

// Gives the 2 MiB around va, whose table is shared, one of their own with the
// entries of their part. False: no frame. Where it succeeds the caller shoots down
// the 2 MiB before it sets entries outside the part: paging-structure caches know
// the shared table still. Context: mm_lock held.
bool pt_unshare(uintptr_t va);

// The 2 MiB around va, whose table is shared and where nothing is mapped any more, have
// no table from now on. Context: mm_lock held.
void pt_end_share(uintptr_t va);

// Whether they do share.
bool pt_is_shared(uintptr_t va);

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
