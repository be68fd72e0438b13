// <gneiss/go.h>, over the scheduler.

#include <gneiss/go.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "runtime/panic/panic.h"
#include "runtime/stack/stack.h"

static int start(struct g *g)
{
    if (g == NULL)
        return -ENOMEM;
    g_ready(g);
    return 0;
}

int gn_go_with(const struct gn_go_options *o, void (*fn)(void *), void *arg)
{
    static const struct gn_go_options none;

    if (o == NULL)
        o = &none;
    if ((o->pinned && o->cpu >= arch_cpu_count()) ||
        (o->stack_limit != 0 && (o->stack_limit < STACK_LIMIT_MIN ||
                                 o->stack_limit > STACK_LIMIT_MAX)))
        return -EINVAL;
    return start(g_create_limited(fn, arg, o->name != NULL ? o->name : "",
                                  o->pinned ? (int)o->cpu : G_ANY_CPU,
                                  o->stack_limit));
}

int gn_go(void (*fn)(void *), void *arg)
{
    return start(g_create(fn, arg, "", G_ANY_CPU));
}

void gn_yield(void)
{
    g_yield();
}

void gn_goexit(void)
{
    panic_goexit();
}

uint64_t gn_go_id(void)
{
    return g_id(g_current());
}

size_t gn_go_count(void)
{
    return g_count();
}

// No lock, as in a report: what was read is kept if the slot has not changed hands.
size_t gn_go_list(struct gn_go_info *list, size_t max)
{
    const struct g *g;
    size_t n = 0;

    for (size_t i = 0; n < max && (g = stack_nth(i)) != NULL; i++) {
        uint64_t id = *(const volatile uint64_t *)&g->id;

        if (id == 0 || g->state == G_FREE || g->hidden)
            continue;
        list[n] =
            (struct gn_go_info){id, g->name, g_state_name(g), g_waits_ns(g)};
        if (list[n].name != NULL && g->state != G_FREE &&
            *(const volatile uint64_t *)&g->id == id)
            n++;
    }
    return n;
}

// ---- values of a goroutine ----

enum { KEYS = 64 };

static _Atomic int nkeys;
static void (*_Atomic destroyers[KEYS])(void *);

struct locals {
    void *value[KEYS];
};

// At the end of a goroutine that has values.
static void drop_locals(void *arg)
{
    struct locals *l = arg;

    for (int key = 0; key < KEYS; key++) {
        void *value = l->value[key];
        void (*destroy)(void *) = destroyers[key];

        l->value[key] = NULL;
        if (value != NULL && destroy != NULL)
            destroy(value);
    }
    g_set_locals(NULL, NULL);
    free(l);
}

int gn_local_new(void (*destroy)(void *value))
{
    int key = atomic_load(&nkeys);

    do {
        if (key == KEYS)
            return -ENOSPC;
    } while (!atomic_compare_exchange_weak(&nkeys, &key, key + 1));
    destroyers[key] = destroy;
    return key;
}

int gn_local_set(int key, void *value)
{
    struct locals *l = g_locals();

    if (key < 0 || key >= nkeys)
        return -EINVAL;
    if (l == NULL) {
        l = calloc(1, sizeof *l);
        if (l == NULL)
            return -ENOMEM;
        g_set_locals(l, drop_locals);
    }
    l->value[key] = value;
    return 0;
}

void *gn_local(int key)
{
    struct locals *l = g_locals();

    return l != NULL && key >= 0 && key < KEYS ? l->value[key] : NULL;
}
