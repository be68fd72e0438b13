// What goroutines cost, in instructions (run with --icount, one CPU): lines
// "name value", for tools/bench.

#include <gneiss/go.h>
#include <gneiss/mem.h>
#include <gneiss/sync.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "cycles.h"

enum { TURNS = 20000, CREATED = 2000, PARKED = 100000, DEEP_BYTES = 590000 };

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
    for (int i = 0; i < TURNS; i++)
        gn_yield();
    gn_wg_done(&done);
}

static void yields(void)
{
    gn_wg_add(&done, 2);
    go(yield_often, NULL);
    go(yield_often, NULL);
    uint64_t start = cycles();

    gn_wg_wait(&done);
    result("go_yield", cycles() - start, 2 * TURNS);
}

struct pair {
    struct gn_wg ping, pong;
};

static void answer(void *arg)
{
    struct pair *p = arg;

    for (int i = 0; i < TURNS; i++) {
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
    uint64_t start = cycles();

    for (int i = 0; i < TURNS; i++) {
        gn_wg_done(&p.ping);
        gn_wg_wait(&p.pong);
        gn_wg_add(&p.pong, 1);
    }
    result("go_handoff", cycles() - start, 2 * TURNS);
}

// ---- making ----

static void nothing(void *arg)
{
    (void)arg;
    gn_wg_done(&done);
}

static void create(const char *name)
{
    uint64_t start = cycles();

    for (int i = 0; i < CREATED; i++) {
        gn_wg_add(&done, 1);
        go(nothing, NULL);
        gn_wg_wait(&done);
    }
    result(name, cycles() - start, CREATED);
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
    uint64_t start = cycles();

    for (int i = 0; i < PARKED; i++)
        go(wait_at_gate, NULL);
    gn_yield();
    result("go_parked", cycles() - start, PARKED);
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
    uint64_t start = cycles(), first, again;

    deep(bytes);
    first = cycles() - start;
    start = cycles();
    deep(bytes);
    again = cycles() - start;
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

int main(void)
{
    yields();
    hand_off();
    create("go_create_cold");
    create("go_create");
    descents();
    park();
    puts("end");
    return 0;
}
