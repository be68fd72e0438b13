// See owned.h. Of each class and kind a CPU has a list of its spans with free
// slots; full ones are in no list. Empty ones are kept for the next allocations,
// up to a number of pages.
//
//   central ----find----> listed <---put_back, drain--- full
//   new --------find--/      \------take_to last-----/
//      listed, empty, too many of them: central_put
//
// Locks: the lists are the CPU's. `remote` is a stack that other CPUs push spans
// on and the owner takes as a whole; a span is on one such stack at most, since
// who finds `queued` set pushes nothing.

#include "runtime/heap/owned.h"

#include <string.h>

#include "runtime/heap/central.h"
#include "runtime/heap/collect.h"
#include "runtime/heap/debug.h"
#include "runtime/heap/memory.h"

enum { SWEEPS = 4 }; // steps before a new span is made

// Heap pages of empty spans that a CPU keeps. [c]
static uint64_t empty_pages_max;

void owned_init(void)
{
    empty_pages_max = min_u64(heap_memory_total() / HEAP_PAGE / 256, 64);
}

static void list(struct cache *c, struct span *s)
{
    struct span **head = &c->spans[s->kind][s->class];

    s->listed = true;
    s->prev = NULL;
    s->next = *head;
    if (*head != NULL)
        (*head)->prev = s;
    *head = s;
}

static void unlist(struct cache *c, struct span *s)
{
    if (unlikely((s->prev != NULL && s->prev->next != s) ||
                 (s->next != NULL && s->next->prev != s)))
        panic("heap: the list of span 0x%lx is damaged",
              (unsigned long)span_base(s));
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        c->spans[s->kind][s->class] = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    s->next = s->prev = NULL;
    s->listed = false;
}

static void set_classes(struct cache *c, const struct span *s, bool mine)
{
    // Not of collected ones: their white bits must be cleared (collect.h).
    unsigned i = mine && !heap_debug_on && s->kind == HEAP_MANUAL &&
                         cache_takes(s->class)
                     ? cache_index(s->class, s->kind)
                     : 0;

    memset(c->classes + s->page, (int)i, s->npages);
}

static void disown(struct cache *c, struct span *s)
{
    set_classes(c, s, false);
    if (s->listed)
        unlist(c, s);
    if (span_is_empty(s))
        c->empty_pages -= s->npages;
    central_put(&c->source, s);
}

// n slots of a span of ours became free.
static void slots_freed(struct cache *c, struct span *s, unsigned n)
{
    s->nfree = (uint16_t)(s->nfree + n);
    if (!s->listed)
        list(c, s);
    if (!span_is_empty(s))
        return;
    c->empty_pages += s->npages;
    if (c->empty_pages > empty_pages_max)
        disown(c, s);
}

void owned_freed(struct cache *c, struct span *s, const uint64_t *slots,
                 unsigned n)
{
    for (unsigned w = 0; w < span_words(s); w++)
        span_free_bits(s)[w] |= slots[w];
    slots_freed(c, s, n);
}

void owned_put_back(struct cache *c, void **p, size_t n)
{
    void **end = p + n;

    while (p < end) {
        struct span *s = pages_spans()[heap_page_of((uintptr_t)*p)];
        uint64_t *bits = span_free_bits(s);
        uintptr_t base = span_base(s), off = (uintptr_t)*p - base;
        size_t bytes = span_bytes(s), divide = s->divide;
        unsigned had = s->nfree, now = had;

        if (unlikely(off >= bytes))
            span_must_be_sound(s, (uintptr_t)*p);
        do {
            arch_bit_set(bits, off * divide >> 32);
            now++;
        } while (++p < end && (off = (uintptr_t)*p - base) < bytes);
        if (unlikely(had == 0 || now == s->slots))
            slots_freed(c, s, now - had);
        else
            s->nfree = (uint16_t)now;
    }
}

// ---- what others have freed ----

static bool pass_on(struct cache *c, struct span *s, unsigned freeing)
{
    uint64_t pages = s->npages;
    unsigned owner;
    bool gone;

    // It is queued, so it stays whoever owns it.
    for (;;) {
        owner = atomic_load_explicit(&s->owner, memory_order_acquire);
        if (owner != 0)
            break;
        if (central_drain(&c->source, s, freeing, &gone))
            return gone;
    }
    // It may change hands now: that one passes it on.
    struct cache *to = cache_of_cpu(owner - 1);
    struct span *first =
        atomic_load_explicit(&to->remote, memory_order_relaxed);

    do {
        atomic_store_explicit(&s->remote_next, first, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(
        &to->remote, &first, s, memory_order_release, memory_order_relaxed));
    // It drains when it next looks for a span. What it may be late with is what it
    // may keep empty, and no more: it may be idle.
    if (atomic_fetch_add_explicit(&to->behind, pages, memory_order_relaxed) +
            pages >
        empty_pages_max) {
        atomic_store_explicit(&to->behind, 0, memory_order_relaxed);
        atomic_fetch_or_explicit(&to->asked, CACHE_DRAIN, memory_order_relaxed);
        arch_kick(owner - 1);
    }
    return false;
}

bool owned_tell(struct cache *c, struct span *s)
{
    if (atomic_exchange_explicit(&s->queued, true, memory_order_seq_cst))
        return false; // who has queued it has not drained it yet
    return pass_on(c, s, 1);
}

void owned_drain(struct cache *c)
{
    atomic_store_explicit(&c->behind, 0, memory_order_relaxed);
    struct span *s =
        atomic_exchange_explicit(&c->remote, NULL, memory_order_acquire);

    while (s != NULL) {
        struct span *next =
            atomic_load_explicit(&s->remote_next, memory_order_relaxed);

        if (atomic_load_explicit(&s->owner, memory_order_acquire) !=
            arch_cpu_id() + 1) {
            (void)!pass_on(c, s, 0);
        } else {
            // Whoever sets a bit from here on queues it again.
            atomic_exchange_explicit(&s->queued, false, memory_order_seq_cst);
            unsigned had = s->nfree, came = span_drain(s);

            s->nfree = (uint16_t)had;
            if (came > 0)
                slots_freed(c, s, came);
        }
        s = next;
    }
}

// ---- taking ----

struct span *owned_find(struct cache *c, unsigned class, enum heap_kind kind)
{
    struct span **head = &c->spans[kind][class];

    if (*head != NULL) {
        span_must_be_sound(*head, 0);
        return *head;
    }
    if (atomic_load_explicit(&c->remote, memory_order_relaxed) != NULL) {
        owned_drain(c);
        if (*head != NULL)
            return *head;
    }
    struct span *s = central_take(class, kind);

    // What is dead comes before what is new.
    for (int i = 0;
         s == NULL && kind != HEAP_MANUAL && i < SWEEPS && collect_sweep_some();
         i++) {
        if (*head != NULL)
            return *head;
        s = central_take(class, kind);
    }
    if (s == NULL)
        s = span_new(&c->source, class, kind);
    if (s == NULL)
        return NULL;
    set_classes(c, s, true);
    list(c, s);
    if (span_is_empty(s))
        c->empty_pages += s->npages;
    return s;
}

// `taken` slots of a span of ours are taken, the highest of them `last`.
static void slots_taken(struct cache *c, struct span *s, unsigned taken,
                        unsigned last)
{
    if (span_is_empty(s))
        c->empty_pages -= s->npages;
    s->nfree = (uint16_t)(s->nfree - taken);
    if (s->nfree == 0)
        unlist(c, s);
    if (last >= s->fresh)
        s->fresh = (uint16_t)(last + 1);
}

// Takes the lowest n set bits of a word, at most: the objects' addresses go
// downwards from `to`. Returns where it came to.
static void **take_bits(uint64_t *word, unsigned n, uintptr_t base, size_t size,
                        void **to)
{
    uint64_t rest = *word;

    // By runs: mostly there are few.
    while (rest != 0 && n > 0) {
        unsigned bit = (unsigned)__builtin_ctzll(rest);
        uint64_t ends = ~(rest >> bit);
        unsigned run = ends != 0 ? (unsigned)__builtin_ctzll(ends) : 64;
        uintptr_t at = base + bit * size;

        run = run < n ? run : n;
        n -= run;
        rest = bit + run < 64 ? rest >> (bit + run) << (bit + run) : 0;
        for (; run > 0; run--, at += size)
            *--to = (void *)at;
    }
    *word = rest;
    return to;
}

unsigned owned_take(struct cache *c, struct span *s, unsigned n, void **to,
                    bool *fresh)
{
    size_t size = heap_classes[s->class].size;

    n = n < s->nfree ? n : s->nfree;
    void **at = to + n;

    for (unsigned w = 0; at > to; w++)
        at = take_bits(&span_free_bits(s)[w], (unsigned)(at - to),
                       span_object(s, w * 64), size, at);
    // The lowest object is on top, the highest at the bottom.
    *fresh = span_slot(s, (uintptr_t)to[n - 1]) >= s->fresh;
    slots_taken(c, s, n, span_slot(s, (uintptr_t)*to));
    return n;
}

void *owned_take_one(struct cache *c, struct span *s, unsigned skip,
                     bool *fresh)
{
    uint64_t *bits = span_free_bits(s), rest;
    unsigned w = 0, here;

    for (; (here = (unsigned)__builtin_popcountll(bits[w])) <= skip; w++)
        skip -= here;
    for (rest = bits[w]; skip > 0; skip--)
        rest &= rest - 1;
    unsigned bit = (unsigned)__builtin_ctzll(rest), slot = w * 64 + bit;

    *fresh = slot >= s->fresh;
    bits[w] &= ~(UINT64_C(1) << bit);
    slots_taken(c, s, 1, slot);
    return (void *)span_object(s, slot);
}

// A span in a list of ours. Returns its heap pages if it is empty.
COLD static uint64_t check_span(struct cache *c, struct span *s)
{
    unsigned free = 0, class = c->classes[s->page];

    span_must_be_sound(s, 0);
    for (unsigned w = 0; w < span_words(s); w++)
        free += (unsigned)__builtin_popcountll(s->bits[w]);
    if (!s->listed || free != s->nfree || free == 0 ||
        s->owner != arch_cpu_id() + 1 ||
        (class != 0 && class != cache_index(s->class, s->kind)))
        panic("heap: span 0x%lx of CPU %u has %u free slots, counts %u",
              (unsigned long)span_base(s), arch_cpu_id(), free, s->nfree);
    return span_is_empty(s) ? s->npages : 0;
}

COLD void owned_check(struct cache *c)
{
    uint64_t empty = 0;

    for (unsigned kind = 0; kind < HEAP_KINDS; kind++)
        for (unsigned class = 1; class < HEAP_CLASSES; class ++)
            for (struct span *s = c->spans[kind][class]; s != NULL; s = s->next)
                empty += check_span(c, s);
    if (empty != c->empty_pages)
        panic("heap: CPU %u has %lu pages of empty spans, counts %lu",
              arch_cpu_id(), (unsigned long)empty,
              (unsigned long)c->empty_pages);
}

COLD void owned_flush(struct cache *c)
{
    owned_drain(c);
    for (unsigned kind = 0; kind < HEAP_KINDS; kind++)
        for (unsigned class = 1; class < HEAP_CLASSES; class ++)
            while (c->spans[kind][class] != NULL)
                disown(c, c->spans[kind][class]);
    page_cache_flush(&c->source.pages);
}
