// Every request for a frame failed in turn in what goroutines do: once; from then
// on; with so many frames left and then none, not even in the reserve of the
// stacks; with so few pages left that can be promised. What can refuse does (ENOMEM), and works when it is tried again; what
// cannot (a stack that grows, a CPU that is taken away, a stop of the world) goes
// on. No frame and no promise is lost.
//
// usage: go_fail [die]
//
// die: a goroutine's stack needs a table of its own, and there is no frame.

#include "host-tests/guest/none_left.h"
#include "host-tests/guest/par.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/settle.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/heap.h>
#include <gneiss/stack.h>
#include <gneiss/sync.h>

#include <errno.h>
#include <string.h>

#include "runtime/heap/collect.h"

enum {
    DEEP = 40,    // pages of a stack: more than its part of a shared table
    LOCALS = 40,  // goroutines with values: more than a span holds
    SPARE = 64,   // frames that may be left
    SHARERS = 16, // slots with one leaf table
    LIFT_NS = 2000000,
};

static unsigned wrong, points;

// ---- goroutines that wait until all is over ----

static struct gn_wg gate, waiting; // closed; who has not passed

static void wait_at_gate(void *arg)
{
    (void)arg;
    gn_wg_wait(&gate);
    gn_wg_done(&waiting);
}

static int go_wait(void (*fn)(void *), void *arg, size_t limit)
{
    int err =
        gn_go_with(&(struct gn_go_options){.stack_limit = limit}, fn, arg);

    if (err == 0)
        gn_wg_add(&waiting, 1);
    return err;
}

static void must(bool done)
{
    if (!done)
        abort();
}

static void close_gate(void)
{
    gn_wg_add(&gate, 1);
}

static void open_gate(void)
{
    gn_wg_done(&gate);
    gn_wg_wait(&waiting);
    while (gn_go_count() > 1 + (caretakers[0].g ? arch_cpu_count() : 0))
        gn_yield();
}

// ---- what comes before a call ----

static void nothing(void *arg)
{
    (void)arg;
}

static void no_preparation(void)
{
}

// Dead stacks have lost their top pages.
static void cold(void)
{
    mm_reclaim(UINT64_MAX);
}

// Is there a stack of so many slots that nobody uses? *n: all slots.
static bool has_free_slot(uint32_t slots, size_t *n)
{
    bool any = false;
    struct g *g;

    for (*n = 0; (g = stack_nth(*n)) != NULL; ++*n)
        any |= g->slots == slots && g->up == 0 && g->state == G_FREE;
    return any;
}

// The next one takes a slot that nobody had, and the first of a leaf table.
static void all_new(void)
{
    size_t n;

    cold(); // those about to lose it are in no list
    while (has_free_slot(1, &n) || n % SHARERS != 0)
        must(go_wait(wait_at_gate, NULL, 0) == 0);
}

static void all_new_large(void)
{
    size_t n;

    while (has_free_slot(STACK_LIMIT_MAX / STACK_SLOT_BYTES + 1, &n))
        must(go_wait(wait_at_gate, NULL, STACK_LIMIT_MAX) == 0);
    cold();
}

static struct full_area {
    struct full_area *next;
} * areas; // that the CPUs had

static void take_areas(void *arg)
{
    (void)arg;
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        struct full_area **at = &p_of_cpu(cpu)->areas, *all = *at;

        *at = NULL;
        while (all != NULL) {
            struct full_area *next = all->next;

            all->next = areas;
            areas = all;
            all = next;
        }
    }
}

static void give_areas(void *arg)
{
    struct full_area **at = &this_p()->areas;

    (void)arg;
    while (*at != NULL)
        at = &(*at)->next;
    *at = areas;
    areas = NULL;
}

// Nobody has room for the registers of who is interrupted.
static void no_areas(void)
{
    (void)sched_stop_world(take_areas, NULL);
}

// ---- the failure ----

static struct how {
    enum { ONCE, FROM_THEN_ON, NONE_LEFT, NO_PROMISE, HOWS } how;
    uint64_t nth;
    bool armed;
} failure;

static paddr_t spare[SPARE];
static _Atomic uint64_t charged; // pages, so that no more can be promised

static void leave_frames(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < SPARE; i++)
        spare[i] = frame_cache_take(FRAME_DIRTY);
    take_all(NULL);
    take_reserve();
    for (unsigned i = 0; i < SPARE; i++) {
        if (i < failure.nth - 1)
            frame_put(spare[i]);
        else
            keep(spare[i], 0);
    }
}

// From here on requests fail as `failure` says. A call that makes some before does
// this itself.
static void arm(void)
{
    failure.armed = true;
    if (failure.nth != 0 && failure.how == NONE_LEFT) {
        preempt_disable(); // else the reserve would be filled
        arch_on_system_stack(leave_frames, NULL);
    } else if (failure.nth != 0 && failure.how == NO_PROMISE) {
        uint64_t most = room();

        charged = most > failure.nth - 1 ? most - (failure.nth - 1) : 0;
        must(mm_charge(charged));
    } else {
        mm_fail_at(failure.nth, failure.how == FROM_THEN_ON);
    }
}

// Returns whether a request has failed.
static bool disarm(long err)
{
    bool failed = failure.nth != 0 && failure.armed;

    failure.armed = false;
    if (!failed)
        return false;
    if (failure.how == NONE_LEFT) {
        arch_on_system_stack(give_all, NULL);
        preempt_enable();
        return err != 0;
    }
    if (failure.how == NO_PROMISE) {
        mm_uncharge(atomic_exchange(&charged, 0));
        return err != 0;
    }
    failed = mm_has_failed();
    mm_fail_at(0, false);
    return failed;
}

// Who can't go on while requests fail has them succeed again a while after the one
// that was to fail.
static _Atomic bool lifting, lift_no_more;

static uint64_t lift(uint64_t now)
{
    if (mm_has_failed())
        mm_fail_at(0, false);
    mm_uncharge(atomic_exchange(&charged, 0));
    lifting = !lift_no_more;
    return lifting ? now + LIFT_NS : UINT64_MAX;
}

static void lift_begin(void)
{
    static struct sched_timer timer = {.fn = lift};

    lift_no_more = false;
    lifting = true;
    sched_timer_set(&timer, arch_mono_ns() + LIFT_NS);
}

static void lift_end(void)
{
    lift_no_more = true;
    while (lifting)
        gn_yield();
}

// ---- the calls ----

static long go_default(void)
{
    return go_wait(wait_at_gate, NULL, 0);
}

static long go_64k(void)
{
    return go_wait(wait_at_gate, NULL, 64 * KIB);
}

static long go_16g(void)
{
    return go_wait(wait_at_gate, NULL, STACK_LIMIT_MAX);
}

// Tasks. A place or a count that a failure kept would have the next wait for ever.
static struct gn_wg tasks;
static struct gn_group group;
static _Atomic int odd;

static int task_of_group(void *arg)
{
    nothing(arg);
    return 0;
}

static void no_tasks(void)
{
    gn_wg_wait(&tasks);
    (void)gn_group_wait(&group);
    gn_group_set_limit(&group, 1);
    cold();
    // What is promised of the heap is there: a task's own memory is its size.
    void *p = gn_alloc(48, GN_SCAN, 0);

    must(p != NULL);
    memset(p, 1, 48);
    gn_free(p);
}

static long wg_go(void)
{
    return gn_wg_go(&tasks, nothing, NULL);
}

static long group_go(void)
{
    return gn_group_go(&group, task_of_group, NULL);
}

static long group_try_go(void)
{
    bool started;
    int err = gn_group_try_go(&group, task_of_group, NULL, &started);

    odd += started != (err == 0) || gn_group_failure(&group) != 0;
    return err;
}

// Each page of the frames holds their depth. Returns how many do not.
static NOINLINE unsigned dive(unsigned depth)
{
    volatile unsigned frame[PAGE_SIZE / sizeof(unsigned)];
    unsigned bad = 0;

    for (size_t i = 0; i < ARRAY_LEN(frame); i += 64)
        frame[i] = depth;
    if (depth > 1)
        bad = dive(depth - 1);
    for (size_t i = 0; i < ARRAY_LEN(frame); i += 64)
        bad += frame[i] != depth;
    return bad;
}

static struct gn_wg dived;
static _Atomic unsigned damaged;
static _Atomic bool go; // requests fail now

static void until_go(void)
{
    while (!go)
        gn_yield();
}

static void arm_and_go(void)
{
    arm();
    go = true;
}

static void dive_and_wait(void *arg)
{
    (void)arg;
    until_go();
    damaged += dive(DEEP);
    gn_stack_trim();
    gn_wg_done(&dived);
    wait_at_gate(NULL);
}

static long go_and_grow(void)
{
    gn_wg_add(&dived, 1);
    must(go_wait(dive_and_wait, NULL, 0) == 0);
    arm_and_go();
    gn_wg_wait(&dived);
    go = false;
    return 0;
}

// It grows, is trimmed, grows again and ends.
static void dive_and_die(void *arg)
{
    (void)arg;
    until_go();
    damaged += dive(DEEP);
    must(gn_stack_trim() >= (DEEP - 1) * PAGE_SIZE);
    damaged += dive(DEEP);
    gn_wg_done(&dived);
}

static long grow_trim_die(void)
{
    size_t others = gn_go_count();

    gn_wg_add(&dived, 1);
    must(gn_go(dive_and_die, NULL) == 0);
    arm_and_go();
    gn_wg_wait(&dived);
    go = false;
    while (gn_go_count() > others)
        gn_yield();
    return 0;
}

static int key;
static _Atomic int refused;

static void set_local(void *arg)
{
    static int value;

    until_go();
    int err = gn_local_set(key, &value);

    refused += err != 0;
    odd += (err != 0 && err != -ENOMEM) ||
           gn_local(key) != (err == 0 ? &value : NULL);
    gn_wg_done(&dived);
    gn_wg_wait(&gate);
    odd += gn_local_set(key, &value) != 0 || gn_local(key) != &value;
    wait_at_gate(arg);
}

static long set_locals(void)
{
    refused = 0;
    gn_wg_add(&dived, LOCALS);
    for (unsigned i = 0; i < LOCALS; i++)
        must(go_wait(set_local, NULL, 0) == 0);
    arm_and_go();
    gn_wg_wait(&dived);
    go = false;
    return refused != 0 ? -ENOMEM : 0;
}

// Goroutines that are never preempted unless they have to be.
static _Atomic bool stop;
static _Atomic unsigned begun;
static _Atomic uint64_t turns[ARCH_MAX_CPUS + 1];

static void spin(void *arg)
{
    _Atomic uint64_t *n = arg;

    until_go();
    begun++;
    while (!stop)
        ++*n;
    gn_wg_done(&waiting);
}

static struct g *spinners[ARCH_MAX_CPUS + 1];

static void start_spinner(unsigned i, unsigned cpu)
{
    spinners[i] = g_create(spin, &turns[i], "spinner", (int)cpu);
    must(spinners[i] != NULL);
    gn_wg_add(&waiting, 1);
    g_ready(spinners[i]);
}

static void stop_spinning(void)
{
    stop = true;
    gn_wg_wait(&waiting);
    stop = go = false;
    begun = 0;
    arch_on_system_stack(give_areas, NULL);
}

// Two spin on a CPU, and both get their turns: the timer's interrupt brings requests
// back to life, for all spin.
static long preempt_first(void)
{
    enum { TWO = 2 };

    no_areas();
    for (unsigned i = 0; i < TWO; i++)
        start_spinner(i, gn_cpu_id());
    lift_begin();
    arm_and_go();
    while (begun < TWO)
        gn_yield();
    for (unsigned i = 0; i < TWO; i++) {
        for (uint64_t n = turns[i]; turns[i] == n;)
            gn_yield();
    }
    stop_spinning();
    lift_end();
    return 0;
}

// One spins on each other CPU.
static void spin_elsewhere(void)
{
    unsigned me = gn_cpu_id(), n = arch_cpu_count();

    no_areas();
    go = true;
    for (unsigned cpu = 0; cpu < n; cpu++) {
        if (cpu != me)
            start_spinner(cpu, cpu);
    }
    while (begun < n - 1)
        arch_pause();
}

static void still_spin(unsigned but)
{
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        for (uint64_t n = turns[cpu]; cpu != but && turns[cpu] == n;)
            arch_pause();
    }
}

// A CPU that has nowhere to put its goroutine's registers stops all the same.
static long stop_the_world(void)
{
    unsigned me = gn_cpu_id();

    spin_elsewhere();
    arm();
    for (unsigned i = 0; i < 3; i++) {
        (void)sched_stop_world(nothing, NULL);
        still_spin(me);
    }
    stop_spinning();
    return 0;
}

static long suspend_one(void)
{
    unsigned me = gn_cpu_id(), other = me == 0 ? 1 : 0;

    spin_elsewhere();
    arm();
    lift_begin();
    must(g_suspend(spinners[other]));
    uint64_t n = turns[other];

    for (unsigned i = 0; i < 100; i++)
        gn_yield();
    odd += turns[other] != n;
    g_resume(spinners[other]);
    still_spin(me);
    stop_spinning();
    lift_end();
    return 0;
}

// Many wait for one, who passes.
static long wait_for_one(void)
{
    struct gn_wg one = {0};

    gn_wg_add(&one, 1);
    gn_wg_done(&one);
    gn_wg_wait(&one);
    gn_wg_done(&gate);
    gn_wg_wait(&waiting);
    close_gate();
    return 0;
}

static void many_wait(void)
{
    for (unsigned i = 0; i < LOCALS; i++)
        must(go_wait(wait_at_gate, NULL, 0) == 0);
    for (unsigned i = 0; i < LOCALS; i++)
        gn_yield();
}

// ---- all of them ----

static const struct scenario {
    const char *name;
    void (*prepare)(void);
    long (*call)(void);
    bool refuses;  // may return -ENOMEM
    bool arms;     // does so itself, and makes requests that must not fail
    bool promised; // its frames are promised, and cannot fail
    unsigned cpus;
    unsigned least; // points that fail: recorded, a little less
} scenarios[] = {
    {"a stack used again", cold, go_default, .refuses = true, .least = 19},
    {"a new stack", all_new, go_default, .refuses = true, .least = 20},
    {"64 KiB", cold, go_64k, .refuses = true, .least = 19},
    {"16 GiB", all_new_large, go_16g, .refuses = true, .least = 50},
    {"a task of a wait group", no_tasks, wg_go, .refuses = true, .least = 9},
    {"a task of a group", no_tasks, group_go, .refuses = true, .least = 9},
    {"or if it may", no_tasks, group_try_go, .refuses = true, .least = 9},
    {"growth of a new stack", all_new, go_and_grow, .arms = true, .least = 90},
    {"growth, trim, death", cold, grow_trim_die, .arms = true, .least = 160},
    {"values", cold, set_locals, .refuses = true, .arms = true,
     .promised = true, .least = 1},
    {"wait groups", many_wait, wait_for_one, .least = 0}, // take none
    {"first preemption", no_preparation, preempt_first, .arms = true,
     .least = 1},
    {"stop of the world", no_preparation, stop_the_world, .arms = true,
     .cpus = 2, .least = 2},
    {"suspension", no_preparation, suspend_one, .arms = true, .cpus = 2,
     .least = 1},
};

static void complain(const struct scenario *s, const char *what)
{
    static const char *const hows[] = {"", "+", " frames left",
                                       " promises left"};

    wrong++;
    printf("# %s, %lu%s: %s\n", s->name, (unsigned long)failure.nth,
           hows[failure.how], what);
}

// Returns whether a request has failed.
static bool fail_once(const struct scenario *s)
{
    s->prepare();
    if (!s->arms)
        arm();
    long err = s->call();
    bool failed = disarm(err);

    mm_check();
    if (err != 0) {
        if (err != -ENOMEM || !s->refuses || !failed)
            complain(s, "a wrong error");
        if (!s->arms && s->call() != 0)
            complain(s, "it does not work when tried again");
        mm_check();
    }
    if (damaged != 0 || odd != 0)
        complain(s, "something is damaged");
    damaged = odd = 0;
    return failed;
}

static void fail_each(const struct scenario *s)
{
    unsigned n[HOWS] = {0};

    close_gate();
    for (unsigned how = ONCE; how < HOWS; how++) {
        if ((how == NONE_LEFT &&
             s->arms) || // more than the call would die of it
            (how != NO_PROMISE && s->promised))
            continue;
        failure = (struct how){how, 1, false};
        for (; fail_once(s); failure.nth++)
            n[how]++;
        failure.nth = 0;
    }
    open_gate();
    unsigned all = n[ONCE] + n[FROM_THEN_ON] + n[NONE_LEFT] + n[NO_PROMISE];

    points += all;
    printf("# %s: %u + %u + %u + %u points\n", s->name, n[ONCE],
           n[FROM_THEN_ON], n[NONE_LEFT], n[NO_PROMISE]);
    if (all < s->least)
        complain(s, "fewer points than recorded");
}

// What a CPU's first use of the heap makes stays: as many objects as values need,
// and as large, that another CPU frees.
static void *objects[ARCH_MAX_CPUS][LOCALS];

static void allocate(unsigned cpu, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < LOCALS; i++)
        objects[cpu][i] = calloc(1, 512);
}

static void free_of_another(unsigned cpu, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < LOCALS; i++)
        free(objects[(cpu + 1) % arch_cpu_count()][i]);
}

static void each_request_fails_in_turn(void)
{
    par_run(allocate, NULL);
    par_run(free_of_another, NULL);
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        const struct scenario *s = &scenarios[i];

        if (s->cpus > arch_cpu_count())
            continue;
        // What is made once stays.
        failure = (struct how){0};
        close_gate();
        fail_once(s);
        open_gate();
        struct accounts before = settle();

        fail_each(s);
        is_settled(&before, s->name);
    }
    IS(wrong, 0, "what can refuse does, and the others go on");
    ok(points > 0, "%u points failed", points);
}

// A goroutine's stack reaches the end of its part of a shared table.
static void need_a_table(void *arg)
{
    (void)arg;
    (void)dive(PT_PART - 4);
    failure = (struct how){NONE_LEFT, 1, false};
    arm();
    (void)dive(DEEP);
    ok(false, "a page table came from nowhere");
    exit(1);
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    frame_zeroed_max = 0; // idle CPUs hold no frames while they are counted
    (void)dive(16);       // the stack of main takes none
    // Who finds no memory does not collect here: the collector has a test of its own
    // for that (gc_oom), and what it takes at its first need stays.
    collector.collect = NULL;
    key = gn_local_new(NULL);
    if (argc > 1 && strcmp(argv[1], "die") == 0) {
        close_gate();
        all_new();
        must(gn_go_with(&(struct gn_go_options){.name = "grows"}, need_a_table,
                        NULL) == 0);
        gn_wg_wait(&gate);
    }
    printf("# %u CPUs\n", arch_cpu_count());
    each_request_fails_in_turn();
    return tap_end();
}
