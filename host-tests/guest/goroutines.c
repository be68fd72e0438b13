// Goroutines on all CPUs: none is lost, none runs twice, none keeps a CPU to
// itself; all registers survive that a CPU is taken away at any instruction.
//
// usage: goroutines [ROUNDS [host]]
//
// host: as a Linux process, where the C library's state, but for errno, and
// thread-local variables belong to the thread.

#include "host-tests/guest/mem_test.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/stack.h>
#include <gneiss/sync.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "arch/arch.h"
#include "mm/mm.h"
#include "runtime/sched/p.h"

static unsigned rounds = 3;
static bool on_host;

// ---- one after another ----

static _Atomic uint64_t sum;

static void add(void *arg)
{
    atomic_fetch_add(&sum, (uintptr_t)arg);
}

// More than a CPU's ring holds, while another one only yields: pinned, it gets every
// second turn; else one like all others.
static void yield_until_all_have_run(void *arg)
{
    enum { MANY = 600, FEW = 50 };
    bool pinned = arg != NULL;
    unsigned made = 0, yields = 0;

    sum = 0;
    while (made < MANY && gn_go(add, (void *)1) == 0)
        made++;
    for (; sum < made; yields++)
        gn_yield();
    ok(yields < FEW + (pinned ? made : 0),
       "%u goroutines have run after %u yields of %s", made, yields,
       pinned ? "one that is pinned" : "another");
}

static void who_yields_lets_all_run(void)
{
    for (int pinned = 0; pinned < 2 && arch_cpu_count() == 1; pinned++) {
        size_t before = gn_go_count();

        if (gn_go_with(&(struct gn_go_options){.pinned = pinned},
                       yield_until_all_have_run, pinned ? &sum : NULL) != 0)
            abort();
        while (gn_go_count() > before)
            gn_yield();
    }
}

struct job {
    struct gn_wg *wg;
    uintptr_t n;
};

static void add_and_done(void *arg)
{
    struct job *j = arg;

    gn_yield();
    add((void *)j->n);
    gn_wg_done(j->wg);
}

static void all_run_once(void)
{
    enum { MOST = 3000, FRAMES_EACH = 4 };
    static struct job job[MOST];
    struct gn_wg wg = {0};
    bool made = true;
    uint64_t room = stats().frames_free / FRAMES_EACH;
    unsigned many = room < MOST ? (unsigned)room : MOST;

    for (unsigned r = 0; r < rounds; r++) {
        sum = 0;
        gn_wg_add(&wg, many);
        for (uintptr_t i = 0; i < many; i++) {
            job[i] = (struct job){&wg, i};
            made &= gn_go(add_and_done, &job[i]) == 0;
        }
        gn_wg_wait(&wg);
        IS(sum, (uint64_t)many * (many - 1) / 2, "each of many runs once");
    }
    ok(made, "all %u were made", many);
}

// ---- nobody keeps the CPU ----

static _Atomic bool stop;
static _Atomic unsigned spinning_now;

static void spin(void *arg)
{
    atomic_fetch_add(&spinning_now, 1);
    while (!stop)
        ;
    gn_wg_done(arg);
}

static void nothing(void *arg)
{
    (void)arg;
}

static void loops_stop_nobody(void)
{
    unsigned n = 2 * gn_cpu_count() + 1;
    struct gn_wg wg = {0};

    stop = false;
    spinning_now = 0;
    gn_wg_add(&wg, n);
    for (unsigned i = 0; i < n; i++)
        gn_go(spin, &wg);
    // Each gets its turn beside the others, and so do we.
    while (spinning_now < n)
        gn_yield();
    ok(true, "%u loops that never yield all run", n);
    for (unsigned i = 0; i < 20; i++)
        sched_stop_world(nothing, NULL);
    ok(true, "and the world can be stopped");
    stop = true;
    gn_wg_wait(&wg);
}

// ---- registers ----
//
// Each loop fills registers with its own pattern and looks whether they keep it,
// for as long as the others do the same. It calls nothing: it leaves its CPU only
// by being interrupted.

static _Atomic unsigned wrong, turns;

static void keep_registers(void *arg)
{
    uint64_t seed = (uintptr_t)arg * 0x9e3779b97f4a7c15 + 1, bad = 0;

    while (!stop) {
        for (unsigned i = 0; i < 20000; i++) {
            uint64_t a = seed, b = seed ^ 1, c = seed ^ 2, d = seed ^ 3;

            __asm__ volatile(
                "movq %0, %%xmm0\n\tmovq %1, %%xmm7\n\tmovq %2, %%xmm15\n\t"
                "movq %3, %%mm3\n\tmovq %0, %%r8\n\tmovq %1, %%r15\n\t"
                "movq %2, %%rsi\n\tstc\n\t"
                "movl $50, %%ecx\n"
                "1:\tdecl %%ecx\n\tjnz 1b\n\t"
                "jnc 2f\n\t"
                "cmpq %%r8, %0\n\tjne 2f\n\tcmpq %%r15, %1\n\tjne 2f\n\t"
                "cmpq %%rsi, %2\n\tjne 2f\n\t"
                "movq %%xmm0, %%r8\n\tcmpq %%r8, %0\n\tjne 2f\n\t"
                "movq %%xmm7, %%r8\n\tcmpq %%r8, %1\n\tjne 2f\n\t"
                "movq %%xmm15, %%r8\n\tcmpq %%r8, %2\n\tjne 2f\n\t"
                "movq %%mm3, %%r8\n\tcmpq %%r8, %3\n\tje 3f\n"
                "2:\tincq %4\n"
                "3:\temms"
                : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(bad)
                :
                : "r8", "r15", "rsi", "rcx", "xmm0", "xmm7", "xmm15", "mm3",
                  "cc");
        }
        atomic_fetch_add(&turns, 1);
    }
    atomic_fetch_add(&wrong, bad != 0);
    atomic_fetch_sub(&spinning_now, 1);
}

static void registers_survive(void)
{
    unsigned n = 3 * gn_cpu_count();

    stop = false;
    wrong = turns = 0;
    spinning_now = n;
    for (uintptr_t i = 0; i < n; i++)
        gn_go(keep_registers, (void *)i);
    while (turns < 20 * n * rounds)
        gn_yield();
    stop = true;
    while (spinning_now > 0)
        gn_yield();
    ok(wrong == 0, "no register was damaged in %u turns", (unsigned)turns);
}

// ---- where they run ----

static _Atomic unsigned elsewhere;

struct pinned {
    struct gn_wg *wg;
    unsigned cpu;
};

static void stay(void *arg)
{
    struct pinned *p = arg;

    for (unsigned i = 0; i < 100; i++) {
        if (gn_cpu_id() != p->cpu)
            atomic_fetch_add(&elsewhere, 1);
        if (i % 10 == 0)
            g_sleep_until(arch_mono_ns() + 100000);
        else
            gn_yield();
    }
    gn_wg_done(p->wg);
}

static void pinned_stay(void)
{
    struct gn_wg wg = {0};
    struct pinned p[64];

    for (unsigned i = 0; i < 4 * gn_cpu_count() && i < 64; i++) {
        p[i] = (struct pinned){&wg, i % gn_cpu_count()};
        gn_wg_add(&wg, 1);
        if (gn_go_with(&(struct gn_go_options){.name = "stays",
                                               .pinned = true,
                                               .cpu = p[i].cpu},
                       stay, &p[i]) != 0)
            abort();
    }
    gn_wg_wait(&wg);
    IS(elsewhere, 0, "who is pinned runs nowhere else");
    IS(gn_go_with(&(struct gn_go_options){.pinned = true, .cpu = 64}, nothing,
                  NULL),
       -EINVAL, "there is no CPU 64");
}

// main, which was on any.
static void stays_where_it_is_told(void)
{
    unsigned right = 0, all = 0;

    for (int cpu = 0; cpu < (int)gn_cpu_count(); cpu++) {
        if (gn_cpu_stay(cpu) != 0)
            abort();
        for (int i = 0; i < 10; i++) {
            right += gn_cpu_id() == (unsigned)cpu;
            g_sleep_until(arch_mono_ns() + 1000);
            all++;
        }
    }
    ok(right == all, "who asks for it stays on one CPU after the other");
    ok(gn_cpu_stay(GN_CPU_ANY) == 0 && g_current()->cpu == G_ANY_CPU,
       "and goes where it likes again");
    ok(gn_cpu_stay((int)gn_cpu_count()) == -EINVAL &&
           gn_cpu_stay(-2) == -EINVAL && g_current()->cpu == G_ANY_CPU,
       "but not on a CPU that is not there");
}

// main, too, is woken into the slice of who wakes it; one that is pinned waits for its
// turn each time.
static struct {
    struct gn_sem to, fro;
    struct gn_wg all;
    _Atomic bool over;
} game = {GN_SEM(1), GN_SEM(1), {0}, false};

static void hogs(void *arg)
{
    (void)arg;
    while (!game.over)
        ;
    gn_wg_done(&game.all);
}

static void answers(void *arg)
{
    (void)arg;
    while (!game.over) {
        gn_sem_acquire(&game.to, 1);
        gn_sem_release(&game.fro, 1);
    }
    gn_wg_done(&game.all);
}

static uint64_t picks(void)
{
    uint64_t n = 0;

    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++)
        n += *(const volatile uint32_t *)&p_of_cpu(cpu)->picks;
    return n;
}

static void main_does_not_starve(void)
{
    enum { ROUNDS = 3000 };
    int done = 0;

    gn_sem_acquire(&game.to, 1);
    gn_sem_acquire(&game.fro, 1);
    gn_wg_add(&game.all, 1 + gn_cpu_count());
    gn_go(answers, NULL);
    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++)
        gn_go(hogs, NULL);
    // With stress=preempt everybody is picked all the time.
    uint64_t before = picks(), most = slice_always() ? UINT64_MAX : ROUNDS / 2;

    while (done < ROUNDS && picks() - before < most) {
        gn_sem_release(&game.to, 1);
        gn_sem_acquire(&game.fro, 1);
        done++;
    }
    game.over = true;
    gn_sem_release(&game.to, 1);
    gn_wg_wait(&game.all);
    ok(done == ROUNDS,
       "main, woken %d times beside a loop on each CPU: %d times", ROUNDS,
       done);
}

// ---- values ----

static _Atomic unsigned destroyed;
static int key;
static _Thread_local int own = 7;

static void destroy(void *value)
{
    atomic_fetch_add(&destroyed, (unsigned)(uintptr_t)value);
}

static void use_local(void *arg)
{
    struct job *j = arg;
    bool fine = gn_local(key) == NULL && (on_host || own == 7);

    own = (int)j->n;
    fine &= gn_local_set(key, (void *)j->n) == 0;
    for (unsigned i = 0; i < 10; i++)
        gn_yield();
    fine &= gn_local(key) == (void *)j->n && (on_host || own == (int)j->n);
    errno = (int)j->n;
    gn_yield();
    fine &= errno == (int)j->n;
    atomic_fetch_add(&sum, !fine);
    gn_wg_done(j->wg);
    gn_goexit();
}

static void values_are_a_goroutines_own(void)
{
    enum { MANY = 50 };
    struct job job[MANY];
    struct gn_wg wg = {0};
    unsigned want = 0;

    sum = 0;
    key = gn_local_new(destroy);
    ok(key >= 0, "a key");
    for (uintptr_t i = 0; i < MANY; i++) {
        job[i] = (struct job){&wg, i + 1};
        want += (unsigned)i + 1;
        gn_wg_add(&wg, 1);
        gn_go(use_local, &job[i]);
    }
    gn_wg_wait(&wg);
    while (gn_go_count() > 1)
        gn_yield();
    IS(sum, 0, "values, thread-local variables and errno are one's own");
    IS(destroyed, want, "and are destroyed at the end");
    IS(gn_local_set(1000, NULL), -EINVAL, "there is no such key");
    ok(gn_local(1000) == NULL, "nor a value");
    int n = 1;

    while (gn_local_new(NULL) >= 0)
        n++;
    IS(n, 64, "there are 64 keys");
    IS(gn_go_id(), 1, "main is goroutine 1");
}

// ---- the C library's state ----

static void take_apart(void *arg)
{
    struct job *j = arg;
    char text[64];
    unsigned words = 0;

    snprintf(text, sizeof text, "w%lu-w%lu w%lu,w%lu", (unsigned long)j->n,
             (unsigned long)j->n, (unsigned long)j->n, (unsigned long)j->n);
    srand((unsigned)j->n);
    int first = rand();

    for (char *w = strtok(text, "- ,"); w != NULL; w = strtok(NULL, "- ,")) {
        words += strtoul(w + 1, NULL, 10) == j->n;
        gn_yield();
    }
    srand((unsigned)j->n);
    atomic_fetch_add(&sum, words != 4 || rand() != first);
    gn_wg_done(j->wg);
}

static void print_lines(void *arg)
{
    struct job *j = arg;

    // A line comes in one piece, whoever else prints.
    for (unsigned i = 0; i < 5; i++) {
        printf("# %lu %lu %lu %lu\n", (unsigned long)j->n, (unsigned long)j->n,
               (unsigned long)j->n, (unsigned long)j->n);
        gn_yield();
    }
    gn_wg_done(j->wg);
}

static void the_c_library_is_everybodys(void)
{
    enum { MANY = 30 };
    struct job job[MANY];
    struct gn_wg wg = {0};

    sum = 0;
    for (uintptr_t i = 0; i < MANY; i++) {
        job[i] = (struct job){&wg, i};
        gn_wg_add(&wg, 2);
        gn_go(take_apart, &job[i]);
        gn_go(print_lines, &job[i]);
    }
    gn_wg_wait(&wg);
    IS(sum, 0, "strtok and rand have a state for each goroutine");
}

// ---- wait groups ----

static void wait_and_say(void *arg)
{
    gn_wg_wait(arg);
    atomic_store(&sum, 1);
}

// A group on a stack goes when gn_wg_wait returns: not while gn_wg_done, which has
// made it 0, is about to wake another one that waits.
static void groups_may_go_after_the_wait(void)
{
    enum { LONG_NS = 20000000 };
    struct gn_wg wg = {.state_ = 1}; // nothing left, and one waits
    uint64_t until = arch_mono_ns() + LONG_NS;

    if (gn_cpu_count() == 1)
        return;
    sum = 0;
    gn_cpu_start((gn_cpu_id() + 1) % gn_cpu_count(), wait_and_say, &wg);
    while (arch_mono_ns() < until && sum == 0)
        ;
    IS(sum, 0, "nobody returns while gn_wg_done has yet to wake others");
    __atomic_store_n(&wg.state_, 0, __ATOMIC_RELEASE);
    while (sum == 0)
        gn_yield();
    ok(true, "but then");
}

// ---- looking at all ----

struct gate {
    struct gn_wg closed, all;
};

static void wait_at_gate(void *arg)
{
    struct gate *gate = arg;

    gn_wg_wait(&gate->closed);
    gn_wg_done(&gate->all);
}

// How many of the list have that name and state.
static unsigned count_in(const struct gn_go_info *list, size_t n,
                         const char *name, const char *state)
{
    unsigned found = 0;

    for (size_t i = 0; i < n; i++)
        found += strcmp(list[i].name, name) == 0 &&
                 strcmp(list[i].state, state) == 0;
    return found;
}

static void all_are_listed(void)
{
    enum { MANY = 20 };
    struct gn_go_info list[MANY + 5];
    struct gate gate = {0};
    size_t n, ids = 0;

    while (gn_go_count() > 1)
        gn_yield();
    IS(gn_go_list(list, MANY + 5), 1, "main alone");
    ok(list[0].id == 1 && count_in(list, 1, "main", "running") == 1,
       "it has number 1, runs and does not wait");
    struct g *fresh = g_create(nothing, NULL, "fresh", G_ANY_CPU);

    gn_go_list(list, 2);
    ok(list[0].waits_ns == 0 && list[1].waits_ns == 0, "nor one that is new");
    g_ready(fresh);
    while (gn_go_count() > 1)
        gn_yield();
    gn_wg_add(&gate.closed, 1);
    gn_wg_add(&gate.all, MANY);
    for (unsigned i = 0; i < MANY; i++)
        gn_go_with(&(struct gn_go_options){.name = i % 2 ? "odd" : NULL},
                   wait_at_gate, &gate);
    // They are on their way to the gate.
    do {
        gn_yield();
        n = gn_go_list(list, MANY + 5);
    } while (count_in(list, n, "", "sync.WaitGroup.Wait") < MANY / 2 ||
             count_in(list, n, "odd", "sync.WaitGroup.Wait") < MANY / 2);
    IS(n, MANY + 1, "all are listed");
    // All but we wait, and what one waits for takes time.
    for (size_t i = 0, k = 0; i < n; i++) {
        k += list[i].waits_ns > 0;
        if (i + 1 == n)
            IS(k, MANY, "they have been waiting");
        if (list[i].id == 1)
            IS(list[i].waits_ns, 0, "but main");
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++)
            ids += list[i].id == list[k].id;
    }
    IS(ids, 0, "each once");
    IS(gn_go_list(list, 3), 3, "no more than there is room for");
    IS(gn_go_list(list, 0), 0, "nor with none");
    gn_wg_done(&gate.closed);
    gn_wg_wait(&gate.all);
}

// Others come and go: what is listed is a name that somebody has or had.
static void listed_while_they_run(void)
{
    enum { MANY = 200 };
    struct gn_go_info list[MANY];
    struct gn_wg wg = {0};
    static struct job job[MANY];
    unsigned strange = 0;

    while (gn_go_count() > 1) // the last of the test before
        gn_yield();
    gn_wg_add(&wg, MANY);
    for (uintptr_t i = 0; i < MANY; i++) {
        job[i] = (struct job){&wg, i};
        if (gn_go_with(&(struct gn_go_options){.name = "short"}, add_and_done,
                       &job[i]) != 0)
            gn_wg_done(&wg);
        size_t n = gn_go_list(list, MANY);

        for (size_t k = 0; k < n; k++)
            strange +=
                list[k].id == 0 || list[k].state == NULL ||
                (strcmp(list[k].name, "short") != 0 &&
                 strcmp(list[k].name, "main") != 0 && list[k].name[0] != '\0');
    }
    gn_wg_wait(&wg);
    IS(strange, 0, "a list while they come and go");
}

// ---- sharing stacks ----

static void bump(void *arg)
{
    for (unsigned i = 0; i < 1000; i++) {
        atomic_fetch_add((_Atomic unsigned *)arg, 1);
        if (i % 100 == 0)
            gn_yield();
    }
}

struct on_stack {
    struct gn_wg wg;
    _Atomic unsigned n;
};

static void bump_and_done(void *arg)
{
    struct on_stack *s = arg;

    bump(&s->n);
    gn_wg_done(&s->wg);
}

__attribute__((noinline)) static unsigned deep(unsigned depth, void *arg)
{
    volatile char frame[3000];

    frame[0] = 1;
    if (depth == 0) {
        bump_and_done(arg);
        return 0;
    }
    return deep(depth - 1, arg) + frame[0];
}

static unsigned depth;

static void deep_and_done(void *arg)
{
    deep(depth, arg);
}

static void stacks_are_shared(void)
{
    enum { MANY = 40 };
    struct on_stack s = {.n = 0};

    depth = stats().frames_free < 100 * MANY
                ? (unsigned)stats().frames_free / MANY
                : 100;
    gn_wg_add(&s.wg, MANY);
    for (unsigned i = 0; i < MANY; i++)
        gn_go(i % 2 ? bump_and_done : deep_and_done, &s);
    gn_wg_wait(&s.wg);
    IS(s.n, 1000 * MANY, "all write to a variable on our stack");
}

// ---- stack.h ----

__attribute__((noinline)) static size_t dive(size_t bytes)
{
    volatile char frame[2000];

    frame[0] = 1;
    if (gn_stack_used() >= bytes)
        return gn_stack_high();
    return dive(bytes) + frame[0] - 1;
}

struct limited {
    struct gn_wg wg;
    size_t limit, high, again, trimmed;
};

static void look_at_stack(void *arg)
{
    struct limited *l = arg;

    l->limit = gn_stack_limit();
    l->high = dive(l->limit / 2 < 300000 ? l->limit / 2 : 300000);
    l->trimmed = gn_stack_trim();
    l->again = gn_stack_high();
    (void)dive(20000 < l->limit / 2 ? 20000 : l->limit / 2);
    gn_wg_done(&l->wg);
}

static void stacks_have_limits(void)
{
    static const size_t limits[] = {0, 64 << 10, 100 << 20, (size_t)16 << 30};

    for (unsigned i = 0; i < 4; i++) {
        struct limited l = {.limit = 0};
        struct gn_go_options o = {.stack_limit = limits[i]};

        gn_wg_add(&l.wg, 1);
        if (gn_go_with(&o, look_at_stack, &l) != 0) {
            ok(stats().frames_total < 8192, "no memory for descriptors");
            continue;
        }
        gn_wg_wait(&l.wg);
        IS(l.limit, limits[i] != 0 ? limits[i] : 64 << 20, "the limit");
        ok(l.high >= 32000 && l.high < 400000, "grew to %lu", (long)l.high);
        ok(l.again < 16384, "%lu bytes after it was trimmed", (long)l.again);
        ok(l.trimmed >= l.high - l.again, "%lu came back", (long)l.trimmed);
    }
    struct gn_go_options o = {.stack_limit = 1000};

    IS(gn_go_with(&o, nothing, NULL), -EINVAL, "a limit that is too low");
}

// The pages that dead stacks keep are given back when memory is short.
static void dead_stacks_give_way(void)
{
    struct gate g = {.all = {0}};
    uint64_t total = stats().frames_total;
    unsigned many = total / 64 < 300 ? (unsigned)total / 64 : 300;

    gn_wg_add(&g.closed, 1);
    gn_wg_add(&g.all, many);
    for (unsigned i = 0; i < many; i++)
        gn_go(wait_at_gate, &g);
    gn_wg_done(&g.closed);
    gn_wg_wait(&g.all);
    while (gn_go_count() > 1)
        gn_yield();
    uint64_t before = stats().frames_free, got = mm_reclaim(total);
    uint64_t after = stats().frames_free;

    ok(got >= many && after >= before + many,
       "%lu of %u pages of dead stacks came back", (long)(after - before),
       many);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    on_host = argc > 2;
    who_yields_lets_all_run();
    all_run_once();
    loops_stop_nobody();
    registers_survive();
    main_does_not_starve();
    pinned_stay();
    stays_where_it_is_told();
    values_are_a_goroutines_own();
    if (!on_host)
        the_c_library_is_everybodys();
    groups_may_go_after_the_wait();
    all_are_listed();
    listed_while_they_run();
    stacks_are_shared();
    stacks_have_limits();
    dead_stacks_give_way();
    all_run_once();
    return tap_end();
}
