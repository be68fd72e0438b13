// What gn_heap_check looks at besides heap_check: this CPU's spans, object by
// object. It costs much more, so heap.check leaves it out.
//
// Invariants, of each span of small objects that this CPU owns:
//   S1  nfree is the number of its free bits; it is in a list if there are any
//   S2  alloc bits are set where objects begin, and nowhere else
//   S3  no object is allocated and free; others have freed only allocated ones
//   S4  slots == free + allocated + those in a stack, summed up for each stack
//   S5  of an allocated block of tiny.c: a tenant begins at 0, what has ended has
//       begun, and it is being filled if it is this CPU's and no other
//
// Locks: what a CPU owns changes only there, remote bits and ended tenants become
// more. heap_lock keeps the table of spans as long as it is.

#include "runtime/heap/cache.h"
#include "runtime/heap/tiny.h"

struct own_check {
    struct cache *c;
    struct span *s;
    unsigned allocated, free;
};

NORETURN static void own_wrong(const struct span *s, unsigned slot,
                               const char *what)
{
    panic("heap: object 0x%lx of span 0x%lx, class %u of %u bytes: %s",
          (unsigned long)span_object(s, slot), (unsigned long)span_base(s),
          s->class, heap_classes[s->class].size, what);
}

static bool own_bit(uintptr_t va)
{
    return (PAGES_ALLOC_BITS[va / 1024] >> va / 16 % 64 & 1) != 0;
}

static void own_slot(struct own_check *o, unsigned slot)
{
    struct span *s = o->s;
    uintptr_t va = span_object(s, slot);
    bool allocated = own_bit(va);
    bool free = (span_free_bits(s)[slot / 64] >> slot % 64 & 1) != 0;

    o->allocated += allocated;
    o->free += free;
    if (allocated && free)
        own_wrong(s, slot, "allocated and free");
    if (!allocated && span_freed_remotely(s, slot))
        own_wrong(s, slot, "freed by another CPU, and not allocated");
    if (allocated && s->class == HEAP_CLASS_TINY &&
        !tiny_is_sound(s, slot, va == o->c->tiny))
        own_wrong(s, slot, "its tenants are wrong");
}

static unsigned own_alloc_bits(const struct span *s)
{
    const uint64_t *bits = &PAGES_ALLOC_BITS[span_base(s) / 1024];
    unsigned n = 0;

    for (size_t w = 0; w < span_bytes(s) / 1024; w++)
        n += (unsigned)__builtin_popcountll(bits[w]);
    return n;
}

// Returns how many of its objects are neither allocated nor free.
static unsigned own_span(struct cache *c, struct span *s)
{
    struct own_check o = {.c = c, .s = s};

    span_must_be_sound(s, 0);
    for (unsigned slot = 0; slot < s->slots; slot++)
        own_slot(&o, slot);
    if (o.free != s->nfree || s->listed != (o.free > 0))
        own_wrong(s, 0, "free objects of the span are not as counted");
    if (own_alloc_bits(s) != o.allocated)
        own_wrong(s, 0, "an alloc bit lies between the objects of the span");
    return s->slots - o.allocated - o.free;
}

static void own_call(void *arg)
{
    static int own_missing[CACHE_STACKS]; // [heap_lock]
    struct cache *c = arch_local();

    (void)arg;
    spin_lock(&heap_lock);
    for (unsigned i = 1; i < CACHE_STACKS; i++) {
        own_missing[i] = 0;
        for (void **at = c->stack[i].top; *--at != NULL;)
            own_missing[i]--;
    }
    for (uintptr_t va = ARCH_HEAP_BASE; va < pages_end(); va += HEAP_PAGE) {
        struct span *s = span_of(va);

        // Who reads its own number here has written it.
        if (s == NULL ||
            atomic_load_explicit(&s->owner, memory_order_relaxed) !=
                arch_cpu_id() + 1 ||
            span_base(s) != va)
            continue;
        unsigned n = own_span(c, s);

        if (s->class < CACHE_CLASSES)
            own_missing[cache_index(s->class, s->kind)] += (int)n;
        else if (n != 0)
            own_wrong(s, 0, "objects of the span are nowhere");
    }
    spin_unlock(&heap_lock);
    for (unsigned i = 1; i < CACHE_STACKS; i++)
        if (own_missing[i] != 0)
            panic("heap: CPU %u misses %d objects of stack %u", arch_cpu_id(),
                  own_missing[i], i);
}

void heap_check_own(void)
{
    arch_on_system_stack(own_call, NULL);
}
