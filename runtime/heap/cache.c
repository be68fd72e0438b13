// Allocation and free of small objects: the caches of the CPUs (mcache).
//
// The fast paths (fast.h) touch only what belongs to their CPU: a stack of free
// objects by class, and the bit that says "allocated". The bit finds double frees
// and pointers into the middle of objects at once.
//
//   malloc  pop;  empty: fill from a span of this CPU (owned.h)
//   free    push; full: half of it goes back to the spans. Not this CPU's object:
//           its remote bit is set, and the span queued on its owner (R17)
//
// Objects above HEAP_FAST_MAX are taken from and put into spans one by one.
//
// Locks: a cache belongs to its CPU. The slow paths run on the system stack.

#include "runtime/heap/cache.h"

#include <errno.h>
#include <string.h>

#include "runtime/heap/central.h"
#include "runtime/heap/collect.h"
#include "runtime/heap/debug.h"
#include "runtime/heap/memory.h"
#include "runtime/heap/owned.h"
#include "runtime/heap/report.h"
#include "runtime/heap/tiny.h"

// What a stack is before it is needed: empty, and full. The end of a stack of
// nothing but NULL. [c] after cache_init
static void **no_stack;

// Bytes that a stack may hold, scaled to the memory there is. [c]
static size_t stack_bytes;

static struct cache *_Atomic caches[ARCH_MAX_CPUS];

uint16_t cache_manual_stack[HEAP_FAST_MAX + 1];

struct cache *cache_of_cpu(unsigned cpu)
{
    // Pairs with the release of cpu_init().
    return atomic_load_explicit(&caches[cpu], memory_order_acquire);
}

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
    for (unsigned i = 0; i < CACHE_STACKS; i++)
        c->stack[i].top = no_stack;
    c->classes = pages_classes(cpu);
    if (heap_debug_guards())
        (void)heap_debug_sample(&c->until_guard);
    atomic_store_explicit(&caches[cpu], c, memory_order_release);
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

// The bottom of a stack, above its NULL.
static void **bottom_of(void **top, unsigned class)
{
    uintptr_t end = align_up((uintptr_t)top, CACHE_ALIGN);

    return (void **)end - capacity_of(class);
}

static unsigned class_of_index(unsigned index)
{
    return (index - 1) % CACHE_CLASSES;
}

// ---- filling and emptying a stack ----

// A batch is half a stack.
static unsigned batch_of(unsigned class)
{
    return capacity_of(class) / 2;
}

static bool fill(struct cache *c, unsigned class, enum heap_kind kind)
{
    unsigned i = cache_index(class, kind);
    bool fresh;

    if (c->stack[i].top == no_stack) {
        size_t bytes = (capacity_of(class) + 1) * sizeof(void *);
        void **end = meta_block_end(&c->source.meta, bytes);

        if (end == NULL)
            return false;
        c->stack[i].top = end - capacity_of(class);
    }
    struct span *s = owned_find(c, class, kind);

    if (s == NULL)
        return false;
    void **bottom = c->stack[i].top;
    unsigned n = owned_take(c, s, batch_of(class), bottom, &fresh);

    collect_count(kind, n * heap_classes[class].size);
    c->stack[i].top += n;
    c->clean[i] = fresh ? cache_sum(&c->stack[i]) : UINT64_MAX;
    return true;
}

// The older half of a full stack, from the bottom.
static void empty_half(struct cache *c, unsigned index)
{
    unsigned class = class_of_index(index);
    void **bottom = bottom_of(c->stack[index].top, class);
    size_t n = capacity_of(class), half = (n + 1) / 2;

    owned_put_back(c, bottom, half);
    memmove(bottom, bottom + half, (n - half) * sizeof *bottom);
    c->stack[index].top -= half;
    c->clean[index] = UINT64_MAX;
}

// Takes the object on top of a stack, NULL: it is empty.
static void *pop(struct cache *c, unsigned i, bool *fresh)
{
    void **top = c->stack[i].top, *p = top[-1];

    if (p == NULL)
        return NULL;
    *fresh = cache_sum(&c->stack[i]) == c->clean[i];
    c->stack[i].top = top - 1;
    c->stack[i].mallocs++;
    return p;
}

// ---- allocation ----

struct alloc_call {
    size_t n, align;
    enum heap_kind kind;
    void *p;
    bool fresh;
    bool publish; // its alloc bit is not set
};

// Whether an object has to be clear before anybody sees it (R16).
static bool must_clear(const struct alloc_call *a)
{
    return !a->fresh && (a->kind == HEAP_SCAN ||
                         (unlikely(collect_checks) && a->kind == HEAP_MANUAL));
}

static void count_slow(struct cache *c, unsigned class, enum heap_kind kind)
{
    if (class < CACHE_CLASSES)
        c->stack[cache_index(class, kind)].mallocs++;
    else
        c->slow_mallocs[class - CACHE_CLASSES]++;
}

// One object straight from a span.
static void *take_slot(struct cache *c, unsigned class, struct alloc_call *a)
{
    struct span *s = owned_find(c, class, a->kind);

    if (s == NULL)
        return NULL;
    count_slow(c, class, a->kind);
    collect_count(a->kind, heap_classes[class].size);
    return owned_take_one(c, s, heap_debug_pick(s->nfree), &a->fresh);
}

// One object from a stack of this CPU.
static void *take_cached(struct cache *c, unsigned class, struct alloc_call *a)
{
    unsigned i = cache_index(class, a->kind);

    if (c->stack[i].top[-1] == NULL) {
        if (unlikely(collect_checks) && a->kind == HEAP_MANUAL)
            return take_slot(c, class, a); // to be cleared
        if (!fill(c, class, a->kind))
            return NULL;
    }
    return pop(c, i, &a->fresh);
}

static bool is_tiny(size_t n, enum heap_kind kind)
{
    return kind == HEAP_NOSCAN && n <= TINY_MAX && !heap_debug_on;
}

static void serve(struct cache *c)
{
    if (unlikely(atomic_load_explicit(&c->asked, memory_order_relaxed) != 0))
        cache_serve();
}

static void alloc_small(void *arg)
{
    struct alloc_call *a = arg;
    struct cache *c = arch_local();
    unsigned class = heap_class_of(a->n);

    serve(c);
    if (is_tiny(a->n, a->kind)) {
        a->p = tiny_alloc(c, a->n);
        return;
    }
    a->p = class < CACHE_CLASSES && !heap_debug_on ? take_cached(c, class, a)
                                                   : take_slot(c, class, a);
    if (a->p != NULL && must_clear(a)) {
        collect_clear((uintptr_t)a->p, heap_classes[class].size);
        a->fresh = true;
    }
    // Release: whoever sees the bit sees an object in its initial state (R16).
    if (a->p != NULL)
        arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)a->p / 16);
}

static void alloc_large(void *arg)
{
    struct alloc_call *a = arg;
    struct cache *c = arch_local();
    uint64_t pages = (a->n + HEAP_PAGE - 1) >> HEAP_PAGE_SHIFT;

    serve(c);
    spin_lock(&heap_lock);
    struct span *s =
        span_new_large(&c->source, pages, a->align >> HEAP_PAGE_SHIFT, a->kind);

    spin_unlock(&heap_lock);
    if (s == NULL)
        return;
    collect_count(a->kind, span_bytes(s));
    a->p = (void *)span_base(s);
    a->fresh = s->fresh == 0;
    // One that is cleared first is published after that, by who may take long.
    a->publish = must_clear(a);
    if (!a->publish)
        arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)a->p / 16);
}

// The size of small objects to ask for so that they are aligned: a class whose
// size is a multiple lies so in its span. 0: only pages will do.
static size_t aligned_size(size_t n, size_t align)
{
    if (align <= 16)
        return n <= HEAP_SMALL_MAX ? n : 0;
    n = align_up(n, align);
    for (; n <= HEAP_SMALL_MAX && align <= HEAP_PAGE; n += align) {
        if (heap_classes[heap_class_of(n)].size % align == 0)
            return n;
    }
    return 0;
}

static void *alloc_slow(size_t n, enum heap_kind kind, size_t align,
                        bool *fresh)
{
    size_t small = aligned_size(n, align);
    struct alloc_call a = {
        small != 0 ? small : n, align, kind, NULL, false, false};
    void (*call)(void *) = small != 0 ? alloc_small : alloc_large;

    if (heap_debug_on && heap_debug_refuse())
        return NULL;
    unsigned tried = 0;

    if (kind != HEAP_MANUAL && collector.assist != NULL)
        collector.assist();
    do
        arch_on_system_stack(call, &a);
    while (a.p == NULL && heap_get_memory(n, &tried));
    if (a.publish) {
        memset(a.p, 0, align_up(a.n, HEAP_PAGE));
        arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)a.p / 16);
        a.fresh = true;
    }
    if (heap_debug_on && a.p != NULL) {
        heap_debug_allocated(a.p, n, heap_usable(a.p));
        a.fresh = false;
    }
    *fresh = a.fresh;
    return a.p;
}

static void *alloc_cached(size_t n, enum heap_kind kind, bool *fresh)
{
    if (is_tiny(n, kind))
        return NULL;
    preempt_disable();
    unsigned class = heap_class_of(n);
    void *p = pop(arch_local(), cache_index(class, kind), fresh);

    if (p != NULL && kind == HEAP_SCAN && !*fresh) {
        memset(p, 0, heap_classes[class].size); // R16
        *fresh = true;
    }
    if (p != NULL)
        arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)p / 16);
    preempt_enable();
    return p;
}

// A guarded object, if this one is to be. *refused: one was to be, and can't.
static void *alloc_guarded(size_t n, enum heap_kind kind, size_t align,
                           bool *fresh, bool *refused)
{
    preempt_disable();
    struct cache *c = arch_local();
    bool is = heap_debug_sample(&c->until_guard);

    preempt_enable();
    if (!is)
        return NULL;
    *refused = heap_debug_on && heap_debug_refuse();
    if (*refused)
        return NULL;
    bool must = heap_efence && align <= PAGE_SIZE;
    unsigned tried = 0;
    void *p;

    while ((p = heap_debug_guarded(n, align, kind)) == NULL && must &&
           heap_get_memory(n, &tried))
        ;
    *refused = p == NULL && must;
    if (p != NULL && heap_debug_on)
        heap_debug_allocated(p, n, n);
    *fresh = !heap_debug_on;
    return p;
}

static void *alloc_any(size_t n, enum heap_kind kind, size_t align,
                       bool *fresh);

void *cache_alloc(size_t n, enum heap_kind kind, size_t align, bool *fresh)
{
    if (likely(collect_malloc == 0) || kind != HEAP_MANUAL)
        return alloc_any(n, kind, align, fresh);
    void *p = alloc_any(align_up(n, 16), HEAP_SCAN, align, fresh);

    if (p != NULL && collector.allocated != NULL)
        collector.allocated(p, n);
    return p;
}

static void *alloc_any(size_t n, enum heap_kind kind, size_t align, bool *fresh)
{
    void *p = NULL;
    bool refused = false;

    if (heap_debug_guards()) {
        p = alloc_guarded(n, kind, align, fresh, &refused);
        if (p != NULL || refused)
            return p;
    }
    // A multiple of the alignment: so the object lies at one then.
    if (align <= 16)
        n = align_up(n, kind == HEAP_MANUAL ? 16 : align);
    if (align <= 16 && n <= HEAP_CACHE_MAX)
        p = alloc_cached(n, kind, fresh);
    return p != NULL ? p : alloc_slow(n, kind, align, fresh);
}

void *cache_malloc_any(size_t n)
{
    bool fresh;
    void *p = n <= ARCH_HEAP_SIZE / 2
                  ? cache_alloc(n > 0 ? n : 1, HEAP_MANUAL, 16, &fresh)
                  : NULL;

    if (p == NULL)
        errno = ENOMEM;
    return p;
}

// ---- free ----

struct free_call {
    void *p;
    const char *wrong;
};

static void free_remote(struct cache *c, struct span *s, unsigned slot,
                        struct free_call *f)
{
    uint64_t bit = UINT64_C(1) << slot % 64;
    bool gone = false;

    // The object keeps the span until the bit is set, `freeing` from then on.
    atomic_fetch_add_explicit(&s->freeing, 1, memory_order_relaxed);
    // Release: our uses of the object come before its next ones.
    uint64_t was = atomic_fetch_or_explicit(&span_remote_bits(s)[slot / 64],
                                            bit, memory_order_acq_rel);

    if (was & bit)
        f->wrong = "freed twice";
    else
        gone = owned_tell(c, s);
    if (!gone)
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

static void free_slot(struct cache *c, struct span *s, unsigned slot,
                      struct free_call *f)
{
    uintptr_t va = (uintptr_t)f->p;

    if (atomic_load_explicit(&s->owner, memory_order_relaxed) !=
        arch_cpu_id() + 1) {
        free_remote(c, s, slot, f);
        return;
    }
    arch_bit_clear(PAGES_ALLOC_BITS, va / 16);
    if (s->kind != HEAP_MANUAL)
        collect_unwhiten(va);
    unsigned index = !heap_debug_on && cache_takes(s->class)
                         ? cache_index(s->class, s->kind)
                         : 0;

    if (index == 0 || c->stack[index].top == no_stack) {
        owned_put_back(c, &f->p, 1);
        return;
    }
    if (cache_is_full(c->stack[index].top))
        empty_half(c, index);
    *c->stack[index].top++ = f->p;
}

void cache_free_slot(struct cache *c, struct span *s, void *p)
{
    struct free_call f = {.p = p};

    free_slot(c, s, span_slot(s, (uintptr_t)p), &f);
}

static void free_in_span(struct cache *c, struct span *s, struct free_call *f)
{
    uintptr_t va = (uintptr_t)f->p, object;
    unsigned slot = span_slot(s, va);
    bool tiny = s->class == HEAP_CLASS_TINY, dead = true;

    span_must_be_sound(s, va);
    object = span_object(s, slot);
    if (slot >= s->slots || (!tiny && object != va)) {
        f->wrong = "not the beginning of an object";
        return;
    }
    if (!is_allocated(object) || span_freed_remotely(s, slot)) {
        f->wrong = "freed already, or never allocated";
        return;
    }
    if (tiny) {
        f->wrong = tiny_free(s, va, &dead);
        f->p = (void *)object;
    }
    if (f->wrong == NULL && dead)
        free_slot(c, s, slot, f);
}

static void free_call(void *arg)
{
    struct free_call *f = arg;
    struct cache *c = arch_local();
    uintptr_t va = (uintptr_t)f->p;
    struct span *s = span_of(va);

    serve(c);
    if (s == NULL) {
        f->wrong = "not an address of the heap, or freed already";
    } else if (s->class != 0) {
        free_in_span(c, s, f);
    } else if (va != span_base(s)) {
        f->wrong = "not the beginning of an object";
    } else {
        spin_lock(&heap_lock);
        // Again, under the lock: two may free it at once.
        if (span_of(va) == s && is_allocated(va)) {
            arch_bit_clear(PAGES_ALLOC_BITS, va / 16);
            if (s->kind != HEAP_MANUAL)
                collect_unwhiten(va);
            span_delete_large(&c->source, s);
        } else {
            f->wrong = "freed twice";
        }
        spin_unlock(&heap_lock);
    }
}

void cache_free_slow(void *p)
{
    if (cache_free_collected(p))
        return;
    struct free_call f = {.p = p};
    struct heap_place at;
    struct heap_object o;

    if (p == NULL)
        return;
    if (heap_debug_is_guarded(p, &o, "free")) {
        heap_debug_free_guarded(p);
        return;
    }
    // What is no object is found, and reported, by the free itself.
    if (heap_debug_on && heap_place_of((uintptr_t)p, &at) && at.allocated &&
        at.object == (uintptr_t)p)
        heap_debug_freed(p, at.size);
    if (collector.freed != NULL) {
        struct span *s = span_of((uintptr_t)p);

        if (s != NULL && s->kind != HEAP_MANUAL)
            collector.freed(p);
    }
    arch_on_system_stack(free_call, &f);
    if (f.wrong != NULL)
        heap_report_bad(p, "free", f.wrong);
}

// ---- for heap.c ----

void cache_init(void)
{
    uint64_t total = heap_memory_total();
    char *page = heap_memory_frames(PAGE_SIZE);
    unsigned c = HEAP_CLASS_TINY + 1;

    if (page == NULL || !central_init())
        panic("heap: no memory to start with: run with more MEM");
    no_stack = (void **)(page + CACHE_ALIGN);
    stack_bytes = total < 64 * MIB ? 8 * KIB : 64 * KIB;
    page_cache_most = (unsigned)min_u64(total / HEAP_PAGE / 512, 64);
    owned_init();
    for (size_t n = 0; n <= HEAP_FAST_MAX; c++) {
        unsigned i = cache_index(c, HEAP_MANUAL);

        for (; cache_takes(c) && n <= heap_classes[c].size; n++)
            if (!heap_debug_guards() && collect_malloc == 0)
                cache_manual_stack[n] =
                    (uint16_t)(i * sizeof(struct cache_stack));
    }
    ASSERT(heap_classes[c - 1].size == HEAP_FAST_MAX &&
           heap_classes[CACHE_CLASSES - 1].size == HEAP_CACHE_MAX);
}

static void flush_call(void *arg)
{
    struct cache *c = arch_local();

    (void)arg;
    if (c == NULL) // the CPU has not allocated yet
        return;
    tiny_flush(c);
    for (unsigned i = 1; i < CACHE_STACKS; i++) {
        void **top = c->stack[i].top, **bottom = top;

        while (bottom[-1] != NULL)
            bottom--;
        owned_put_back(c, bottom, (size_t)(top - bottom));
        c->stack[i].top = bottom;
        c->clean[i] = UINT64_MAX;
    }
    owned_flush(c);
    central_trim(&c->source);
    atomic_store_explicit(&c->asked, 0, memory_order_release);
}

void cache_flush(void)
{
    arch_on_system_stack(flush_call, NULL);
}

// An object in stack i is free, ours, of that class, and nowhere else.
static void check_cached(unsigned i, uintptr_t va)
{
    const struct span *s = span_of(va);
    unsigned slot = s != NULL ? span_slot(s, va) : 0;

    if (s == NULL || s->class == 0 || cache_index(s->class, s->kind) != i ||
        s->owner != arch_cpu_id() + 1 || span_object(s, slot) != va ||
        is_allocated(va) || (s->bits[slot / 64] >> slot % 64 & 1) != 0)
        panic("heap: 0x%lx of span 0x%lx does not belong to the stack of %u "
              "bytes of CPU %u",
              (unsigned long)va, s != NULL ? (unsigned long)span_base(s) : 0,
              heap_classes[class_of_index(i)].size, arch_cpu_id());
}

void cache_check(void)
{
    struct cache *c = arch_local();

    if (c == NULL)
        return;
    for (unsigned i = 1; i < CACHE_STACKS; i++)
        for (void **at = c->stack[i].top; *--at != NULL;)
            check_cached(i, (uintptr_t)*at);
    owned_check(c);
    page_cache_check(&c->source.pages);
}

void cache_serve(void)
{
    struct cache *c = arch_local();
    unsigned asked =
        c != NULL ? atomic_load_explicit(&c->asked, memory_order_relaxed) : 0;

    if ((asked & CACHE_FLUSH) != 0) {
        flush_call(NULL);
    } else if (asked != 0) {
        atomic_fetch_and_explicit(&c->asked, CACHE_FLUSH, memory_order_relaxed);
        owned_drain(c);
    }
}

// In interrupt context of another CPU: what it does next, when it can, is
// heap_serve.
static void ask(void *arg)
{
    (void)arg;
    preempt_set_pending();
}

// NULL also: it is this CPU.
static struct cache *cache_of_other(unsigned cpu)
{
    return cpu != arch_cpu_id() ? cache_of_cpu(cpu) : NULL;
}

bool cache_flush_others(void)
{
    bool some = false;

    preempt_disable();
    for (unsigned cpu = 0; cpu < ARCH_MAX_CPUS; cpu++) {
        struct cache *c = cache_of_other(cpu);

        if (c == NULL)
            continue;
        atomic_fetch_or_explicit(&c->asked, CACHE_FLUSH, memory_order_relaxed);
        some = true;
    }
    preempt_enable();
    if (some)
        arch_call_others(ask, NULL);
    return some;
}

bool cache_others_flushed(void)
{
    for (unsigned cpu = 0; cpu < ARCH_MAX_CPUS; cpu++) {
        struct cache *c = cache_of_other(cpu);

        if (c != NULL &&
            (atomic_load_explicit(&c->asked, memory_order_acquire) &
             CACHE_FLUSH) != 0)
            return false;
    }
    return true;
}

uint64_t cache_count(unsigned class, enum heap_kind kind)
{
    uint64_t n = 0;

    for (unsigned cpu = 0; cpu < ARCH_MAX_CPUS && class < CACHE_CLASSES;
         cpu++) {
        if (cache_of_cpu(cpu) == NULL)
            continue;
        void **top = *(void **volatile *)&cache_of_cpu(cpu)
                          ->stack[cache_index(class, kind)]
                          .top;

        if (top != no_stack)
            n += (uint64_t)(top - bottom_of(top, class));
    }
    return n;
}

uint64_t cache_mallocs(unsigned class)
{
    uint64_t n = 0;

    for (unsigned cpu = 0; cpu < ARCH_MAX_CPUS; cpu++) {
        const struct cache *c = cache_of_cpu(cpu);

        if (c == NULL)
            continue;
        if (class == HEAP_CLASS_TINY)
            n += c->tiny_mallocs;
        else if (class >= CACHE_CLASSES)
            n += c->slow_mallocs[class - CACHE_CLASSES];
        else
            for (unsigned k = 0; k < HEAP_KINDS; k++)
                n += c->stack[cache_index(class, (enum heap_kind)k)].mallocs;
    }
    return n;
}
