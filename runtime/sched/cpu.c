// <gneiss/cpu.h>, over the scheduler.

#include <gneiss/cpu.h>
#include <gneiss/sync.h>

#include <errno.h>

#include "runtime/sched/g_impl.h"

_Static_assert((int)GN_CPU_ANY == (int)G_ANY_CPU, "one value");

bool gn_one_cpu_; // see sched_await_others

unsigned gn_cpu_count(void)
{
    return arch_cpu_count();
}

unsigned gn_cpu_id(void)
{
    return arch_cpu_id();
}

int gn_cpu_start(unsigned cpu, void (*fn)(void *), void *arg)
{
    struct g *g;

    if (cpu >= arch_cpu_count())
        return -EINVAL;
    g = g_create(fn, arg, "started by the program", (int)cpu);
    if (g == NULL)
        return -ENOMEM;
    g_ready(g);
    return 0;
}

int gn_cpu_stay(int cpu)
{
    if (cpu < G_ANY_CPU || cpu >= (int)arch_cpu_count())
        return -EINVAL;
    g_current()->cpu = cpu; // read by who makes it ready: itself, next
    g_yield();
    return 0;
}
