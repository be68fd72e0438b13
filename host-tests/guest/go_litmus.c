// The memory model (docs/memory-model.md), as litmus programs: what it forbids is
// counted, and must not be seen once. What it allows is counted as well, and printed.
//
// Atomics: each shape is a few lines for two to four goroutines, pinned to CPUs of
// their own if there are so many, which all go through an array of cells side by side.
//
// The rest, row by row of the document: four lanes at once, each a pair of goroutines
// that pass plain variables on. Nothing else orders them. (For what the compiler and
// this machine's order would forgive there is TSan: host-tests/runtime/chan.)
//
// usage: go_litmus [ROUNDS]

#include "host-tests/guest/go_test.h"

#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdatomic.h>
#include <stdint.h>

static unsigned rounds = 2000;

// ---- atomics ----

enum { CELLS = 1000, MOST = 4, PATIENCE = 300000, JITTER = 64 };

#define RLX memory_order_relaxed
#define ACQ memory_order_acquire
#define REL memory_order_release
#define SC  memory_order_seq_cst

// A line of the cache for each variable.
struct cell {
    _Alignas(64) _Atomic int x;
    _Alignas(64) _Atomic int y;
    _Alignas(64) int data; // plain
    _Alignas(64) int r[MOST];
};

struct shape {
    const char *name;
    void (*act)(struct cell *c, unsigned who);
    bool (*seen)(const int *r);
    unsigned n; // goroutines
    bool allowed;
};

static struct cell cells[CELLS];
static const struct shape *shape;
static struct gn_wg all;
static _Atomic unsigned arrived;
static struct {
    _Alignas(64) _Atomic unsigned at;
} progress[MOST];

static void pause(unsigned n)
{
    for (; n > 0; n--)
        __asm__ volatile("");
}

// Not before the others are there, too; but nobody waits for ever: the host may have
// put one of them aside. Who comes last goes on first, so all wait a little more, each
// in a rhythm of its own.
static void come_together(unsigned who, unsigned i, unsigned *patience)
{
    atomic_store_explicit(&progress[who].at, i, RLX);
    for (unsigned k = 0; k < shape->n; k++) {
        while (*patience > 0 && atomic_load_explicit(&progress[k].at, RLX) < i)
            --*patience;
    }
    pause(i * (2 * who + 3) % JITTER);
}

static void actor(void *arg)
{
    unsigned who = (unsigned)(uintptr_t)arg, patience = PATIENCE;

    arrived++;
    while (arrived < shape->n)
        gn_yield();
    for (unsigned i = 0; i < CELLS; i++) {
        come_together(who, i, &patience);
        shape->act(&cells[i], who);
    }
    gn_wg_done(&all);
}

// Each time another one comes first.
static unsigned one_batch(unsigned turn)
{
    unsigned seen = 0;

    for (unsigned i = 0; i < CELLS; i++)
        cells[i] = (struct cell){0};
    arrived = 0;
    gn_wg_add(&all, shape->n);
    for (unsigned i = 0; i < shape->n; i++) {
        struct gn_go_options o = {.pinned = true, .cpu = i % gn_cpu_count()};
        unsigned who = (i + turn) % shape->n;

        progress[i].at = 0;
        if (gn_go_with(&o, actor, (void *)(uintptr_t)who) != 0)
            abort();
    }
    gn_wg_wait(&all);
    for (unsigned i = 0; i < CELLS; i++)
        seen += shape->seen(cells[i].r);
    return seen;
}

static void run_shape(const struct shape *s)
{
    unsigned seen = 0, batches = rounds / 200 + 1;

    shape = s;
    for (unsigned i = 0; i < batches; i++)
        seen += one_batch(i);
    if (s->allowed)
        printf("# %s: allowed, seen %u times of %u\n", s->name, seen,
               batches * CELLS);
    else
        IS(seen, 0, s->name);
}

// Message passing: the flag is seen, and what was stored before it is not.
static void message(struct cell *c, unsigned who)
{
    if (who == 0) {
        c->data = 1;
        atomic_store_explicit(&c->x, 1, REL);
    } else if ((c->r[0] = atomic_load_explicit(&c->x, ACQ)) != 0) {
        c->r[1] = c->data;
    }
}

static void message_fences(struct cell *c, unsigned who)
{
    if (who == 0) {
        c->data = 1;
        atomic_thread_fence(REL);
        atomic_store_explicit(&c->x, 1, RLX);
    } else if ((c->r[0] = atomic_load_explicit(&c->x, RLX)) != 0) {
        atomic_thread_fence(ACQ);
        c->r[1] = c->data;
    }
}

// By a third, who has only seen the flag of the first and sets one of its own.
static void message_chain(struct cell *c, unsigned who)
{
    if (who == 0) {
        c->data = 1;
        atomic_store_explicit(&c->x, 1, REL);
    } else if (who == 1) {
        if (atomic_load_explicit(&c->x, ACQ) != 0)
            atomic_store_explicit(&c->y, 1, REL);
    } else if ((c->r[0] = atomic_load_explicit(&c->y, ACQ)) != 0) {
        c->r[1] = c->data;
    }
}

// By one who adds to the flag, whatever the order of that: it is still the release of
// the first (a release sequence).
static void message_added(struct cell *c, unsigned who)
{
    if (who == 0) {
        c->data = 1;
        atomic_fetch_add_explicit(&c->x, 1, REL);
    } else if (who == 1) {
        atomic_fetch_add_explicit(&c->x, 2, RLX);
    } else if (((c->r[0] = atomic_load_explicit(&c->x, ACQ)) & 1) != 0) {
        c->r[1] = c->data;
    } else {
        c->r[0] = 0;
    }
}

static bool flag_alone(const int *r)
{
    return r[0] != 0 && r[1] == 0;
}

// That the tests of messages say something.
static bool flag_seen(const int *r)
{
    return r[0] != 0;
}

// Store buffering: each stores its own and does not see the other's.
static void store_then_load(struct cell *c, unsigned who, memory_order store,
                            memory_order load, bool fence)
{
    _Atomic int *mine = who == 0 ? &c->x : &c->y;
    _Atomic int *other = who == 0 ? &c->y : &c->x;

    if (store == SC)
        atomic_store_explicit(mine, 1, SC);
    else
        atomic_store_explicit(mine, 1, RLX);
    if (fence)
        atomic_thread_fence(SC);
    c->r[who] = load == SC ? atomic_load_explicit(other, SC)
                           : atomic_load_explicit(other, RLX);
}

static void buffer_sc(struct cell *c, unsigned who)
{
    store_then_load(c, who, SC, SC, false);
}

static void buffer_fence(struct cell *c, unsigned who)
{
    store_then_load(c, who, RLX, RLX, true);
}

static void buffer_relaxed(struct cell *c, unsigned who)
{
    store_then_load(c, who, RLX, RLX, false);
}

// An exchange is a store and a load at once.
static void buffer_exchange(struct cell *c, unsigned who)
{
    atomic_exchange_explicit(who == 0 ? &c->x : &c->y, 1, SC);
    c->r[who] = atomic_load_explicit(who == 0 ? &c->y : &c->x, SC);
}

static bool both_zero(const int *r)
{
    return r[0] == 0 && r[1] == 0;
}

// Load buffering: each sees what the other stores after it has looked.
static void load_then_store(struct cell *c, unsigned who)
{
    c->r[who] = atomic_load_explicit(who == 0 ? &c->y : &c->x, ACQ);
    atomic_store_explicit(who == 0 ? &c->x : &c->y, 1, REL);
}

static void load_then_store_relaxed(struct cell *c, unsigned who)
{
    c->r[who] = atomic_load_explicit(who == 0 ? &c->y : &c->x, RLX);
    atomic_store_explicit(who == 0 ? &c->x : &c->y, 1, RLX);
}

static bool both_one(const int *r)
{
    return r[0] == 1 && r[1] == 1;
}

// Independent reads of independent writes: two see two stores in different orders.
static void independent(struct cell *c, unsigned who)
{
    _Atomic int *first = who == 2 ? &c->x : &c->y;
    _Atomic int *second = who == 2 ? &c->y : &c->x;

    if (who < 2) {
        atomic_store_explicit(who == 0 ? &c->x : &c->y, 1, SC);
        return;
    }
    c->r[2 * (who - 2)] = atomic_load_explicit(first, SC);
    c->r[2 * (who - 2) + 1] = atomic_load_explicit(second, SC);
}

static void independent_acquire(struct cell *c, unsigned who)
{
    _Atomic int *first = who == 2 ? &c->x : &c->y;
    _Atomic int *second = who == 2 ? &c->y : &c->x;

    if (who < 2) {
        atomic_store_explicit(who == 0 ? &c->x : &c->y, 1, REL);
        return;
    }
    c->r[2 * (who - 2)] = atomic_load_explicit(first, ACQ);
    c->r[2 * (who - 2) + 1] = atomic_load_explicit(second, ACQ);
}

static bool disagree(const int *r)
{
    return r[0] == 1 && r[1] == 0 && r[2] == 1 && r[3] == 0;
}

// Coherence: one variable alone has one order, even relaxed.
static void coherent(struct cell *c, unsigned who)
{
    if (who < 2) {
        atomic_store_explicit(&c->x, (int)who + 1, RLX);
        return;
    }
    c->r[2 * (who - 2)] = atomic_load_explicit(&c->x, RLX);
    c->r[2 * (who - 2) + 1] = atomic_load_explicit(&c->x, RLX);
}

static bool goes_back(const int *r)
{
    bool forgets = (r[0] != 0 && r[1] == 0) || (r[2] != 0 && r[3] == 0);

    return forgets || (r[0] == 1 && r[1] == 2 && r[2] == 2 && r[3] == 1) ||
           (r[0] == 2 && r[1] == 1 && r[2] == 1 && r[3] == 2);
}

// Read-modify-write: no two get the same, even relaxed.
static void ticket(struct cell *c, unsigned who)
{
    c->r[who] = atomic_fetch_add_explicit(&c->x, 1, RLX);
}

static bool not_each_once(const int *r)
{
    int sum = 0;

    for (int i = 0; i < 4; i++)
        sum |= 1 << r[i];
    return sum != 15;
}

static const struct shape shapes[] = {
    {"MP: release, acquire", message, flag_alone, 2, false},
    {"MP: the flag was seen", message, flag_seen, 2, true},
    {"MP: fences", message_fences, flag_alone, 2, false},
    {"MP: through a third goroutine", message_chain, flag_alone, 3, false},
    {"MP: the third's flag was seen", message_chain, flag_seen, 3, true},
    {"MP: somebody has added to the flag", message_added, flag_alone, 3, false},
    {"SB: seq_cst, never both 0", buffer_sc, both_zero, 2, false},
    {"SB: relaxed and fences of seq_cst", buffer_fence, both_zero, 2, false},
    {"SB: exchange", buffer_exchange, both_zero, 2, false},
    {"SB: relaxed, both 0", buffer_relaxed, both_zero, 2, true},
    {"LB: acquire, release, never both 1", load_then_store, both_one, 2, false},
    {"LB: relaxed, both 1", load_then_store_relaxed, both_one, 2, true},
    {"IRIW: seq_cst, both see one order", independent, disagree, 4, false},
    {"IRIW: acquire, two orders", independent_acquire, disagree, 4, true},
    {"coherence: relaxed, one variable", coherent, goes_back, 4, false},
    {"fetch_add: relaxed, each ticket once", ticket, not_each_once, 4, false},
};

// ---- lanes ----

enum { LANES = 4 };

// One lane; all but the channels is plain.
struct lane {
    int *x;        // rounds of them; x[i] becomes i + 1
    unsigned bad;  // of the goroutine that the test's function runs as
    unsigned bad2; // of its partner
    size_t cap;
    int v, w, back;
    ints c, d;
    struct gn_wg wg;
    struct gn_ctx *ctx;
    gn_times times;
    void (*test)(struct lane *);
};

static void lane(void *arg)
{
    struct lane *l = arg;

    l->test(l);
    gn_wg_done(&all);
}

// Four lanes at once; nothing is seen that is out of date.
static void run(const char *name, void (*test)(struct lane *), size_t cap)
{
    static struct lane lanes[LANES];
    unsigned bad = 0;

    gn_wg_add(&all, LANES);
    for (int i = 0; i < LANES; i++) {
        lanes[i] = (struct lane){.test = test, .cap = cap, .c = make(cap)};
        lanes[i].d = make(cap);
        lanes[i].x = need(calloc(rounds, sizeof(int)));
        go(lane, &lanes[i]);
    }
    gn_wg_wait(&all);
    for (int i = 0; i < LANES; i++) {
        bad += lanes[i].bad + lanes[i].bad2;
        gn_chan_free(lanes[i].c.raw);
        gn_chan_free(lanes[i].d.raw);
        free(lanes[i].x);
    }
    IS(bad, 0, name);
}

static void with_partner(struct lane *l, void (*partner)(void *))
{
    gn_wg_add(&l->wg, 1);
    go(partner, l);
}

// ---- goroutines, wait groups ----

static void answer(void *arg)
{
    struct lane *l = arg;

    l->back = l->v;
    gn_wg_done(&l->wg);
}

static void start_and_wait(struct lane *l)
{
    for (int i = 0; i < (int)rounds; i++) {
        l->v = i;
        with_partner(l, answer);
        gn_wg_wait(&l->wg);
        l->bad += l->back != i;
    }
}

enum { CROWD = 4 };

struct one {
    struct lane *lane;
    int in, out;
};

static void answer_one(void *arg)
{
    struct one *o = arg;

    o->out = o->in + 1;
    gn_wg_done(&o->lane->wg);
}

// All of several, whoever is the last.
static void wait_for_all(struct lane *l)
{
    struct one of[CROWD];

    for (int i = 0; i < (int)rounds / CROWD; i++) {
        gn_wg_add(&l->wg, CROWD);
        for (int k = 0; k < CROWD; k++) {
            of[k] = (struct one){l, i + k, 0};
            go(answer_one, &of[k]);
        }
        gn_wg_wait(&l->wg);
        for (int k = 0; k < CROWD; k++)
            l->bad += of[k].out != i + k + 1;
    }
}

// What a goroutine has done itself it sees on any CPU.
static void own_order(struct lane *l)
{
    for (int i = 0; i < (int)rounds; i++) {
        l->v = i;
        l->x[i] = i;
        gn_yield();
        l->bad += l->v != i || l->x[i] != i;
    }
}

static int key;
static _Atomic unsigned destroyed;

static void destroy(void *value)
{
    struct one *o = value;

    o->lane->bad2 += o->out != 1; // the goroutine's last store to it
    destroyed++;
    gn_wg_done(&o->lane->wg);
}

static void has_a_value(void *arg)
{
    struct one *o = arg;

    if (gn_local(key) != NULL || gn_local_set(key, o) != 0)
        abort();
    gn_yield();
    o->out = gn_local(key) == o;
}

static void locals(struct lane *l)
{
    struct one of[CROWD];

    for (int i = 0; i < (int)rounds / CROWD; i++) {
        gn_wg_add(&l->wg, CROWD);
        for (int k = 0; k < CROWD; k++) {
            of[k] = (struct one){l, 0, 0};
            go(has_a_value, &of[k]);
        }
        gn_wg_wait(&l->wg);
    }
}

// ---- channels ----

static void receive_all(void *arg)
{
    struct lane *l = arg;

    for (unsigned n = 0; n < rounds; n++) {
        int i = gn_next(l->c);

        l->bad2 += l->x[i] != i + 1;
    }
    gn_wg_done(&l->wg);
}

static void send_before_receive(struct lane *l)
{
    with_partner(l, receive_all);
    for (int i = 0; i < (int)rounds; i++) {
        l->x[i] = i + 1;
        gn_send(l->c, i);
    }
    gn_wg_wait(&l->wg);
}

static void store_and_receive(void *arg)
{
    struct lane *l = arg;

    for (int i = 0; i < (int)rounds; i++) {
        l->x[i] = i + 1;
        (void)gn_next(l->c);
    }
    gn_wg_done(&l->wg);
}

// Unbuffered: the receive before the send is done; with room for C: the k-th receive
// before the send number k + C.
static void receive_before_send(struct lane *l)
{
    with_partner(l, store_and_receive);
    for (int i = 0; i < (int)rounds; i++) {
        int k = i - (int)l->cap;

        gn_send(l->c, i);
        l->bad += k >= 0 && l->x[k] != k + 1;
    }
    gn_wg_wait(&l->wg);
}

static void locks_too(void *arg)
{
    struct lane *l = arg;

    for (unsigned i = 0; i < rounds; i++) {
        gn_send(l->c, 0);
        l->v++;
        (void)gn_next(l->c);
    }
    gn_wg_done(&l->wg);
}

// Room for one is a lock.
static void channel_as_lock(struct lane *l)
{
    with_partner(l, locks_too);
    with_partner(l, locks_too);
    with_partner(l, locks_too);
    gn_wg_wait(&l->wg);
    l->bad += l->v != 3 * (int)rounds;
}

static void waits_for_close(void *arg)
{
    struct lane *l = arg;
    int v;

    l->back = gn_recv(l->c, &v) ? -1 : l->v;
    gn_wg_done(&l->wg);
}

static void selects_close(void *arg)
{
    struct lane *l = arg;
    struct gn_case cases[] = {GN_RECV(l->d, NULL), GN_RECV(l->c, NULL)};

    l->back = gn_select(cases, 2) == 1 ? l->v : -1;
    gn_wg_done(&l->wg);
}

static void polls_close(void *arg)
{
    struct lane *l = arg;
    bool got = true;

    while (!gn_try_recv(l->c, NULL, &got))
        gn_yield();
    l->back = got ? -1 : l->v;
    gn_wg_done(&l->wg);
}

static void close_before_receive(struct lane *l)
{
    static void (*const how[])(void *) = {waits_for_close, selects_close,
                                          polls_close};

    for (int i = 0; i < (int)rounds; i++) {
        with_partner(l, how[i % 3]);
        if (i % 2 == 0) // it waits already, mostly
            gn_yield();
        l->v = i;
        gn_close(l->c);
        gn_wg_wait(&l->wg);
        l->bad += l->back != i;
        gn_chan_free(l->c.raw);
        l->c = make(l->cap);
    }
}

static void try_all(void *arg)
{
    struct lane *l = arg;

    for (unsigned n = 0; n < rounds; n++) {
        int i;

        while (!gn_try_recv(l->c, &i, NULL))
            gn_yield();
        l->bad2 += l->x[i] != i + 1;
    }
    gn_wg_done(&l->wg);
}

static void trying(struct lane *l)
{
    with_partner(l, try_all);
    for (int i = 0; i < (int)rounds; i++) {
        l->x[i] = i + 1;
        while (!gn_try_send(l->c, i))
            gn_yield();
    }
    gn_wg_wait(&l->wg);
}

static void select_all(void *arg)
{
    struct lane *l = arg;
    int i;
    struct gn_case cases[] = {GN_RECV(l->c, &i), GN_RECV(l->d, &i)};

    for (unsigned n = 0; n < rounds; n++) {
        gn_select(cases, 2);
        l->bad2 += l->x[i] != i + 1;
    }
    gn_wg_done(&l->wg);
}

static void selecting(struct lane *l)
{
    int i;
    struct gn_case cases[] = {GN_SEND(l->c, &i), GN_SEND(l->d, &i)};

    with_partner(l, select_all);
    for (i = 0; i < (int)rounds; i++) {
        l->x[i] = i + 1;
        gn_select(cases, 2);
    }
    gn_wg_wait(&l->wg);
}

// ---- timers, contexts ----

static void called(void *arg)
{
    struct lane *l = arg;

    l->back = l->v;
    gn_wg_done(&l->wg);
}

static void setting_before_call(struct lane *l)
{
    for (int i = 0; i < (int)rounds / 4; i++) {
        l->v = i;
        gn_wg_add(&l->wg, 1);
        struct gn_timer *t = need(gn_after_func(i % 3 * 1000, called, l));

        gn_wg_wait(&l->wg);
        l->bad += l->back != i;
        gn_timer_free(t);
    }
}

static void waits_for_time(void *arg)
{
    struct lane *l = arg;

    for (unsigned i = 0; i < rounds / 4; i++) {
        (void)gn_next(l->times);
        l->back = l->v;
        gn_send(l->c, 0);
    }
}

static void setting_before_time(struct lane *l)
{
    struct gn_timer *t = need(gn_timer_new(GN_SECOND * 1000));

    l->times = gn_timer_channel(t);
    go(waits_for_time, l);
    for (int i = 0; i < (int)rounds / 4; i++) {
        l->v = i;
        gn_timer_reset(t, i % 3 * 1000);
        (void)gn_next(l->c);
        l->bad += l->back != i;
    }
    gn_timer_free(t);
}

static void waits_for_done(void *arg)
{
    struct lane *l = arg;
    gn_signal done = gn_ctx_done(l->ctx);

    (void)gn_recv(done, NULL);
    l->back = gn_ctx_cause(l->ctx) == (char *)l->x ? l->v : -1;
    gn_wg_done(&l->wg);
}

static void polls_err(void *arg)
{
    struct lane *l = arg;

    while (gn_ctx_err(l->ctx) == NULL)
        gn_yield();
    l->back = gn_ctx_cause(l->ctx) == (char *)l->x ? l->v : -1;
    gn_wg_done(&l->wg);
}

static void cancel_before_done(struct lane *l)
{
    for (int i = 0; i < (int)rounds; i++) {
        struct gn_ctx *parent = need(gn_ctx_cancelable(gn_ctx_background()));

        l->ctx = need(gn_ctx_cancelable(parent));
        with_partner(l, i % 2 == 0 ? waits_for_done : polls_err);
        if (i % 4 < 2)
            gn_yield();
        l->v = i;
        gn_ctx_cancel_cause(i % 3 == 0 ? l->ctx : parent, (char *)l->x);
        gn_wg_wait(&l->wg);
        l->bad += l->back != i;
        gn_ctx_free(l->ctx);
        gn_ctx_free(parent);
    }
}

static void called_off(void *arg)
{
    struct lane *l = arg;

    l->back = l->v - l->w;
    gn_wg_done(&l->wg);
}

static void cancel_before_call(struct lane *l)
{
    for (int i = 0; i < (int)rounds; i++) {
        struct gn_ctx *ctx = need(gn_ctx_cancelable(gn_ctx_background()));

        gn_wg_add(&l->wg, 1);
        l->v = i + 1; // before the call is asked for
        struct gn_ctx_call *call = need(gn_ctx_after_func(ctx, called_off, l));

        l->w = i; // before it is made
        gn_ctx_cancel(ctx);
        gn_wg_wait(&l->wg);
        l->bad += l->back != 1;
        gn_ctx_call_free(call);
        gn_ctx_free(ctx);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    key = gn_local_new(destroy);
    if (rounds < CROWD || key < 0)
        return 1;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        run_shape(&shapes[i]);

    run("own: a goroutine sees what it did, on any CPU", own_order, 0);
    run("go: gn_go before the start; done before wait's end", start_and_wait,
        0);
    run("wg: each of four dones before wait's end", wait_for_all, 0);
    run("local: values stay with their goroutine, up to its end", locals, 0);
    IS(destroyed, LANES * (rounds / CROWD * CROWD), "local: each destroyed");

    run("chan 0: send before receive", send_before_receive, 0);
    run("chan 1: send before receive", send_before_receive, 1);
    run("chan 7: send before receive", send_before_receive, 7);
    run("chan 0: receive before the send ends", receive_before_send, 0);
    run("chan 1: k-th receive before send k + 1 ends", receive_before_send, 1);
    run("chan 7: k-th receive before send k + 7 ends", receive_before_send, 7);
    run("chan 1: a lock", channel_as_lock, 1);
    run("chan 0: close before a receive that finds it", close_before_receive,
        0);
    run("chan 3: close before a receive that finds it", close_before_receive,
        3);
    run("chan 1: try_send before try_recv", trying, 1);
    run("chan 7: try_send before try_recv", trying, 7);
    run("select 0: send before receive", selecting, 0);
    run("select 1: send before receive", selecting, 1);
    run("select 7: send before receive", selecting, 7);

    run("timer: after_func before its call", setting_before_call, 0);
    run("timer: reset before the time is received", setting_before_time, 0);
    run("ctx: cancel before done and err are seen", cancel_before_done, 0);
    run("ctx: after_func and cancel before its call", cancel_before_call, 0);
    return tap_end();
}
