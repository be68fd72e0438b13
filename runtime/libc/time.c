// Clocks, and what sleeps by them.
//
// Two clocks of the machine (port.h) serve all of POSIX's. CPU time is the
// time since boot: a program has the machine for itself. Nothing interrupts a
// sleep, so there is never a rest to report.

#define _GNU_SOURCE

#include "runtime/libc/errors.h"
#include "runtime/libc/port.h"
#include "runtime/libc/sleep.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/times.h>
#include <time.h>

enum {
    NS_PER_US = 1000,
    NS_PER_S = 1000000000,
};

static struct timespec to_timespec(uint64_t ns)
{
    return (struct timespec){
        .tv_sec = (time_t)(ns / NS_PER_S),
        .tv_nsec = (long)(ns % NS_PER_S),
    };
}

static struct timeval to_timeval(uint64_t ns)
{
    return (struct timeval){
        .tv_sec = (time_t)(ns / NS_PER_S),
        .tv_usec = (suseconds_t)(ns % NS_PER_S / NS_PER_US),
    };
}

// Reads a clock. Returns 0 or -EINVAL.
static int read_clock(clockid_t id, uint64_t *ns)
{
    switch (id) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        *ns = clock_wall_ns();
        return 0;
    case CLOCK_MONOTONIC:
    case CLOCK_MONOTONIC_RAW:
    case CLOCK_MONOTONIC_COARSE:
    case CLOCK_BOOTTIME:
        *ns = clock_mono_ns();
        return 0;
    default:
        return -EINVAL;
    }
}

int clock_gettime(clockid_t id, struct timespec *t)
{
    uint64_t ns;
    int r = read_clock(id, &ns);

    if (r == 0)
        *t = to_timespec(ns);
    return (int)libc_result(r);
}

int clock_getres(clockid_t id, struct timespec *t)
{
    uint64_t ns;
    int r = read_clock(id, &ns);

    if (r == 0 && t)
        *t = (struct timespec){.tv_nsec = 1};
    return (int)libc_result(r);
}

int gettimeofday(struct timeval *restrict t, void *restrict zone)
{
    (void)zone;
    *t = to_timeval(clock_wall_ns());
    return 0;
}

clock_t times(struct tms *t)
{
    clock_t ticks = (clock_t)(clock_mono_ns() / (NS_PER_S / CLOCKS_PER_SEC));

    *t = (struct tms){.tms_utime = ticks};
    return ticks;
}

int getrusage(int who, struct rusage *usage)
{
    if (who != RUSAGE_SELF && who != RUSAGE_CHILDREN)
        return (int)libc_result(-EINVAL);
    *usage = (struct rusage){0};
    if (who == RUSAGE_SELF)
        usage->ru_utime = to_timeval(clock_mono_ns());
    return 0;
}

// As POSIX has it, this one returns the error and leaves errno alone.
int clock_nanosleep(clockid_t id, int flags, const struct timespec *t,
                    struct timespec *rest)
{
    uint64_t ns, now;
    int r = libc_span_ns(t, &ns);

    if (r == 0)
        r = read_clock(id, &now);
    if (r)
        return -r;
    if (!(flags & TIMER_ABSTIME)) {
        libc_sleep_ns(ns);
        if (rest)
            *rest = (struct timespec){0};
    } else if (ns > now) {
        libc_sleep_ns(ns - now);
    }
    return 0;
}

// Only as a way to sleep, without descriptors.
int select(int n, fd_set *in, fd_set *out, fd_set *other, struct timeval *t)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    if (n > 0 || in || out || other || !t)
        return libc_nosys("select", &said);
    if (t->tv_sec < 0 || t->tv_usec < 0)
        return (int)libc_result(-EINVAL);
    libc_sleep_ns((uint64_t)t->tv_sec * NS_PER_S +
                  (uint64_t)t->tv_usec * NS_PER_US);
    return 0;
}
