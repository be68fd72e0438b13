// See gc.h.
//
// Memory that is stored to while it is marked is scanned again, found by the D bits of
// its pages: first they are cleared, then shot down, and only then is the page read. So
// a store that was not seen sets D for the next round (R15).
//
// Source: Boehm, Demers, Shenker: Mostly parallel garbage collection (PLDI 1991).

#include "mm/mm.h"
#include "runtime/gc/break.h"
#include "runtime/gc/gc.h"
#include "runtime/heap/debug.h"
#include "runtime/sched/p.h"

enum { PAGES = 64 }; // of the image that are looked at together

static struct {
    uintptr_t lo, hi;
} image;                // [c]
static int client = -1; // of mm/dirty
static bool watching;

void roots_init(uintptr_t data, uintptr_t end)
{
    image.lo = align_down(data, PAGE_SIZE);
    image.hi = align_up(end, PAGE_SIZE);
}

// ---- the image ----

struct image_call {
    uintptr_t at;
    size_t n;
    uintptr_t pages[PAGES];
};

static void image_take(void *arg)
{
    struct image_call *c = arg;

    spin_lock(&mm_lock);
    c->n = dirty_take(&c->at, image.hi, c->pages, PAGES);
    spin_unlock(&mm_lock);
}

static uint64_t rescan_image(struct marker *m)
{
    struct image_call c = {.at = image.lo};
    uint64_t n = 0;

    while (c.at < image.hi) {
        arch_on_system_stack(image_take, &c);
        if (c.n > 0)
            dirty_shoot();
        for (size_t i = 0; i < c.n && m != NULL && !gc_breaks(GC_BREAK_IMAGE);
             i++)
            mark_range(m, c.pages[i], c.pages[i] + PAGE_SIZE);
        n += c.n;
    }
    return n;
}

// ---- the heap ----

static uint64_t rescan_heap(struct marker *m)
{
    uint64_t word = 0, bits, n = 0;
    uintptr_t base;

    if (dirty_harvest(client, ARCH_HEAP_BASE) != 0)
        panic("gc: the heap is not watched any more");
    while (dirty_next(client, ARCH_HEAP_BASE, &word, &base, &bits)) {
        for (; bits != 0 && m != NULL; bits &= bits - 1) {
            uintptr_t va = base + (uintptr_t)__builtin_ctzll(bits) * PAGE_SIZE;

            n += gc_breaks(GC_BREAK_DIRTY) ? 1 : mark_page(m, va);
        }
    }
    return n;
}

bool roots_begin(void)
{
    if (client < 0)
        client = dirty_client_new();
    if (client >= 0 && !watching)
        watching = dirty_watch(client, ARCH_HEAP_BASE) == 0;
    if (!watching)
        return false;
    (void)rescan_image(NULL);
    (void)rescan_heap(NULL);
    return true;
}

static bool scan_guarded(void *p, size_t n, enum heap_kind kind, void *arg)
{
    if (kind != HEAP_NOSCAN)
        mark_range(arg, (uintptr_t)p, align_down((uintptr_t)p + n, 8));
    return true;
}

void roots_scan(struct marker *m)
{
    mark_range(m, image.lo, image.hi);
    if (!gc_breaks(GC_BREAK_MANUAL))
        mark_manual(m, 0, m->heap_bytes >> HEAP_PAGE_SHIFT);
}

uint64_t roots_rescan(struct marker *m)
{
    return rescan_image(m) + rescan_heap(m);
}

// Of all CPUs.
static void each_timers(struct marker *m,
                        void (*fn)(struct marker *m, uintptr_t lo,
                                   uintptr_t hi))
{
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        const struct p *p = p_of_cpu(cpu);

        if (p != NULL)
            fn(m, (uintptr_t)p, (uintptr_t)(p + 1));
    }
}

static void check_timers(struct marker *m, uintptr_t lo, uintptr_t hi)
{
    mark_check_range(m, lo, hi, "a timer");
}

void roots_scan_always(struct marker *m)
{
    if (!gc_breaks(GC_BREAK_TIMERS))
        each_timers(m, mark_range);
    if (heap_debug_guards())
        (void)heap_debug_walk(scan_guarded, m);
}

void roots_check(struct marker *m)
{
    each_timers(m, check_timers);
    mark_check_range(m, image.lo, image.hi, "a variable");
    mark_check_pages(m, 0, heap_page_of(pages_end()));
}
