// What the tests after Go's share: goroutines and channels that there has to be memory
// for, and panics by their texts.
#pragma once

#include <gneiss/chan.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>

#include <string.h>

#include "host-tests/guest/tap.h"

typedef gn_chan(int) ints;

static inline void go(void (*fn)(void *), void *arg)
{
    if (gn_go(fn, arg) != 0)
        abort();
}

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
