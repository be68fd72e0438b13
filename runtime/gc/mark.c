// See mark.h.
//
// Locks: the common queue has a spinlock, of goroutines: nothing that serves a fault
// takes it. A span is in one queue at a time: `queued` says so, and who sets it links
// the span. It is cleared before the gray bits are read, and set after one was: so
// one of two sees the other.
//
// An object whose gray bit is set twice, since its white bit was still there for
// somebody, is scanned twice: harmless.

#include "runtime/gc/mark.h"

#include <string.h>

#include "mm/mm.h"

enum {
    PIECE = 128 * 1024, // of large objects, between two looks at the queue
    SHARE = 64,         // spans of a queue: then half goes to the common one
    SPARSE = 2 * PAGE_SIZE, // objects from here on may have pages never touched
};

static struct {
    struct spinlock lock;
    struct span *first; // [lock]
    _Atomic uint64_t n; // [lock] to change
} common;

void mark_begin(struct marker *m, unsigned number)
{
    *m = (struct marker){.number = number,
                         .heap_bytes = pages_end() - ARCH_HEAP_BASE};
}

// ---- queues ----

static void push(struct marker *m, struct span *s)
{
    struct span_gray *g = span_gray(s);

    g->next = NULL;
    if (m->first == NULL)
        m->first = s;
    else
        span_gray(m->last)->next = s;
    m->last = s;
    m->queued++;
}

static struct span *pop(struct marker *m)
{
    struct span *s = m->first;

    if (s != NULL) {
        m->first = span_gray(s)->next;
        m->queued--;
    }
    return s;
}

static void give(struct marker *m, uint64_t n)
{
    if (n == 0)
        return;
    struct span *first = m->first, *last = first;

    for (uint64_t i = 1; i < n; i++)
        last = span_gray(last)->next;
    m->first = span_gray(last)->next;
    m->queued -= n;
    spin_lock(&common.lock);
    span_gray(last)->next = common.first;
    common.first = first;
    atomic_store_explicit(&common.n, common.n + n, memory_order_relaxed);
    spin_unlock(&common.lock);
}

void mark_share(struct marker *m)
{
    give(m, m->queued);
}

bool mark_is_idle(void)
{
    return atomic_load(&common.n) == 0;
}

// Up to `n` spans of the common queue.
static void take(struct marker *m, uint64_t n)
{
    if (mark_is_idle())
        return;
    spin_lock(&common.lock);
    for (; n > 0 && common.first != NULL; n--) {
        struct span *s = common.first;

        common.first = span_gray(s)->next;
        atomic_store_explicit(&common.n, common.n - 1, memory_order_relaxed);
        push(m, s);
    }
    spin_unlock(&common.lock);
}

// ---- one word ----

// n objects of this size lost their white bit.
static void count_marked(struct marker *m, uint64_t n, size_t size)
{
    m->marked += n * size;
    m->objects += n;
}

static void make_gray(struct marker *m, struct span *s, unsigned slot)
{
    struct span_gray *g = span_gray(s);
    uint64_t bit = UINT64_C(1) << slot % 64;

    if (atomic_load_explicit(&g->bits[slot / 64], memory_order_relaxed) & bit)
        return;
    atomic_fetch_or(&g->bits[slot / 64], bit);
    if (atomic_load_explicit(&g->queued, memory_order_relaxed) == 0 &&
        atomic_exchange(&g->queued, 1) == 0)
        push(m, s);
}

// The object that a word points into, 0: none that is white.
static inline uintptr_t white_object(const struct marker *m, uintptr_t word,
                                     struct span **span, unsigned *slot)
{
    uintptr_t off = word - ARCH_HEAP_BASE;

    if (likely(off >= m->heap_bytes))
        return 0;
    struct span *s = atomic_load_explicit(
        (struct span * _Atomic *)&pages_spans()[off >> HEAP_PAGE_SHIFT],
        memory_order_acquire);

    if (s == NULL || s->kind == HEAP_MANUAL)
        return 0;
    uintptr_t base = span_base(s);
    unsigned i = 0;

    if (s->divide != 0) {
        i = span_slot(s, word);
        if (i >= s->slots)
            return 0;
        base += (uintptr_t)i * heap_classes[s->class].size;
    }
    if (!collect_is_white(base))
        return 0;
    *span = s;
    *slot = i;
    return base;
}

static inline void mark_word(struct marker *m, uintptr_t word)
{
    struct span *s;
    unsigned slot;
    uintptr_t object = white_object(m, word, &s, &slot);

    if (likely(object == 0))
        return;
    if (s->kind != HEAP_NOSCAN) {
        make_gray(m, s, slot);
        return;
    }
    collect_unwhiten(object);
    count_marked(m, 1,
                 s->divide != 0 ? heap_classes[s->class].size : span_bytes(s));
}

static inline uintptr_t word_at(uintptr_t at)
{
    return *(const volatile uintptr_t *)at;
}

static inline void mark_words(struct marker *m, uintptr_t lo, uintptr_t hi)
{
    for (; lo < hi; lo += sizeof(uintptr_t))
        mark_word(m, word_at(lo));
}

void mark_range(struct marker *m, uintptr_t lo, uintptr_t hi)
{
    m->scanned += hi - lo;
    mark_words(m, lo, align_down(hi, sizeof(uintptr_t)));
}

void mark_range_of_code(struct marker *m, uintptr_t lo, uintptr_t hi)
{
    m->scanned += hi - lo;
    for (; lo + sizeof(uintptr_t) <= hi; lo += sizeof(uintptr_t)) {
        uintptr_t word = word_at(lo);

        mark_word(m, word);
        mark_word(m, word - 1);
    }
}

// ---- objects ----

struct present_call {
    uintptr_t va;
    size_t n;
    uint64_t bits;
};

static void present_call(void *arg)
{
    struct present_call *c = arg;

    spin_lock(&mm_lock);
    c->bits = dirty_present(c->va, c->n);
    spin_unlock(&mm_lock);
}

// Pages that were never touched stay so.
static void mark_sparse(struct marker *m, uintptr_t lo, uintptr_t hi)
{
    uintptr_t at = align_down(lo, PAGE_SIZE);

    while (at < hi) {
        struct present_call c = {.va = at,
                                 .n = (hi - at + PAGE_SIZE - 1) / PAGE_SIZE};

        c.n = c.n < 64 ? c.n : 64;
        arch_on_system_stack(present_call, &c);
        for (; c.bits != 0; c.bits &= c.bits - 1) {
            uintptr_t page =
                at + (uintptr_t)__builtin_ctzll(c.bits) * PAGE_SIZE;
            uintptr_t end = page + PAGE_SIZE;

            mark_range(m, page > lo ? page : lo, end < hi ? end : hi);
        }
        at += c.n * PAGE_SIZE;
    }
}

// A piece of one. False: there is more of it.
static bool scan_large(struct marker *m, struct span *s)
{
    struct span_gray *g = span_gray(s);

    if (!collect_scans(m->number, s))
        return true; // freed
    uintptr_t lo = span_base(s), end = lo + span_bytes(s), hi;

    if (g->done == 0) {
        collect_unwhiten(lo);
        count_marked(m, 1, span_bytes(s));
    }
    lo += (uintptr_t)g->done * PAGE_SIZE;
    hi = lo + PIECE < end ? lo + PIECE : end;
    mark_sparse(m, lo, hi);
    collect_scans_none(m->number);
    g->done = hi < end ? g->done + PIECE / PAGE_SIZE : 0;
    return hi >= end;
}

// Takes the white bits of those objects of a span that are set in `bits`, the first at
// `first`: neighbours have one word.
static void unwhiten(uintptr_t first, size_t size, uint64_t bits)
{
    uint64_t word = 0, mask = 0;

    for (; bits != 0; bits &= bits - 1) {
        uintptr_t at = first + (unsigned)__builtin_ctzll(bits) * size;

        if (at / 1024 != word) {
            if (mask != 0)
                atomic_fetch_and(&COLLECT_WHITE_BITS[word], ~mask);
            word = at / 1024;
            mask = 0;
        }
        mask |= UINT64_C(1) << at / 16 % 64;
    }
    atomic_fetch_and(&COLLECT_WHITE_BITS[word], ~mask);
}

static void scan_small(struct marker *m, struct span *s)
{
    struct span_gray *g = span_gray(s);
    size_t size = heap_classes[s->class].size;
    unsigned words = span_words(s);

    for (unsigned w = 0; w < words; w++) {
        uint64_t bits = atomic_load(&g->bits[w]);
        uintptr_t first = span_base(s) + (uintptr_t)w * 64 * size;
        unsigned n = (unsigned)__builtin_popcountll(bits);

        if (bits == 0)
            continue;
        unwhiten(first, size, bits);
        atomic_fetch_and(&g->bits[w], ~bits);
        count_marked(m, n, size);
        m->scanned += size < SPARSE ? n * size : 0;
        for (; bits != 0; bits &= bits - 1) {
            uintptr_t at = first + (unsigned)__builtin_ctzll(bits) * size;

            if (size < SPARSE)
                mark_words(m, at, at + size);
            else
                mark_sparse(m, at, at + size);
        }
    }
}

static void scan_span(struct marker *m, struct span *s)
{
    struct span_gray *g = span_gray(s);

    if (s->divide == 0) {
        if (!scan_large(m, s)) {
            push(m, s);
            return;
        }
        atomic_store(&g->bits[0], 0);
        atomic_store(&g->queued, 0);
    } else {
        atomic_exchange(&g->queued, 0);
        scan_small(m, s);
    }
}

bool mark_drain(struct marker *m, uint64_t bytes)
{
    uint64_t end = m->scanned + bytes;

    while (m->scanned < end) {
        struct span *s = pop(m);

        if (s == NULL) {
            take(m, SHARE / 4);
            if ((s = pop(m)) == NULL)
                return true;
        }
        scan_span(m, s);
        if (m->queued >= SHARE && mark_is_idle())
            give(m, m->queued / 2);
    }
    return false;
}

static uint64_t alloc_word(uint64_t i)
{
    return atomic_load_explicit((_Atomic uint64_t *)&PAGES_ALLOC_BITS[i],
                                memory_order_acquire);
}

static bool is_allocated(uintptr_t va)
{
    return (alloc_word(va / 1024) >> va / 16 % 64 & 1) != 0;
}

// Those parts of allocated objects of small size that lie in [lo, hi).
static void mark_objects(struct marker *m, struct span *s, uintptr_t lo,
                         uintptr_t hi, bool black_only)
{
    size_t size = heap_classes[s->class].size;
    uintptr_t base = span_base(s);
    unsigned first = span_slot(s, lo);
    uintptr_t at = base + first * size;

    for (unsigned slot = first; slot < s->slots && at < hi;
         slot++, at += size) {
        uint64_t word = alloc_word(at / 1024);

        // When it is checked, also what lies in free blocks of malloc: they are
        // not cleared when they are allocated again.
        if (((word >> at / 16 % 64 & 1) == 0 &&
             (black_only || !collect_checks)) ||
            (black_only && collect_is_white(at)))
            continue;
        uintptr_t from = at > lo ? at : lo;
        uintptr_t to = at + size < hi ? at + size : hi;

        if (size < SPARSE)
            mark_range(m, from, to);
        else
            mark_sparse(m, from, to);
    }
}

// A part of a large one, unless it is freed.
static void mark_large(struct marker *m, struct span *s, uintptr_t va, size_t n)
{
    if (!collect_scans(m->number, s))
        return;
    if (is_allocated(span_base(s)))
        mark_sparse(m, va, va + n);
    collect_scans_none(m->number);
}

void mark_inside(struct marker *m, uintptr_t object)
{
    struct span *s = span_of(object);

    if (s->kind == HEAP_NOSCAN)
        return;
    if (s->divide != 0)
        mark_range(m, object, object + heap_classes[s->class].size);
    else
        mark_large(m, s, object, span_bytes(s));
}

unsigned mark_page(struct marker *m, uintptr_t va)
{
    struct span *s = span_of(va);

    if (s == NULL || s->kind == HEAP_NOSCAN)
        return 0;
    bool collected = s->kind != HEAP_MANUAL;

    if (s->divide != 0)
        mark_objects(m, s, va, va + PAGE_SIZE, collected);
    else if (!(collected && collect_is_white(span_base(s))))
        mark_large(m, s, va, PAGE_SIZE);
    return 1;
}

void mark_manual(struct marker *m, uint64_t page, uint64_t n)
{
    for (uint64_t p = page; p < page + n; p++) {
        uintptr_t va = heap_page_address(p);
        struct span *s = span_of(va);

        if (s == NULL || s->kind != HEAP_MANUAL)
            continue;
        if (s->divide != 0)
            mark_objects(m, s, va, va + HEAP_PAGE, false);
        else
            mark_large(m, s, va, HEAP_PAGE);
    }
}

bool mark_is_gray(struct span *s, uintptr_t object)
{
    unsigned slot = s->divide != 0 ? span_slot(s, object) : 0;

    return s->kind == HEAP_SCAN &&
           (atomic_load(&span_gray(s)->bits[slot / 64]) >> slot % 64 & 1) != 0;
}

// ---- checking ----

static void check_word(struct marker *m, uintptr_t word, uintptr_t at,
                       const char *what)
{
    struct span *s;
    unsigned slot;
    uintptr_t object = white_object(m, word, &s, &slot);

    if (object != 0 && is_allocated(object))
        panic(
            "gc: %s at 0x%lx points to 0x%lx, object 0x%lx of %u bytes, which "
            "was not marked",
            what, (unsigned long)at, (unsigned long)word, (unsigned long)object,
            heap_classes[s->class].size);
}

void mark_check_range(struct marker *m, uintptr_t lo, uintptr_t hi,
                      const char *what)
{
    for (; lo + sizeof(uintptr_t) <= hi; lo += sizeof(uintptr_t))
        check_word(m, word_at(lo), lo, what);
}

void mark_check_range_of_code(struct marker *m, uintptr_t lo, uintptr_t hi,
                              const char *what)
{
    for (; lo + sizeof(uintptr_t) <= hi; lo += sizeof(uintptr_t)) {
        check_word(m, word_at(lo), lo, what);
        check_word(m, word_at(lo) - 1, lo, what);
    }
}

static void check_page(struct marker *m, uintptr_t va)
{
    struct present_call c = {.va = va, .n = 1};
    struct span *s = span_of(va);

    if (s == NULL || s->kind == HEAP_NOSCAN)
        return;
    arch_on_system_stack(present_call, &c);
    if (c.bits == 0)
        return;
    bool collected = s->kind != HEAP_MANUAL;
    uintptr_t end = va + PAGE_SIZE;

    if (s->divide == 0) {
        if (is_allocated(span_base(s)) &&
            !(collected && collect_is_white(span_base(s))))
            mark_check_range(m, va, end, "a large object");
        return;
    }
    size_t size = heap_classes[s->class].size;
    unsigned first = span_slot(s, va);

    for (unsigned slot = first; slot < s->slots; slot++) {
        uintptr_t at = span_object(s, slot);

        if (at >= end)
            break;
        if (is_allocated(at) && !(collected && collect_is_white(at)))
            mark_check_range(m, at > va ? at : va,
                             at + size < end ? at + size : end,
                             collected ? "an object" : "a block of malloc");
    }
}

void mark_check_pages(struct marker *m, uint64_t page, uint64_t n)
{
    for (uint64_t p = page; p < page + n; p++) {
        for (unsigned k = 0; k < HEAP_PAGE; k += PAGE_SIZE)
            check_page(m, heap_page_address(p) + k);
    }
}
