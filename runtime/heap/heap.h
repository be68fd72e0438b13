// The heap, for the C library and the rest of the runtime. Programs have malloc
// and <gneiss/heap.h>.
#pragma once

#include "runtime/heap/span.h"

// Starts the heap; before the first allocation. Context: boot.
void heap_init(void);

// Makes the cache of the CPU that calls it; before it allocates. Panics without
// memory. Context: boot, or the CPU's start.
void heap_cpu_init(void);

// malloc and free: n bytes of manual memory, 16-byte aligned; NULL and errno: no
// memory. One no-preempt section of two dozen instructions, no lock (fast.h).
// Context: any but interrupt.
void *heap_malloc(size_t n);
void heap_free(void *p);

// n bytes of a kind, aligned to a power of two; zero: cleared. NULL: no memory, or
// n is absurd. Context: any but interrupt.
void *heap_alloc(size_t n, enum heap_kind kind, size_t align, bool zero);

// Gives a large object without pointers, that its caller has just allocated, large
// pages as far as there are any, at once. Returns bytes in large pages. A page that
// may hold pointers stays small: it has its own D bit (R15).
uint64_t heap_enlarge(void *p);

// Bytes that may be used at p, which is an object's address. Panics, like
// heap_free, if it is none.
size_t heap_usable(const void *p);

// Panics, naming the call, if an object has less room than n bytes.
void heap_check_size(const void *p, size_t n, const char *call);

// As realloc. Large objects move by their page-table entries.
void *heap_realloc(void *p, size_t n);

// Gives idle caches of this CPU and free pages back to mm; returns how many
// frames. Context: goroutine or scheduler, no lock held.
uint64_t heap_trim(void);

// Tries to make an allocation of n bytes possible that has failed. *tried: what was
// tried already, 0 at first. False: there is nothing more to try. Context:
// goroutine, no lock held.
bool heap_get_memory(size_t n, unsigned *tried);

// Settings; see <gneiss/heap.h>.
void heap_set_keep(uint64_t bytes, unsigned delay_ms);
uint64_t heap_set_limit(uint64_t bytes);
void heap_on_oom(bool (*fn)(size_t n, void *arg), void *arg);

// What is due at a time (arch_mono_ns): giving idle memory back. Returns when to
// call it next, UINT64_MAX: when pages_arm says so. Context: scheduler, or any
// with no lock held.
uint64_t heap_tick(uint64_t now);

// Does what other CPUs ask of this one: to give its caches back. Context: system
// stack, no lock held.
void heap_serve(void);

// Takes and gives all locks of the heap: nobody changes what is common meanwhile.
// Context: system stack.
void heap_lock_all(void);
void heap_unlock_all(void);

// Panics if a structure of the heap is damaged. Context: any but interrupt.
void heap_check(void);

// The same of this CPU's spans, object by object; see check.c. Context: as
// heap_check.
void heap_check_own(void);

// Where an address lies, for reports: fills out and returns true if it is in the
// heap's range.
struct heap_place {
    struct span *span; // NULL: free pages
    uintptr_t object;  // begin of the object or slot
    size_t size;
    bool allocated;
};

bool heap_place_of(uintptr_t va, struct heap_place *place);
