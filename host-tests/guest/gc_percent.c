// gn_gc_percent: what it returns, and that -1 has no collection begin by itself.
//
// usage: gc_percent [what gc.percent is (100)]

#include <gneiss/gc.h>

#include <stdlib.h>

#include "host-tests/guest/tap.h"

static uint64_t cycles(void)
{
    struct gn_gc_stats s;

    gn_gc_stats(&s);
    return s.cycles;
}

static void allocate(unsigned mib)
{
    for (unsigned i = 0; i < mib * 16; i++) {
        if (gn_alloc(65536, GN_NOSCAN, GN_UNCLEARED) == NULL)
            abort();
    }
}

int main(int argc, char **argv)
{
    int option = argc > 1 ? atoi(argv[1]) : 100;
    uint64_t n;

    IS(gn_gc_percent(-1), option, "it was what the option says");
    IS(gn_gc_percent(-5), -1, "then none");
    n = cycles();
    allocate(60);
    IS(cycles(), n, "none begins by itself");
    gn_gc();
    IS(cycles(), n + 1, "but when it is asked for");
    allocate(60);
    IS(cycles(), n + 1, "and none after that");
    IS(gn_gc_percent(50), -1, "it was none");
    while (cycles() == n + 1)
        allocate(1);
    ok(true, "now they do");
    IS(gn_gc_percent(2000000000), 50, "it was 50");
    IS(gn_gc_percent(100), 1000000, "more is as much as can be");
    return tap_end();
}
