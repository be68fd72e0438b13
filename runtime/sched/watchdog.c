// A watchdog for lost wake-ups (sched.watchdog=N): a timer of the boot CPU.
//
// A look at which somebody can run, though no CPU has begun a goroutine since the look
// before, is the first sign. A CPU that idles would spoil it: the timer wakes it, and it
// takes work from any other. So it takes none, but waits for the others as long as to
// the next look, while some of them idle and none looks for work: that none begins is
// the second. If it does run a goroutine, the next look is.
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

static uint32_t picks_then; // [o] of the boot CPU, like the others
static unsigned signs;

static uint64_t every_ns(void)
{
    return every_s * NS_PER_S + SLICES * slice_ns();
}

static uint32_t all_picks(void)
{
    uint32_t n = 0;

    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        const struct p *p = p_of_cpu(cpu);

        n += p != NULL ? *(const volatile uint32_t *)&p->picks : 0;
    }
    return n;
}

static bool is_work(void)
{
    bool any = false;

    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++)
        any |= p_of_cpu(cpu) != NULL && sched_has_work(p_of_cpu(cpu));
    return any;
}

// This CPU idles: do the others leave the work where it is?
static bool nobody_takes_it(uint64_t until)
{
    if (arch_current() != NULL)
        return false;
    while (all_picks() == picks_then && is_work() && sched_others_idle()) {
        if (arch_mono_ns() >= until)
            return true;
        arch_relax();
    }
    return false;
}

NORETURN static void report(void)
{
    const struct g *g;
    size_t i = 0;

    while ((g = stack_nth(i)) != NULL && g->state != G_READY)
        i++;
    panic("sched: lost wake-up: goroutine %lu is runnable, and no CPU has "
          "begun a "
          "goroutine for %lu s",
          g != NULL ? (unsigned long)g->id : 0, (unsigned long)every_s);
}

static uint64_t look(uint64_t now)
{
    uint32_t picks = all_picks();

    signs = picks == picks_then && is_work() ? signs + 1 : 0;
    picks_then = picks;
    if (signs == SIGNS || (signs > 0 && nobody_takes_it(now + every_ns())))
        report();
    return now + every_ns();
}

void watchdog_init(void)
{
    static struct sched_timer timer = {.fn = look};

    if (every_s > 0)
        sched_timer_set(&timer, arch_mono_ns() + every_ns());
}
