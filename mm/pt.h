// The page tables of the only address space.
//
// Source: Intel SDM vol. 3, 4.5 and 4.10 (invalidation).
#pragma once

#include "arch/arch.h"

// Starts an empty set of tables; table frames come from alloc (cleared, or
// paddr 0 when there is none). Context: boot.
void pt_init(paddr_t root, paddr_t (*alloc)(void));

// From now on table frames come from alloc.
void pt_set_alloc(paddr_t (*alloc)(void));

// Maps size bytes at va to the frames from pa, all multiples of 4 KiB, with the
// largest pages up to max_level that alignment allows. Nothing may be mapped
// there. Returns 0 or -ENOMEM (no frame for a table; what was mapped stays).
// Context: mm_lock held, or boot.
MUST_USE int pt_map(uintptr_t va, paddr_t pa, uint64_t size, unsigned prot,
                    int max_level);

// How many tables pt_map has made so far, for those who account for frames.
// Context: mm_lock held.
uint64_t pt_tables_made(void);

// The leaf entry for va and its level, or NULL if no table reaches it. The
// entry may be not present.
pte_t *pt_find(uintptr_t va, int *level);

// Clears the 4 KiB leaves in [va, va + npages), calling drop(frame) for each
// page that was mapped, after all CPUs have forgotten it (R13). Tables stay.
// Context: system stack, mm_lock NOT held by interrupted code.
void pt_unmap(uintptr_t va, size_t npages, void (*drop)(paddr_t p));

// Calls visit for every present leaf, in address order.
void pt_walk(void (*visit)(uintptr_t va, pte_t e, int level, void *arg),
             void *arg);

// Drops everything mapped under top-level slot 0..511 on every CPU and frees its
// tables (not the frames that they map). Context: boot.
void pt_drop_top(unsigned slot);

extern uint64_t pt_valid_bits; // bits this CPU knows: without NX, all but 63
extern int pt_max_level;       // 3 if there are 1 GiB pages, else 2
