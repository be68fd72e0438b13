// A great many goroutines at once: what each takes while it waits, and that all
// come to their end.
//
// usage: many N MOST_BYTES_EACH

#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/mem.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdlib.h>

#include "mm/mm.h"

static struct gn_wg all, gate;
static _Atomic size_t waiting;

static void wait_at_gate(void *arg)
{
    (void)arg;
    atomic_fetch_add(&waiting, 1);
    gn_wg_wait(&gate);
    gn_wg_done(&all);
}

static int64_t frames_used(void)
{
    struct gn_mem_stats s;

    gn_mem_stats(&s);
    return (int64_t)(s.frames_total - s.frames_free);
}

int main(int argc, char **argv)
{
    size_t n = argc > 1 ? (size_t)atol(argv[1]) : 10000, made = 0;
    long most = argc > 2 ? atol(argv[2]) : 5120;

    gn_cpu_stay(0);
    for (int round = 0; round < 2; round++) {
        int64_t before = frames_used();

        gn_wg_add(&gate, 1);
        gn_wg_add(&all, (int64_t)n);
        waiting = 0;
        for (made = 0; made < n && gn_go(wait_at_gate, NULL) == 0; made++)
            ;
        IS(made, n, "all were made");
        gn_wg_add(&all, (int64_t)(made - n));
        while (waiting < made)
            gn_yield();
        long each = (long)((frames_used() - before) * 4096 / (int64_t)made);

        printf("# %ld bytes each\n", each);
        ok(each <= most, "none takes more than it may");
        gn_wg_done(&gate);
        gn_wg_wait(&all);
        while (gn_go_count() > 1)
            gn_yield();
        // What stays are structs, and what up to 1,024 warm slots keep. Counted once
        // more from where nobody is warm.
        each = (long)((frames_used() - before - 1100) * 4096 / (int64_t)made);
        printf("# %ld bytes each stay\n", each);
        ok(each <= 200, "and its page and tables come back");
        mm_reclaim(UINT64_MAX);
        each = (long)((frames_used() - before) * 4096 / (int64_t)made);
        printf("# %ld bytes each stay when memory is short\n", each);
        ok(each <= 150, "its struct alone stays");
    }
    return tap_end();
}
