// gn_alloc: collected objects from this CPU's stack of free ones, as malloc takes
// others, in a few dozen instructions. All that is not so simple is gn_alloc_aligned's.
//
// An object is cleared before its bit is set: whoever sees the bit sees an object in
// its initial state (R16).

#include <gneiss/heap.h>

#include <string.h>

#include "runtime/heap/cache.h"
#include "runtime/heap/debug.h"
#include "runtime/heap/tiny.h"

// NULL: not here.
static inline void *take(size_t n, enum heap_kind kind)
{
    unsigned class = heap_class_small[(n + 7) / 8];
    unsigned i = cache_index(class, kind);

    preempt_disable();
    struct cache *c = arch_local();
    struct cache_stack *s = &c->stack[i];
    void *p = s->top[-1];

    if (likely(p != NULL)) {
        bool fresh = cache_sum(s) == c->clean[i];

        s->top--;
        s->mallocs++;
        if (!fresh)
            memset(p, 0, heap_classes[class].size);
        arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)p / 16);
    }
    preempt_enable();
    return p;
}

void *gn_alloc(size_t n, enum gn_heap_kind kind, int flags)
{
    // A stack is empty if a debug option wants to see each object; but for heap.guard.
    if (likely(flags == 0) && n > TINY_MAX && n <= HEAP_FAST_MAX &&
        (kind == GN_SCAN || kind == GN_NOSCAN) && heap_guard_every == 0) {
        void *p = take(n, (enum heap_kind)kind);

        if (likely(p != NULL))
            return p;
    }
    return gn_alloc_aligned(n, 1, kind, flags);
}
