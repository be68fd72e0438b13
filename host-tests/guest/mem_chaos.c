// All CPUs do random things to the same addresses at the same time, through the
// public calls: each call may fail, nothing may break, and in the end everything
// is given back. No page is touched but by GN_POPULATE, which can't fault.
//
// usage: mem_chaos [ROUNDS [SEED]]

#include <gneiss/cpu.h>
#include <gneiss/mem.h>
#include <stdatomic.h>
#include <stdint.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"

#include "mm/vm.h"

enum { PAGES = 256, MOST = 32, PAGE = 4096, RW = GN_READ | GN_WRITE, OPS = 9 };

static const char *const names[OPS] = {"map",     "unmap",    "protect",
                                       "discard", "populate", "snapshot",
                                       "alias",   "move",     "decommit"};
static char *place;
static unsigned rounds = 5000;
static uint32_t seed = 1;
static _Atomic uint64_t done[OPS], failed[OPS];

static uint32_t next(uint32_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 17;
    *s ^= *s << 5;
    return *s;
}

// Uses a second view and gives it back.
static bool use(char *q, size_t bytes)
{
    if (q == NULL)
        return false;
    (void)gn_advise(q, bytes, GN_POPULATE);
    return gn_unmap(q, bytes) == 0;
}

static bool move_there_and_back(char *p, size_t bytes)
{
    char *q = gn_remap(p, bytes, bytes, GN_MOVE, NULL);

    if (q == NULL)
        return false;
    if (gn_remap(q, bytes, bytes, GN_FIXED, p) == NULL)
        return gn_unmap(q, bytes) == 0;
    return true;
}

static bool step(unsigned op, char *p, size_t bytes, bool coin)
{
    switch (op) {
    case 0:
        return gn_map(p, bytes, RW, coin ? GN_FIXED : GN_FIXED | GN_SPARSE) !=
               NULL;
    case 1:
        return gn_unmap(p, bytes) == 0;
    case 2:
        return gn_protect(p, bytes, coin ? RW : GN_READ) == 0;
    case 3:
        return gn_advise(p, bytes, GN_DISCARD) == 0;
    case 4:
        return gn_advise(p, bytes, GN_POPULATE) == 0;
    case 5:
        return use(gn_snapshot(p, bytes), bytes);
    case 6:
        return use(gn_alias(p, bytes, RW), bytes);
    case 7:
        return move_there_and_back(p, bytes);
    default:
        return gn_decommit(p, bytes) == 0;
    }
}

static void storm(unsigned cpu, void *arg)
{
    uint32_t s = seed * 7919 + cpu + 1;

    for (unsigned i = 0; i < *(unsigned *)arg; i++) {
        unsigned op = next(&s) % (OPS + 2), at = next(&s) % PAGES;
        unsigned n = 1 + next(&s) % MOST;

        if (op >= OPS)
            op = 0; // more maps than anything else
        if (at + n > PAGES)
            n = PAGES - at;
        if (step(op, place + at * PAGE, (size_t)n * PAGE, next(&s) & 1))
            done[op]++;
        else
            failed[op]++;
    }
}

static bool every_done(void)
{
    for (unsigned i = 0; i < OPS; i++) {
        if (done[i] == 0)
            return false;
    }
    return true;
}

// Every operation once, so that what is made at the first use is there.
static void warm_up(unsigned cpu, void *arg)
{
    unsigned least = 40;

    (void)arg;
    for (unsigned i = 0; i < OPS; i++)
        (void)step(i, place, PAGE, false);
    storm(ARCH_MAX_CPUS + 100 + cpu, &least);
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 0);
    if (argc > 2)
        seed = (uint32_t)strtoul(argv[2], NULL, 0);
    place = gn_reserve(PAGES * PAGE);
    gn_unmap(place, PAGES * PAGE);
    par_run(warm_up, NULL);
    IS(gn_unmap(place, PAGES * PAGE), 0, "a few rounds to warm up");
    for (unsigned i = 0; i < OPS; i++)
        done[i] = failed[i] = 0;
    struct accounts before = settle();

    par_run(storm, &rounds);
    for (unsigned i = 0; i < OPS; i++) {
        printf("# %-8s done %llu, failed %llu\n", names[i],
               (unsigned long long)done[i], (unsigned long long)failed[i]);
    }
    fflush(stdout);
    mm_check();
    // Of few rounds some can fail all the time: then alone.
    for (unsigned i = 0; i < 50 && !every_done(); i++)
        storm(ARCH_MAX_CPUS + i, &rounds);
    ok(every_done(), "every operation succeeded at times");
    IS(gn_unmap(place, PAGES * PAGE), 0, "what is left is unmapped");
    mm_check();
    is_settled(&before, "random calls");
    return tap_end();
}
