// sources: runtime/chan/chan.c runtime/chan/select.c runtime/context/context.c runtime/time/timers.c runtime/sync/mutex.c $(host)
// The memory model (docs/memory-model.md) of channels, select, timers and contexts:
// threads that are goroutines pass plain variables on. Built with ASan and UBSan as the
// rest, and once more with TSan (host/threads-tsan), which knows no order but that of
// the runtime's atomics: a rule that does not hold is a data race, whatever the machine
// and the moment would have forgiven.
//
// What stands here for the scheduler makes no order of its own but the two that it has
// to: what was done before g_ready is seen by who is woken, before g_park by unlock.
// As in the scheduler, unlock runs elsewhere: each goroutine has a second thread, its
// loop, for that; so who unlocks for one that goes on already is seen, too.
//
// test_threads wrong NAME runs a program that has a data race, for host/threads-tsan to
// see that it is found: that nothing here orders too much.
//
// Turns are counted, never timed.

#include "host-tests/support.h"

#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/heap.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "arch/host/host.h"
#include "runtime/debug/debug.h"
#include "runtime/panic/panic.h"
#include "runtime/sched/sched.h"
#include "runtime/sched/timer.h"

enum { TURNS = 3000, FEW = 150 };

// ---- a scheduler of threads ----

struct g {
    struct g *next;
    void (*fn)(void *);
    void *arg;
    pthread_t thread, loop;
    sem_t woken, left;      // by g_ready; its stack, by g_park
    void (*unlock)(void *); // for the loop. NULL: it ends
    void *unlock_arg;
    unsigned id; // the first of its two CPUs
};

static _Thread_local struct g *me;
static struct g *_Atomic all; // relaxed: only the threads' ends count
static _Atomic unsigned ids;

static void wait_for(sem_t *s)
{
    while (sem_wait(s) != 0)
        ;
}

static void *loop(void *arg)
{
    struct g *g = arg;

    for (;;) {
        wait_for(&g->left);
        if (g->unlock == NULL)
            return NULL;
        g->unlock(g->unlock_arg);
        host_cpu.nopreempt = 1;
    }
}

static void *goroutine(void *arg)
{
    me = arg;
    host_cpu.id = me->id;
    host_cpu.nopreempt = 0;
    me->fn(me->arg);
    me->unlock = NULL;
    sem_post(&me->left);
    return NULL;
}

struct g *g_current(void)
{
    return me;
}

void g_park(const char *why, void (*unlock)(void *), void *arg)
{
    (void)why;
    me->unlock = unlock;
    me->unlock_arg = arg;
    sem_post(&me->left);
    wait_for(&me->woken);
    // Another CPU than the loop's, which may still hold locks.
    host_cpu.id ^= 1;
    host_cpu.nopreempt = 0;
}

struct g *g_create(void (*fn)(void *), void *arg, const char *name, int cpu)
{
    struct g *g = calloc(1, sizeof *g);

    (void)name, (void)cpu;
    if (g == NULL || sem_init(&g->woken, 0, 0) != 0 ||
        sem_init(&g->left, 0, 0) != 0)
        abort();
    g->fn = fn;
    g->arg = arg;
    g->id = atomic_fetch_add_explicit(&ids, 2, memory_order_relaxed) + 2;
    return g;
}

// A new one has no thread yet.
void g_ready(struct g *g)
{
    if (g->thread != 0) {
        sem_post(&g->woken);
        return;
    }
    struct g *first = atomic_load_explicit(&all, memory_order_relaxed);

    if (pthread_create(&g->loop, NULL, loop, g) != 0 ||
        pthread_create(&g->thread, NULL, goroutine, g) != 0)
        abort();
    do {
        g->next = first;
    } while (!atomic_compare_exchange_weak_explicit(
        &all, &first, g, memory_order_release, memory_order_relaxed));
}

void g_yield(void)
{
    sched_yield();
}

void g_sleep_until(uint64_t mono_ns)
{
    (void)mono_ns;
}

// A timer's mutex.
bool gn_one_cpu_;

bool sched_may_spin(void)
{
    return true;
}

void panic_status(int status, const char *what)
{
    panic("%d: %s", status, what);
}

uint32_t sched_random_below(uint32_t n)
{
    static _Thread_local uint32_t state;

    if (state == 0)
        state = arch_cpu_id() * 2654435761u | 1;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % n;
}

void panic_go(const char *text)
{
    panic("%s", text);
}

void *gn_alloc(size_t n, enum gn_heap_kind kind, int flags)
{
    (void)kind, (void)flags;
    return calloc(1, n);
}

void gn_free(void *p)
{
    free(p);
}

static void go(void (*fn)(void *), void *arg)
{
    g_ready(g_create(fn, arg, "", G_ANY_CPU));
}

// The end of all that were started; those that they have started, too.
static void join_all(void)
{
    struct g *g;

    while ((g = atomic_exchange(&all, NULL)) != NULL) {
        while (g != NULL) {
            struct g *next = g->next;

            pthread_join(g->thread, NULL);
            pthread_join(g->loop, NULL);
            sem_destroy(&g->woken);
            sem_destroy(&g->left);
            free(g);
            g = next;
        }
    }
}

// ---- timers: those that are set, and a lock ----

static pthread_mutex_t heap_lock = PTHREAD_MUTEX_INITIALIZER;
static struct timer *set_timers[4];

bool timer_set(struct timer *t, uint64_t mono_ns)
{
    (void)mono_ns;
    pthread_mutex_lock(&heap_lock);
    for (unsigned i = 0; i < ARRAY_LEN(set_timers) && t->at == 0; i++) {
        if (set_timers[i] == NULL) {
            set_timers[i] = t;
            t->at = i + 1;
        }
    }
    bool set = t->at != 0;

    pthread_mutex_unlock(&heap_lock);
    return set;
}

static bool unset(struct timer *t)
{
    bool was = t->at != 0;

    if (was)
        set_timers[t->at - 1] = NULL;
    t->at = 0;
    return was;
}

bool timer_stop(struct timer *t, bool (*then)(struct timer *t))
{
    pthread_mutex_lock(&heap_lock);
    bool was = unset(t);

    if (then != NULL)
        was |= then(t);
    pthread_mutex_unlock(&heap_lock);
    return was;
}

// All that are set are due, at a time that only grows.
static void clock_tick(void)
{
    static uint64_t now; // with the lock

    pthread_mutex_lock(&heap_lock);
    now++;
    for (unsigned i = 0; i < ARRAY_LEN(set_timers); i++) {
        struct timer *t = set_timers[i];

        if (t != NULL && (unset(t), t->fire(t, now, now)) != 0) {
            set_timers[i] = t;
            t->at = i + 1;
        }
    }
    pthread_mutex_unlock(&heap_lock);
}

static _Atomic bool clock_ends;

static void clock_runs(void *arg)
{
    (void)arg;
    while (!atomic_load_explicit(&clock_ends, memory_order_relaxed)) {
        clock_tick();
        sched_yield();
    }
}

// ---- what goroutines share ----

typedef gn_chan(int) ints;
typedef gn_chan(struct box *) boxes;

// Plain: whoever has it reads, changes and frees it.
struct box {
    int from, turn;
};

static ints c, d;
static boxes b, b2;
static int x[TURNS], counter; // plain
static _Atomic int wrong;

static ints make(size_t cap)
{
    ints made = gn_make_chan(ints, cap);

    if (made.raw == NULL)
        abort();
    return made;
}

static struct box *new_box(int turn)
{
    struct box *box = malloc(sizeof *box);

    if (box == NULL)
        abort();
    *box = (struct box){turn, turn};
    return box;
}

static void look_at(struct box *box)
{
    if (box->from != box->turn)
        atomic_fetch_add_explicit(&wrong, 1, memory_order_relaxed);
    box->turn++;
    free(box);
}

static void is_right(bool right)
{
    if (!right)
        atomic_fetch_add_explicit(&wrong, 1, memory_order_relaxed);
}

static void all_is_right(void)
{
    join_all();
    assert_int_equal(atomic_exchange(&wrong, 0), 0);
}

// ---- channels ----

static void sends_boxes(void *arg)
{
    (void)arg;
    for (int i = 0; i < TURNS; i++)
        gn_send(b, new_box(i));
}

static void receives_boxes(void *arg)
{
    (void)arg;
    for (int i = 0; i < TURNS; i++)
        look_at(gn_next(b));
}

static void tries_to_send(void *arg)
{
    (void)arg;
    for (int i = 0; i < TURNS; i++) {
        struct box *box = new_box(i);

        while (!gn_try_send(b, box))
            sched_yield();
    }
}

static void tries_to_receive(void *arg)
{
    struct box *box;

    (void)arg;
    for (int i = 0; i < TURNS; i++) {
        while (!gn_try_recv(b, &box, NULL))
            sched_yield();
        look_at(box);
    }
}

static void pass_boxes(size_t cap, void (*sender)(void *),
                       void (*receiver)(void *))
{
    b = gn_make_chan(boxes, cap);
    b2 = gn_make_chan(boxes, cap);
    go(sender, NULL);
    go(receiver, NULL);
    go(sender, NULL);
    go(receiver, NULL);
    all_is_right();
    assert_int_equal(gn_len(b) + gn_len(b2), 0);
    gn_chan_free(b.raw);
    gn_chan_free(b2.raw);
}

static void a_send_comes_before_its_receive(void **state)
{
    (void)state;
    pass_boxes(0, sends_boxes, receives_boxes);
    pass_boxes(1, sends_boxes, receives_boxes);
    pass_boxes(7, sends_boxes, receives_boxes);
}

static void so_it_does_if_both_only_try(void **state)
{
    (void)state;
    pass_boxes(1, tries_to_send, tries_to_receive);
    pass_boxes(7, tries_to_send, tries_to_receive);
    pass_boxes(0, sends_boxes, tries_to_receive);
    pass_boxes(0, tries_to_send, receives_boxes);
}

static void stores_and_receives(void *arg)
{
    (void)arg;
    for (int i = 0; i < TURNS; i++) {
        x[i] = i + 1;
        (void)gn_next(c);
    }
}

static void sends_and_looks(void *arg)
{
    int cap = (int)(uintptr_t)arg;

    for (int i = 0; i < TURNS; i++) {
        gn_send(c, i);
        is_right(i < cap || x[i - cap] == i - cap + 1);
    }
}

static void
the_kth_receive_comes_before_the_end_of_send_k_plus_cap(void **state)
{
    (void)state;
    for (uintptr_t cap = 0; cap < 9; cap += cap / 2 + 1) {
        c = make(cap);
        memset(x, 0, sizeof x);
        go(stores_and_receives, NULL);
        go(sends_and_looks, (void *)cap);
        all_is_right();
        gn_chan_free(c.raw);
    }
}

static void locks(void *arg)
{
    (void)arg;
    for (int i = 0; i < TURNS; i++) {
        gn_send(c, 0);
        counter++;
        (void)gn_next(c);
    }
}

static void room_for_one_is_a_lock(void **state)
{
    (void)state;
    c = make(1);
    counter = 0;
    for (int i = 0; i < 4; i++)
        go(locks, NULL);
    join_all();
    assert_int_equal(counter, 4 * TURNS);
    gn_chan_free(c.raw);
}

static void receives_close(void *arg)
{
    int v;

    (void)arg;
    is_right(!gn_recv(c, &v) && counter == 1);
}

static void selects_close(void *arg)
{
    struct gn_case cases[] = {GN_RECV(d, NULL), GN_RECV(c, NULL)};

    (void)arg;
    is_right(gn_select(cases, 2) == 1 && !cases[1].ok && counter == 1);
}

static void tries_for_close(void *arg)
{
    bool ok = true;

    (void)arg;
    while (!gn_try_recv(c, NULL, &ok))
        sched_yield();
    is_right(!ok && counter == 1);
}

static void select_tries_for_close(void *arg)
{
    struct gn_case cases[] = {GN_RECV(d, NULL), GN_RECV(c, NULL)};

    (void)arg;
    while (gn_select_try(cases, 2) < 0)
        sched_yield();
    is_right(!cases[1].ok && counter == 1);
}

static void closes(void *arg)
{
    (void)arg;
    counter = 1;
    gn_close(c);
}

static void a_close_comes_before_a_receive_that_finds_it(void **state)
{
    (void)state;
    d = make(0);
    for (int i = 0; i < FEW; i++) {
        c = make(i % 2 == 0 ? 0 : 2);
        counter = 0;
        go(receives_close, NULL);
        go(tries_for_close, NULL);
        if (i % 3 == 0)
            go(closes, NULL);
        go(selects_close, NULL);
        go(select_tries_for_close, NULL);
        if (i % 3 != 0)
            go(closes, NULL);
        all_is_right();
        gn_chan_free(c.raw);
    }
    gn_chan_free(d.raw);
}

// ---- select ----

static void selects_sends(void *arg)
{
    struct box *box;
    struct gn_case cases[] = {GN_SEND(b, &box), GN_SEND(b2, &box)};

    (void)arg;
    for (int i = 0; i < TURNS; i++) {
        box = new_box(i);
        if (i % 2 == 0)
            gn_select(cases, 2);
        else
            while (gn_select_try(cases, 2) < 0)
                sched_yield();
    }
}

static void selects_receives(void *arg)
{
    struct box *box, *box2;
    struct gn_case cases[] = {GN_RECV(b, &box), GN_RECV(b2, &box2)};

    (void)arg;
    for (int i = 0; i < TURNS; i++) {
        // Without room somebody has to wait.
        if (i % 3 != 0 || gn_cap(b) == 0)
            look_at(gn_select(cases, 2) == 0 ? box : box2);
        else {
            ptrdiff_t k;

            while ((k = gn_select_try(cases, 2)) < 0)
                sched_yield();
            look_at(k == 0 ? box : box2);
        }
    }
}

// Both at once, to each other: what one sends is not its own before.
static void selects_both(void *arg)
{
    int sent = 0, received = 0;
    struct box *out = new_box(0), *in;

    (void)arg;
    while (sent < TURNS || received < TURNS) {
        struct gn_case cases[] = {GN_SEND(b, &out), GN_RECV(b, &in)};

        if (sent == TURNS)
            cases[0].chan = NULL;
        if (received == TURNS)
            cases[1].chan = NULL;
        if (gn_select(cases, 2) == 0) {
            if (++sent < TURNS)
                out = new_box(sent);
        } else {
            received++;
            look_at(in);
        }
    }
}

static void select_orders_as_its_case_does(void **state)
{
    (void)state;
    pass_boxes(0, selects_sends, selects_receives);
    pass_boxes(1, selects_sends, selects_receives);
    pass_boxes(7, selects_sends, selects_receives);
}

static void select_may_send_and_receive(void **state)
{
    (void)state;
    for (size_t cap = 0; cap < 3; cap++) {
        b = gn_make_chan(boxes, cap);
        go(selects_both, NULL);
        go(selects_both, NULL);
        all_is_right();
        gn_chan_free(b.raw);
    }
}

// ---- contexts ----

static struct gn_ctx *ctx, *parent;

static void waits_for_done(void *arg)
{
    gn_signal done = gn_ctx_done(ctx);

    (void)arg;
    is_right(!gn_recv(done, NULL) && gn_ctx_err(ctx) != NULL &&
             gn_ctx_cause(ctx) == (char *)&counter && counter == 1);
}

static void polls_err(void *arg)
{
    (void)arg;
    while (gn_ctx_err(ctx) == NULL)
        sched_yield();
    is_right(gn_ctx_cause(ctx) == (char *)&counter && counter == 1);
}

static void makes_a_child(void *arg)
{
    struct gn_ctx *child = gn_ctx_cancelable(ctx);

    (void)arg;
    while (gn_ctx_err(child) == NULL)
        sched_yield();
    is_right(gn_ctx_cause(child) == (char *)&counter && counter == 1);
    gn_ctx_free(child);
}

static void is_called(void *arg)
{
    is_right(*(int *)arg == 5 && counter == 1);
}

static void cancels(void *arg)
{
    counter = 1;
    gn_ctx_cancel_cause(arg, (char *)&counter);
}

static void cancel_comes_before_all_that_it_causes(void **state)
{
    (void)state;
    for (int i = 0; i < FEW; i++) {
        int *asked = malloc(sizeof *asked);

        parent = gn_ctx_cancelable(gn_ctx_background());
        ctx = gn_ctx_cancelable(parent);
        counter = 0;
        *asked = 5;
        struct gn_ctx_call *call = gn_ctx_after_func(ctx, is_called, asked);
        struct gn_ctx_call *call2 = gn_ctx_after_func(parent, is_called, asked);

        go(waits_for_done, NULL);
        go(polls_err, NULL);
        go(cancels, i % 2 == 0 ? parent : ctx);
        go(makes_a_child, NULL);
        if (i % 2 != 0)
            assert_true(gn_ctx_call_stop(call2));
        all_is_right();
        gn_ctx_call_free(call);
        gn_ctx_call_free(call2);
        gn_ctx_free(ctx);
        gn_ctx_free(parent);
        join_all();
        free(asked);
    }
}

// ---- timers ----

static struct gn_timer *timer;

static void receives_times(void *arg)
{
    (void)arg;
    for (int i = 0; i < TURNS; i++) {
        (void)gn_next(gn_timer_channel(timer));
        is_right(counter == i);
        gn_send(c, 0);
    }
}

static void sets_again(void *arg)
{
    (void)arg;
    for (int i = 0; i < TURNS; i++) {
        counter = i; // before the setting
        gn_timer_reset(timer, 1);
        (void)gn_next(c);
    }
    atomic_store_explicit(&clock_ends, true, memory_order_relaxed);
}

static void a_setting_comes_before_its_time(void **state)
{
    (void)state;
    c = make(0);
    clock_ends = false;
    timer = gn_timer_new(1);
    assert_non_null(timer);
    assert_true(gn_timer_stop(timer));
    go(receives_times, NULL);
    go(sets_again, NULL);
    go(clock_runs, NULL);
    all_is_right();
    gn_timer_free(timer);
    gn_chan_free(c.raw);
}

static void timer_calls(void *arg)
{
    is_right(*(int *)arg == 5);
    *(int *)arg = 6;
    gn_send(c, 0);
}

static void sets_calls(void *arg)
{
    (void)arg;
    for (int i = 0; i < FEW; i++) {
        int plain = 5;
        struct gn_timer *t = gn_after_func(1, timer_calls, &plain);

        (void)gn_next(c);
        is_right(plain == 6);
        gn_timer_free(t);
    }
    atomic_store_explicit(&clock_ends, true, memory_order_relaxed);
}

static void a_setting_comes_before_its_call(void **state)
{
    (void)state;
    c = make(0);
    clock_ends = false;
    go(sets_calls, NULL);
    go(clock_runs, NULL);
    all_is_right();
    gn_chan_free(c.raw);
}

// ---- what has to be found ----

static _Atomic int passed;

static void pass(void)
{
    atomic_store_explicit(&passed, 1, memory_order_relaxed);
}

static void until_passed(void)
{
    while (atomic_load_explicit(&passed, memory_order_relaxed) == 0)
        sched_yield();
}

// The end of a goroutine orders nothing.
static void ends(void *arg)
{
    (void)arg;
    counter = 1;
    pass();
}

static void looks_at_the_end(void *arg)
{
    (void)arg;
    until_passed();
    is_right(counter == 1);
}

static void end_wrong(void)
{
    go(ends, NULL);
    go(looks_at_the_end, NULL);
}

// How many values there are says nothing about them.
static void sends_one(void *arg)
{
    (void)arg;
    counter = 1;
    gn_send(c, 1);
}

static void asks_for_len(void *arg)
{
    (void)arg;
    while (gn_len(c) == 0)
        sched_yield();
    is_right(counter == 1);
}

static void len_wrong(void)
{
    go(sends_one, NULL);
    go(asks_for_len, NULL);
}

// With room, the end of a send orders nothing that who receives does.
static void sends_then_looks(void *arg)
{
    (void)arg;
    gn_send(c, 1);
    is_right(counter == 0);
    pass();
}

static void stores_then_receives(void *arg)
{
    (void)arg;
    until_passed();
    counter = 1;
    (void)gn_next(c);
}

static void back_wrong(void)
{
    go(stores_then_receives, NULL);
    go(sends_then_looks, NULL);
}

// What is done after a send is not seen by who receives.
static void sends_then_stores(void *arg)
{
    (void)arg;
    gn_send(c, 1);
    counter = 1;
    pass();
}

static void receives_then_looks(void *arg)
{
    (void)arg;
    until_passed();
    (void)gn_next(c);
    is_right(counter == 1);
}

static void after_wrong(void)
{
    go(sends_then_stores, NULL);
    go(receives_then_looks, NULL);
}

static int run_wrong(const char *name)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } programs[] = {{"end", end_wrong},
                    {"len", len_wrong},
                    {"back", back_wrong},
                    {"after", after_wrong}};

    c = make(1);
    for (unsigned i = 0; i < ARRAY_LEN(programs); i++) {
        if (strcmp(programs[i].name, name) == 0) {
            programs[i].run();
            join_all();
            return 0;
        }
    }
    return 2;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_send_comes_before_its_receive),
        cmocka_unit_test(so_it_does_if_both_only_try),
        cmocka_unit_test(
            the_kth_receive_comes_before_the_end_of_send_k_plus_cap),
        cmocka_unit_test(room_for_one_is_a_lock),
        cmocka_unit_test(a_close_comes_before_a_receive_that_finds_it),
        cmocka_unit_test(select_orders_as_its_case_does),
        cmocka_unit_test(select_may_send_and_receive),
        cmocka_unit_test(cancel_comes_before_all_that_it_causes),
        cmocka_unit_test(a_setting_comes_before_its_time),
        cmocka_unit_test(a_setting_comes_before_its_call),
    };

    if (argc == 3 && strcmp(argv[1], "wrong") == 0)
        return run_wrong(argv[2]);
    return cmocka_run_group_tests_name("memory model", tests, NULL, NULL);
}
