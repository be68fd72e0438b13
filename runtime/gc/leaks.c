// See leaks.h.
//
// Records and groups lie in frames of their own, where the collector does not look.
//
// Locks: lock protects all of it; system stack (R5: frames are asked for with it).
//
// Source: the idea of LeakSanitizer's report; memory of the heap profile's by stack.

#include "runtime/gc/leaks.h"

#include <gneiss/gc.h>

#include <stdlib.h>
#include <string.h>

#include "arch/fmt.h"
#include "mm/mm.h"
#include "runtime/debug/debug.h"
#include "runtime/gc/gc.h"
#include "runtime/heap/collect.h"
#include "runtime/heap/memory.h"

enum {
    CALLS = 8,     // of a stack that are kept
    SKIP = 2,      // the runtime's own
    BUCKETS = 512, // pointers in a page
    SHOWN = 10,    // groups in the report of what is left
};

struct record {
    struct record *next;
    uintptr_t object;
    uint64_t bytes;
    struct group *group;
};

// Blocks that were made by the same calls.
struct group {
    struct group *next; // of the bucket
    uintptr_t calls[CALLS];
    uint64_t blocks, bytes; // that are there
    uint64_t leaked, leaked_bytes;
    bool printed;
};

static struct spinlock lock;
static struct record **records, *spare; // [lock]
static struct group **groups;           // [lock]
static char *fresh, *fresh_end;         // [lock]
static uint64_t unrecorded;             // [lock] for want of memory

static void *carve(size_t n)
{
    if ((size_t)(fresh_end - fresh) < n) {
        fresh = heap_memory_frames(PAGE_SIZE);
        fresh_end = fresh != NULL ? fresh + PAGE_SIZE : NULL;
        if (fresh == NULL)
            return NULL;
    }
    void *p = fresh;

    fresh += n;
    return p;
}

static struct record **bucket_of(uintptr_t object)
{
    return &records[(object * UINT64_C(0x9e3779b97f4a7c15) >> 40) % BUCKETS];
}

static struct group *group_of(const uintptr_t *calls)
{
    uint64_t hash = 0;

    for (unsigned i = 0; i < CALLS; i++)
        hash = (hash ^ calls[i]) * UINT64_C(0x9e3779b97f4a7c15);
    struct group **at = &groups[(hash >> 40) % BUCKETS], *g = *at;

    while (g != NULL && memcmp(g->calls, calls, sizeof g->calls) != 0)
        g = g->next;
    if (g == NULL && (g = carve(sizeof *g)) != NULL) {
        memcpy(g->calls, calls, sizeof g->calls);
        g->next = *at;
        *at = g;
    }
    return g;
}

struct block_call {
    uintptr_t object;
    uint64_t bytes;
    uintptr_t calls[CALLS];
};

static void add_call(void *arg)
{
    const struct block_call *b = arg;

    spin_lock(&lock);
    struct group *g = group_of(b->calls);
    struct record *r = spare, **at = bucket_of(b->object);

    if (r != NULL)
        spare = r->next;
    else
        r = carve(sizeof *r);
    if (g != NULL && r != NULL) {
        *r = (struct record){*at, b->object, b->bytes, g};
        *at = r;
        g->blocks++;
        g->bytes += b->bytes;
    } else {
        unrecorded++;
    }
    spin_unlock(&lock);
}

static void allocated(void *p, size_t n)
{
    uintptr_t calls[CALLS + SKIP] = {0};
    struct block_call b = {.object = (uintptr_t)p, .bytes = n};
    size_t got = backtrace_collect((uintptr_t)__builtin_frame_address(0), calls,
                                   ARRAY_LEN(calls));

    for (size_t i = SKIP; i < got; i++)
        b.calls[i - SKIP] = calls[i];
    arch_on_system_stack(add_call, &b);
}

// Takes out the record that *at leads to.
static void take(struct record **at, bool leaked)
{
    struct record *r = *at;

    r->group->blocks--;
    r->group->bytes -= r->bytes;
    if (leaked) {
        r->group->leaked++;
        r->group->leaked_bytes += r->bytes;
    }
    *at = r->next;
    r->next = spare;
    spare = r;
}

static void freed_call(void *p)
{
    spin_lock(&lock);
    for (struct record **at = bucket_of((uintptr_t)p); *at != NULL;
         at = &(*at)->next) {
        if ((*at)->object == (uintptr_t)p) {
            take(at, false);
            break;
        }
    }
    spin_unlock(&lock);
}

void leaks_freed(void *p)
{
    if (records != NULL)
        arch_on_system_stack(freed_call, p);
}

static void sweep_call(void *arg)
{
    struct record **bucket = arg;

    spin_lock(&lock);
    for (struct record **at = bucket; *at != NULL;) {
        if (collect_is_white((*at)->object))
            take(at, true);
        else
            at = &(*at)->next;
    }
    spin_unlock(&lock);
}

void leaks_sweep(void)
{
    for (size_t i = 0; records != NULL && i < BUCKETS; i++)
        arch_on_system_stack(sweep_call, &records[i]);
}

// ---- the report ----

static uint64_t size_of(const struct group *g, bool leaked)
{
    return leaked ? g->leaked_bytes : g->bytes;
}

// The largest group that was not yet printed.
static struct group *largest(bool leaked)
{
    struct group *best = NULL;

    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct group *g = groups[i]; g != NULL; g = g->next) {
            if (!g->printed && size_of(g, leaked) > 0 &&
                (best == NULL || size_of(g, leaked) > size_of(best, leaked)))
                best = g;
        }
    }
    return best;
}

static void print(bool leaked, unsigned most)
{
    uint64_t blocks = 0, bytes = 0;

    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct group *g = groups[i]; g != NULL; g = g->next) {
            blocks += leaked ? g->leaked : g->blocks;
            bytes += size_of(g, leaked);
            g->printed = false;
        }
    }
    fmt_err("heap.leaks: %lu bytes in %lu blocks %s\n", (unsigned long)bytes,
            (unsigned long)blocks,
            leaked ? "leaked: nothing pointed to them any more"
                   : "were not freed, and could still be reached");
    for (struct group *g; most > 0 && (g = largest(leaked)) != NULL; most--) {
        g->printed = true;
        fmt_err("  %lu bytes in %lu blocks, allocated at\n",
                (unsigned long)size_of(g, leaked),
                (unsigned long)(leaked ? g->leaked : g->blocks));
        backtrace_print_calls(g->calls, CALLS);
    }
}

__attribute__((noinline)) static void clear_stack(void)
{
    volatile uintptr_t below[96];

    for (unsigned i = 0; i < ARRAY_LEN(below); i++)
        below[i] = 0;
}

static void report(void)
{
    clear_stack();
    gn_gc();
    gn_gc();
    print(true, UINT32_MAX);
    print(false, SHOWN);
    if (unrecorded > 0)
        fmt_err("heap.leaks: %lu blocks are not counted, for want of memory\n",
                (unsigned long)unrecorded);
}

void leaks_init(void)
{
    if (!collect_leaks)
        return;
    groups = heap_memory_frames(PAGE_SIZE);
    records = heap_memory_frames(PAGE_SIZE);
    if (groups == NULL || records == NULL)
        panic("heap.leaks needs memory: run with more MEM");
    atomic_store(&collect_specials, 1); // who frees says so
}

void leaks_at_exit(void)
{
    if (!collect_leaks)
        return;
    (void)atexit(report);
    collector.allocated = allocated; // what was before is the runtime's own
}
