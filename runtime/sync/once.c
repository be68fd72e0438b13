// Once.
//
// Source: Go, src/sync/once.go.

#include <gneiss/panic.h>

#include "runtime/sync/sync.h"

static void set_done(void *once)
{
    struct gn_once *o = once;

    // Release: pairs with the acquire in gn_once_do().
    __atomic_store_n(&o->done_, 1, __ATOMIC_RELEASE);
}

void gn_once_do_slow_(struct gn_once *o, void (*fn)(void *), void *arg)
{
    gn_mutex_lock(&o->mutex_);
    gn_defer(gn_deferred_unlock, &o->mutex_);
    if (o->done_ == 0) {
        gn_defer(set_done, o);
        fn(arg);
    }
}
