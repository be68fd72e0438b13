// What is due at a time: goroutines that sleep, timers, the end of a slice. Each
// CPU has its own, and one timer for what comes first; idle without any it is not
// woken.

#include "runtime/sched/p.h"

void time_arm(struct p *p, uint64_t not_before)
{
    uint64_t at = p->sleepers != NULL ? p->sleepers->wake_ns : UINT64_MAX;

    at = p->slice_end < at ? p->slice_end : at;
    for (struct sched_timer *t = p->timers; t != NULL; t = t->next)
        at = t->at < at ? t->at : at;
    if (at != UINT64_MAX)
        arch_timer_set(at > not_before ? at : not_before);
}

void sched_timer_set(struct sched_timer *t, uint64_t mono_ns)
{
    preempt_disable();
    struct p *p = this_p();

    t->at = mono_ns;
    t->next = p->timers;
    p->timers = t;
    time_arm(p, 0);
    preempt_enable();
}

static void run_timers(struct p *p, uint64_t now)
{
    struct sched_timer **at = &p->timers, *t;

    while ((t = *at) != NULL) {
        if (t->at <= now) {
            *at = t->next;
            uint64_t again = t->fn(now);

            if (again != UINT64_MAX)
                sched_timer_set(t, again); // comes first: not seen again here
            if (*at == t)
                at = &t->next;
        } else {
            at = &t->next;
        }
    }
}

static void add_sleeper(void *arg)
{
    struct g *g = arg;
    struct p *p = this_p();
    struct g **at = &p->sleepers;

    while (*at != NULL && (*at)->wake_ns <= g->wake_ns)
        at = &(*at)->next;
    g->next = *at;
    *at = g;
    if (p->sleepers == g)
        time_arm(p, 0);
}

void g_sleep_until(uint64_t mono_ns)
{
    struct g *g = g_current();

    g->wake_ns = mono_ns;
    g_park("sleep", add_sleeper, g);
}

bool time_serve(struct p *p, uint64_t pause)
{
    if (!p->ticked)
        return false;
    p->ticked = false;
    uint64_t now = arch_mono_ns();

    run_timers(p, now);
    while (p->sleepers != NULL && p->sleepers->wake_ns <= now) {
        struct g *g = p->sleepers;

        p->sleepers = g->next;
        sched_requeue(g);
    }
    bool over = slice_is_over(p, now);

    time_arm(p, now + pause);
    return over;
}
