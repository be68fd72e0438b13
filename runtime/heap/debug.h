// The heap's boot options for finding errors. Off, they cost nothing: the fast
// paths never get here. On, every call does.
#pragma once

#include "runtime/heap/heap.h"

extern bool heap_debug_on;        // [c] after heap_init: some option is set
extern bool heap_debug_slow_free; // [c] or heap.guard: frees are not cached

// Reads the options. Context: boot.
void heap_debug_init(void);

// Around an allocation of n bytes: _refuse says that it has to fail; _guarded
// returns a guarded object in its stead, or NULL; _allocated fills it.
// Context: goroutine, no-preempt 0.
bool heap_debug_refuse(void);
bool heap_debug_efence(void); // every object is to be guarded
void *heap_debug_guarded(size_t n, size_t align);
void heap_debug_allocated(void *p, size_t n, size_t usable);

// Before a free; n: usable bytes.
void heap_debug_freed(void *p, size_t n);

// If p is a guarded object: its size. False: it is none. Panics (call) if it was
// freed or p is not its beginning.
bool heap_debug_is_guarded(const void *p, size_t *n, const char *call);
void heap_debug_free_guarded(void *p);

// Which of n free slots to take; 0 unless heap.random is set.
unsigned heap_debug_pick(unsigned n);

// One in heap.guard=N allocations is guarded: true if this one is to be. Asked
// when a cache is filled, which stands for `objects` allocations.
bool heap_debug_sample(unsigned objects);
