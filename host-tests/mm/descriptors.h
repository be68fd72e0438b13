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

static struct region *descriptors_taken; // by right

// Takes all that are free, so that the next call needs a frame for one; returns how
// many there were. Context: mm_lock held where there are others, nobody else asks
// for frames.
static inline uint64_t descriptors_take(void)
{
    uint64_t n = 0;
    struct region *r;

    mm_fail_at(1, true); // no more are made
    while ((r = region_new()) != NULL) {
        r->right = descriptors_taken;
        descriptors_taken = r;
        n++;
    }
    mm_fail_at(0, false);
    return n;
}

// Puts them back. Context: as above.
static inline void descriptors_give(void)
{
    struct region *r;

    while ((r = descriptors_taken) != NULL) {
        descriptors_taken = r->right;
        region_free(r);
    }
}

// Context: as above, and none are taken.
static inline struct descriptors descriptors_count(void)
{
    struct descriptors d = {0};

    region_each(descriptors_add, &d.used);
    d.free = descriptors_take();
    descriptors_give();
    return d;
}

static inline uint64_t descriptors_frames(struct descriptors d)
{
    const uint64_t in_a_page = PAGE_SIZE / sizeof(struct region);

    return (d.used + d.free) / in_a_page;
}
