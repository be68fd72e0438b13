// See page_cache.h. The pages of a cache are promised (R14); to the bitmaps of
// pages.c they are used.

#include "runtime/heap/page_cache.h"

unsigned page_cache_most;

static uint64_t mask_of(unsigned at, uint64_t n)
{
    return ((UINT64_C(1) << n) - 1) << at;
}

// Where the lowest run of n bits begins; 64: there is none.
static unsigned find_run(uint64_t bits, uint64_t n)
{
    // After each step a bit stands for a run twice as long, n at most.
    for (uint64_t have = 1; have < n;) {
        uint64_t shift = have < n - have ? have : n - have;

        bits &= bits >> shift;
        have += shift;
    }
    return bits != 0 ? (unsigned)__builtin_ctzll(bits) : 64;
}

static uint64_t take(struct page_cache *c, uint64_t n, bool *zero)
{
    unsigned at = find_run(c->free, n);

    if (at == 64)
        return HEAP_NO_PAGE;
    uint64_t mask = mask_of(at, n);

    *zero = (c->fresh & mask) == mask;
    c->free &= ~mask;
    c->fresh &= ~mask;
    return c->first + at;
}

static void flush(struct page_cache *c)
{
    while (c->free != 0) {
        unsigned at = (unsigned)__builtin_ctzll(c->free);
        bool zero = (c->fresh >> at & 1) != 0;
        uint64_t rest = ~((zero ? c->fresh : c->free & ~c->fresh) >> at);
        unsigned n = rest != 0 ? (unsigned)__builtin_ctzll(rest) : 64;

        n = n < 64 - at ? n : 64 - at;
        (zero ? pages_free_zero : pages_free)(c->first + at, n);
        c->free &= n == 64 ? 0 : ~mask_of(at, n);
    }
    c->fresh = 0;
}

void page_cache_flush(struct page_cache *c)
{
    if (c->free == 0)
        return;
    spin_lock(&heap_lock);
    flush(c);
    spin_unlock(&heap_lock);
}

uint64_t page_cache_alloc(struct page_cache *c, uint64_t n, bool *zero)
{
    uint64_t page = n <= PAGE_CACHE_RUN ? take(c, n, zero) : HEAP_NO_PAGE;

    if (page != HEAP_NO_PAGE)
        return page;
    spin_lock(&heap_lock);
    if (n <= PAGE_CACHE_RUN && n <= page_cache_most / 2) {
        flush(c);
        if (pages_alloc_group(n, page_cache_most, &c->first, &c->free,
                              &c->fresh))
            page = take(c, n, zero);
    }
    // What is left of the group may be needed to find n pages.
    if (page == HEAP_NO_PAGE) {
        flush(c);
        page = pages_alloc(n, 1, zero);
    }
    spin_unlock(&heap_lock);
    return page;
}

void page_cache_free(struct page_cache *c, uint64_t page, uint64_t n)
{
    uint64_t at = page - c->first;

    // A cache that is used up stands for no group.
    if (c->free != 0 && at < 64 && n <= 64 - at &&
        (unsigned)__builtin_popcountll(c->free) + n <= page_cache_most) {
        c->free |= n == 64 ? UINT64_MAX : mask_of((unsigned)at, n);
        return;
    }
    spin_lock(&heap_lock);
    pages_free(page, n);
    spin_unlock(&heap_lock);
}

void page_cache_check(const struct page_cache *c)
{
    for (unsigned i = 0; i < 64; i++)
        if ((c->free >> i & 1) != 0 && (pages_is_free(c->first + i) ||
                                        pages_spans()[c->first + i] != NULL))
            panic("heap: page %lu is in a cache and elsewhere",
                  (unsigned long)c->first + i);
    if ((c->fresh & ~c->free) != 0)
        panic("heap: pages that a cache does not have are fresh");
}
