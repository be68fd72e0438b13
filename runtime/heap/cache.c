// Allocation and free of small objects: the caches of the CPUs (mcache).
//
// The fast paths (fast.h) touch only what belongs to their CPU, in one no-preempt section:
// a stack of free objects by class, and the bit that says "allocated". The bit
// finds double frees and pointers into the middle of objects at once.
//
//   malloc  pop;  empty: fill from spans of this CPU, of the central list, new
//   free    push; full: half of it goes back to the spans. Not this CPU's object:
//           its remote bit is set, and the span queued on its owner (R17)
//
// Objects above HEAP_FAST_MAX are taken from and put into spans one by one.
//
// Locks: a cache belongs to its CPU. The slow paths run on the system stack and
// take heap_lock only for what is central.

#include "runtime/heap/cache.h"

#include <errno.h>
#include <string.h>

#include "runtime/heap/debug.h"
#include "runtime/heap/memory.h"
#include "runtime/heap/report.h"

// What a stack is before it is needed: empty, and full. The end of a stack of
// nothing but NULL. [c] after cache_init
static void **no_stack;

// Scaled to the memory there is, so that small machines keep little: bytes that a
// stack may hold, heap pages of empty spans that a CPU may. [c]
static size_t stack_bytes;
static uint64_t empty_pages_max;

static struct cache *caches[ARCH_MAX_CPUS];

uint8_t cache_manual_index[HEAP_FAST_MAX / 16 + 1];

// ---- making a cache ----

static void cpu_init(void *arg)
{
    struct cache *c;
    unsigned cpu = arch_cpu_id();

    _Static_assert(sizeof *c <= 2 * PAGE_SIZE, "two frames");
    (void)arg;
    spin_lock(&heap_lock);
    // The table of classes comes with it: from then on it grows with the heap.
    c = pages_add_cpu(cpu) ? heap_memory_frames(sizeof *c) : NULL;
    spin_unlock(&heap_lock);
    if (c == NULL)
        panic("heap: no memory for the cache of a CPU: run with more MEM");
    for (size_t i = 0; i < ARRAY_LEN(c->top); i++)
        c->top[i] = no_stack;
    c->classes = pages_classes(cpu);
    caches[cpu] = c;
    arch_set_local(c);
}

void heap_cpu_init(void)
{
    arch_on_system_stack(cpu_init, NULL);
}

// How many objects a stack may hold.
static unsigned capacity_of(unsigned class)
{
    size_t n = stack_bytes / heap_classes[class].size;

    return n < 8 ? 8 : n > CACHE_SLOTS - 1 ? CACHE_SLOTS - 1 : (unsigned)n;
}

// The bottom of a stack, above its NULL, if `end` is one past its last place.
static void **bottom_of(void **end, unsigned class)
{
    return end - capacity_of(class);
}

// An empty one. heap_lock held.
static void **new_stack(unsigned class)
{
    static char *fresh, *fresh_end; // [h]

    if (fresh == fresh_end) {
        fresh = heap_memory_frames(PAGE_SIZE);
        fresh_end = fresh != NULL ? fresh + PAGE_SIZE : NULL;
        if (fresh == NULL)
            return NULL;
        span_metadata += PAGE_SIZE;
    }
    fresh += CACHE_ALIGN;
    return bottom_of((void **)fresh, class);
}

// ---- spans of this CPU ----

static void list(struct cache *c, struct span *s)
{
    struct span **head = &c->spans[s->class][s->kind];

    s->listed = true;
    s->prev = NULL;
    s->next = *head;
    if (*head != NULL)
        (*head)->prev = s;
    *head = s;
}

static void unlist(struct cache *c, struct span *s)
{
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        c->spans[s->class][s->kind] = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    s->next = s->prev = NULL;
    s->listed = false;
}

static void set_classes(struct cache *c, const struct span *s, bool mine)
{
    unsigned i = mine && !heap_debug_slow_free && s->class < CACHE_CLASSES &&
                         heap_classes[s->class].size % 16 == 0
                     ? cache_index(s->class, s->kind)
                     : 0;

    memset(c->classes + s->page, (int)i, s->npages);
}

static void adopt(struct cache *c, struct span *s)
{
    atomic_store_explicit(&s->owner, (uint8_t)(arch_cpu_id() + 1),
                          memory_order_release);
    set_classes(c, s, true);
    list(c, s);
}

static bool is_empty(const struct span *s)
{
    return s->nfree == heap_classes[s->class].slots;
}

// heap_lock held.
static void disown(struct cache *c, struct span *s)
{
    set_classes(c, s, false);
    if (s->listed)
        unlist(c, s);
    if (is_empty(s))
        c->empty_pages -= s->npages;
    atomic_store_explicit(&s->owner, 0, memory_order_release);
    s->nfree = (uint16_t)(s->nfree + span_drain(s));
    span_release(s);
}

// Slots of a span of ours are about to be taken.
static void will_take(struct cache *c, const struct span *s)
{
    if (is_empty(s))
        c->empty_pages -= s->npages;
}

// n slots of a span of ours became free. A few empty spans are kept: the next
// allocations will want them.
static void slot_freed(struct cache *c, struct span *s, unsigned n)
{
    s->nfree = (uint16_t)(s->nfree + n);
    if (!s->listed)
        list(c, s);
    if (!is_empty(s))
        return;
    c->empty_pages += s->npages;
    if (c->empty_pages > empty_pages_max) {
        spin_lock(&heap_lock);
        disown(c, s);
        spin_unlock(&heap_lock);
    }
}

// Takes over what came into a span that was queued: it is ours, or nobody's, or
// another's by now.
static void queue(struct span *s);

static void drain_queued(struct cache *c, struct span *s)
{
    unsigned owner = atomic_load_explicit(&s->owner, memory_order_acquire);

    // Whoever sets a bit from here on queues it again.
    atomic_exchange_explicit(&s->queued, false, memory_order_seq_cst);
    if (owner != arch_cpu_id() + 1) {
        queue(s);
        return;
    }
    unsigned came = span_drain(s);

    if (came > 0)
        slot_freed(c, s, came);
}

// What other CPUs have freed into spans of ours.
static void drain_remote(struct cache *c)
{
    struct span *s =
        atomic_exchange_explicit(&c->remote, NULL, memory_order_acquire);

    while (s != NULL) {
        struct span *next =
            atomic_load_explicit(&s->remote_next, memory_order_relaxed);

        drain_queued(c, s);
        s = next;
    }
}

// A span of ours with a free slot; NULL: no memory.
static struct span *find_span(struct cache *c, unsigned class,
                              enum heap_kind kind)
{
    struct span *s = c->spans[class][kind];

    if (s != NULL)
        return s;
    if (atomic_load_explicit(&c->remote, memory_order_relaxed) != NULL) {
        drain_remote(c);
        if (c->spans[class][kind] != NULL)
            return c->spans[class][kind];
    }
    spin_lock(&heap_lock);
    s = span_take(class, kind);
    spin_unlock(&heap_lock);
    if (s == NULL)
        return NULL;
    adopt(c, s);
    if (is_empty(s))
        c->empty_pages += s->npages;
    return s;
}

// ---- filling and emptying a stack ----

static void push_free_slots(struct cache *c, struct span *s, void ***top,
                            unsigned want)
{
    uint64_t *bits = span_free_bits(s);
    size_t size = heap_classes[s->class].size;

    will_take(c, s);
    for (unsigned w = 0; w < span_words(s) && want > 0; w++) {
        uintptr_t base = span_object(s, w * 64);

        for (; bits[w] != 0 && want > 0; bits[w] &= bits[w] - 1) {
            *(*top)++ =
                (void *)(base + (unsigned)__builtin_ctzll(bits[w]) * size);
            s->nfree--;
            want--;
        }
    }
    if (s->nfree == 0)
        unlist(c, s);
}

// Leaves what is popped first at the top: the lowest address.
static void reverse(void **a, void **z)
{
    for (; a < z; a++) {
        void *t = *a;

        *a = *--z;
        *z = t;
    }
}

// A batch is half a stack, 64 at most.
static unsigned batch_of(unsigned class)
{
    unsigned n = capacity_of(class) / 2;

    return n > 64 ? 64 : n;
}

static bool fill(struct cache *c, unsigned class, enum heap_kind kind)
{
    void ***top = &c->top[cache_index(class, kind)];
    unsigned want = batch_of(class);

    if (*top == no_stack) {
        spin_lock(&heap_lock);
        void **stack = new_stack(class);

        spin_unlock(&heap_lock);
        if (stack == NULL)
            return false;
        *top = stack;
    }
    void **bottom = *top;
    struct span *s = find_span(c, class, kind);

    if (s == NULL)
        return false;
    push_free_slots(c, s, top, want);
    reverse(bottom, *top);
    return true;
}

// Puts n free objects, whose alloc bits are clear, back into their spans. Those
// of one span are often neighbours here too.
static void put_back(struct cache *c, void **p, size_t n)
{
    struct span *s = NULL;
    unsigned came = 0;

    for (size_t i = 0; i < n; i++) {
        uintptr_t va = (uintptr_t)p[i];

        if (s == NULL || va - span_base(s) >= span_bytes(s)) {
            if (came > 0)
                slot_freed(c, s, came);
            s = span_of(va);
            came = 0;
        }
        unsigned slot = span_slot(s, va);

        span_free_bits(s)[slot / 64] |= UINT64_C(1) << slot % 64;
        came++;
    }
    if (came > 0)
        slot_freed(c, s, came);
}

// The older half of a full stack, from the bottom.
static void empty_half(struct cache *c, unsigned index)
{
    unsigned class = (index - 1) % CACHE_CLASSES;
    void **bottom = bottom_of(c->top[index], class);
    size_t n = capacity_of(class), half = (n + 1) / 2;

    put_back(c, bottom, half);
    memmove(bottom, bottom + half, (n - half) * sizeof *bottom);
    c->top[index] -= half;
}

// ---- slow paths, on the system stack ----

struct alloc_call {
    size_t n, align;
    enum heap_kind kind;
    void *p;
};

// One object straight from a span.
static void *take_slot(struct cache *c, unsigned class, enum heap_kind kind)
{
    struct span *s = find_span(c, class, kind);

    if (s == NULL)
        return NULL;
    uint64_t *bits = span_free_bits(s), rest;
    unsigned w = 0, skip = heap_debug_pick(s->nfree), here;

    for (; (here = (unsigned)__builtin_popcountll(bits[w])) <= skip; w++)
        skip -= here;
    for (rest = bits[w]; skip > 0; skip--)
        rest &= rest - 1;
    unsigned bit = (unsigned)__builtin_ctzll(rest);

    will_take(c, s);
    bits[w] &= ~(UINT64_C(1) << bit);
    if (--s->nfree == 0)
        unlist(c, s);
    if (class < CACHE_CLASSES)
        c->mallocs[cache_index(class, kind)]++;
    else
        c->slow_mallocs[class - CACHE_CLASSES]++;
    return (void *)span_object(s, w * 64 + bit);
}

// One object from a stack of this CPU.
static void *take_cached(struct cache *c, unsigned class, enum heap_kind kind)
{
    unsigned i = cache_index(class, kind);

    if (c->top[i][-1] == NULL && !fill(c, class, kind))
        return NULL;
    c->mallocs[i]++;
    return *--c->top[i];
}

static void alloc_small(void *arg)
{
    struct alloc_call *a = arg;
    struct cache *c = arch_local();
    unsigned class = heap_class_of(a->n);

    a->p = class < CACHE_CLASSES && !heap_debug_on
               ? take_cached(c, class, a->kind)
               : take_slot(c, class, a->kind);
    // Release: whoever sees the bit sees an object in its initial state (R16).
    if (a->p != NULL)
        arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)a->p / 16);
}

static void alloc_large(void *arg)
{
    struct alloc_call *a = arg;
    uint64_t pages = (a->n + HEAP_PAGE - 1) >> HEAP_PAGE_SHIFT;

    spin_lock(&heap_lock);
    struct span *s = span_new_large(pages, a->kind);

    spin_unlock(&heap_lock);
    if (s == NULL)
        return;
    a->p = (void *)span_base(s);
    arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)a->p / 16);
}

static void *alloc(size_t n, enum heap_kind kind, size_t align)
{
    struct alloc_call a = {.n = n, .kind = kind};
    unsigned class = n <= HEAP_SMALL_MAX ? heap_class_of(n) : HEAP_CLASSES - 1;

    if (n > ARCH_HEAP_SIZE / 2 || (heap_debug_on && heap_debug_refuse()))
        return NULL;
    if (heap_debug_efence() || heap_debug_sample(batch_of(class))) {
        a.p = heap_debug_guarded(n, align);
        if (a.p != NULL || heap_debug_efence())
            return a.p;
    }
    arch_on_system_stack(n <= HEAP_SMALL_MAX ? alloc_small : alloc_large, &a);
    // The last resort: what caches and idle pages hold, here and elsewhere.
    if (a.p == NULL && heap_memory_reclaim((n + PAGE_SIZE - 1) / PAGE_SIZE))
        arch_on_system_stack(n <= HEAP_SMALL_MAX ? alloc_small : alloc_large,
                             &a);
    if (heap_debug_on && a.p != NULL)
        heap_debug_allocated(a.p, n, heap_usable(a.p));
    return a.p;
}

static void *malloc_from_spans(size_t n)
{
    // 16 bytes at least, and a multiple of it: so is the alignment.
    void *p = n <= ARCH_HEAP_SIZE / 2
                  ? alloc(n > 16 ? align_up(n, 16) : 16, HEAP_MANUAL, 16)
                  : NULL;

    if (p == NULL)
        errno = ENOMEM;
    return p;
}

// Of the larger small objects the class is not found by one load.
static void *malloc_cached(size_t n)
{
    preempt_disable();
    struct cache *c = arch_local();
    unsigned i = cache_index(heap_class_of(n), HEAP_MANUAL);
    void *p = c->top[i][-1];

    if (p != NULL) {
        c->top[i]--;
        c->mallocs[i]++;
        arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)p / 16);
    }
    preempt_enable();
    return p;
}

void *cache_malloc_slow(size_t n)
{
    if (n > HEAP_FAST_MAX && n <= HEAP_CACHE_MAX) {
        void *p = malloc_cached(n);

        if (p != NULL)
            return p;
    }
    return malloc_from_spans(n);
}

void *cache_malloc_empty(size_t n)
{
    preempt_enable();
    return malloc_from_spans(n);
}

void *cache_pending(void *p)
{
    preempt_pending_slow();
    return p;
}

// ---- free ----

struct free_call {
    void *p;
    const char *wrong;
};

// Nobody's span is drained by who freed into it, under the lock that owns it.
static bool drain_nobodys(struct span *s)
{
    bool nobodys;

    spin_lock(&heap_lock);
    nobodys = atomic_load_explicit(&s->owner, memory_order_relaxed) == 0;
    if (nobodys) {
        atomic_exchange_explicit(&s->queued, false, memory_order_seq_cst);
        s->nfree = (uint16_t)(s->nfree + span_drain(s));
        span_release(s);
    }
    spin_unlock(&heap_lock);
    return nobodys;
}

// Queues a span that others have freed into on its owner.
static void queue(struct span *s)
{
    unsigned owner;

    if (atomic_exchange_explicit(&s->queued, true, memory_order_seq_cst))
        return; // who has queued it has not drained it yet
    do {
        owner = atomic_load_explicit(&s->owner, memory_order_acquire);
        if (owner == 0 && drain_nobodys(s))
            return;
    } while (owner == 0);
    // It may change hands now: drain_queued() passes it on.
    struct cache *c = caches[owner - 1];
    struct span *first = atomic_load_explicit(&c->remote, memory_order_relaxed);

    do {
        atomic_store_explicit(&s->remote_next, first, memory_order_relaxed);
    } while (!atomic_compare_exchange_weak_explicit(
        &c->remote, &first, s, memory_order_release, memory_order_relaxed));
}

static void free_remote(struct span *s, unsigned slot, struct free_call *f)
{
    uint64_t bit = UINT64_C(1) << slot % 64;

    // The object keeps the span until the bit is set, `freeing` from then on.
    atomic_fetch_add_explicit(&s->freeing, 1, memory_order_relaxed);
    // Release: our uses of the object come before its next ones.
    uint64_t was = atomic_fetch_or_explicit(&span_remote_bits(s)[slot / 64],
                                            bit, memory_order_acq_rel);

    if (was & bit)
        f->wrong = "freed twice";
    else
        queue(s);
    atomic_fetch_sub_explicit(&s->freeing, 1, memory_order_release);
}

static bool is_allocated(uintptr_t va)
{
    uint64_t g = va / 16;

    return (atomic_load_explicit((_Atomic uint64_t *)&PAGES_ALLOC_BITS[g / 64],
                                 memory_order_relaxed) >>
                g % 64 &
            1) != 0;
}

static void free_in_span(struct span *s, struct free_call *f)
{
    uintptr_t va = (uintptr_t)f->p;
    struct cache *c = arch_local();
    unsigned slot = span_slot(s, va), index;

    if (slot >= heap_classes[s->class].slots || span_object(s, slot) != va) {
        f->wrong = "not the beginning of an object";
        return;
    }
    if (!is_allocated(va)) {
        f->wrong = "freed already, or never allocated";
        return;
    }
    if (atomic_load_explicit(&s->owner, memory_order_relaxed) !=
        arch_cpu_id() + 1) {
        free_remote(s, slot, f);
        return;
    }
    arch_bit_clear(PAGES_ALLOC_BITS, va / 16);
    index = c->classes[s->page];
    if (index == 0) {
        put_back(c, &f->p, 1);
        return;
    }
    if (cache_is_full(c->top[index]))
        empty_half(c, index);
    *c->top[index]++ = f->p;
}

static void free_call(void *arg)
{
    struct free_call *f = arg;
    uintptr_t va = (uintptr_t)f->p;
    struct span *s = span_of(va);

    if (s == NULL) {
        f->wrong = "not an address of the heap, or freed already";
    } else if (s->class != 0) {
        free_in_span(s, f);
    } else if (va != span_base(s)) {
        f->wrong = "not the beginning of an object";
    } else {
        spin_lock(&heap_lock);
        // Again, under the lock: two may free it at once.
        if (span_of(va) == s && is_allocated(va)) {
            arch_bit_clear(PAGES_ALLOC_BITS, va / 16);
            span_delete(s);
        } else {
            f->wrong = "freed twice";
        }
        spin_unlock(&heap_lock);
    }
}

void cache_free_slow(void *p)
{
    struct free_call f = {.p = p};
    size_t n;

    if (p == NULL)
        return;
    if (heap_debug_is_guarded(p, &n, "free")) {
        heap_debug_free_guarded(p);
        return;
    }
    if (heap_debug_on)
        heap_debug_freed(p, heap_usable(p));
    arch_on_system_stack(free_call, &f);
    if (f.wrong != NULL)
        heap_report_bad(p, "free", f.wrong);
}

void cache_free_full(void *p)
{
    preempt_enable();
    cache_free_slow(p);
}

// ---- for heap.c ----

void *cache_alloc(size_t n, enum heap_kind kind, size_t align)
{
    return alloc(n, kind, align);
}

void cache_init(void)
{
    uint64_t total = heap_memory_total();
    char *page = heap_memory_frames(PAGE_SIZE);
    unsigned c = 1;

    if (page == NULL)
        panic("heap: no memory to start with: run with more MEM");
    no_stack = (void **)(page + CACHE_ALIGN);
    stack_bytes = total < 64 * MIB ? 8 * KIB : 64 * KIB;
    empty_pages_max = min_u64(total / HEAP_PAGE / 256, 64);

    for (unsigned i = 0; i < ARRAY_LEN(cache_manual_index); i++) {
        while (heap_classes[c].size < i * 16 || heap_classes[c].size < 16 ||
               heap_classes[c].size % 16 != 0)
            c++;
        cache_manual_index[i] = (uint8_t)cache_index(c, HEAP_MANUAL);
    }
    ASSERT(heap_classes[c].size == HEAP_FAST_MAX &&
           heap_classes[CACHE_CLASSES - 1].size == HEAP_CACHE_MAX);
}

// Gives all objects of this CPU's cache back to their spans, and the spans to
// everybody.
static void flush_call(void *arg)
{
    struct cache *c = arch_local();

    (void)arg;
    drain_remote(c);
    for (unsigned i = 1; i < ARRAY_LEN(c->top); i++) {
        void **top = c->top[i], **bottom = top;

        while (bottom[-1] != NULL)
            bottom--;
        put_back(c, bottom, (size_t)(top - bottom));
        c->top[i] = bottom;
    }
    spin_lock(&heap_lock);
    for (unsigned class = 1; class < HEAP_CLASSES; class ++) {
        for (int kind = 0; kind < HEAP_KINDS; kind++) {
            while (c->spans[class][kind] != NULL)
                disown(c, c->spans[class][kind]);
        }
    }
    spin_unlock(&heap_lock);
}

void cache_flush(void)
{
    arch_on_system_stack(flush_call, NULL);
}

void cache_stats(struct heap_stats *s)
{
    for (unsigned cpu = 0; cpu < ARCH_MAX_CPUS; cpu++) {
        struct cache *c = caches[cpu];

        if (c == NULL)
            continue;
        for (unsigned i = 0; i < ARRAY_LEN(c->mallocs); i++)
            s->mallocs += c->mallocs[i];
        for (unsigned i = 0; i < ARRAY_LEN(c->slow_mallocs); i++)
            s->mallocs += c->slow_mallocs[i];
    }
}
