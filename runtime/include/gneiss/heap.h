// The heap: what malloc is built on, for programs that want more of it.
//
// An *object* is memory of a *size class*; objects of one class and kind share a
// *span*, a run of heap pages of 8 KiB. What is larger than 32 KiB has a span of
// its own. Each CPU has a cache of free objects, so that most calls take no lock.
//
// Objects of malloc and of this header are the same: free() takes both, and so
// does gn_free. All calls find double frees, pointers into the middle of an
// object and pointers that the heap never returned: they end the program with a
// report that names object, class and span.
//
// Context: any goroutine on any CPU, at the same time; not in interrupt handlers.
// No call parks the caller. Exceptions are stated.
//
// Source: size classes, spans and the caches follow tcmalloc and Go (runtime/
// mheap.go, mcache.go, mcentral.go); the names of figures are those of Go's
// runtime.MemStats.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined __GNUC__ && !defined __clang__
// For gcc -fanalyzer and -Wmismatched-dealloc: how what the call returns ends.
#define GN_FREED_BY_FREE                                                       \
    __attribute__((malloc(free, 1), malloc(gn_free, 1),                        \
                   malloc(gn_free_sized, 1), malloc(gn_realloc, 1)))
#else
#define GN_FREED_BY_FREE
#endif

// ---- allocation -------------------------------------------------------------

// What the collector (gc.h) may take an object for. In a Linux process there is none:
// there objects of every kind live until they are freed.
enum gn_heap_kind {
    GN_MANUAL, // as malloc's: lives until it is freed. May hold pointers
    GN_SCAN,   // collected; may hold pointers to other objects
    GN_NOSCAN, // collected; holds no pointers. Below 16 bytes several of them
               // share a block (Go's tiny allocator), aligned as their size is
};

enum gn_alloc_flags {
    GN_UNCLEARED = 1, // what is in it does not matter (not for GN_SCAN)
    GN_PAST_END = 2,  // a pointer just past its end will be kept: one byte more
    GN_LARGE_PAGES =
        4, // GN_NOSCAN of 2 MiB and more: by pages of 2 MiB and 1 GiB
           // as far as there are any, with their memory at once
};

// Frees an object; NULL is ignored. It must be the address that an allocating call
// returned, and not be used any more by anybody.
void gn_free(void *p);

// The same for an object that was asked for with n bytes. Besides what gn_free
// finds, an object with less room than n is reported.
void gn_free_sized(void *p, size_t n);

#if defined __GNUC__ && !defined __clang__
// gn_free takes malloc's objects as well.
void *malloc(size_t n) __attribute__((malloc(gn_free, 1)));
void *calloc(size_t count, size_t n) __attribute__((malloc(gn_free, 1)));
void *realloc(void *p, size_t n) __attribute__((malloc(gn_free, 1)));
#endif

// Gives an object another size. It keeps its kind and the bytes that fit; what it
// has more is not cleared. The object may move: from 64 KiB on no byte is copied,
// its pages are shown at the new address. n = 0 counts as 1, p = NULL allocates
// GN_MANUAL. Returns its address, and then p is not one any more if it differs;
// NULL and ENOMEM: nothing has changed.
void *gn_realloc(void *p, size_t n) __attribute__((alloc_size(2)));
void *gn_realloc(void *p, size_t n) GN_FREED_BY_FREE;

// Allocates n bytes (0 counts as 1) of a kind, flags of enum gn_alloc_flags. They
// read as zero unless GN_UNCLEARED is given, and are aligned to 16; GN_SCAN and
// GN_NOSCAN of 17 to 24 bytes to 8, small GN_NOSCAN see above. The caller owns the
// object. Returns NULL and sets errno: ENOMEM, there is no memory (gn_on_oom was
// asked) or heap.limit is reached; EINVAL, an unknown kind or flag.
// Does not fail later: memory is promised when it is allocated, though frames
// come when it is touched.
void *gn_alloc(size_t n, enum gn_heap_kind kind, int flags) GN_FREED_BY_FREE
    __attribute__((malloc, alloc_size(1)));

// The same at a multiple of `align`, a power of two up to 256 GiB; else EINVAL. It
// costs addresses, no memory; ENOMEM also if it is larger than the memory there is.
void *gn_alloc_aligned(size_t n, size_t align, enum gn_heap_kind kind,
                       int flags) GN_FREED_BY_FREE
    __attribute__((malloc, alloc_size(1), alloc_align(2)));

// Bytes from p on that may be used: at least those asked for. p must be an
// object's address, NULL: 0.
size_t gn_usable_size(const void *p);

// ---- memory as a whole ------------------------------------------------------

// Gives what the caches of this CPU hold, and the frames of all free pages, back.
// Returns bytes. It is done by itself, too: when memory gets short, and for what
// was not needed for heap.delay (boot option) and is more than heap.keep.
uint64_t gn_heap_trim(void);

// Sets how much free memory is kept, in bytes (UINT64_MAX: a tenth of what is in
// use), and for how many milliseconds more than that stays before its frames go
// back (0: at once). A shorter delay than before counts within a second.
void gn_heap_keep(uint64_t bytes, unsigned delay_ms);

// Sets how much memory the heap's spans may have together, free pages included, in
// bytes; UINT64_MAX: all there is. Returns what it was. What there is already
// stays.
uint64_t gn_heap_limit(uint64_t bytes);

// fn(n, arg) is called when n bytes can't be had although everything else was
// tried: before the allocating call returns NULL, on the goroutine that called it,
// which holds no lock of the heap. It may free memory, and allocate: what it can't
// have itself is NULL at once. It must return. true: try again; false: give up.
// Several goroutines may be in it. fn = NULL: nothing is called. Context of
// gn_on_oom: nobody allocates at that time.
void gn_on_oom(bool (*fn)(size_t n, void *arg), void *arg);

// ---- figures ----------------------------------------------------------------

// In bytes, or events since boot. Names and meaning are Go's (runtime.MemStats);
// those that Go lacks come last.
struct gn_heap_stats {
    uint64_t alloc;       // of objects that are allocated, rounded to classes
    uint64_t total_alloc; // the same of all that ever were
    uint64_t mallocs, frees;
    uint64_t heap_sys;      // address space of the heap
    uint64_t heap_inuse;    // of spans with an object, or kept in caches
    uint64_t heap_idle;     // of all other pages
    uint64_t heap_released; // of these: without frames or a promise of them
    uint64_t heap_objects;  // that are allocated
    uint64_t mspan_inuse;   // structs of spans and stacks of the caches
    uint64_t gc_sys;        // alloc bits and other tables of the pages

    uint64_t cached;        // of free objects in the caches of CPUs
    uint64_t promised;      // of pages that have frames or a promise of them
    uint64_t limit;         // UINT64_MAX: none
    uint64_t large_objects; // of heap_objects: with a span of their own
    uint64_t large_bytes;   // of alloc
};

// Fills *s. Looks at all spans: about a millisecond for each GiB. While others
// allocate the figures are of slightly different moments.
void gn_heap_stats(struct gn_heap_stats *s);

// Of a size class.
struct gn_class_stats {
    uint32_t size;       // bytes of an object
    uint32_t span_bytes; // of a span
    uint64_t spans;
    uint64_t objects; // allocated ones
    uint64_t cached;  // free, in the caches of CPUs
    uint64_t free;    // free, in spans
    uint64_t mallocs, frees;
};

// Fills the rows of the first n classes, by size; the first is that of the blocks
// which small GN_NOSCAN objects share (its mallocs and frees count these).
// Returns how many classes there are.
size_t gn_heap_classes(struct gn_class_stats *rows, size_t n);

// ---- looking at it ----------------------------------------------------------

struct gn_span {
    void *address;
    size_t bytes;       // heap pages of it
    size_t object_size; // large: as bytes
    unsigned objects;   // that have room in it
    unsigned allocated; // of these
    unsigned free; // known as free to its owner. The others are in caches, or
                   // freed by another CPU and not taken over yet
    int cpu;       // owner, -1: none
    enum gn_heap_kind kind;
    bool shared;                // its objects are blocks of small ones
    uint64_t allocated_bits[8]; // bit i % 64 of word i / 64: object i
    uint64_t free_bits[8];
};

// Calls fn for each span, by address, until it returns false. fn may allocate and
// free. A span that comes or goes meanwhile may be missing or be seen although it
// is gone. Returns false if fn did.
bool gn_heap_spans(bool (*fn)(const struct gn_span *s, void *arg), void *arg);

// Calls fn for each allocated object, likewise: its address, the bytes it may use,
// its kind. Those of heap.guard and heap.efence, which have no span, come last.
bool gn_heap_walk(bool (*fn)(void *p, size_t n, enum gn_heap_kind kind,
                             void *arg),
                  void *arg);

// Ends the program with a report if a structure of the heap is damaged. Looks at
// everything but the caches of other CPUs.
void gn_heap_check(void);
