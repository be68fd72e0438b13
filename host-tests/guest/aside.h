// Blocks that stay whole and out of the way, so that a test of gibibytes takes no
// longer, nor more memory of the host, than one of less: what is left is spread
// evenly over all of memory. They are bits of a set, since a list in them would be
// a store to each: the host would have to find memory for all.
#pragma once

#include <stdint.h>

#include "mm/mm.h"

enum {
    WHOLE = 9, // order
    BLOCKS = 64 * (GIB / PAGE_SIZE >> WHOLE)
};

static uint64_t aside[BLOCKS / 64];
static uint64_t naside; // frames

// Frames that there are beside those.
static uint64_t total_frames(void)
{
    return frame_stats().total - naside;
}

static void give_back(uint64_t block)
{
    aside[block / 64] &= ~(UINT64_C(1) << block % 64);
    naside -= 1 << WHOLE;
    frame_free(paddr(block << WHOLE << PAGE_SHIFT), WHOLE);
}

// Leaves so many frames, about: of n blocks some are free again, as far from
// each other as can be.
static void set_aside_call(void *arg)
{
    uint64_t leave = *(uint64_t *)arg >> WHOLE, n = 0, nth = 0;
    paddr_t p;

    while ((p = frame_alloc(WHOLE, FRAME_DIRTY)).raw != 0) {
        uint64_t block = p.raw / PAGE_SIZE >> WHOLE;

        ASSERT(block < BLOCKS);
        aside[block / 64] |= UINT64_C(1) << block % 64;
        n++;
    }
    naside = n << WHOLE;
    for (uint64_t block = 0; block < BLOCKS; block++) {
        if (!(aside[block / 64] >> block % 64 & 1))
            continue;
        nth++;
        if (nth * leave / n != (nth - 1) * leave / n)
            give_back(block);
    }
}

static void set_aside(uint64_t leave)
{
    if (leave >= mm_free_frames())
        return;
    arch_on_system_stack(set_aside_call, &leave);
    mm_charge_stack(naside);
}

static void bring_back_call(void *arg)
{
    (void)arg;
    for (uint64_t block = 0; block < BLOCKS; block++) {
        if (aside[block / 64] >> block % 64 & 1)
            give_back(block);
    }
}

static void bring_back(void)
{
    mm_uncharge(naside);
    arch_on_system_stack(bring_back_call, NULL);
}
