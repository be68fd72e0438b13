// What the tests after Go's share: goroutines and channels that there has to be memory
// for, and panics by their texts.
#pragma once

#include <gneiss/chan.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/time.h>

#include <string.h>

#include "host-tests/guest/tap.h"

typedef gn_chan(int) ints;

static inline void go(void (*fn)(void *), void *arg)
{
    if (gn_go(fn, arg) != 0)
        abort();
}

struct pipe {
    ints c, out;
};

static inline ints make(size_t cap)
{
    ints c = gn_make_chan(ints, cap);

    if (c.raw == NULL)
        abort();
    return c;
}

static inline void *need(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

// Whether fn(arg) panics with this text.
static inline bool panics(void (*fn)(void *), void *arg, const char *text)
{
    struct gn_panic p;

    return !gn_try(fn, arg, &p) && strcmp(p.text, text) == 0;
}

static inline void yield_often(void)
{
    for (int i = 0; i < 20; i++)
        gn_yield();
}

static inline bool waits_so(const struct gn_go_info *i, const char *why)
{
    return strcmp(i->state, why) == 0;
}

// Until n goroutines wait for this.
static inline void until_waiting(const char *why, unsigned n)
{
    static struct gn_go_info list[1200];

    for (unsigned found = 0; found != n; gn_sleep(20 * GN_MICROSECOND)) {
        size_t all = gn_go_list(list, sizeof list / sizeof list[0]);

        found = 0;
        for (size_t i = 0; i < all; i++)
            found += waits_so(&list[i], why);
    }
}
