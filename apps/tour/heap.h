// What the chapters on the heap share.
#pragma once

#include <gneiss/heap.h>

#include "apps/tour/tour.h"

// The span that p lies in. False: it lies in none.
bool find_span(const void *p, struct gn_span *s);

// The number of an object in its span.
unsigned number_in(const struct gn_span *s, const void *p);

static inline bool bit_of(const uint64_t *bits, unsigned i)
{
    return (bits[i / 64] >> i % 64 & 1) != 0;
}

// The row of the size class that objects of n bytes belong to, and the largest
// size that does not reach it.
struct gn_class_stats class_of(size_t n, size_t *below);

struct gn_heap_stats heap_stats(void);

// False, and says that the chapter is skipped: there is no memory, or a boot
// option puts objects elsewhere than into spans.
bool spans_are_used(void);

// `most` bytes, or 1/share of the free memory if that is less: a multiple of
// 64 KiB, maybe 0.
size_t choose_size(size_t most, unsigned share);
