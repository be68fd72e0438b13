// Looking at the heap: the calls of <gneiss/heap.h> that count and show.
//
// Nothing is counted where memory is taken and given but the allocations of each
// stack. What lives is what has its alloc bit set; what was freed is the
// difference.
//
// Locks: none. Tables, bits and structs of spans lie in memory that stays; what is
// read of a span that goes meanwhile is checked before it is believed.

#include <gneiss/heap.h>

#include <string.h>

#include "runtime/heap/cache.h"
#include "runtime/heap/debug.h"
#include "runtime/heap/tiny.h"

static unsigned popcount(uint64_t v)
{
    return (unsigned)__builtin_popcountll(v);
}

// Alloc bits set in the pages of a span, less what others have freed since.
static uint64_t live_in(struct span *s)
{
    const uint64_t *bits = &PAGES_ALLOC_BITS[span_base(s) / 1024];
    uint64_t n = 0;

    if (s->class == 0)
        return bits[0] & 1;
    for (uint64_t w = 0; w < s->npages * (HEAP_PAGE / 1024); w++)
        n += popcount(bits[w]);
    for (unsigned w = 0; w < span_words(s); w++) {
        uint64_t freed = popcount(atomic_load_explicit(&span_remote_bits(s)[w],
                                                       memory_order_relaxed));

        n -= min_u64(n, freed); // they may change meanwhile
    }
    return n;
}

// What was counted at slightly different moments.
static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static bool is_span(uint64_t page, const struct span *s)
{
    return s != NULL && s->page == page && s->class < HEAP_CLASSES &&
           s->npages > 0 &&
           (s->class == 0 || s->npages == heap_classes[s->class].pages);
}

// The first span from a page on, and the page; NULL: there is none.
static struct span *next_span(uint64_t *page)
{
    uint64_t end = heap_page_of(pages_end());

    for (; *page < end; (*page)++) {
        struct span *s =
            atomic_load_explicit((struct span * _Atomic *)&pages_spans()[*page],
                                 memory_order_acquire);

        if (is_span(*page, s))
            return s;
    }
    return NULL;
}

#define EACH_SPAN(s, page)                                                     \
    for (uint64_t page = 0; ((s) = next_span(&page)) != NULL; page++)

// ---- sums ----

static uint64_t cached_bytes(void)
{
    uint64_t n = 0;

    for (unsigned class = 1; class < HEAP_CLASSES; class ++)
        for (unsigned kind = 0; kind < HEAP_KINDS; kind++)
            n += cache_count(class, (enum heap_kind)kind) *
                 heap_classes[class].size;
    return n;
}

static void count_mallocs(struct gn_heap_stats *st)
{
    st->mallocs = span_large.mallocs;
    st->total_alloc = span_large.bytes;
    for (unsigned class = 1; class < HEAP_CLASSES; class ++) {
        uint64_t n = cache_mallocs(class);

        st->mallocs += n;
        st->total_alloc += n * heap_classes[class].size;
    }
}

// Objects that heap.guard and heap.efence put on pages of their own.
static void count_guarded(struct gn_heap_stats *st)
{
    uint64_t frees = heap_guarded.frees, freed = heap_guarded.freed_bytes;
    uint64_t n = heap_guarded.mallocs, bytes = heap_guarded.bytes;

    st->mallocs += n;
    st->total_alloc += bytes;
    st->frees += frees;
    st->heap_objects += less(n, frees);
    st->alloc += less(bytes, freed);
}

static uint64_t tenants_in(struct span *s)
{
    uint64_t n = 0;

    for (unsigned slot = 0; slot < s->slots; slot++)
        if (PAGES_ALLOC_BITS[span_object(s, slot) / 1024] >>
                span_object(s, slot) / 16 % 64 &
            1)
            n += tiny_tenants(s, slot);
    return n;
}

void gn_heap_stats(struct gn_heap_stats *st)
{
    struct span *s;

    memset(st, 0, sizeof *st);
    EACH_SPAN(s, page)
    {
        uint64_t live = live_in(s);
        uint64_t size =
            s->class != 0 ? heap_classes[s->class].size : span_bytes(s);

        st->heap_inuse += span_bytes(s);
        st->alloc += live * size;
        st->heap_objects += s->class == HEAP_CLASS_TINY ? tenants_in(s) : live;
        if (s->class == 0) {
            st->large_objects += live;
            st->large_bytes += live * size;
        }
    }
    count_mallocs(st);
    st->frees = less(st->mallocs, st->heap_objects);
    count_guarded(st);
    st->heap_sys = pages_stats.total << HEAP_PAGE_SHIFT;
    st->promised = pages_stats.promised << HEAP_PAGE_SHIFT;
    st->heap_idle = less(st->heap_sys, st->heap_inuse);
    st->heap_released = less(st->heap_sys, st->promised);
    st->mspan_inuse = atomic_load_explicit(&meta_bytes, memory_order_relaxed);
    st->gc_sys = pages_stats.metadata;
    st->cached = cached_bytes();
    st->limit =
        pages_limit == UINT64_MAX ? UINT64_MAX : pages_limit << HEAP_PAGE_SHIFT;
}

size_t gn_heap_classes(struct gn_class_stats *rows, size_t n)
{
    const size_t all = HEAP_CLASSES - 1;
    struct span *s;

    if (n > all)
        n = all;
    for (size_t i = 0; i < n; i++) {
        const struct heap_class *k = &heap_classes[i + 1];

        rows[i] =
            (struct gn_class_stats){.size = k->size,
                                    .span_bytes = k->pages * HEAP_PAGE,
                                    .mallocs = cache_mallocs((unsigned)i + 1)};
        for (unsigned kind = 0; kind < HEAP_KINDS; kind++)
            rows[i].cached +=
                cache_count((unsigned)i + 1, (enum heap_kind)kind);
    }
    EACH_SPAN(s, page)
    {
        size_t i = s->class - 1u;

        if (s->class == 0 || i >= n)
            continue;
        rows[i].spans++;
        rows[i].objects +=
            s->class == HEAP_CLASS_TINY ? tenants_in(s) : live_in(s);
        rows[i].free += s->nfree;
    }
    for (size_t i = 0; i < n; i++)
        rows[i].frees = less(rows[i].mallocs, rows[i].objects);
    return all;
}

// ---- spans and objects ----

static void describe(struct span *s, struct gn_span *out)
{
    // Once: the struct may become another span's meanwhile.
    unsigned class = *(volatile uint8_t *)&s->class;
    size_t bytes = span_bytes(s);

    *out = (struct gn_span){
        .address = (void *)span_base(s),
        .bytes = bytes,
        .object_size = class != 0 ? heap_classes[class].size : bytes,
        .objects = class != 0 ? heap_classes[class].slots : 1,
        .free = s->nfree,
        .cpu = atomic_load_explicit(&s->owner, memory_order_relaxed) - 1,
        .kind = (enum gn_heap_kind)s->kind,
        .shared = class == HEAP_CLASS_TINY,
    };
    for (unsigned i = 0; i < out->objects; i++) {
        uint64_t at = (uintptr_t)out->address + i * out->object_size;

        if (at < pages_end() && !span_freed_remotely(s, i) &&
            (PAGES_ALLOC_BITS[at / 1024] >> at / 16 % 64 & 1) != 0) {
            out->allocated_bits[i / 64] |= UINT64_C(1) << i % 64;
            out->allocated++;
        }
    }
    if (class != 0)
        memcpy(out->free_bits, span_free_bits(s),
               (heap_classes[class].slots + 63u) / 64 * 8);
}

bool gn_heap_spans(bool (*fn)(const struct gn_span *s, void *arg), void *arg)
{
    struct span *s;
    struct gn_span out;

    EACH_SPAN(s, page)
    {
        describe(s, &out);
        // It is the same one still.
        if (is_span(page, s) && pages_spans()[page] == s && !fn(&out, arg))
            return false;
    }
    return true;
}

struct walk {
    bool (*fn)(void *p, size_t n, enum gn_heap_kind kind, void *arg);
    void *arg;
};

static bool walk_block(const struct gn_span *s, char *block, struct walk *w)
{
    struct span *span = span_of((uintptr_t)block);

    // Its pages may be another span's by now.
    if (span == NULL || span->class != HEAP_CLASS_TINY)
        return true;
    for (unsigned off = 0; off < 16; off += 2) {
        size_t n = tiny_usable(span, (uintptr_t)block + off);

        if (n > 0 && !w->fn(block + off, n, s->kind, w->arg))
            return false;
    }
    return true;
}

// It was when the bits were read; a call of fn may have freed it since.
static bool is_object(const char *p)
{
    struct heap_place at;

    return heap_place_of((uintptr_t)p, &at) && at.allocated &&
           at.object == (uintptr_t)p;
}

static bool walk_span(const struct gn_span *s, void *arg)
{
    struct walk *w = arg;

    for (unsigned i = 0; i < s->objects; i++) {
        char *p = (char *)s->address + i * s->object_size;

        if ((s->allocated_bits[i / 64] >> i % 64 & 1) == 0)
            continue;
        if (s->shared
                ? !walk_block(s, p, w)
                : is_object(p) && !w->fn(p, s->object_size, s->kind, w->arg))
            return false;
    }
    return true;
}

static bool walk_guarded(void *p, size_t n, enum heap_kind kind, void *arg)
{
    struct walk *w = arg;

    return w->fn(p, n, (enum gn_heap_kind)kind, w->arg);
}

bool gn_heap_walk(bool (*fn)(void *p, size_t n, enum gn_heap_kind kind,
                             void *arg),
                  void *arg)
{
    struct walk w = {fn, arg};

    return gn_heap_spans(walk_span, &w) && heap_debug_walk(walk_guarded, &w);
}
