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

__attribute__((cold)) static const char *set_fail(const char *s)
{
    enum { DIGITS = 18 }; // as many fit

    const char *first = s;
    uint64_t n = 0;

    while (*s >= '0' && *s <= '9' && s < first + DIGITS)
        n = n * 10 + (uint64_t)(*s++ - '0');
    bool on = *s == '+';

    if (s == first || s[on] != '\0')
        return meaning;
    mm_fail_at(n, on);
    return NULL;
}

OPTION_CALL(opt_fail, "mm.fail", set_fail, meaning);
