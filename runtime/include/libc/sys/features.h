// newlib's feature tests, and what this system adds.
//
// newlib hides clock_gettime(), nanosleep(), clock_nanosleep() and
// CLOCK_MONOTONIC behind macros that each system sets here. So a program sees
// them where POSIX says it does: with -std=gnu17, or with _POSIX_C_SOURCE or
// _GNU_SOURCE under -std=c17. No build needs a -D for it.
#pragma once

#include_next <sys/features.h>

#if __POSIX_VISIBLE >= 199309
#define _POSIX_TIMERS          200809L
#define _POSIX_MONOTONIC_CLOCK 200809L
#define _POSIX_CLOCK_SELECTION 200809L
#endif
