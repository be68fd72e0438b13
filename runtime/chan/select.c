// Select: the one of many cases that can be done first.
//
// Looked at without a lock, mostly some case can be done, or none. If some, one of them
// is chosen at random, and done with its channel's lock alone. If none, a select with a
// default ends if nothing became possible anywhere while it looked: then there was a
// moment at which none could be done. Otherwise, and to wait:
//
//   1  all channels locked: is a case ready? In random order; do it, and unlock
//   2  a record in the queue of each; unlock, when the goroutine has left its stack
//   3  made ready by whoever set `fired` first: lock all, take out the other records
//
// Channels are locked in the order of their addresses, each once. Both orders are
// numbers of cases, kept in the cases, so there is no limit and no memory to be had.
//
// Between 2 and 3 others read our records with one channel's lock held; step 3 waits
// for all locks, so the one who unlocks for us (unlock_all) is done with them, too.
//
// Source: Go, src/runtime/select.go.

#include "runtime/chan/chan.h"

#include "runtime/panic/panic.h"

enum { POLL, LOCK, SORT_BY_INSERTION = 16 };

_Static_assert(sizeof(struct chan_waiter) <=
                   sizeof((struct gn_case *)0)->waiter_,
               "waiter_");

static struct chan_waiter *waiter_of(struct gn_case *of)
{
    return (struct chan_waiter *)of->waiter_;
}

static struct chan_queue *queue_of(const struct gn_case *of)
{
    return of->send ? &of->chan->send : &of->chan->recv;
}

// ---- orders ----

// Numbers of the cases that are not nil, in random order.
static size_t poll_order(struct gn_case *cases, size_t n)
{
    size_t m = 0;

    for (size_t i = 0; i < n; i++) {
        if (cases[i].chan == NULL)
            continue;
        size_t k = sched_random_below((uint32_t)m + 1);

        cases[m].order_[POLL] = cases[k].order_[POLL];
        cases[k].order_[POLL] = (uint32_t)i;
        m++;
    }
    return m;
}

static struct gn_case *nth(struct gn_case *cases, size_t i, int order)
{
    return &cases[cases[i].order_[order]];
}

static bool is_before(struct gn_case *cases, uint32_t a, uint32_t b)
{
    return (uintptr_t)cases[a].chan < (uintptr_t)cases[b].chan;
}

// Lets the one at `at` sink in a heap of m, the greatest on top.
static void sink(struct gn_case *cases, size_t at, size_t m)
{
    uint32_t it = cases[at].order_[LOCK];
    size_t child;

    while ((child = 2 * at + 1) < m) {
        if (child + 1 < m && is_before(cases, cases[child].order_[LOCK],
                                       cases[child + 1].order_[LOCK]))
            child++;
        if (!is_before(cases, it, cases[child].order_[LOCK]))
            break;
        cases[at].order_[LOCK] = cases[child].order_[LOCK];
        at = child;
    }
    cases[at].order_[LOCK] = it;
}

static void lock_order(struct gn_case *cases, size_t m)
{
    if (m <= SORT_BY_INSERTION) {
        for (size_t i = 0; i < m; i++) {
            uint32_t it = cases[i].order_[POLL];
            size_t k = i;

            for (; k > 0 && is_before(cases, it, cases[k - 1].order_[LOCK]);
                 k--)
                cases[k].order_[LOCK] = cases[k - 1].order_[LOCK];
            cases[k].order_[LOCK] = it;
        }
        return;
    }
    for (size_t i = 0; i < m; i++)
        cases[i].order_[LOCK] = cases[i].order_[POLL];
    for (size_t i = m / 2; i > 0; i--)
        sink(cases, i - 1, m);
    for (size_t i = m - 1; i > 0; i--) {
        uint32_t greatest = cases[0].order_[LOCK];

        cases[0].order_[LOCK] = cases[i].order_[LOCK];
        cases[i].order_[LOCK] = greatest;
        sink(cases, 0, i);
    }
}

static void lock_all(const struct select *s)
{
    const struct gn_chan *before = NULL;

    for (size_t i = 0; i < s->n; i++) {
        struct gn_chan *c = nth(s->cases, i, LOCK)->chan;

        if (c != before)
            spin_lock(&c->lock);
        before = c;
    }
}

// After the last one nothing of *select may be read: who waits may go on then.
static void unlock_all(void *select)
{
    struct select s = *(struct select *)select;
    struct gn_chan *c = nth(s.cases, 0, LOCK)->chan;

    for (size_t i = 1; i < s.n; i++) {
        struct gn_chan *next = nth(s.cases, i, LOCK)->chan;

        if (next != c)
            spin_unlock(&c->lock);
        c = next;
    }
    spin_unlock(&c->lock);
}

// ---- the steps ----

// Returns the number of the case that was done, n: none is ready.
static size_t try_all(struct select *s, size_t n, enum chan_done *done,
                      struct g **wake)
{
    for (size_t i = 0; i < s->n; i++) {
        struct gn_case *of = nth(s->cases, i, POLL);

        *done = of->send ? chan_send_locked(of->chan, of->elem, wake)
                         : chan_recv_locked(of->chan, of->elem, wake);
        if (*done != CHAN_WAIT)
            return (size_t)(of - s->cases);
    }
    return n;
}

static size_t wait_for_one(struct select *s)
{
    for (size_t i = 0; i < s->n; i++) {
        struct gn_case *of = nth(s->cases, i, LOCK);
        struct chan_waiter *w = waiter_of(of);

        w->g = g_current();
        w->elem = of->elem;
        w->sel = s;
        chan_enqueue(of->chan, queue_of(of), w);
    }
    g_park("select", unlock_all, s);
    lock_all(s);
    size_t fired = 0;

    for (size_t i = 0; i < s->n; i++) {
        struct gn_case *of = nth(s->cases, i, LOCK);
        struct chan_waiter *w = waiter_of(of);

        if (w->queued)
            chan_dequeue(queue_of(of), w);
        if (w == s->fired)
            fired = (size_t)(of - s->cases);
    }
    unlock_all(s);
    return fired;
}

static size_t finish(struct gn_case *cases, size_t i, bool ok)
{
    if (cases[i].send && !ok)
        chan_send_on_closed();
    cases[i].ok = ok;
    return i;
}

// ---- without all locks ----

static bool may(const struct gn_case *of)
{
    if (of->chan == NULL)
        return false;
    return of->send ? chan_may_send(of->chan) : chan_may_recv(of->chan);
}

// How many of the cases look as if they can be done; *nth of them is *at.
static size_t look(const struct gn_case *cases, size_t n, size_t nth,
                   size_t *at)
{
    size_t ready = 0;

    for (size_t i = 0; i < n; i++) {
        if (may(&cases[i]) && ready++ == nth)
            *at = i;
    }
    return ready;
}

// Tries one that looks so. Returns false if that has changed.
static bool try_one(struct gn_case *of, bool *ok)
{
    struct gn_chan *c = of->chan;
    struct g *wake = NULL;

    spin_lock(&c->lock);
    enum chan_done done = of->send ? chan_send_locked(c, of->elem, &wake)
                                   : chan_recv_locked(c, of->elem, &wake);

    spin_unlock(&c->lock);
    if (wake != NULL)
        g_ready(wake);
    *ok = done == CHAN_DONE;
    return done != CHAN_WAIT;
}

// Returns the number of the case that was done; n: none looked so, or not any more.
static size_t try_any(struct gn_case *cases, size_t n)
{
    size_t at = 0, ready = look(cases, n, 0, &at);
    bool ok;

    if (ready > 1 &&
        look(cases, n, sched_random_below((uint32_t)ready), &at) == 0)
        return n;
    return ready > 0 && try_one(&cases[at], &ok) ? finish(cases, at, ok) : n;
}

static uint64_t news_of(const struct gn_case *cases, size_t n)
{
    uint64_t sum = 0; // each only grows

    for (size_t i = 0; i < n; i++) {
        if (cases[i].chan != NULL)
            sum += atomic_load_explicit(&cases[i].chan->news,
                                        memory_order_acquire);
    }
    return sum;
}

// ---- with all of them ----

// Returns n if none is ready, and it is not to wait.
static size_t select_locked(struct gn_case *cases, size_t n, bool wait)
{
    struct select s = {.cases = cases, .n = poll_order(cases, n)};
    struct g *wake = NULL;
    enum chan_done done = CHAN_WAIT;

    if (s.n == 0) {
        while (wait)
            g_park(n == 0 ? "select (no cases)" : "select", NULL, NULL);
        return n;
    }
    lock_order(cases, s.n);
    lock_all(&s);
    size_t i = try_all(&s, n, &done, &wake);

    if (i == n && wait) {
        i = wait_for_one(&s);
        return finish(cases, i, waiter_of(&cases[i])->ok);
    }
    unlock_all(&s);
    if (wake != NULL)
        g_ready(wake);
    return i < n ? finish(cases, i, done == CHAN_DONE) : n;
}

size_t gn_select(struct gn_case *cases, size_t n)
{
    size_t i = try_any(cases, n);

    return i < n ? i : select_locked(cases, n, true);
}

ptrdiff_t gn_select_try(struct gn_case *cases, size_t n)
{
    uint64_t before = news_of(cases, n);
    size_t at, i;

    if (look(cases, n, 0, &at) == 0 && news_of(cases, n) == before)
        return -1;
    i = try_any(cases, n);
    if (i == n)
        i = select_locked(cases, n, false);
    return i < n ? (ptrdiff_t)i : -1;
}
