// The fast paths of malloc and free, to be a function's whole body: compiled
// without a frame into the critical text (arch.h), where nothing takes the CPU
// away. Every way out is a return or a jump, and up to the last store they have
// changed nothing.
#pragma once

#include "runtime/heap/cache.h"

static inline void *heap_fast_malloc(size_t n)
{
    if (unlikely(n > HEAP_FAST_MAX))
        return cache_malloc_slow(n);
    arch_critical_begin();
    struct cache_stack *stack = arch_local_at(cache_manual_stack[n]);
    void *p = stack->top[-1];

    if (unlikely(p == NULL)) {
        arch_critical_end();
        return cache_malloc_slow(n);
    }
    arch_add((uint64_t *)&stack->top, -(int)sizeof *stack->top);
    arch_add(&stack->mallocs, 1);
    arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)p / 16);
    arch_critical_end();
    return p;
}

static inline void heap_fast_free(void *p)
{
    // An unaligned address becomes a granule beyond any.
    uintptr_t off = (uintptr_t)p - ARCH_HEAP_BASE;
    uint64_t g = off >> 4 | off << 60;

    arch_critical_begin();
    if (likely(arch_below(g, (uint64_t *)&pages_granules))) {
        struct cache *c = arch_local();
        struct cache_stack *stack = &c->stack[c->classes[g / (HEAP_PAGE / 16)]];

        __asm__("" : "+r"(stack)); // else gcc computes it twice
        void **top = stack->top;

        // The bit is left as it is if the stack is full, also if it was clear.
        if (likely(!cache_is_full(top)) &&
            likely(arch_bit_clear((uint64_t *)ARCH_HEAPMETA_BASE, g))) {
            *top = p;
            arch_add((uint64_t *)&stack->top, sizeof *top);
            arch_critical_end();
            return;
        }
    }
    arch_critical_end();
    cache_free_slow(p);
}
