// Stopping the world: every other CPU stands in its loop, no-preempt just above
// zero, with no goroutine on it, and waits there.
//
//   who stops    stop_wanted = true, interrupt all; wait for all; work; false
//   the others   the interrupt makes something pending; when no-preempt is zero
//                who runs leaves the CPU, and the loop waits
//
// Two who want to stop the world take turns; the second can be stopped while it
// waits.
//
// stop_wanted and `stopped` are sequentially consistent: a CPU that says it has
// stopped has done all it did before.

#include "runtime/sched/p.h"

_Atomic bool stop_wanted;
static _Atomic bool busy; // somebody stops the world, or is about to

static bool start_again(void)
{
    return !atomic_load(&stop_wanted);
}

void stop_wait(struct p *p)
{
    atomic_store(&p->stopped, true);
    while (!start_again())
        arch_idle(start_again);
    atomic_store(&p->stopped, false);
}

// In interrupt context of another CPU.
static void ask(void *arg)
{
    (void)arg;
    preempt_set_pending();
}

static bool all_stopped(void)
{
    bool all = true;

    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        struct p *p = p_of_cpu(cpu);

        all &= cpu == arch_cpu_id() || p == NULL || atomic_load(&p->stopped);
    }
    return all;
}

// Of a stop before, nobody may still be waking up.
static bool none_stopped(void)
{
    bool none = true;

    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++)
        none &= p_of_cpu(cpu) == NULL || !atomic_load(&p_of_cpu(cpu)->stopped);
    return none;
}

uint64_t sched_world_stop(void)
{
    enum { NAP_NS = 20000 };
    uint64_t start;

    // Whose turn it is nobody suspends, who may want a turn before he lets go.
    for (preempt_disable(); atomic_exchange(&busy, true); preempt_disable()) {
        preempt_enable();
        g_sleep_until(arch_mono_ns() + NAP_NS);
    }
    while (!none_stopped())
        arch_relax();
    start = arch_mono_ns();
    atomic_store(&stop_wanted, true);
    arch_call_others(ask, NULL);
    while (!all_stopped())
        arch_relax();
    return arch_mono_ns() - start;
}

void sched_world_start(void)
{
    atomic_store(&stop_wanted, false);
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        if (cpu != arch_cpu_id())
            arch_kick(cpu);
    }
    atomic_store(&busy, false);
    preempt_enable();
}

uint64_t sched_stop_world(void (*fn)(void *), void *arg)
{
    uint64_t ns = sched_world_stop();

    arch_on_system_stack(fn, arg);
    sched_world_start();
    return ns;
}
