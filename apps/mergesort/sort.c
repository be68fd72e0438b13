#include "apps/mergesort/sort.h"

#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <string.h>

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

static void sort_part(void *arg)
{
    struct part *p = arg;

    sort(p->v, p->n, p->spare);
    gn_wg_done(p->done);
}

void sort(uint32_t *v, size_t n, uint32_t *spare)
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
