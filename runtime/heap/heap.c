// The heap as a whole: alignment, realloc, trimming, checks, figures.

#include "runtime/heap/heap.h"

#include <string.h>

#include "arch/option.h"
#include "runtime/heap/cache.h"
#include "runtime/heap/debug.h"
#include "runtime/heap/memory.h"
#include "runtime/heap/report.h"

enum {
    MOVE_MIN = 64 * 1024, // from here on realloc moves entries, not bytes
};

static uint64_t keep_bytes = UINT64_MAX;
OPTION_ROW(opt_keep, "heap.keep",
           "most free memory that malloc keeps, bytes with K, M, G (a 64th of "
           "the RAM)",
           &keep_bytes, NULL, 0, UINT64_MAX, OPTION_SIZE);

void heap_init(void)
{
    span_init();
    cache_init();
    if (keep_bytes == UINT64_MAX)
        keep_bytes = heap_memory_total() / 64;
    pages_keep = keep_bytes / HEAP_PAGE;
    heap_debug_init();
    heap_memory_on_pressure(heap_trim);
}

// ---- alignment ----

// The size to ask for so that the object is aligned: a class whose size is a
// multiple lies so in its span. 0: only pages will do.
static size_t aligned_size(size_t n, size_t align)
{
    n = align_up(n > 0 ? n : 1, align > 16 ? align : 16);
    for (; n <= HEAP_SMALL_MAX && align <= HEAP_PAGE; n += align) {
        if (heap_classes[heap_class_of(n)].size % align == 0)
            return n;
    }
    return 0;
}

struct pages_call {
    size_t n, align;
    enum heap_kind kind;
    struct span *s;
};

static void alloc_pages(void *arg)
{
    struct pages_call *c = arg;

    spin_lock(&heap_lock);
    c->s = span_new_aligned((c->n + HEAP_PAGE - 1) >> HEAP_PAGE_SHIFT,
                            c->align >> HEAP_PAGE_SHIFT, c->kind);
    spin_unlock(&heap_lock);
    if (c->s != NULL)
        arch_bit_set(PAGES_ALLOC_BITS, span_base(c->s) / 16);
}

static bool reads_as_zero(const void *p)
{
    const struct span *s = span_of((uintptr_t)p);

    // A guarded object is in no span, and fresh.
    return s == NULL || (s->class == 0 && s->zero && !heap_debug_on);
}

void *heap_alloc(size_t n, enum heap_kind kind, size_t align, bool zero)
{
    void *p;

    if (n > ARCH_HEAP_SIZE / 2 || align > ARCH_HEAP_SIZE / 4)
        return NULL;
    if (heap_debug_efence() && align > 16 && align <= PAGE_SIZE) {
        p = heap_debug_refuse() ? NULL : heap_debug_guarded(n, align);
    } else if (align <= 16) {
        p = kind == HEAP_MANUAL ? heap_malloc(n)
                                : cache_alloc(n > 16 ? n : 16, kind, 16);
    } else if (aligned_size(n, align) != 0) {
        p = cache_alloc(aligned_size(n, align), kind, align);
    } else {
        struct pages_call c = {.n = n, .align = align, .kind = kind};

        if (heap_debug_on && heap_debug_refuse())
            return NULL;
        arch_on_system_stack(alloc_pages, &c);
        p = c.s != NULL ? (void *)span_base(c.s) : NULL;
    }
    if (zero && p != NULL && !reads_as_zero(p))
        memset(p, 0, n);
    return p;
}

// ---- sizes ----

static struct span *object_span(const void *p, const char *call)
{
    struct heap_place at;

    if (!heap_place_of((uintptr_t)p, &at) || at.span == NULL ||
        at.object != (uintptr_t)p)
        heap_report_bad(p, call, "not the beginning of an object");
    if (!at.allocated)
        heap_report_bad(p, call, "freed already, or never allocated");
    return (struct span *)at.span;
}

static size_t usable(const struct span *s)
{
    return s->class != 0 ? heap_classes[s->class].size : span_bytes(s);
}

size_t heap_usable(const void *p)
{
    size_t n;

    if (heap_debug_is_guarded(p, &n, "malloc_usable_size"))
        return n;
    return usable(object_span(p, "malloc_usable_size"));
}

// ---- realloc ----

struct move_call {
    struct span *from, *to;
    size_t bytes;
    bool done;
};

static void move_call(void *arg)
{
    struct move_call *m = arg;
    size_t bytes = align_up(m->bytes, PAGE_SIZE);

    // Pages that were used before may have frames: they go first.
    if (!m->to->zero)
        heap_memory_drop(span_base(m->to), bytes);
    m->done = heap_memory_move(span_base(m->from), span_base(m->to), bytes);
}

static bool move_pages(struct span *from, struct span *to, size_t bytes)
{
    struct move_call m = {from, to, bytes, false};

    if (from->class != 0 || to->class != 0 || bytes < MOVE_MIN)
        return false;
    arch_on_system_stack(move_call, &m);
    return m.done;
}

struct resize_call {
    struct span *s;
    uint64_t npages;
    bool done;
};

static void resize_call(void *arg)
{
    struct resize_call *r = arg;

    spin_lock(&heap_lock);
    r->done = span_resize(r->s, r->npages);
    spin_unlock(&heap_lock);
}

static bool resize_in_place(struct span *s, size_t n)
{
    struct resize_call r = {s, (n + HEAP_PAGE - 1) >> HEAP_PAGE_SHIFT, false};

    if (s->class != 0 || n <= HEAP_SMALL_MAX || n > ARCH_HEAP_SIZE / 2)
        return false;
    arch_on_system_stack(resize_call, &r);
    return r.done;
}

// s: the object's span, if it has one.
static void *copy_to_new(void *p, size_t had, size_t n, struct span *s)
{
    void *q = heap_malloc(n);
    size_t keep = n < had ? n : had;

    if (q == NULL)
        return n <= had ? p : NULL;
    struct span *to = s != NULL ? span_of((uintptr_t)q) : NULL;

    if (to == NULL || !move_pages(s, to, keep))
        memcpy(q, p, keep);
    heap_free(p);
    return q;
}

void *heap_realloc(void *p, size_t n)
{
    size_t had;

    if (p == NULL)
        return heap_malloc(n);
    if (heap_debug_is_guarded(p, &had, "realloc"))
        return copy_to_new(p, had, n, NULL);
    struct span *s = object_span(p, "realloc");

    had = usable(s);

    // It fits, and does not waste more than half.
    if (n <= had && (n > had / 2 || had <= 64))
        return p;
    if (resize_in_place(s, n))
        return p;
    return copy_to_new(p, had, n, s);
}

// ---- giving back ----

static void scavenge_call(void *arg)
{
    uint64_t *n = arg;

    spin_lock(&heap_lock);
    *n = pages_scavenge(*n);
    spin_unlock(&heap_lock);
}

uint64_t heap_trim(void)
{
    uint64_t n = UINT64_MAX;

    cache_flush();
    arch_on_system_stack(scavenge_call, &n);
    return n * HEAP_PAGE_FRAMES;
}

// ---- figures, checks ----

void heap_stats(struct heap_stats *s)
{
    *s = (struct heap_stats){
        .range = pages_stats.total << HEAP_PAGE_SHIFT,
        .free = pages_stats.free << HEAP_PAGE_SHIFT,
        .promised = pages_stats.promised << HEAP_PAGE_SHIFT,
        .metadata = span_metadata,
    };
    s->used = s->range - s->free;
    cache_stats(s);
}

static void check_call(void *arg)
{
    (void)arg;
    spin_lock(&heap_lock);
    pages_check();
    span_check();
    spin_unlock(&heap_lock);
}

void heap_check(void)
{
    arch_on_system_stack(check_call, NULL);
}
