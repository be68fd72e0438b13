// The rest of <unistd.h>: identity, limits, memory, random bytes.
//
// The program is process 1, alone, and root.

#define _GNU_SOURCE

#include "arch/arch.h"
#include "runtime/libc/errors.h"
#include "runtime/libc/fs.h"
#include "runtime/libc/port.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    PID = 1,
    ENTROPY_MAX = 256, // bytes of one getentropy(), as POSIX has it
};

void _exit(int status)
{
    gn_exit_status(status & 0xff);
}

pid_t getpid(void)
{
    return PID;
}

pid_t getppid(void)
{
    return 0;
}

pid_t getpgrp(void)
{
    return PID;
}

uid_t getuid(void)
{
    return 0;
}

uid_t geteuid(void)
{
    return 0;
}

gid_t getgid(void)
{
    return 0;
}

gid_t getegid(void)
{
    return 0;
}

int gethostname(char *name, size_t size)
{
    static const char host[] = "gneiss";

    if (size < sizeof(host))
        return (int)libc_result(-ENAMETOOLONG);
    memcpy(name, host, sizeof(host));
    return 0;
}

int getpagesize(void)
{
    return PAGE_SIZE;
}

long sysconf(int name)
{
    switch (name) {
    case _SC_ARG_MAX:
        return ARG_MAX;
    case _SC_CLK_TCK:
        return CLOCKS_PER_SEC;
    case _SC_OPEN_MAX:
        return FS_OPEN_MAX;
    case _SC_PAGESIZE:
        return PAGE_SIZE;
    case _SC_NPROCESSORS_CONF:
    case _SC_NPROCESSORS_ONLN:
        return (long)arch_cpu_count();
    case _SC_VERSION:
        return 200809L;
    case _SC_TIMERS:
    case _SC_FSYNC:
    case _SC_MONOTONIC_CLOCK:
    case _SC_CLOCK_SELECTION:
        return 200809L;
    default:
        return libc_result(-EINVAL);
    }
}

static long path_limit(int name)
{
    switch (name) {
    case _PC_LINK_MAX:
        return FS_LINK_MAX;
    case _PC_NAME_MAX:
        return FS_NAME_MAX;
    case _PC_PATH_MAX:
        return FS_PATH_MAX;
    case _PC_NO_TRUNC:
    case _PC_CHOWN_RESTRICTED:
        return 1;
    default:
        return libc_result(-EINVAL);
    }
}

long pathconf(const char *path, int name)
{
    struct fs_stat st;
    int r = fs_stat(path, &st);

    return r ? libc_result(r) : path_limit(name);
}

long fpathconf(int fd, int name)
{
    struct fs_stat st;
    int r = fs_fstat(fd, &st);

    return r ? libc_result(r) : path_limit(name);
}

int getrlimit(int resource, struct rlimit *limit)
{
    rlim_t n = resource == RLIMIT_NOFILE ? FS_OPEN_MAX : RLIM_INFINITY;

    *limit = (struct rlimit){.rlim_cur = n, .rlim_max = n};
    return 0;
}

void *sbrk(ptrdiff_t incr)
{
    void *old = libc_sbrk(incr);

    if (old == (void *)-1)
        errno = ENOMEM;
    return old;
}

int getentropy(void *p, size_t n)
{
    return (int)libc_result(n > ENTROPY_MAX ? -EIO : random_bytes(p, n));
}
