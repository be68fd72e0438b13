// The garbage collector.
//
// Objects that gn_alloc gives as GN_SCAN or GN_NOSCAN, and those of the macros below,
// are freed when nothing points to them any more: no variable of the program, no
// goroutine's stack or register, no block of malloc, and no other object that is
// reachable. A pointer into an object keeps it, wherever it points; one just past its
// end does so in registers and on stacks, in memory only with GN_PAST_END.
//
// It runs while the program does, without a barrier: which objects changed meanwhile is
// seen by the hardware's dirty bits. Memory of gn_map is not looked at.
//
// A pointer that is hidden (stored as a number that is changed, or in a file) keeps
// nothing. Pointers move in whole aligned words.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <gneiss/heap.h>

#ifdef __cplusplus
extern "C" {
#endif

// An object of a type, cleared; of n in a row; of n bytes without pointers. NULL and
// errno ENOMEM: there is no memory, even after a collection. Context: goroutine; may
// block.
#define gn_new(T)          ((T *)gn_alloc(sizeof(T), GN_SCAN, 0))
#define gn_new_array(T, n) ((T *)gn_alloc_array((n), sizeof(T), GN_SCAN))
#define gn_new_bytes(n)    gn_alloc((n), GN_NOSCAN, 0)

// n objects of `size` bytes in a row; as gn_alloc. ENOMEM also if their product is no
// size.
void *gn_alloc_array(size_t n, size_t size, enum gn_heap_kind kind)
    __attribute__((malloc, alloc_size(1, 2)));

// Collects: when it returns, what was unreachable when it was called is free. Several
// callers share a collection. Context: goroutine; blocks.
//
// Source: Go, runtime.GC.
void gn_gc(void);

// How much the heap may grow, in per cent of what was reachable, before the next
// collection begins; negative: none begins by itself. At the start: the boot option
// gc.percent (100). Returns what it was. Context: any but interrupt.
//
// Source: Go, debug.SetGCPercent.
int gn_gc_percent(int percent);

// Keeps what p points into up to here. Context: any.
static inline void gn_keep_alive(const void *p)
{
    __asm__ volatile("" : : "r"(p) : "memory");
}

// ---- weak pointers, cleanups, finalizers ----

// Points to an object without keeping it. Two made of one pointer are equal, byte for
// byte, and stay so. Zeroed: points to nothing.
struct gn_weak {
    struct gn_weak_handle *handle;
    size_t offset; // of the pointer in its object
};

// Makes one of p, which points into a collected object, or is NULL. Returns 0, or
// -ENOMEM (then *w points to nothing). Panics if p is something else. Context:
// goroutine; may block.
//
// Source: Go, weak.Make.
int gn_weak_make(const void *p, struct gn_weak *w);

// The pointer, if its object is still reachable otherwise, or was when this was called;
// NULL once it is not: before its finalizer or a cleanup of it is called. Context:
// goroutine.
void *gn_weak_get(struct gn_weak w);

struct gn_cleanup {
    uintptr_t object;
    uint64_t id;
};

// Calls fn(arg) some time after the object that p points into was found unreachable, and
// is gone. There may be several. arg is kept until then, so nothing in it may lead to the
// object. All are called one after the other, by one goroutine: fn starts another for
// what takes long. *c (NULL: not wanted) is for gn_cleanup_stop. Returns 0 or -ENOMEM.
// Panics if p points into no collected object, or arg into the same. gn_free of the object
// calls them, too; none is called at exit. Context: goroutine; may block.
//
// Source: Go, runtime.AddCleanup.
int gn_add_cleanup(const void *p, void (*fn)(void *arg), void *arg,
                   struct gn_cleanup *c);

// It will not be called; returns whether that is so because of this. Context: goroutine.
bool gn_cleanup_stop(struct gn_cleanup c);

// Calls fn(object) some time after the object was found unreachable, with all that it
// leads to; then it may be reachable again, and has no finalizer. Objects with finalizers
// that lead to each other: only those that no other leads to; in a circle, none. NULL:
// takes the finalizer away. Returns 0 or -ENOMEM. Panics, as Go does, if there is one, or
// object is not the beginning of one. gn_free calls none. Context: goroutine; may block.
//
// Source: Go, runtime.SetFinalizer.
int gn_set_finalizer(void *object, void (*fn)(void *object));

// Figures since the start; times in nanoseconds.
struct gn_gc_stats {
    uint64_t cycles; // collections that were finished
    uint64_t forced; // of these, asked for by gn_gc
    uint64_t live;   // bytes that the last one found reachable
    uint64_t goal;   // bytes at which the next one should be finished
    uint64_t freed;  // objects
    uint64_t freed_bytes;
    uint64_t stop_ns;     // the world was stopped, in all
    uint64_t stop_ns_max; // and at the longest
    uint64_t mark_ns;     // time spent marking while the program ran
    uint64_t rounds;      // of scanning again what was stored to
    uint64_t last_rounds; // in the last collection
    uint64_t final_pages; // dirty pages in its final stop
    uint64_t final_pages_max;
};

// Context: any but interrupt.
void gn_gc_stats(struct gn_gc_stats *s);

// ---- watching a collection ----

enum gn_gc_step {
    GN_GC_WHITE,  // all collected objects are white
    GN_GC_ROOTS,  // what roots point to is gray
    GN_GC_MARKED, // what that leads to is black; goroutines ran meanwhile
    GN_GC_ROUND, // what was stored to meanwhile was scanned again; several times
    GN_GC_STOPPED, // once more, while the world stands still: all is found
    GN_GC_SWEPT,   // white objects are free
};

// Has fn called when a step of a collection is done; NULL: nobody. It runs in the
// collector's goroutine, in GN_GC_STOPPED with all others stopped, wherever they are:
// there it must not wait for them, print, or allocate. With gc.mode=stw the first steps
// are left out. Context: any but interrupt.
void gn_gc_watch(void (*fn)(enum gn_gc_step step));

enum gn_gc_colour {
    GN_FREE,  // no collected object begins there
    GN_WHITE, // not reached yet
    GN_GRAY,  // reached; not yet scanned
    GN_BLACK, // reached and scanned, or made meanwhile; between collections all are
};

// The colour of the object that begins at p, as it is now. Context: any but interrupt.
enum gn_gc_colour gn_gc_colour(const void *p);

#ifdef __cplusplus
}
#endif
