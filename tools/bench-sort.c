// What merge sort takes as a Linux process: lines "name value", milliseconds of wall
// and of CPU time, and how busy its CPUs were, in percent.
//
// usage: bench-sort NUMBERS

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "apps/mergesort/sort.h"
#include "tools/busy.h"

static double ms(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    uint32_t *v = malloc(n * sizeof *v), *spare = malloc(n * sizeof *v),
             rng = 1;

    if (n == 0 || v == NULL || spare == NULL)
        return 1;
    for (size_t i = 0; i < n; i++) {
        rng = rng * 1664525 + 1013904223;
        v[i] = rng;
        spare[i] = 0; // its pages are there
    }
    double wall = ms(CLOCK_MONOTONIC), cpu = ms(CLOCK_PROCESS_CPUTIME_ID);

    busy_begin();
    sort(v, n, spare);
    printf("sort_busy %.1f\n", busy_percent());
    printf("sort_wall %.3f\n", ms(CLOCK_MONOTONIC) - wall);
    printf("sort_cpu %.3f\n", ms(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    for (size_t i = 1; i < n; i++) {
        if (v[i - 1] > v[i])
            return 1;
    }
    puts("end");
    return 0;
}
