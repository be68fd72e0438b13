// Bringing one goroutine to rest: Go's suspendG.
//
// `held` is a wish: HELD, and HELD_READY once a loop was about to run it and put it
// aside instead, from where only g_resume takes it. What waits, sleeps or stands in a
// queue is at rest as it is; it has to be made sure only that it does not run now.
//
//   who suspends    held = HELD; interrupt all; wait until it runs nowhere
//   the loop        running = g; look at held; run g, or put it aside
//
// The interrupt is the barrier between the two lines of the loop, which so need none
// (an asymmetric form of Dekker's): a CPU that has taken it shows `running`, or has yet
// to look at `held`. On the CPU that runs g it makes something pending, and g leaves
// when its no-preempt count is zero.
//
// One at a time brings somebody to rest; so two cannot come to rest because of each
// other, and then wait for ever. They take turns, first come, first served: the turn is
// held while other CPUs answer, and who only tried now and then might never find it free.
//
// Locks: turn.lock protects whose turn it is and who waits, whose records lie on their
// stacks. It is taken on the system stack (R5).
//
// Source: Go, src/runtime/preempt.go (suspendG).

#include "runtime/sched/p.h"

enum { NOT_HELD, HELD, HELD_READY };

struct waiter {
    struct g *g;
    struct waiter *next;
    bool ours; // the turn
};

static struct {
    struct spinlock lock;
    bool taken;
    struct waiter *first, *last;
} turn;

enum { SPINS = 200, NAPS = 50, NAP_NS = 20000 };

bool suspend_wanted(void)
{
    struct g *g = g_current();

    return g != NULL && atomic_load(&g->held) != NOT_HELD;
}

bool suspend_instead(struct p *p, struct g *g)
{
    uint8_t held = HELD;

    // Not while it holds the one area that this CPU needs for a stop of the world.
    return g != p->resume &&
           atomic_compare_exchange_strong(&g->held, &held, HELD_READY);
}

// In interrupt context of every other CPU.
static void ask(void *g)
{
    if (g_current() == g)
        preempt_set_pending();
}

static bool runs_somewhere(const struct g *g)
{
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        struct p *p = p_of_cpu(cpu);

        // Acquire: pairs with the release when it is cleared.
        if (p != NULL &&
            atomic_load_explicit(&p->running, memory_order_acquire) == g)
            return true;
    }
    return false;
}

static void nap(void)
{
    g_sleep_until(arch_mono_ns() + NAP_NS);
}

static bool turn_try_locked(struct waiter *w)
{
    w->ours = !turn.taken;
    turn.taken = true;
    return w->ours;
}

static void turn_try(void *w)
{
    spin_lock(&turn.lock);
    turn_try_locked(w);
    spin_unlock(&turn.lock);
}

// In the loop: the caller has left its stack.
static void turn_await(void *arg)
{
    struct waiter *w = arg;

    spin_lock(&turn.lock);
    bool ours = turn_try_locked(w);

    if (!ours) {
        w->next = NULL;
        *(turn.first != NULL ? &turn.last->next : &turn.first) = w;
        turn.last = w;
    }
    spin_unlock(&turn.lock);
    if (ours)
        g_ready(w->g);
}

// It is the turn of the first who is not at rest. Those before may rest for long, and
// then try again: who holds them may want a turn before that.
static void turn_pass(void *woken)
{
    spin_lock(&turn.lock);
    struct waiter *w = *(struct waiter **)woken = turn.first;

    while (w != NULL && atomic_load(&w->g->held) != NOT_HELD)
        w = w->next;
    turn.taken = w != NULL;
    turn.first = NULL;
    if (w != NULL) {
        w->ours = true;
        turn.first = w->next;
        w->next = NULL;
    }
    spin_unlock(&turn.lock);
}

static void turn_take(void)
{
    struct waiter me = {.g = g_current()};

    arch_on_system_stack(turn_try, &me);
    while (!me.ours)
        g_park("suspend", turn_await, &me);
}

static void turn_give(void)
{
    struct waiter *woken;

    preempt_disable(); // who is suspended in between would have them wait
    arch_on_system_stack(turn_pass, &woken);
    while (woken != NULL) {
        struct waiter *next = woken->next;

        g_ready(woken->g); // its record may be gone from here on
        woken = next;
    }
    preempt_enable();
}

// The caller's turn, and nobody else's wish on g.
static void wish(struct g *g)
{
    for (;;) {
        uint8_t held = NOT_HELD;

        turn_take();
        if (atomic_compare_exchange_strong(&g->held, &held, HELD))
            return;
        turn_give(); // who holds g may need it before
        nap();
    }
}

bool g_suspend(struct g *g)
{
    if (g == g_current())
        panic("sched: a goroutine cannot suspend itself");
    wish(g);
    arch_call_others(ask, g);
    // There may have been no memory for its registers when it was asked, so it is
    // asked again.
    for (unsigned i = 1; runs_somewhere(g); i++) {
        if (i < SPINS)
            arch_pause();
        else if (i % NAPS == 0)
            arch_call_others(ask, g);
        else
            nap();
    }
    turn_give();
    if (g->state != G_FREE)
        return true;
    g_resume(g);
    return false;
}

static void nothing(void *arg)
{
    (void)arg;
}

size_t g_hold_resting(struct g **g, size_t n)
{
    size_t kept = 0, out = 0;

    turn_take();
    for (size_t i = 0; i < n; i++) {
        uint8_t held = NOT_HELD;

        if (g[i] != g_current() &&
            atomic_compare_exchange_strong(&g[i]->held, &held, HELD))
            g[kept++] = g[i];
    }
    arch_call_others(nothing, NULL); // the barrier
    for (size_t i = 0; i < kept; i++) {
        if (runs_somewhere(g[i]))
            g_resume(g[i]);
        else
            g[out++] = g[i];
    }
    turn_give();
    return out;
}

void g_resume(struct g *g)
{
    if (atomic_exchange(&g->held, NOT_HELD) == HELD_READY)
        sched_requeue(g);
}
