// A program that is linked with this prints "busy N" at its end. For
// tools/bench.

#define _GNU_SOURCE

#include "busy.h"

#include <dirent.h>
#include <stdio.h>
#include <time.h>

static double start_ns, busy_ns;

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

// Of all threads together.
static double busy(unsigned *threads)
{
    DIR *d = opendir("/proc/self/task");
    struct dirent *e;
    double sum = 0;

    *threads = 0;
    while (d != NULL && (e = readdir(d)) != NULL) {
        unsigned long long run, wait;
        char name[300];

        snprintf(name, sizeof name, "/proc/self/task/%s/schedstat", e->d_name);
        FILE *f = e->d_name[0] != '.' ? fopen(name, "r") : NULL;

        if (f == NULL)
            continue;
        if (fscanf(f, "%llu %llu", &run, &wait) == 2) {
            sum += (double)run + (double)wait;
            ++*threads;
        }
        fclose(f);
    }
    if (d != NULL)
        closedir(d);
    return sum;
}

__attribute__((constructor)) void busy_begin(void)
{
    unsigned threads;

    busy_ns = busy(&threads);
    start_ns = now_ns();
}

double busy_percent(void)
{
    unsigned threads;
    double ns = busy(&threads) - busy_ns;

    return 100 * ns / (threads * (now_ns() - start_ns));
}

__attribute__((destructor)) static void end(void)
{
    printf("busy %.1f\n", busy_percent());
}
