// The first thing that main does is to have something run on each CPU: by then all of
// them must be there for goroutines.

#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>
#include <gneiss/sync.h>

static struct gn_wg all;
static _Atomic unsigned right;

static void look(void *cpu)
{
    right += gn_cpu_id() == (unsigned)(uintptr_t)cpu;
    gn_wg_done(&all);
}

int main(void)
{
    unsigned n = gn_cpu_count();

    gn_wg_add(&all, n);
    for (unsigned cpu = n; cpu-- > 0;) {
        if (gn_cpu_start(cpu, look, (void *)(uintptr_t)cpu) != 0)
            abort();
    }
    gn_wg_wait(&all);
    IS(right, n, "all run, each where it is to");
    return tap_end();
}
