// What is said of a pointer that malloc never returned.

#include "runtime/heap/report.h"

#include "runtime/heap/heap.h"

bool heap_place_of(uintptr_t va, struct heap_place *place)
{
    struct span *s = span_of(va);

    *place = (struct heap_place){.span = s};
    if (s == NULL)
        return va >= ARCH_HEAP_BASE && va < pages_end();
    unsigned slot = s->class != 0 ? span_slot(s, va) : 0;

    if (s->class != 0 && slot >= heap_classes[s->class].slots)
        return true; // behind the last object
    place->object = s->class != 0 ? span_object(s, slot) : span_base(s);
    place->size = s->class != 0 ? heap_classes[s->class].size : span_bytes(s);
    // Its owner may change other bits of the word just now.
    _Atomic uint64_t *bits =
        (_Atomic uint64_t *)&PAGES_ALLOC_BITS[place->object / 1024];

    place->allocated = (atomic_load_explicit(bits, memory_order_relaxed) >>
                            place->object / 16 % 64 &
                        1) != 0 &&
                       !span_freed_remotely(s, slot);
    return true;
}

void heap_report_bad(const void *p, const char *call, const char *wrong)
{
    uintptr_t va = (uintptr_t)p;
    struct heap_place at;

    if (!heap_place_of(va, &at))
        panic("%s of 0x%lx, which is not an address of the heap", call,
              (unsigned long)va);
    if (at.size == 0)
        panic("%s of 0x%lx: %s (%s)", call, (unsigned long)va, wrong,
              at.span == NULL ? "no object is there: freed pages"
                              : "behind the last object of a span");
    panic("%s of 0x%lx: %s (%lu bytes into the %s object 0x%lx of %lu bytes, "
          "span 0x%lx of %lu KiB)",
          call, (unsigned long)va, wrong, (unsigned long)(va - at.object),
          at.allocated ? "allocated" : "free", (unsigned long)at.object,
          (unsigned long)at.size, (unsigned long)span_base(at.span),
          (unsigned long)(span_bytes(at.span) / 1024));
}
