// Results of a guest test, in TAP: one line per point, the plan and "# end" at
// the end, so that a program which stops half way is a failure.
//
// Points are counted by one goroutine, the one that runs main().
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

// Runs in interrupt context: must not touch what the CPU does not save there.
#define IRQ_FN __attribute__((target("general-regs-only")))

#define NOINLINE __attribute__((noinline))

static int tap_points, tap_failed;

// Reports one point, named by a format; returns cond.
static inline bool __attribute__((format(printf, 2, 3)))
ok(bool cond, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    tap_failed += !cond;
    printf("%sok %d - ", cond ? "" : "not ", ++tap_points);
    vprintf(fmt, ap);
    printf("\n");
    fflush(stdout); // a hang shows after which point it came
    va_end(ap);
    return cond;
}

// The same for two numbers that should be equal.
#define IS(found, expected, name)                                              \
    do {                                                                       \
        long long f_ = (long long)(found), e_ = (long long)(expected);         \
        if (!ok(f_ == e_, "%s", name))                                         \
            printf("# %s:%d: found %lld, expected %lld\n", __FILE__, __LINE__, \
                   f_, e_);                                                    \
    } while (0)

// Ends main(): its value is the program's status.
static inline int tap_end(void)
{
    printf("1..%d\n# end\n", tap_points);
    return tap_failed != 0;
}
