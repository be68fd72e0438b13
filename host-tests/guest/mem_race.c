// Several CPUs map and unmap the same addresses: whoever got them must find
// zeros there, and keep what it stores, until it unmaps them itself.
//
// usage: mem_race [ROUNDS]: half of them before frames are counted

#include <gneiss/cpu.h>
#include <gneiss/mem.h>
#include <stdatomic.h>
#include <stdint.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"

enum { PAGES = 64, PAGE = 4096 };

static unsigned rounds = 5000;
static char *place;
static _Atomic uint64_t wins, stale, lost, errors;

static volatile uint64_t *word(char *p, unsigned page)
{
    return (volatile uint64_t *)(p + page * PAGE);
}

static void own_it(char *p, uint64_t me)
{
    for (unsigned i = 0; i < PAGES; i++) {
        stale += *word(p, i) != 0;
        *word(p, i) = me;
    }
    for (unsigned i = 0; i < PAGES; i++)
        lost += *word(p, i) != me;
}

static void fight(unsigned cpu, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < rounds / 2; i++) {
        char *p = gn_map(place, PAGES * PAGE, GN_READ | GN_WRITE, GN_FIXED);

        if (p == NULL)
            continue; // another CPU has it
        wins++;
        own_it(p, cpu + 1);
        errors += gn_unmap(p, PAGES * PAGE) != 0;
    }
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 0);
    place = gn_reserve(PAGES * PAGE);
    gn_unmap(place, PAGES * PAGE);
    par_run(fight, NULL); // what is made once for all, stdout's buffer too
    printf("# mapped %llu times\n", (unsigned long long)wins);
    struct accounts before = settle();

    par_run(fight, NULL);
    printf("# mapped %llu times\n", (unsigned long long)wins);
    ok(wins > 0, "somebody got the place");
    IS(stale, 0, "fresh memory is zero");
    IS(lost, 0, "nobody takes the pages of a new mapping away");
    IS(errors, 0, "unmap succeeds");
    mm_check();
    is_settled(&before, "the place");
    return tap_end();
}
