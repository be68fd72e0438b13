// How many frames hold descriptors of regions: they are made by the page and stay.
#pragma once

#include "mm/fail.h"
#include "mm/region.h"

struct descriptors {
    uint64_t used, free;
};

static inline void descriptors_add(struct region *r, void *arg)
{
    *(uint64_t *)arg += r->pooled;
}

// Takes all that are free, and puts them back. Context: mm_lock held, nobody else
// asks for frames.
static inline struct descriptors descriptors_count(void)
{
    struct descriptors d = {0};
    struct region *drained = NULL, *r;

    region_each(descriptors_add, &d.used);
    mm_fail_at(1, true); // no more are made
    while ((r = region_new()) != NULL) {
        r->right = drained;
        drained = r;
        d.free++;
    }
    mm_fail_at(0, false);
    while ((r = drained) != NULL) {
        drained = r->right;
        region_free(r);
    }
    return d;
}

static inline uint64_t descriptors_frames(struct descriptors d)
{
    const uint64_t in_a_page = PAGE_SIZE / sizeof(struct region);

    return (d.used + d.free) / in_a_page;
}
