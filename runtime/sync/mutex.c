// Mutexes.
//
// All that matters is in one word, so that an unlock has done with the mutex when
// another can have it: who locks it next may be the last, and give back its memory.
//
//   LOCKED    somebody has it
//   WAITERS   the queue is not empty
//   WOKEN     one who was in the queue, or spins, is about to try: wake nobody else
//   STARVING  who unlocks it hands it to the first in the queue: LOCKED stays
//   GUARD     who set this, and nobody else, changes the word and the queue. A spinlock,
//             held for a few instructions, with no-preempt above zero
//
// 0 -> LOCKED -> 0 are done by the header, with one instruction each. Everything else is
// done with GUARD set.
//
// Normally who wakes up competes, and is first in the queue again if it loses. If it has
// waited for more than STARVING_NS by then, it sets STARVING. Who has got it so, and
// was the last, or has waited for less, clears that.
//
// STARVING implies LOCKED: nobody comes between two owners.
//
// Source: Go, src/internal/sync/mutex.go.

#include "runtime/sync/sync.h"

enum {
    LOCKED = 1, // as the header has it
    GUARD = 2,
    WOKEN = 4,
    STARVING = 8,
    WAITERS = 16,
};

enum {
    STARVING_NS = 1000000,
    SPINS = 4,   // times to wait actively
    PAUSES = 30, // of the CPU, each time
};

// Returns the state, without GUARD.
static uint32_t guard(struct gn_mutex *m)
{
    preempt_disable();
    for (;;) {
        uint32_t s = __atomic_load_n(&m->state_, __ATOMIC_RELAXED);

        // Acquire: pairs with the release in unguard(), and in the header.
        if ((s & GUARD) == 0 &&
            __atomic_compare_exchange_n(&m->state_, &s, s | GUARD, true,
                                        __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return s;
        arch_relax();
    }
}

static void unguard(struct gn_mutex *m, uint32_t s)
{
    __atomic_store_n(&m->state_, s, __ATOMIC_RELEASE);
    preempt_enable();
}

// ---- locking ----

// While the owner may be about to unlock it. Returns whether it is worth another look.
// *awoke: see WOKEN.
static bool spin(struct gn_mutex *m, uint32_t s, bool *awoke)
{
    if (!sched_may_spin())
        return false;
    if (!*awoke && (s & (WOKEN | GUARD | WAITERS)) == WAITERS)
        *awoke =
            __atomic_compare_exchange_n(&m->state_, &s, s | WOKEN, false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    preempt_disable();
    for (unsigned i = 0; i < PAUSES; i++)
        arch_relax();
    preempt_enable();
    return true;
}

struct parked {
    struct gn_mutex *m;
    uint32_t s;
};

static void unguard_parked(void *arg)
{
    struct parked *p = arg;

    unguard(p->m, p->s);
}

// It was handed over. Whether this goes on so.
static void may_end_starving(struct gn_mutex *m, bool starving)
{
    uint32_t s = guard(m);

    if (!starving || (s & WAITERS) == 0)
        s &= ~(uint32_t)STARVING;
    unguard(m, s);
}

void gn_mutex_lock_slow_(struct gn_mutex *m)
{
    struct gn_waiter_ w = {.g = g_current()};
    struct parked p = {.m = m};
    bool awoke = false, starving = false;
    unsigned spins = 0;
    uint64_t since = 0;

    for (;;) {
        uint32_t s = __atomic_load_n(&m->state_, __ATOMIC_RELAXED);

        if ((s & (LOCKED | STARVING)) == LOCKED && spins < SPINS &&
            spin(m, s, &awoke)) {
            spins++;
            continue;
        }
        s = guard(m);
        if (awoke)
            s &= ~(uint32_t)WOKEN;
        if ((s & LOCKED) == 0) {
            unguard(m, s | LOCKED);
            return;
        }
        if (since != 0) {
            sync_push_front(&m->last_, &w);
        } else {
            sync_push(&m->last_, &w);
            since = arch_mono_ns();
        }
        p.s = s | WAITERS | (starving ? STARVING : 0);
        g_park("sync.Mutex.Lock", unguard_parked, &p);
        starving |= arch_mono_ns() - since > STARVING_NS;
        if (w.owns) {
            may_end_starving(m, starving);
            return;
        }
        awoke = true;
        spins = 0;
    }
}

bool gn_mutex_try_lock_slow_(struct gn_mutex *m)
{
    if (__atomic_load_n(&m->state_, __ATOMIC_RELAXED) & LOCKED)
        return false;
    uint32_t s = guard(m);

    unguard(m, s | LOCKED);
    return (s & LOCKED) == 0;
}

// ---- unlocking ----

void gn_mutex_unlock_slow_(struct gn_mutex *m)
{
    uint32_t s = guard(m);

    if ((s & LOCKED) == 0) {
        unguard(m, s);
        sync_fatal("fatal error: sync: unlock of unlocked mutex");
    }
    if ((s & WAITERS) == 0 || (s & (STARVING | WOKEN)) == WOKEN) {
        unguard(m, s & ~(uint32_t)LOCKED);
        return;
    }
    struct gn_waiter_ *w = sync_pop(&m->last_);

    if (m->last_ == NULL)
        s &= ~(uint32_t)WAITERS;
    if ((s & STARVING) == 0) {
        unguard(m, (s & ~(uint32_t)LOCKED) | WOKEN);
        g_ready(w->g);
        return;
    }
    w->owns = true;
    unguard(m, s);
    g_ready(w->g);
    g_yield(); // for it
}

void gn_deferred_unlock(void *mutex)
{
    gn_mutex_unlock(mutex);
}
