// What is due at a time: timers, goroutines that sleep, the end of a slice. Each CPU
// has its own, and one timer of the machine for what comes first; idle without any it
// is not woken.
//
// Locks: timers.lock protects a CPU's heap of timers; it is taken on system stacks, and
// on goroutine stacks, which may fault then (R5): nothing that serves faults takes it.
// Nothing is allocated with it. p->calls belongs to its CPU.
//
// Source: Go, src/runtime/time.go (siftup, siftdown).

#include <stdlib.h>
#include <string.h>

#include "runtime/sched/p.h"
#include "runtime/sched/timer.h"

enum {
    CHILDREN = 4,
    AT_ONCE = 64, // so many are fired before others get the CPU
};

static struct timers *timers_of(unsigned cpu)
{
    return &p_of_cpu(cpu)->timers;
}

// ---- the heap, with its lock ----

static void place(struct timers *h, unsigned at, struct timers_entry e)
{
    h->of[at] = e;
    e.t->at = at + 1;
}

static void rise(struct timers *h, unsigned at, struct timers_entry e)
{
    while (at > 0 && h->of[(at - 1) / CHILDREN].when > e.when) {
        place(h, at, h->of[(at - 1) / CHILDREN]);
        at = (at - 1) / CHILDREN;
    }
    place(h, at, e);
}

static void sink(struct timers *h, unsigned at, struct timers_entry e)
{
    for (;;) {
        unsigned first = at * CHILDREN + 1, least = first;

        for (unsigned i = first + 1; i < first + CHILDREN && i < h->n; i++) {
            if (h->of[i].when < h->of[least].when)
                least = i;
        }
        if (first >= h->n || h->of[least].when >= e.when)
            break;
        place(h, at, h->of[least]);
        at = least;
    }
    place(h, at, e);
}

static void take_out(struct timers *h, struct timer *t)
{
    unsigned at = t->at - 1;
    struct timers_entry last = h->of[--h->n];

    t->at = 0;
    if (at == h->n)
        return;
    if (at > 0 && h->of[(at - 1) / CHILDREN].when > last.when)
        rise(h, at, last);
    else
        sink(h, at, last);
}

static void put_in(struct timers *h, struct timer *t, uint64_t when)
{
    rise(h, h->n++, (struct timers_entry){when, t});
}

// ---- room, without it ----

// There is room for more than `full`, or no memory.
COLD static bool grow(struct timers *h, unsigned full)
{
    unsigned room = 2 * full;
    struct timers_entry *of = malloc(room * sizeof *of), *old = of;

    if (of == NULL)
        return false;
    memset(of, 0, room * sizeof *of); // the loop, which uses it, must not fault
    spin_lock(&h->lock);
    if (h->room <= full) {
        for (unsigned i = 0; i < h->n; i++)
            of[i] = h->of[i];
        old = h->of;
        h->of = of;
        h->room = room;
    }
    spin_unlock(&h->lock);
    if (old != h->first)
        free(old);
    return true;
}

void time_init(struct p *p)
{
    struct timers *h = &p->timers;

    spin_init(&h->lock, RANK_TIMER);
    h->of = h->first;
    h->room = FIRST_TIMERS;
}

// ---- setting and stopping ----

static uint64_t first_of(const struct timers *h)
{
    return h->n > 0 ? h->of[0].when : UINT64_MAX;
}

void time_arm(struct p *p, uint64_t not_before)
{
    uint64_t at = p->timers.n > 0 ? p->first_ns : UINT64_MAX;

    at = p->slice_end < at ? p->slice_end : at;
    for (struct sched_timer *t = p->calls; t != NULL; t = t->next)
        at = t->at < at ? t->at : at;
    if (at != UINT64_MAX)
        arch_timer_set(at > not_before ? at : not_before);
}

// Puts it into this CPU's heap. False: there is no room. Context: no-preempt.
static bool set_here(struct p *p, struct timer *t, uint64_t when)
{
    struct timers *h = &p->timers;

    spin_lock(&h->lock);
    bool room = h->n < h->room;

    if (room) {
        atomic_store_explicit(&t->cpu, (uint16_t)arch_cpu_id(),
                              memory_order_relaxed);
        put_in(h, t, when);
        if (t->at == 1) {
            p->first_ns = when;
            time_arm(p, 0);
        }
    }
    spin_unlock(&h->lock);
    return room;
}

bool timer_set(struct timer *t, uint64_t mono_ns)
{
    for (;;) {
        preempt_disable();
        struct timers *h = &this_p()->timers;
        unsigned room = h->room;
        bool set = set_here(this_p(), t, mono_ns);

        preempt_enable();
        if (set)
            return true;
        if (!grow(h, room))
            return false;
    }
}

bool timer_stop(struct timer *t, bool (*then)(struct timer *t))
{
    struct timers *h =
        timers_of(atomic_load_explicit(&t->cpu, memory_order_relaxed));

    spin_lock(&h->lock);
    bool was = t->at != 0;

    if (was)
        take_out(h, t);
    if (then != NULL)
        was |= then(t);
    spin_unlock(&h->lock);
    return was;
}

COLD bool timers_wake(struct timers *h)
{
    bool wakes = false;

    spin_lock(&h->lock);
    for (unsigned i = 0; i < h->n && !wakes; i++)
        wakes = h->of[i].t->wakes == NULL || h->of[i].t->wakes(h->of[i].t);
    spin_unlock(&h->lock);
    return wakes;
}

// ---- sleeping ----

struct sleep {
    struct timer t;
    struct g *g;
    uint64_t until;
};

static uint64_t wake(struct timer *t, uint64_t when, uint64_t now)
{
    (void)when, (void)now;
    // Who sleeps owns the record again from here on: it is out of the heap.
    sched_requeue(container_of(t, struct sleep, t)->g);
    return 0;
}

// In the loop: it has left its stack.
static void fall_asleep(void *arg)
{
    struct sleep *s = arg;

    if (!set_here(this_p(), &s->t, s->until))
        sched_requeue(s->g);
}

// Room for one more on this CPU: most times the one that it is going to be.
static bool make_room(void)
{
    preempt_disable();
    struct timers *h = &this_p()->timers;
    unsigned room = h->room;
    bool enough = h->n < room;

    preempt_enable();
    return enough || grow(h, room);
}

void g_sleep_until(uint64_t mono_ns)
{
    struct sleep s = {.t.fire = wake, .g = g_current(), .until = mono_ns};

    do {
        if (make_room())
            g_park("sleep", fall_asleep, &s);
        else
            g_yield(); // without memory it is the slow way
    } while (arch_mono_ns() < mono_ns);
}

// ---- what is due ----

void sched_timer_set(struct sched_timer *t, uint64_t mono_ns)
{
    preempt_disable();
    struct p *p = this_p();

    t->at = mono_ns;
    t->next = p->calls;
    p->calls = t;
    time_arm(p, 0);
    preempt_enable();
}

static void run_calls(struct p *p, uint64_t now)
{
    struct sched_timer **at = &p->calls, *t;

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

static void run_timers(struct p *p, uint64_t now)
{
    struct timers *h = &p->timers;

    if (h->n == 0)
        return;
    spin_lock(&h->lock);
    for (unsigned i = 0; i < AT_ONCE && first_of(h) <= now; i++) {
        struct timer *t = h->of[0].t;
        uint64_t when = h->of[0].when;

        take_out(h, t);
        uint64_t again = t->fire(t, when, now);

        if (again != 0)
            put_in(h, t, again); // there is room: it has just left
    }
    p->first_ns = first_of(h);
    spin_unlock(&h->lock);
}

bool time_serve(struct p *p, uint64_t pause)
{
    if (!p->ticked)
        return false;
    p->ticked = false;
    uint64_t now = arch_mono_ns();

    run_calls(p, now);
    run_timers(p, now);
    bool over = slice_is_over(p, now);

    time_arm(p, now + pause);
    return over;
}
