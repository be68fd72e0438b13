// The fast paths of malloc and free, to be a function's whole body: compiled
// without a frame (the Makefile says which file), every way out is a return or a
// jump.
#pragma once

#include "runtime/heap/cache.h"

static inline void *heap_fast_malloc(size_t n)
{
    if (unlikely(n > HEAP_FAST_MAX))
        return cache_malloc_slow(n);
    preempt_disable();
    struct cache *c = arch_local();
    unsigned i = cache_manual_index[(n + 15) / 16];
    void *p = c->top[i][-1];

    if (unlikely(p == NULL))
        return cache_malloc_empty(n);
    c->top[i]--;
    c->mallocs[i]++;
    arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)p / 16);
    if (unlikely(preempt_enable_pending()))
        return cache_pending(p);
    return p;
}

static inline void heap_fast_free(void *p)
{
    // An unaligned address becomes a granule beyond any.
    uintptr_t off = (uintptr_t)p - ARCH_HEAP_BASE;
    uint64_t g = off >> 4 | off << 60;

    if (unlikely(g >= pages_granules_now())) {
        cache_free_slow(p);
        return;
    }
    preempt_disable();
    struct cache *c = arch_local();
    unsigned i = c->classes[g / (HEAP_PAGE / 16)];
    void **top = c->top[i];

    // The bit is left as it is if the stack is full, and also if it was clear.
    if (unlikely(cache_is_full(top)) ||
        unlikely(!arch_bit_clear((uint64_t *)ARCH_HEAPMETA_BASE, g))) {
        cache_free_full(p);
        return;
    }
    *top = p;
    c->top[i] = top + 1;
    if (unlikely(preempt_enable_pending()))
        cache_pending(NULL);
}
