// malloc and free under the runtime's own names, and the malloc of heap.guard.

#include "runtime/heap/debug.h"
#include "runtime/heap/fast.h"

ARCH_CRITICAL void *heap_malloc(size_t n)
{
    return heap_fast_malloc(n);
}

ARCH_CRITICAL void heap_free(void *p)
{
    heap_fast_free(p);
}

// As heap_fast_malloc, but until this CPU has counted down.
ARCH_CRITICAL static void *counted_malloc(size_t n)
{
    arch_critical_begin();
    struct cache *c = arch_local();
    unsigned class = heap_class_small[(n + 15) / 16 * 2];
    struct cache_stack *stack = &c->stack[cache_index(class, HEAP_MANUAL)];
    void *p = stack->top[-1];

    if (p == NULL || c->until_guard == 0) {
        arch_critical_end();
        return cache_malloc_any(n);
    }
    arch_add(&c->until_guard, -1);
    arch_add((uint64_t *)&stack->top, -(int)sizeof *stack->top);
    arch_add(&stack->mallocs, 1);
    arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)p / 16);
    arch_critical_end();
    return p;
}

void *cache_malloc_slow(size_t n)
{
    return unlikely(heap_guard_every != 0) && n <= HEAP_FAST_MAX
               ? counted_malloc(n)
               : cache_malloc_any(n);
}
