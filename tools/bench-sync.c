// What channels, select, sync, timers and panics cost: lines "name value", for
// tools/bench.
//
// usage: bench-sync [NAME]
//
// With a name: only that, as a Linux process, in nanoseconds of CPU time. Else all, in
// instructions (run with --icount, one CPU).

#include <gneiss/chan.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cycles.h"

typedef gn_chan(int) ints;

static uint64_t cpu_ns(void)
{
    return (uint64_t)clock() * (1000000000 / CLOCKS_PER_SEC);
}

static uint64_t (*now)(void) = cycles;

static void go(void (*fn)(void *), void *arg)
{
    if (gn_go(fn, arg) != 0) {
        fprintf(stderr, "bench-sync: no memory for a goroutine\n");
        exit(1);
    }
}

static ints make(size_t cap)
{
    ints c = gn_make_chan(ints, cap);

    if (c.raw == NULL) {
        fprintf(stderr, "bench-sync: no memory for a channel\n");
        exit(1);
    }
    return c;
}

// ---- channels ----

static ints ping, pong;

static void answer(void *arg)
{
    int v;

    (void)arg;
    while (gn_recv(ping, &v))
        gn_send(pong, v);
}

static void pingpong(unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        gn_send(ping, 1);
        (void)gn_next(pong);
    }
}

static void pingpong_start(void)
{
    ping = make(0);
    pong = make(0);
    go(answer, NULL);
    gn_yield();
}

static void buffered(unsigned n)
{
    ints c = make(1);

    for (unsigned i = 0; i < n; i++) {
        gn_send(c, 1);
        (void)gn_next(c);
    }
    gn_chan_free(c.raw);
}

// As Go's BenchmarkSelectUncontended.
static void select_two(unsigned n)
{
    ints a = make(1), b = make(1);

    gn_send(a, 0);
    for (unsigned i = 0; i < n; i++) {
        struct gn_case cases[] = {GN_RECV(a, NULL), GN_RECV(b, NULL)};

        if (gn_select(cases, 2) == 0)
            gn_send(b, 0);
        else
            gn_send(a, 0);
    }
    gn_chan_free(a.raw);
    gn_chan_free(b.raw);
}

static void select_default(unsigned n)
{
    ints a = make(1), b = make(1);
    unsigned got = 0;

    for (unsigned i = 0; i < n; i++) {
        struct gn_case cases[] = {GN_RECV(a, NULL), GN_RECV(b, NULL)};

        got += gn_select_try(cases, 2) >= 0;
    }
    if (got != 0)
        exit(1);
    gn_chan_free(a.raw);
    gn_chan_free(b.raw);
}

// And given back, since there is no collector.
static void make_chan(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        gn_chan_free(make(0).raw);
}

static ints queue;
static struct gn_wg done;
static unsigned each;

static void producer(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < each; i++)
        gn_send(queue, (int)i);
    gn_wg_done(&done);
}

static void consumer(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < each; i++)
        (void)gn_next(queue);
    gn_wg_done(&done);
}

// A value through a channel of 128 that eight share.
static void four_by_four(unsigned n)
{
    queue = make(128);
    each = n / 4;
    gn_wg_add(&done, 8);
    for (int i = 0; i < 4; i++) {
        go(producer, NULL);
        go(consumer, NULL);
    }
    gn_wg_wait(&done);
    gn_chan_free(queue.raw);
}

// ---- the sieve ----

struct filter {
    ints in, out;
    int prime;
};

static void generate(void *arg)
{
    ints out = {arg};

    for (int i = 2;; i++)
        gn_send(out, i);
}

static void sift(void *arg)
{
    struct filter f = *(struct filter *)arg;

    free(arg);
    for (;;) {
        int i = gn_next(f.in);

        if (i % f.prime != 0)
            gn_send(f.out, i);
    }
}

// The n first primes; they stay behind.
static void sieve(unsigned n)
{
    ints c = make(0);
    int prime = 0;

    go(generate, c.raw);
    for (unsigned i = 0; i < n; i++) {
        struct filter *f = malloc(sizeof *f);

        prime = gn_next(c);
        if (f == NULL)
            exit(1);
        *f = (struct filter){c, make(0), prime};
        c = f->out;
        go(sift, f);
    }
    if (n == 2000 && prime != 17389)
        exit(1);
}

// ---- the others ----

static void mutex(unsigned n)
{
    static struct gn_mutex m;

    for (unsigned i = 0; i < n; i++) {
        gn_mutex_lock(&m);
        gn_mutex_unlock(&m);
    }
}

static void wait_group(unsigned n)
{
    static struct gn_wg w;

    for (unsigned i = 0; i < n; i++) {
        gn_wg_add(&w, 1);
        gn_wg_done(&w);
    }
}

static void nothing(void *arg)
{
    (void)arg;
}

static void after_func(unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        gn_timer_free(gn_after_func(3600 * GN_SECOND, nothing, NULL));
}

static void panic_now(void *arg)
{
    (void)arg;
    gn_panic("bench");
}

static void panic_recover(unsigned n)
{
    struct gn_panic p;

    for (unsigned i = 0; i < n; i++)
        gn_try(panic_now, NULL, &p);
}

static const struct {
    const char *name;
    void (*start)(void);
    void (*fn)(unsigned n);
    unsigned n, longer; // operations, and so many times more natively
    unsigned total;     // 1: the figure is of all
} rows[] = {
    {"sync_pingpong", pingpong_start, pingpong, 20000, 100, 0},
    {"sync_buffered", NULL, buffered, 20000, 500, 0},
    {"sync_select_two", NULL, select_two, 20000, 200, 0},
    {"sync_select_default", NULL, select_default, 20000, 500, 0},
    {"sync_make_chan", NULL, make_chan, 20000, 500, 0},
    {"sync_four_by_four", NULL, four_by_four, 40000, 100, 0},
    {"sync_mutex", NULL, mutex, 20000, 1000, 0},
    {"sync_wait_group", NULL, wait_group, 20000, 1000, 0},
    {"sync_after_func", NULL, after_func, 20000, 100, 0},
    {"sync_panic", NULL, panic_recover, 20000, 200, 0},
    {"sync_sieve", NULL, sieve, 2000, 1, 1},
};

static void measure(size_t i, unsigned times)
{
    unsigned n = rows[i].n * times;

    if (rows[i].start != NULL)
        rows[i].start();
    uint64_t start = now();

    rows[i].fn(n);
    printf("%s %.1f\n", rows[i].name,
           (double)(now() - start) / (rows[i].total ? 1 : n));
}

int main(int argc, char **argv)
{
    bool found = false;

    if (argc > 1)
        now = cpu_ns;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (argc > 1 && strcmp(argv[1], rows[i].name) != 0)
            continue;
        found = true;
        measure(i, argc > 1 ? rows[i].longer : 1);
    }
    if (!found) {
        fprintf(stderr, "bench-sync: there is no %s\n", argv[1]);
        return 2;
    }
    puts("end");
    return 0;
}
