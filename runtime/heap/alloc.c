// gn_alloc and gn_free: collected objects from this CPU's stack of free ones and back, as
// malloc takes others, in a few dozen instructions. All that is not so simple is
// gn_alloc_aligned's and heap_free's.
//
// An object is cleared before its bit is set: whoever sees the bit sees an object in
// its initial state (R16).

#include <gneiss/heap.h>

#include <string.h>

#include "runtime/heap/cache.h"
#include "runtime/heap/collect.h"
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

// A collected object of a span of this CPU, while nothing else has to be done for it.
static inline bool free_collected(void *p)
{
    uintptr_t va = (uintptr_t)p, off = va - ARCH_HEAP_BASE;
    bool done = false;

    if (unlikely(
            off / 16 >=
                atomic_load_explicit(&pages_granules, memory_order_relaxed) ||
            heap_debug_on ||
            atomic_load_explicit(&collect_specials, memory_order_relaxed) != 0))
        return false;
    preempt_disable();
    struct cache *c = arch_local();
    struct span *s = pages_spans()[off >> HEAP_PAGE_SHIFT];

    if (s != NULL && s->kind != HEAP_MANUAL &&
        atomic_load_explicit(&s->owner, memory_order_relaxed) ==
            arch_cpu_id() + 1 &&
        s->class < CACHE_CLASSES && s->class > HEAP_CLASS_TINY) {
        struct cache_stack *stack = &c->stack[cache_index(s->class, s->kind)];

        // The bit is that of an object's beginning, if it is where granules begin.
        if (!cache_is_full(stack->top) &&
            (va | heap_classes[s->class].size) % 16 == 0 &&
            arch_bit_clear(PAGES_ALLOC_BITS, va / 16)) {
            if (atomic_load_explicit(&collect_active, memory_order_relaxed))
                collect_unwhiten(va);
            *stack->top++ = p;
            done = true;
        }
    }
    preempt_enable();
    return done;
}

bool cache_free_collected(void *p)
{
    return free_collected(p);
}

void gn_free(void *p)
{
    if (!free_collected(p))
        heap_free(p);
}
