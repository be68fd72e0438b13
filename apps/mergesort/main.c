// Sorts numbers with a goroutine for each half that is large enough.
//
// usage: mergesort [NUMBERS]    (2000000)

#include <gneiss/cpu.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "apps/mergesort/sort.h"

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    char *end = "";
    size_t n = argc > 1 ? strtoul(argv[1], &end, 10) : 2000000;

    if (argc > 2 || *end != '\0' || n == 0 || n > (size_t)1 << 32) {
        fprintf(stderr, "usage: mergesort [NUMBERS]\n");
        return 2;
    }
    uint32_t *v = malloc(n * sizeof *v), *spare = malloc(n * sizeof *v);
    uint32_t rng = 1;
    uint64_t sum = 0;

    if (v == NULL || spare == NULL) {
        perror("mergesort");
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        rng = rng * 1664525 + 1013904223;
        v[i] = rng;
        sum += rng;
    }
    double start = seconds();

    sort(v, n, spare);
    double took = seconds() - start;

    for (size_t i = 0; i < n; i++) {
        sum -= v[i];
        if (i > 0 && v[i - 1] > v[i]) {
            printf("not in order at %zu\n", i);
            return 1;
        }
    }
    printf("%zu numbers in order on %u CPU%s, %.1f ms%s\n", n, gn_cpu_count(),
           gn_cpu_count() == 1 ? "" : "s", took * 1e3,
           sum == 0 ? "" : ", but others than before");
    free(v);
    free(spare);
    return sum != 0;
}
