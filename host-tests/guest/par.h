// Runs a function as one goroutine per CPU and waits for all of them.
#pragma once

#include <stdatomic.h>
#include <stdlib.h>

#include "arch/arch.h"
#include "runtime/sched/sched.h"

struct par {
    void (*fn)(unsigned cpu, void *arg);
    void *arg;
    _Atomic unsigned left;
};

struct par_one {
    struct par *par;
    unsigned cpu;
};

static inline void par_entry(void *arg)
{
    struct par_one *o = arg;

    o->par->fn(o->cpu, o->par->arg);
    atomic_fetch_sub(&o->par->left, 1);
}

// On the CPUs first..end-1, all at the same time. The caller sleeps in short
// spans meanwhile, so that its CPU can be idle.
static inline void par_run_on(unsigned first, unsigned end,
                              void (*fn)(unsigned cpu, void *arg), void *arg)
{
    struct par par = {fn, arg, end - first};
    struct par_one one[ARCH_MAX_CPUS];
    struct g *g[ARCH_MAX_CPUS];

    // All are made before the first runs: it may take all memory at once.
    for (unsigned i = first; i < end; i++) {
        one[i] = (struct par_one){&par, i};
        g[i] = g_create(par_entry, &one[i], "worker", (int)i);
        if (g[i] == NULL)
            abort();
    }
    for (unsigned i = first; i < end; i++)
        g_ready(g[i]);
    while (atomic_load(&par.left) != 0)
        g_sleep_until(arch_mono_ns() + 200 * 1000);
}

static inline void par_run(void (*fn)(unsigned cpu, void *arg), void *arg)
{
    par_run_on(0, arch_cpu_count(), fn, arg);
}
