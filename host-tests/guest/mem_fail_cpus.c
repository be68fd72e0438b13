// Calls of <gneiss/mem.h> on all CPUs at once, with requests for frames failing all
// the time: ENOMEM is the only error, and no frame and no promise is lost. (mem_fail.c
// fails each in turn.)
//
// usage: mem_fail_cpus [ROUNDS]

#include <errno.h>
#include <gneiss/cpu.h>
#include <gneiss/mem.h>
#include <stdint.h>
#include <stdlib.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/settle.h"

enum { PAGE = 4096, RW = GN_READ | GN_WRITE };

static unsigned rounds = 30;
static _Atomic unsigned started, odd, refused, finished;

static void note(long err)
{
    if (err == -ENOMEM)
        refused++;
    else if (err < 0)
        odd++;
}

static void one_round(uint32_t *rnd)
{
    size_t n = 1 + *rnd % 40;
    char *p, *q;

    *rnd = *rnd * 1103515245 + 12345;
    mm_fail_at(1 + *rnd / 65536 % 6, false);
    p = gn_map(NULL, n * PAGE, RW, *rnd / 4096 % 2 ? GN_SPARSE : 0);
    if (p == NULL) {
        note(-errno);
        return;
    }
    note(gn_advise(p, n * PAGE, GN_POPULATE));
    mm_fail_at(1 + *rnd / 1024 % 4, false);
    q = *rnd / 512 % 2 ? gn_alias(p, n * PAGE, RW) : gn_snapshot(p, n * PAGE);
    if (q == NULL)
        note(-errno);
    mm_fail_at(1 + *rnd / 256 % 3, false);
    note(gn_protect(p + n / 2 * PAGE, PAGE, GN_READ));
    if (n / 2 > 0)
        note(gn_advise(p, n / 2 * PAGE, GN_POPULATE));
    mm_fail_at(1, false);
    while (gn_unmap(p, n * PAGE) != 0)
        refused++;
    while (q != NULL && gn_unmap(q, n * PAGE) != 0)
        refused++;
}

static void fail_all_the_time(unsigned cpu, void *arg)
{
    uint32_t rnd = cpu + 1;

    (void)arg;
    started++;
    // A goroutine that can't be made would be an end of the test.
    while (started < arch_cpu_count())
        g_yield();
    for (unsigned i = 0; i < rounds; i++)
        one_round(&rnd);
    finished++;
    while (finished < arch_cpu_count())
        g_yield();
    mm_fail_at(0, false);
}

static void all_cpus_at_once(void)
{
    par_run(fail_all_the_time, NULL); // stacks and caches are warm after it
    started = finished = 0;
    struct accounts before = settle();

    par_run(fail_all_the_time, NULL);
    mm_check();
    printf("# %u calls were refused\n", (unsigned)refused);
    IS(odd, 0, "calls on all CPUs fail with ENOMEM only");
    ok(refused > 0, "and some do");
    is_settled(&before, "failed calls");
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 0);
    frame_zeroed_max = 0;
    all_cpus_at_once();
    return tap_end();
}
