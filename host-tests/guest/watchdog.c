// The watchdog for lost wake-ups (sched.watchdog=1): it barks at one, and only then.
//
// usage: watchdog lost | pinned | quiet
//
// lost: somebody is put into the queue of a CPU that halts, while this one runs on.
// pinned: the same with the list of that CPU's own; then this one halts, too.
// quiet: what takes long, and is right.

#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "runtime/sched/p.h"

static void found(void *arg)
{
    (void)arg;
    ok(false, "somebody has found it");
}

static void wait_until_idle(unsigned cpu)
{
    enum { LONG_NS = 20000000 };
    uint64_t until = arch_mono_ns() + LONG_NS;

    while (arch_mono_ns() < until || p_of_cpu(cpu)->running != NULL ||
           p_of_cpu(cpu)->spinning)
        arch_pause();
}

// As make_ready does, but that nobody is told.
static void lose(bool pinned)
{
    struct p *p = p_of_cpu(1);
    struct g *g = g_create(found, NULL, "lost", pinned ? 1 : G_ANY_CPU);

    if (g == NULL)
        abort();
    wait_until_idle(1);
    preempt_disable();
    g_set_state(g, G_READY);
    if (pinned) {
        spin_lock(&p->lock);
        g->next = NULL;
        p->first = p->last = g;
        spin_unlock(&p->lock);
    } else {
        runq_put(&p->q, g, false);
    }
    preempt_enable();
}

// ---- what is right ----

enum { SECONDS = 5 };

static struct gn_wg all;
static uint64_t until;

static void spin(void *arg)
{
    (void)arg;
    while (arch_mono_ns() < until)
        ;
    gn_wg_done(&all);
}

// Two that wake each other: each inherits the other's slice.
static struct gn_wg ball[2];
static _Atomic bool over;

static void play(void *arg)
{
    unsigned me = (unsigned)(uintptr_t)arg;

    for (;;) {
        gn_wg_wait(&ball[me]);
        if (over)
            break;
        gn_wg_add(&ball[me], 1);
        over = arch_mono_ns() >= until;
        gn_wg_done(&ball[1 - me]);
        if (over)
            break;
    }
    gn_wg_done(&all);
}

static void in_time(const char *what)
{
    gn_wg_wait(&all);
    ok(true, "%s", what);
    until = arch_mono_ns() + SECONDS * UINT64_C(1000000000);
}

static void quiet(void)
{
    in_time("nothing");
    sleep(SECONDS);
    in_time("all sleep");
    gn_wg_add(&all, 1);
    spin(NULL);
    in_time("one runs alone");
    gn_wg_add(&all, 2 * gn_cpu_count());
    for (unsigned i = 0; i < 2 * gn_cpu_count(); i++)
        gn_go(spin, NULL);
    in_time("all run alone");
    gn_wg_add(&all, 2);
    gn_wg_add(&ball[1], 1);
    for (uintptr_t i = 0; i < 2; i++)
        gn_go(play, (void *)i);
    in_time("two play");
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "quiet";

    gn_cpu_stay(0);
    if (strcmp(what, "quiet") == 0) {
        quiet();
        return tap_end();
    }
    lose(strcmp(what, "pinned") == 0);
    if (strcmp(what, "pinned") == 0)
        sleep(1000);
    for (;;)
        ;
}
