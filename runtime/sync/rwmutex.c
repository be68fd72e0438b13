// Readers and writers.
//
// readers_ counts those that read, or want to. A writer, one at a time by writers_,
// takes MANY away: from then on who comes to read finds it negative and waits. leaving_
// counts those that read then down; the last lets the writer go on.
//
// A reader may leave before the writer has added to leaving_, which is negative then:
// who makes it 0 comes last, and only that one goes on or lets go on.
//
// Source: Go, src/sync/rwmutex.go.

#include "runtime/sync/sync.h"

enum { MANY = 1 << 30 };

// ---- reading ----

void gn_rwmutex_rlock_slow_(struct gn_rwmutex *rw)
{
    sync_sema_acquire(&rw->reader_, "sync.RWMutex.RLock");
}

bool gn_rwmutex_try_rlock(struct gn_rwmutex *rw)
{
    int32_t n = __atomic_load_n(&rw->readers_, __ATOMIC_RELAXED);

    while (n >= 0) {
        if (__atomic_compare_exchange_n(&rw->readers_, &n, n + 1, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
            return true;
    }
    return false;
}

// readers: what is left.
void gn_rwmutex_runlock_slow_(struct gn_rwmutex *rw, int32_t readers)
{
    if (readers == -1 || readers == -MANY - 1)
        sync_fatal("fatal error: sync: RUnlock of unlocked RWMutex");
    if (__atomic_sub_fetch(&rw->leaving_, 1, __ATOMIC_SEQ_CST) == 0)
        sync_sema_release(&rw->writer_, 1);
}

// ---- writing ----

void gn_rwmutex_lock(struct gn_rwmutex *rw)
{
    gn_mutex_lock(&rw->writers_);
    int32_t n = gn_add32_(&rw->readers_, -MANY) + MANY;

    if (n != 0 && __atomic_add_fetch(&rw->leaving_, n, __ATOMIC_SEQ_CST) != 0)
        sync_sema_acquire(&rw->writer_, "sync.RWMutex.Lock");
}

bool gn_rwmutex_try_lock(struct gn_rwmutex *rw)
{
    int32_t none = 0;

    if (!gn_mutex_try_lock(&rw->writers_))
        return false;
    if (__atomic_compare_exchange_n(&rw->readers_, &none, -MANY, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        return true;
    gn_mutex_unlock(&rw->writers_);
    return false;
}

void gn_rwmutex_unlock(struct gn_rwmutex *rw)
{
    int32_t n = gn_add32_(&rw->readers_, MANY);

    if (n >= MANY)
        sync_fatal("fatal error: sync: Unlock of unlocked RWMutex");
    if (n > 0)
        sync_sema_release(&rw->reader_, (uint32_t)n);
    gn_mutex_unlock(&rw->writers_);
}
