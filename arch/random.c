// One source of randomness, so that seed=N repeats every choice of a run.
//
// Source: splitmix64, from Steele, Lea & Flood, "Fast splittable pseudorandom
// number generators", 2014.

#include <stdatomic.h>

#include "arch/arch.h"
#include "arch/option.h"

static uint64_t seed;
OPTION_UINT(opt_seed, "seed", seed, 0, UINT64_MAX,
            "makes every random choice repeatable (0: truly random)");

static uint64_t nth(uint64_t n)
{
    uint64_t z = seed + n * UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t arch_random(void)
{
    static _Atomic uint64_t taken; // relaxed: only distinctness matters

    if (seed == 0)
        return arch_entropy();
    return nth(atomic_fetch_add_explicit(&taken, 1, memory_order_relaxed) + 1);
}
