// What the programs of `make bench` count by, in the guest and on Linux.
#pragma once

#include <stdint.h>

// The time-stamp counter: under -icount, instructions, exactly.
static inline uint64_t cycles(void)
{
    uint32_t lo, hi;

    __asm__ volatile("lfence\n\trdtsc" : "=a"(lo), "=d"(hi)::"memory");
    return (uint64_t)hi << 32 | lo;
}
