// Goroutines: who runs where, that none keeps a CPU, and what all of them do.

#include "apps/tour/tour.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    MOST_CPUS = 64,
    SHORT = 400,   // short goroutines
    WORK = 20000,  // rounds of what each does
    PER_MARK = 10, // of them in a mark of the drawing
    WALKERS = 4,   // beside the loops
    STEPS = 3,     // of each
    NAP_NS = 10000000,
};

static bool start(const char *name, void (*fn)(void *), void *arg)
{
    return gn_go_with(&(struct gn_go_options){.name = name}, fn, arg) == 0;
}

// ---- who runs where ----

static struct job {
    struct gn_wg *done;
    _Atomic unsigned runs;
    unsigned cpu;
} jobs[SHORT];

static void work(void *arg)
{
    struct job *j = arg;

    for (volatile unsigned i = 0; i < WORK; i++)
        ;
    j->cpu = gn_cpu_id();
    atomic_fetch_add(&j->runs, 1);
    gn_wg_done(j->done);
}

static void show_who_runs_where(void)
{
    unsigned ran[MOST_CPUS] = {0}, n = 0, once = 0;
    struct gn_wg done = {0};

    for (; n < SHORT; n++) {
        jobs[n] = (struct job){.done = &done};
        gn_wg_add(&done, 1);
        if (!start("short", work, &jobs[n])) {
            gn_wg_done(&done);
            break;
        }
    }
    gn_wg_wait(&done);
    for (unsigned i = 0; i < n; i++) {
        ran[jobs[i].cpu]++;
        once += jobs[i].runs == 1;
    }
    say("%u goroutines, made on one CPU, ended on:\n", n);
    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++)
        say("CPU %2u %4u %s", cpu, ran[cpu],
            bar('#', (ran[cpu] + PER_MARK - 1) / PER_MARK));
    putchar('\n');
    claim(once == n, "each ran once");
}

// ---- loops ----

static _Atomic bool stop;
static _Atomic unsigned nlooping, nended, nsteps;
static struct gn_wg loops, walks, gate, waiters;

static void loop(void *arg)
{
    (void)arg;
    atomic_fetch_add(&nlooping, 1);
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        ;
    atomic_fetch_add(&nended, 1);
    gn_wg_done(&loops);
}

static void walk(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < STEPS; i++) {
        atomic_fetch_add(&nsteps, 1);
        gn_yield();
    }
    gn_wg_done(&walks);
}

// Starts up to n of a kind, and returns how many there are.
static unsigned start_many(unsigned n, const char *name, void (*fn)(void *),
                           struct gn_wg *wg)
{
    for (unsigned i = 0; i < n; i++) {
        gn_wg_add(wg, 1);
        if (!start(name, fn, NULL)) {
            gn_wg_done(wg);
            return i;
        }
    }
    return n;
}

// Returns how many loops there are; they go on.
static unsigned show_loops(void)
{
    unsigned n = start_many(gn_cpu_count(), "loop", loop, &loops);
    unsigned walkers;
    uint64_t t;

    while (nlooping < n)
        gn_yield();
    putchar('\n');
    say("%u CPU%s, and %u goroutine%s like this:  while (!stop) ;",
        gn_cpu_count(), gn_cpu_count() == 1 ? "" : "s", n, n == 1 ? "" : "s");
    t = now_ns();
    walkers = start_many(WALKERS, "walker", walk, &walks);
    gn_wg_wait(&walks);
    t = (now_ns() - t) / 1000000;
    claim(nsteps == walkers * STEPS && nended == 0,
          "%u others made %d steps each meanwhile, and the loops still run",
          walkers, STEPS);
    say("(in %llu ms: the CPU is taken from a loop after its slice)",
        (unsigned long long)t);
    return n;
}

// ---- all of them ----

static void wait_at_gate(void *arg)
{
    (void)arg;
    gn_wg_wait(&gate);
    gn_wg_done(&waiters);
}

static void nap(void *arg)
{
    (void)arg;
    while (!stop)
        nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    gn_wg_done(&waiters);
}

static struct gn_go_info list[MOST_CPUS + 8];

static int by_id(const void *a, const void *b)
{
    const struct gn_go_info *x = a, *y = b;

    return x->id < y->id ? -1 : x->id > y->id;
}

static size_t list_all(void)
{
    size_t n = gn_go_list(list, sizeof list / sizeof list[0]);

    qsort(list, n, sizeof list[0], by_id);
    return n;
}

static unsigned count_of(size_t n, const char *name, const char *state)
{
    unsigned found = 0;

    for (size_t i = 0; i < n; i++)
        found += strcmp(list[i].name, name) == 0 &&
                 (state == NULL || strcmp(list[i].state, state) == 0);
    return found;
}

static void show_list(unsigned nloops)
{
    static const char waits[] = "sync.WaitGroup.Wait";
    unsigned nwaiters, nnaps;
    size_t n;

    gn_wg_add(&gate, 1);
    nwaiters = start_many(1, "waiter", wait_at_gate, &waiters);
    nnaps = start_many(1, "sleeper", nap, &waiters);
    // The walkers end, and these two come to where they wait.
    do {
        gn_yield();
        n = list_all();
    } while (gn_go_count() > 1 + nloops + nwaiters + nnaps ||
             count_of(n, "waiter", waits) < nwaiters ||
             count_of(n, "sleeper", "sleep") < nnaps);
    putchar('\n');
    say("All there are, and what they do:\n");
    for (size_t i = 0; i < n; i++)
        say("goroutine %-8llu %-8s %s", (unsigned long long)list[i].id,
            list[i].name, list[i].state);
    putchar('\n');
    claim(n == gn_go_count() && count_of(n, "loop", NULL) == nloops,
          "all %u are in the list", (unsigned)n);
    claim(list[0].id == gn_go_id() && count_of(n, "main", "running") == 1,
          "goroutine 1 is main: it runs, since it has just asked");
    n = list_all();
    claim(count_of(n, "waiter", waits) == nwaiters,
          "who waits takes no CPU until somebody wakes it");
    atomic_store(&stop, true);
    gn_wg_done(&gate);
    gn_wg_wait(&waiters);
}

void chapter_goroutines(void)
{
    stop = false;
    nlooping = nended = nsteps = 0;
    show_who_runs_where();
    show_list(show_loops());
    gn_wg_wait(&loops);
    wait_until_alone();
}
