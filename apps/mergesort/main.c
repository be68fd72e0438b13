// Sorts numbers with a goroutine for each half that is large enough.
//
// usage: mergesort [NUMBERS]    (2000000)

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ALONE = 8192 }; // no goroutine for fewer

struct part {
    uint32_t *v, *spare;
    size_t n;
    struct gn_wg *done;
};

static void merge(uint32_t *v, size_t n, size_t mid, uint32_t *spare)
{
    size_t i = 0, k = mid, to = mid;

    memcpy(spare, v, mid * sizeof *v);
    for (to = 0; i < mid; to++)
        v[to] = k < n && v[k] < spare[i] ? v[k++] : spare[i++];
}

static void sort(uint32_t *v, size_t n, uint32_t *spare);

static void sort_part(void *arg)
{
    struct part *p = arg;

    sort(p->v, p->n, p->spare);
    gn_wg_done(p->done);
}

static void sort(uint32_t *v, size_t n, uint32_t *spare)
{
    size_t mid = n / 2;
    struct gn_wg done = {0};
    struct part left = {v, spare, mid, &done};

    if (n < 2)
        return;
    gn_wg_add(&done, 1);
    // Without memory for another goroutine it is done here.
    if (n < ALONE || gn_go(sort_part, &left) != 0)
        sort_part(&left);
    sort(v + mid, n - mid, spare + mid);
    gn_wg_wait(&done);
    merge(v, n, mid, spare);
}

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
