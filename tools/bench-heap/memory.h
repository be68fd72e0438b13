// For the programs that measure memory: what is resident, by the system's
// account. None of these functions allocates.
#pragma once

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

// KiB that are resident now.
static inline long resident_kib(void)
{
    char text[128], *at = text;
    int fd = open("/proc/self/statm", O_RDONLY);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

    if (n <= 0) {
        static const char why[] = "bench-heap: no /proc/self/statm\n";

        n = write(2, why, sizeof why - 1);
        _exit(1);
    }
    close(fd);
    text[n] = '\0';
    strtol(at, &at, 10); // the size of the address space
    return strtol(at, NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024);
}

// The most KiB that ever were.
static inline long peak_kib(void)
{
    struct rusage ru;

    getrusage(RUSAGE_SELF, &ru);
    return ru.ru_maxrss;
}
