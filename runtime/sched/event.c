// See event.h.
//
// `happened` is set before `waiter` is looked at, and whoever waits looks at it after
// it has published itself; both sequentially consistent. So one of the two sees the
// other, and whoever takes the waiter out wakes it. Publishing is done by the loop,
// when the goroutine has left its stack.

#include "runtime/sched/event.h"

#include "runtime/sched/sched.h"

void event_happened(struct event *e)
{
    atomic_store(&e->happened, true);
    struct g *g = atomic_exchange(&e->waiter, NULL);

    if (g != NULL) {
        // Said to g: what is set by now it sees when it asks the device.
        atomic_store(&e->happened, false);
        g_ready_from_interrupt(g);
    }
}

struct wait {
    struct event *e;
    struct g *g;
};

static void publish(void *arg)
{
    struct wait *w = arg;
    struct event *e = w->e;

    atomic_store(&e->waiter,
                 w->g); // it may be gone from here on, and w with it
    if (!atomic_exchange(&e->happened, false))
        return;
    struct g *g = atomic_exchange(&e->waiter, NULL);

    if (g != NULL)
        g_ready(g);
}

void event_wait_idle(struct event *e, const char *why)
{
    struct wait w = {e, g_current()};

    if (!atomic_exchange(&e->happened, false))
        g_park(why, publish, &w);
}

void event_wait(struct event *e, const char *why)
{
    if (atomic_load(&e->happened)) {
        event_wait_idle(e, why);
        return;
    }
    sched_await_interrupt(1);
    event_wait_idle(e, why);
    sched_await_interrupt(-1);
}
