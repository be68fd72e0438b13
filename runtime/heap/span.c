// Making spans, finding them, and the central lists of those that nobody owns.
//
// The struct of a span comes from a list of its size, cut from frames that stay
// the heap's. Every page of a span has an entry in the table pages_spans(), so an
// address leads to its span by one load.
//
// Locks: see span.h.

#include "runtime/heap/span.h"

#include <string.h>

#include "runtime/heap/memory.h"

#define ROW(size_, pages_)                                                     \
    {.size = (size_),                                                          \
     .pages = (pages_),                                                        \
     .slots = (pages_)*HEAP_PAGE / (size_),                                    \
     .divide = UINT32_MAX / (size_) + 1},
struct heap_class heap_classes[HEAP_CLASSES] = {{0}, HEAP_CLASS_TABLE(ROW)};

uint8_t heap_class_small[HEAP_FAST_MAX / 8 + 1];
uint8_t heap_class_large[(HEAP_SMALL_MAX - HEAP_FAST_MAX) / 128 + 1];

struct spinlock heap_lock;
uint64_t span_metadata;

// Of spans that nobody owns and that have free slots, the fullest are not looked
// for: the one that was freed into last comes first.
static struct span *central[HEAP_CLASSES][HEAP_KINDS]; // [h]

enum { UNIT = 16, LARGEST = 48 + 2 * 1024 / 8 };

static void *spare[LARGEST / UNIT + 2]; // [h] structs by size, linked
static char *fresh, *fresh_end;         // [h] not yet cut

void span_init(void)
{
    unsigned c = 1;

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

static size_t struct_size(unsigned class)
{
    size_t words = (heap_classes[class].slots + 63u) / 64;

    return align_up(sizeof(struct span) + (class != 0 ? 2 * words * 8 : 0),
                    UNIT);
}

static struct span *new_struct(unsigned class)
{
    size_t size = struct_size(class);
    void **list = &spare[size / UNIT];
    struct span *s = *list;

    if (s != NULL) {
        *list = s->next;
    } else {
        if ((size_t)(fresh_end - fresh) < size) {
            fresh = heap_memory_frames(PAGE_SIZE);
            fresh_end = fresh != NULL ? fresh + PAGE_SIZE : NULL;
            if (fresh == NULL)
                return NULL;
            span_metadata += PAGE_SIZE;
        }
        s = (struct span *)fresh;
        fresh += size;
    }
    memset(s, 0, size);
    return s;
}

static void free_struct(struct span *s)
{
    void **list = &spare[struct_size(s->class) / UNIT];

    s->next = *list;
    *list = s;
}

// ---- spans ----

static void enter(uint64_t page, uint64_t n, struct span *value)
{
    struct span *_Atomic *t = (struct span * _Atomic *)pages_spans() + page;

    // Release: who finds the span finds it complete.
    for (uint64_t i = 0; i < n; i++)
        atomic_store_explicit(&t[i], value, memory_order_release);
}

static struct span *new_span(uint64_t npages, unsigned class,
                             enum heap_kind kind)
{
    struct span *s = new_struct(class);
    uint64_t page;

    if (s == NULL)
        return NULL;
    s->class = (uint8_t) class;
    page = npages <= UINT32_MAX ? pages_alloc(npages, &s->zero) : HEAP_NO_PAGE;
    if (page == HEAP_NO_PAGE) {
        free_struct(s);
        return NULL;
    }
    s->page = (uint32_t)page;
    s->npages = (uint32_t)npages;
    s->kind = (uint8_t)kind;
    if (class != 0) {
        unsigned slots = heap_classes[class].slots;

        s->nfree = (uint16_t)slots;
        for (unsigned w = 0; w < span_words(s); w++, slots -= 64)
            s->bits[w] = slots >= 64 ? UINT64_MAX : (UINT64_C(1) << slots) - 1;
    }
    enter(s->page, s->npages, s);
    return s;
}

void span_delete(struct span *s)
{
    enter(s->page, s->npages, NULL);
    pages_free(s->page, s->npages);
    free_struct(s);
}

struct span *span_new_large(uint64_t npages, enum heap_kind kind)
{
    return new_span(npages, 0, kind);
}

struct span *span_new_aligned(uint64_t npages, uint64_t align,
                              enum heap_kind kind)
{
    uint64_t slack = align > 1 ? align - 1 : 0;
    struct span *s = new_span(npages + slack, 0, kind);

    if (s == NULL || slack == 0)
        return s;
    // What lies before and behind goes back.
    uint64_t first = align_up(s->page, align);
    uint64_t before = first - s->page, behind = slack - before;

    enter(s->page, s->npages, NULL);
    if (before > 0)
        pages_free(s->page, before);
    if (behind > 0)
        pages_free(first + npages, behind);
    s->page = (uint32_t)first;
    s->npages = (uint32_t)npages;
    enter(s->page, s->npages, s);
    return s;
}

bool span_resize(struct span *s, uint64_t npages)
{
    uint64_t had = s->npages;
    bool zero;

    if (npages > UINT32_MAX)
        return false;
    if (npages > had) {
        if (!pages_take(s->page + had, npages - had, &zero))
            return false;
        enter(s->page + had, npages - had, s);
        s->zero &= zero;
    } else if (npages < had) {
        enter(s->page + npages, had - npages, NULL);
        pages_free(s->page + npages, had - npages);
    }
    s->npages = (uint32_t)npages;
    return true;
}

static void unlink_central(struct span *s)
{
    struct span **list = &central[s->class][s->kind];

    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        *list = s->next;
    if (s->next != NULL)
        s->next->prev = s->prev;
    s->next = s->prev = NULL;
    s->listed = false;
}

struct span *span_take(unsigned class, enum heap_kind kind)
{
    struct span *s = central[class][kind];

    if (s == NULL)
        return new_span(heap_classes[class].pages, class, kind);
    unlink_central(s);
    return s;
}

void span_release(struct span *s)
{
    struct span **list = &central[s->class][s->kind];

    if (s->listed)
        unlink_central(s);
    // Who frees from outside counts itself before its bit can be drained, and
    // until the span is queued: the struct stays as long.
    if (s->nfree == heap_classes[s->class].slots &&
        atomic_load_explicit(&s->freeing, memory_order_acquire) == 0 &&
        !atomic_load_explicit(&s->queued, memory_order_acquire)) {
        span_delete(s);
        return;
    }
    if (s->nfree == 0)
        return;
    s->next = *list;
    s->prev = NULL;
    if (*list != NULL)
        (*list)->prev = s;
    *list = s;
    s->listed = true;
}

unsigned span_drain(struct span *s)
{
    uint64_t *free = span_free_bits(s);
    unsigned n = 0;

    for (unsigned w = 0; w < span_words(s); w++) {
        // Acquire: what was done with the objects before they were freed.
        uint64_t came = atomic_exchange_explicit(&span_remote_bits(s)[w], 0,
                                                 memory_order_acquire);

        free[w] |= came;
        for (; came != 0; came &= came - 1) {
            unsigned slot = w * 64 + (unsigned)__builtin_ctzll(came);
            uintptr_t va = span_object(s, slot);

            if (!arch_bit_clear(PAGES_ALLOC_BITS, va / 16))
                panic("heap: object 0x%lx was freed twice, on two CPUs",
                      (unsigned long)va);
            n++;
        }
    }
    return n;
}

void span_check(void)
{
    struct span **all = pages_spans();
    uint64_t end = heap_page_of(pages_end()), used = 0;

    for (uint64_t i = 0; i < end; i++) {
        struct span *s = all[i];

        if (s == NULL)
            continue;
        used++;
        if (i < s->page || i >= s->page + s->npages ||
            s->class >= HEAP_CLASSES || s->kind >= HEAP_KINDS)
            panic("heap: page %lu belongs to a damaged span", (unsigned long)i);
        if (i != s->page || s->class == 0)
            continue;
        if (atomic_load_explicit(&s->owner, memory_order_relaxed) != 0)
            continue; // its counts change as we look
        unsigned free = 0;

        for (unsigned w = 0; w < span_words(s); w++)
            free += (unsigned)__builtin_popcountll(s->bits[w]);
        if (free != s->nfree)
            panic("heap: span 0x%lx has %u free slots, counts %u",
                  (unsigned long)span_base(s), free, s->nfree);
    }
    if (used != pages_stats.total - pages_stats.free)
        panic("heap: %lu pages belong to spans, %lu are used",
              (unsigned long)used,
              (unsigned long)(pages_stats.total - pages_stats.free));
}
