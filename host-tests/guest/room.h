// How much memory a test may take: the same test runs with 2 MiB and with 8 GiB.
#pragma once

#include "mm/mm.h"

// Pages that can be promised now.
static inline uint64_t room(void)
{
    struct mm_commit c = mm_commit();

    return c.limit > c.committed ? c.limit - c.committed : 0;
}

// So many pages, or a part (1/share) of what there is if that is less.
static inline size_t room_for(size_t wanted, unsigned share)
{
    uint64_t most = room() / share;

    return most < wanted ? (size_t)most : wanted;
}
