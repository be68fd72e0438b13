// A watchdog for lost wake-ups (sched.watchdog=N): a timer of the boot CPU.
//
// A look at which a CPU has somebody to run, though it has begun no goroutine since
// the look before, is the first sign. If the boot CPU idles it would spoil that: the
// timer wakes it, and it takes work from any other. So it takes none, but waits for
// them as long as to the next look, while some idle and none looks for work: that the
// goroutine stays where it is is the second. If it does not idle, the next look is.
//
// Nothing is counted for it at a switch: p->picks is there already. It leaves out those
// that inherit a slice; but whoever has waited for two slices has been picked.

#include "arch/option.h"
#include "runtime/sched/p.h"
#include "runtime/stack/stack.h"

enum { NS_PER_S = 1000000000, SIGNS = 2, SLICES = 4 };

static uint64_t every_s;
OPTION_UINT(
    opt_watchdog, "sched.watchdog", every_s, 0, 1000000,
    "seconds without a switch until a lost wake-up is reported (0: no)");

static uint64_t every_ns(void)
{
    return every_s * NS_PER_S + SLICES * slice_ns();
}

// Has it somebody to run, and has begun nobody since the last look?
static bool is_stuck(struct p *p)
{
    return *(const volatile uint32_t *)&p->picks == p->picks_seen &&
           sched_has_work(p);
}

// This CPU idles: do the others leave the work where it is?
static bool nobody_takes_it(struct p *p, uint64_t until)
{
    if (arch_current() != NULL || p == this_p())
        return false;
    while (is_stuck(p) && sched_others_idle()) {
        if (arch_mono_ns() >= until)
            return true;
        arch_relax();
    }
    return false;
}

NORETURN static void report(unsigned cpu)
{
    const struct g *g;
    size_t i = 0;

    while ((g = stack_nth(i)) != NULL && g->state != G_READY)
        i++;
    panic(
        "sched: lost wake-up: goroutine %lu is runnable, and CPU %u has begun "
        "none for %lu s",
        g != NULL ? (unsigned long)g->id : 0, cpu, (unsigned long)every_s);
}

static uint64_t look(uint64_t now)
{
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        struct p *p = p_of_cpu(cpu);

        if (p == NULL)
            continue;
        p->signs = is_stuck(p) ? p->signs + 1 : 0;
        p->picks_seen = *(const volatile uint32_t *)&p->picks;
        if (p->signs == SIGNS ||
            (p->signs > 0 && nobody_takes_it(p, now + every_ns())))
            report(cpu);
    }
    return now + every_ns();
}

void watchdog_init(void)
{
    static struct sched_timer timer = {.fn = look, .wakes_nobody = true};

    if (every_s > 0)
        sched_timer_set(&timer, arch_mono_ns() + every_ns());
}
