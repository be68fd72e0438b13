// Counting down to the request that fails; see fail.h.
//
// Locks: none. The count is one word, changed by compare-and-exchange, so that
// exactly one CPU's request is the nth.

#include "mm/fail.h"

#include "arch/option.h"

_Atomic uint64_t mm_fail_in;

__attribute__((cold)) bool mm_fail_now(void)
{
    uint64_t left = atomic_load_explicit(&mm_fail_in, memory_order_relaxed);

    do {
        if (left < 2)
            return left != 0;
    } while (!atomic_compare_exchange_weak_explicit(
        &mm_fail_in, &left, left - 2, memory_order_relaxed,
        memory_order_relaxed));
    return left < 4;
}

static const char meaning[] = "N or N+: fail request N for a frame, +: and on";

static const char *set_fail(const char *s)
{
    uint64_t n;
    bool on;

    if (!option_count(s, &n, &on))
        return meaning;
    mm_fail_at(n, on);
    return NULL;
}

OPTION_CALL(opt_fail, "mm.fail", set_fail, meaning);
