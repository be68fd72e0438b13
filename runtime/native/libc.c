// What the C library of the guest does for goroutines, in a Linux process: glibc has
// the rest.

#define _GNU_SOURCE

#include "runtime/libc/libc.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "runtime/libc/port.h"
#include "runtime/sched/sched.h"

// ---- state of a goroutine: it is that of its thread ----

void libc_flush(void)
{
    if (ftrylockfile(stdout) != 0)
        return;
    fflush(stdout);
    funlockfile(stdout);
}

size_t libc_thread_size(void)
{
    return 0;
}

struct _reent *libc_thread_new(void *storage)
{
    (void)storage;
    return NULL;
}

void libc_thread_exit(struct _reent *state)
{
    (void)state;
}

// ---- sleeping ----
//
// runtime/libc/sleep.c stands before glibc's, in the program's calls: who sleeps is
// parked. But for a thread that the program has made, which is none of our CPUs.

uint64_t clock_mono_ns(void)
{
    return arch_mono_ns();
}

void clock_sleep_until(uint64_t mono_ns)
{
    enum { NS_PER_S = 1000000000 };

    if (arch_is_cpu()) {
        if (g_current() != NULL)
            g_sleep_until(mono_ns);
        return;
    }
    for (uint64_t now; (now = arch_mono_ns()) < mono_ns;) {
        uint64_t ns = mono_ns - now;
        struct timespec t = {(time_t)(ns / NS_PER_S), (long)(ns % NS_PER_S)};

        clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
    }
}

// ---- errno ----

int *gn_errno_address(void);

// See runtime/native/include/errno.h.
__attribute__((noinline)) int *gn_errno_address(void)
{
    return &errno;
}
