// Operations on ranges of anonymous memory: what a program's calls end in.
//
// All take and return addresses and lengths in bytes, multiples of 4 KiB unless
// it says otherwise; all return 0 or a negative errno and change nothing on
// failure. They work on any range of what vm_map made, across regions, and cut
// regions where needed. Context: any but interrupt, no lock held; they may wait
// for shootdowns.
//
//   -EINVAL  not a multiple of 4 KiB, empty, or it wraps around
//   -ENOMEM  not so much can be promised (R14), or there is a hole in the range
//   -EPERM   the range belongs to the runtime (stacks, heap)
//   -EEXIST  something lies at the fixed address
#pragma once

#include "mm/region.h"

enum vm_flags {
    VM_FIXED = 1,     // exactly at *va
    VM_NORESERVE = 2, // promise nothing: a touch that finds all the rest
                      // promised ends the program (R14)
    VM_SPARSE = 4,    // reads of untouched pages cost no frame (R12)
};

// Maps demand-zero memory; *va is a wish, or 0, and becomes the address. prot
// without bits only reserves the addresses (nothing is charged).
MUST_USE int vm_map(uintptr_t *va, size_t bytes, unsigned prot, unsigned flags,
                    const char *name);

// Maps device registers, uncached, all at once. -EPERM: there is RAM. They can be
// unmapped, protected and moved like memory; nothing else.
MUST_USE int vm_map_device(uintptr_t *va, paddr_t pa, size_t bytes,
                           unsigned prot, const char *name);

// Unmaps; holes are fine.
MUST_USE int vm_unmap(uintptr_t va, size_t bytes);

// Changes the rights; charges what becomes accessible, and was only reserved.
MUST_USE int vm_protect(uintptr_t va, size_t bytes, unsigned prot);

// Discards the contents, for aliases of the memory too, and gives the frames
// back. The memory stays mapped and reads as zero, or, with
// unreserve, becomes a reservation again: only its addresses remain.
MUST_USE int vm_decommit(uintptr_t va, size_t bytes, bool unreserve);

// Moves the memory, which must be of one region, to a new address (*to, or any
// if 0), by page-table entries: no byte is copied. new_bytes may be larger (the
// rest is fresh) or smaller (the rest is given back). *to == va: it stays, and
// -ENOMEM says that there is no room to grow.
MUST_USE int vm_move(uintptr_t va, size_t bytes, size_t new_bytes,
                     uintptr_t *to);

// The same memory at a second address, with rights of its own.
MUST_USE int vm_alias(uintptr_t va, size_t bytes, unsigned prot,
                      uintptr_t *alias);

// A copy of the memory as it is at one moment, by sharing its frames until one
// side stores (copy-on-write).
MUST_USE int vm_clone(uintptr_t va, size_t bytes, uintptr_t *clone);

// Uses 2 MiB pages where the range holds whole aligned ones, and 1 GiB pages.
// Returns how many times 2 MiB are in large pages now, or a negative errno.
MUST_USE long vm_promote(uintptr_t va, size_t bytes);

// Gives back every page of [start, end), and empty tables. Either no region lies
// there any more, or faults are served with what is there afterwards. Returns
// the number of frames, tables too. Context: system stack, mm_lock not held; it
// waits for shootdowns.
uint64_t vm_drop_range(uintptr_t start, uintptr_t end);

// Runs every check of mm/ and panics at the first that fails. Context: any but
// interrupt; takes mm_lock for the whole walk.
void mm_check(void);
