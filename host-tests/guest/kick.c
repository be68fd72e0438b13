// A CPU that is about to rest is asked for something, and rung: it does not rest with
// that. The moment is made: CPU 1 has just looked for what it is asked for, and found
// nothing, and waits there until CPU 0 has asked and the doorbell has gone.
//
// usage: kick [ROUNDS], with 2 CPUs

#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>

#include <stdatomic.h>

#include "arch/arch.h"
#include "runtime/sched/g_impl.h"

enum { LONG_NS = 2000000000 };

static _Atomic bool asked, ended, now;
static _Atomic unsigned wait_at,
    looks; // the look after which CPU 1 waits; 0: none
static _Atomic unsigned rings;
static struct g *_Atomic other;
static void (*old_kick)(void);

static void ring(void)
{
    if (arch_cpu_id() == 1)
        rings++;
    old_kick();
}

// Of every CPU, when it looks for work, or something is pending.
static void serve(void)
{
    if (arch_cpu_id() != 1)
        return;
    asked = false;
    if (wait_at == 0 || g_current() != NULL || !arch_irqs_enabled() ||
        ++looks < wait_at)
        return;
    unsigned before = rings;

    wait_at = 0;
    now = true;
    while (rings == before)
        arch_relax();
}

static void come_and_go(void *arg)
{
    (void)arg;
    other = g_current();
    while (!ended)
        g_park("being asked", NULL, NULL);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 300, late = 0;
    struct g *g = g_create(come_and_go, NULL, "other", 1);

    gn_cpu_stay(0);
    if (g == NULL || arch_cpu_count() < 2)
        abort();
    old_kick = arch_hooks.kick;
    arch_hooks.kick = ring;
    sched_on_pending(serve);
    g_ready(g);
    for (unsigned i = 0; i < rounds && late < 3; i++) {
        while (other == NULL || other->state != G_PARKED)
            arch_relax();
        looks = 0;
        now = false;
        wait_at = 1 + i % 3;
        g_ready(g);
        uint64_t until = arch_mono_ns() + LONG_NS;

        while (!now && arch_mono_ns() < until)
            arch_relax();
        if (!now) { // it looks less often
            wait_at = 0;
            continue;
        }
        asked = true;
        arch_kick(1);
        until = arch_mono_ns() + LONG_NS;
        while (asked && arch_mono_ns() < until)
            arch_relax();
        late += asked;
    }
    IS(late, 0, "who is rung on its way to rest does what it was asked for");
    ended = true;
    g_ready(g);
    while (gn_go_count() > 1)
        gn_yield();
    return tap_end();
}
