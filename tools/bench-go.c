// What goroutines cost, in instructions (run with --icount, one CPU): lines
// "name value", for tools/bench.
//
// usage: bench-go [yield|handoff|create]
//
// With an argument: only that, as a Linux process, in nanoseconds of CPU time.

#include <gneiss/go.h>
#include <gneiss/mem.h>
#include <gneiss/sync.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cycles.h"

enum {
    TURNS = 20000,
    CREATED = 2000,
    LONGER = 100,
    PARKED = 100000,
    DEEP_BYTES = 590000
};

static uint64_t cpu_ns(void)
{
    return (uint64_t)clock() * (1000000000 / CLOCKS_PER_SEC);
}

static uint64_t (*now)(void) = cycles;
static int turns = TURNS, created = CREATED;

static void result(const char *name, uint64_t total, uint64_t n)
{
    printf("%s %.1f\n", name, (double)total / (double)n);
}

static void go(void (*fn)(void *), void *arg)
{
    if (gn_go(fn, arg) != 0) {
        fprintf(stderr, "bench-go: no memory for a goroutine\n");
        exit(1);
    }
}

// ---- switching ----

static struct gn_wg done;

static void yield_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < turns; i++)
        gn_yield();
    gn_wg_done(&done);
}

static void yields(void)
{
    gn_wg_add(&done, 2);
    go(yield_often, NULL);
    go(yield_often, NULL);
    uint64_t start = now();

    gn_wg_wait(&done);
    result("go_yield", now() - start, 2 * (uint64_t)turns);
}

struct pair {
    struct gn_wg ping, pong;
};

static void answer(void *arg)
{
    struct pair *p = arg;

    for (int i = 0; i < turns; i++) {
        gn_wg_wait(&p->ping);
        gn_wg_add(&p->ping, 1);
        gn_wg_done(&p->pong);
    }
}

// Each turn is two: there and back.
static void hand_off(void)
{
    static struct pair p;

    gn_wg_add(&p.ping, 1);
    gn_wg_add(&p.pong, 1);
    go(answer, &p);
    gn_yield();
    uint64_t start = now();

    for (int i = 0; i < turns; i++) {
        gn_wg_done(&p.ping);
        gn_wg_wait(&p.pong);
        gn_wg_add(&p.pong, 1);
    }
    result("go_handoff", now() - start, 2 * (uint64_t)turns);
}

// ---- making ----

static void nothing(void *arg)
{
    (void)arg;
    gn_wg_done(&done);
}

static void create(const char *name)
{
    uint64_t start = now();

    for (int i = 0; i < created; i++) {
        gn_wg_add(&done, 1);
        go(nothing, NULL);
        gn_wg_wait(&done);
    }
    result(name, now() - start, (uint64_t)created);
}

static struct gn_wg gate;

static void wait_at_gate(void *arg)
{
    (void)arg;
    gn_wg_wait(&gate);
    gn_wg_done(&done);
}

static void park(void)
{
    struct gn_mem_stats before, after;

    gn_mem_stats(&before);
    gn_wg_add(&gate, 1);
    gn_wg_add(&done, PARKED);
    uint64_t start = now();

    for (int i = 0; i < PARKED; i++)
        go(wait_at_gate, NULL);
    gn_yield();
    result("go_parked", now() - start, PARKED);
    gn_mem_stats(&after);
    result("go_parked_bytes", (before.frames_free - after.frames_free) * 4096,
           PARKED);
    gn_wg_done(&gate);
    gn_wg_wait(&done);
}

// ---- stacks ----

__attribute__((noinline)) static int deep(long bytes)
{
    volatile char frame[1000];

    frame[0] = 1;
    return bytes <= 0 ? 0 : deep(bytes - 1040) + frame[0];
}

static void descend(void *arg)
{
    long bytes = *(long *)arg;
    uint64_t start = now(), first, again;

    deep(bytes);
    first = now() - start;
    start = now();
    deep(bytes);
    again = now() - start;
    printf("go_descent_%ldk %lu\n", bytes / 1000, (unsigned long)first);
    printf("go_descent_%ldk_again %lu\n", bytes / 1000, (unsigned long)again);
    gn_wg_done(&done);
}

static void descents(void)
{
    static long bytes[] = {10000, DEEP_BYTES};

    for (int i = 0; i < 2; i++) {
        gn_wg_add(&done, 1);
        go(descend, &bytes[i]);
        gn_wg_wait(&done);
    }
}

static int measure_one(const char *what)
{
    now = cpu_ns;
    turns *= LONGER;
    created *= LONGER;
    if (strcmp(what, "yield") == 0)
        yields();
    else if (strcmp(what, "handoff") == 0)
        hand_off();
    else if (strcmp(what, "create") == 0)
        create("go_create");
    else
        return 2;
    puts("end");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return measure_one(argv[1]);
    yields();
    hand_off();
    create("go_create_cold");
    create("go_create");
    descents();
    park();
    puts("end");
    return 0;
}
