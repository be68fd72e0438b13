// Sleeping. Nothing interrupts it, so there is never a rest to report.
//
// Of the guest's C library, and of a process with goroutines (runtime/native/libc.c).

#define _GNU_SOURCE

#include "runtime/libc/sleep.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "runtime/libc/port.h"

enum {
    NS_PER_US = 1000,
    NS_PER_S = 1000000000,
};

int libc_span_ns(const struct timespec *t, uint64_t *ns)
{
    if (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec >= NS_PER_S)
        return -EINVAL;
    if (__builtin_mul_overflow((uint64_t)t->tv_sec, NS_PER_S, ns) ||
        __builtin_add_overflow(*ns, (uint64_t)t->tv_nsec, ns))
        *ns = UINT64_MAX;
    return 0;
}

void libc_sleep_ns(uint64_t ns)
{
    uint64_t end;

    if (__builtin_add_overflow(clock_mono_ns(), ns, &end))
        end = UINT64_MAX;
    clock_sleep_until(end);
}

int nanosleep(const struct timespec *span, struct timespec *rest)
{
    uint64_t ns;
    int r = libc_span_ns(span, &ns);

    if (r != 0) {
        errno = -r;
        return -1;
    }
    libc_sleep_ns(ns);
    if (rest)
        *rest = (struct timespec){0};
    return 0;
}

unsigned sleep(unsigned seconds)
{
    libc_sleep_ns((uint64_t)seconds * NS_PER_S);
    return 0;
}

int usleep(useconds_t us)
{
    libc_sleep_ns((uint64_t)us * NS_PER_US);
    return 0;
}
