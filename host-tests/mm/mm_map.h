// Ordinary memory for the tests of mm that run on one thread.
#pragma once

#include "host-tests/mm/mm_fixture.h"

#define RW (PROT_R | PROT_W)

static inline uintptr_t map(size_t pages, unsigned flags)
{
    uintptr_t va = 0;

    assert_int_equal(vm_map(&va, pages * PAGE_SIZE, RW, flags, "test"), 0);
    return va;
}

static inline void unmap(uintptr_t va, size_t pages)
{
    assert_int_equal(vm_unmap(va, pages * PAGE_SIZE), 0);
}
