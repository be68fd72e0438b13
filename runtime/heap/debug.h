// The heap's boot options for finding errors. Off, they cost nothing: the fast
// paths never get here. On, every call does.
#pragma once

#include "runtime/heap/heap.h"

// Some option but heap.guard is set. [c] after heap_init
extern bool heap_debug_on;
extern uint64_t heap_guard_every; // heap.guard. [c]
extern bool heap_efence;          // every object is to be guarded. [c]

// Reads the options. Context: boot.
void heap_debug_init(void);

// Around an allocation of n bytes: _refuse says that it has to fail; _guarded
// returns a guarded object in its stead, or NULL; _allocated fills it.
// Context: goroutine, no-preempt 0.
bool heap_debug_refuse(void);
bool heap_debug_guards(void); // some are: call _sample. [c]
void *heap_debug_guarded(size_t n, size_t align, enum heap_kind kind);
void heap_debug_allocated(void *p, size_t n, size_t usable);

// Before a free; n: usable bytes.
void heap_debug_freed(void *p, size_t n);

struct heap_object {
    void *p;
    size_t n;
    enum heap_kind kind;
};

// If p is a guarded object: fills out. False: it is none. Panics (call) if it was
// freed or p is not its beginning.
bool heap_debug_is_guarded(const void *p, struct heap_object *out,
                           const char *call);
void heap_debug_free_guarded(void *p);

// Calls fn for each guarded object until it returns false; so does it then.
bool heap_debug_walk(bool (*fn)(void *p, size_t n, enum heap_kind kind,
                                void *arg),
                     void *arg);

extern struct heap_guarded {
    _Atomic uint64_t mallocs, bytes, frees,
        freed_bytes; // [a] of guarded objects
} heap_guarded;

// Which of n free slots to take; 0 unless heap.random is set.
unsigned heap_debug_pick(unsigned n);

// Whether the next allocation is to be guarded. *until: this CPU's countdown.
// Context: no-preempt.
bool heap_debug_sample(uint64_t *until);
