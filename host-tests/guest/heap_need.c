// What CPU 1's cache holds is given to CPU 0 before a call of it fails.
//
// The heap may not grow (heap.limit as it is used), and all but CPU 1's cache is in
// use. How long CPU 0 waits for the other has an end, which a busy machine may meet:
// then it has asked, and CPU 1 does it before it runs anything else.

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include <gneiss/cpu.h>
#include <gneiss/heap.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/tap.h"

enum { SMALL = 4096, OBJECTS = 64 };

struct list {
    struct list *next;
};

static uint64_t promised(void)
{
    struct gn_heap_stats s;

    gn_heap_stats(&s);
    return s.promised;
}

static void trim(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
    gn_heap_trim();
}

static void nothing(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
}

// ---- CPU 1 ----

// Leaves as much in its cache as there is room for.
static void fill_cache(unsigned cpu, void *arg)
{
    static void *p[OBJECTS];

    (void)cpu, (void)arg;
    for (size_t n = 1024; n <= 16384; n *= 2) {
        for (int i = 0; i < OBJECTS; i++)
            p[i] = malloc(n);
        for (int i = 0; i < OBJECTS; i++)
            free(p[i]);
    }
}

static _Atomic bool is_busy, may_end;

static void keep_busy(void *arg)
{
    (void)arg;
    is_busy = true;
    while (!may_end)
        arch_pause();
    is_busy = false;
}

static void begin_busy(void)
{
    struct g *g = g_create(keep_busy, NULL, "busy", 1);

    if (g == NULL)
        abort();
    may_end = false;
    g_ready(g);
    while (!is_busy)
        g_yield();
}

static void end_busy(void)
{
    may_end = true;
    while (is_busy)
        g_yield();
}

// ---- CPU 0 ----

struct need {
    size_t n;               // bytes in all
    size_t each;            // of an object
    size_t found;           // bytes of those that could be had
    uint64_t before, after; // promised
};

static void *get(size_t n)
{
    void *p = malloc(n);

    if (p != NULL)
        return p;
    par_run_on(1, 2, nothing, NULL);
    return malloc(n);
}

static void need(unsigned cpu, void *arg)
{
    struct need *d = arg;
    struct list *all = NULL, *one;

    (void)cpu;
    gn_heap_trim();
    d->before = promised();
    gn_heap_limit(d->before);
    while (d->found < d->n && (one = get(d->each)) != NULL) {
        one->next = all;
        all = one;
        d->found += d->each;
    }
    gn_heap_limit(UINT64_MAX);
    d->after = promised();
    while ((one = all) != NULL) {
        all = one->next;
        free(one);
    }
}

static void is_given(bool busy, bool small)
{
    par_run(trim, NULL);
    uint64_t empty = promised();

    par_run_on(1, 2, fill_cache, NULL);
    par_run_on(0, 1, trim, NULL);
    size_t held = promised() - empty, n = held / 2 / SMALL * SMALL;
    struct need d = {.n = n, .each = small ? SMALL : n};

    ok(held >= 16 * SMALL, "CPU 1 keeps %zu bytes", held);
    if (busy)
        begin_busy();
    par_run_on(0, 1, need, &d);
    if (busy)
        end_busy();
    ok(d.found == n, "CPU 0 gets half of them, %s, while CPU 1 is %s",
       small ? "by small objects" : "as one object", busy ? "busy" : "idle");
    ok(d.after <= d.before, "the heap did not grow");
}

int main(void)
{
    gn_cpu_stay(0);
    for (int i = 0; i < 4; i++)
        is_given(i / 2, i % 2);
    gn_heap_check();
    return tap_end();
}
