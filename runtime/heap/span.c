// Making spans and finding them. Every page of a span has an entry in the table
// pages_spans(), so an address leads to its span by one load.
//
// Locks: see span.h.

#include "runtime/heap/span.h"

#include <string.h>

#include "runtime/heap/collect.h"
#include "runtime/heap/memory.h"

#define ROW(size_, pages_)                                                     \
    {.size = (size_),                                                          \
     .pages = (pages_),                                                        \
     .slots = (pages_)*HEAP_PAGE / (size_),                                    \
     .divide = UINT32_MAX / (size_) + 1},
struct heap_class heap_classes[HEAP_CLASSES] = {{0}, HEAP_CLASS_TABLE(ROW)};

uint8_t heap_class_small[HEAP_FAST_MAX / 8 + 1];
uint8_t heap_class_large[(HEAP_SMALL_MAX - HEAP_FAST_MAX) / 128 + 1];

struct span_large_stats span_large;

void span_init(void)
{
    unsigned c = HEAP_CLASS_TINY + 1;

    heap_classes[HEAP_CLASS_TINY] = heap_classes[c];
    for (unsigned i = 0; i < ARRAY_LEN(heap_class_small); i++) {
        while (heap_classes[c].size < i * 8)
            c++;
        heap_class_small[i] = (uint8_t)c;
    }
    for (unsigned i = 0; i < ARRAY_LEN(heap_class_large); i++) {
        while (heap_classes[c].size < HEAP_FAST_MAX + i * 128)
            c++;
        heap_class_large[i] = (uint8_t)c;
    }
}

struct span *span_of(uintptr_t va)
{
    if (va < ARCH_HEAP_BASE || va >= pages_end())
        return NULL;
    // Pairs with the release of enter().
    return atomic_load_explicit(
        (struct span * _Atomic *)&pages_spans()[heap_page_of(va)],
        memory_order_acquire);
}

// ---- structs ----

static size_t struct_size(unsigned class, unsigned kind)
{
    size_t words = class != 0 ? (heap_classes[class].slots + 63u) / 64 : 0;
    size_t gray = words > 0 ? words : 1;

    return align_up(sizeof(struct span) + 2 * words * sizeof(uint64_t) +
                        (class == HEAP_CLASS_TINY ? words * 128 : 0) +
                        (kind == HEAP_SCAN ? sizeof(struct span_gray) +
                                                 gray * sizeof(uint64_t)
                                           : 0),
                    META_UNIT);
}

// The white bits of collected objects.
static bool have_white(enum heap_kind kind, bool locked)
{
    bool ok = kind == HEAP_MANUAL || pages_have_white;

    if (ok)
        return true;
    if (!locked)
        spin_lock(&heap_lock);
    ok = pages_add_white();
    if (!locked)
        spin_unlock(&heap_lock);
    return ok;
}

// ---- spans ----

static void enter(uint64_t page, uint64_t n, struct span *value)
{
    struct span *_Atomic *t = (struct span * _Atomic *)pages_spans() + page;

    // Release: who finds the span finds it complete.
    for (uint64_t i = 0; i < n; i++)
        atomic_store_explicit(&t[i], value, memory_order_release);
}

static struct span *prepare(struct span_source *from, uint64_t npages,
                            unsigned class, enum heap_kind kind)
{
    struct span *s = npages <= UINT32_MAX && have_white(kind, class == 0)
                         ? meta_new(&from->meta, struct_size(class, kind))
                         : NULL;

    if (s == NULL)
        return NULL;
    s->npages = (uint32_t)npages;
    s->class = (uint8_t) class;
    s->kind = (uint8_t)kind;
    s->slots = heap_classes[class].slots;
    s->divide = heap_classes[class].divide;
    return s;
}

static void publish(struct span *s, uint64_t page, bool zero)
{
    s->page = (uint32_t)page;
    s->zero = zero;
    s->fresh = zero ? 0 : s->class != 0 ? s->slots : 1;
    enter(page, s->npages, s);
}

struct span *span_new(struct span_source *from, unsigned class,
                      enum heap_kind kind)
{
    struct span *s = prepare(from, heap_classes[class].pages, class, kind);
    unsigned slots = heap_classes[class].slots;
    bool zero;

    if (s == NULL)
        return NULL;
    uint64_t page = page_cache_alloc(&from->pages, s->npages, &zero);

    if (page == HEAP_NO_PAGE) {
        meta_free(&from->meta, s, struct_size(class, kind));
        return NULL;
    }
    s->nfree = s->slots;
    for (unsigned w = 0; w < span_words(s); w++, slots -= 64)
        s->bits[w] = slots >= 64 ? UINT64_MAX : (UINT64_C(1) << slots) - 1;
    atomic_store_explicit(&s->owner, (uint8_t)(arch_cpu_id() + 1),
                          memory_order_relaxed);
    publish(s, page, zero);
    return s;
}

void span_delete(struct span_source *from, struct span *s)
{
    enter(s->page, s->npages, NULL);
    page_cache_free(&from->pages, s->page, s->npages);
    meta_free(&from->meta, s, struct_size(s->class, s->kind));
}

struct span *span_new_large(struct span_source *from, uint64_t npages,
                            uint64_t align, enum heap_kind kind)
{
    struct span *s = prepare(from, npages, 0, kind);
    bool zero;

    if (s == NULL)
        return NULL;
    uint64_t page = pages_alloc(npages, align > 1 ? align : 1, &zero);

    if (page == HEAP_NO_PAGE) {
        meta_free(&from->meta, s, struct_size(0, kind));
        return NULL;
    }
    publish(s, page, zero);
    span_large.mallocs++;
    span_large.bytes += span_bytes(s);
    return s;
}

static struct span *held_large; // [heap_lock] freed while pages were held

static void free_pages(struct span *s)
{
    // So that idle pages can be given back one by one.
    if (s->huge)
        heap_memory_drop(span_base(s), span_bytes(s));
    pages_free(s->page, s->npages);
    s->npages = 0;
}

void span_delete_large(struct span_source *from, struct span *s)
{
    span_large.frees++;
    span_large.freed_bytes += span_bytes(s);
    enter(s->page, s->npages, NULL);
    if (!collect_holding) {
        free_pages(s);
        meta_free(&from->meta, s, struct_size(0, s->kind));
        return;
    }
    atomic_thread_fence(memory_order_seq_cst); // see collect_scans
    if (!collect_is_scanned(s))
        free_pages(s);
    s->next = held_large;
    held_large = s;
}

void span_delete_held(struct span_source *from)
{
    while (held_large != NULL) {
        struct span *s = held_large;

        held_large = s->next;
        if (s->npages > 0)
            free_pages(s);
        meta_free(&from->meta, s, struct_size(0, s->kind));
    }
}

bool span_resize(struct span *s, uint64_t npages)
{
    uint64_t had = s->npages;
    bool zero;

    if (npages > UINT32_MAX || ((s->huge || collect_holding) && npages < had))
        return false;
    if (npages > had) {
        if (!pages_take(s->page + had, npages - had, &zero))
            return false;
        enter(s->page + had, npages - had, s);
        s->fresh |= !zero;
        span_large.bytes += (npages - had) << HEAP_PAGE_SHIFT;
    } else if (npages < had) {
        enter(s->page + npages, had - npages, NULL);
        pages_free(s->page + npages, had - npages);
        span_large.freed_bytes += (had - npages) << HEAP_PAGE_SHIFT;
    }
    s->npages = (uint32_t)npages;
    return true;
}

unsigned span_drain(struct span *s)
{
    uint64_t *free = span_free_bits(s);
    unsigned n = 0;

    for (unsigned w = 0; w < span_words(s); w++) {
        // Acquire: what was done with the objects before they were freed.
        uint64_t came =
            atomic_load_explicit(&span_remote_bits(s)[w], memory_order_seq_cst);

        if (came == 0)
            continue;
        for (uint64_t rest = came; rest != 0; rest &= rest - 1) {
            unsigned slot = w * 64 + (unsigned)__builtin_ctzll(rest);
            uintptr_t va = span_object(s, slot);

            if (!arch_bit_clear(PAGES_ALLOC_BITS, va / 16))
                panic("heap: object 0x%lx was freed twice, on two CPUs",
                      (unsigned long)va);
            if (s->kind != HEAP_MANUAL)
                collect_unwhiten(va);
            n++;
        }
        // Release, and last: who finds no bit here finds no alloc bit.
        atomic_fetch_and_explicit(&span_remote_bits(s)[w], ~came,
                                  memory_order_release);
        free[w] |= came;
    }
    s->nfree = (uint16_t)(s->nfree + n);
    return n;
}

void span_must_be_sound(const struct span *s, uintptr_t object)
{
    const struct heap_class *k = &heap_classes[s->class % HEAP_CLASSES];

    if (likely(s->class < HEAP_CLASSES && s->class != 0 &&
               s->slots == k->slots && s->divide == k->divide &&
               s->npages == k->pages && span_base(s) < pages_end() &&
               pages_spans()[s->page] == s))
        return;
    panic("heap: span 0x%lx is damaged (object 0x%lx, class %u of %u bytes, "
          "%u slots, %u heap pages)",
          (unsigned long)span_base(s), (unsigned long)object, s->class, k->size,
          s->slots, s->npages);
}

// What is read of a span that goes meanwhile may be anything: who calls looks
// again. TSan is not to judge that.
__attribute__((no_sanitize("thread"), noinline)) static bool
is_sound(uint64_t page, const struct span *s)
{
    return page >= s->page && page < s->page + s->npages &&
           s->class < HEAP_CLASSES && s->kind < HEAP_KINDS &&
           s->slots == heap_classes[s->class].slots &&
           s->divide == heap_classes[s->class].divide && !pages_is_free(page);
}

void span_check(void)
{
    struct span *_Atomic *all = (struct span * _Atomic *)pages_spans();
    uint64_t end = heap_page_of(pages_end());

    for (uint64_t i = 0; i < end; i++) {
        struct span *s = atomic_load_explicit(&all[i], memory_order_acquire);

        // Spans of small objects come and go meanwhile; not at this rate.
        for (int looks = 0; s != NULL && !is_sound(i, s); looks++) {
            if (looks == 100)
                panic("heap: page %lu belongs to a damaged span",
                      (unsigned long)i);
            arch_pause();
            s = atomic_load_explicit(&all[i], memory_order_acquire);
        }
    }
}
