// Wait groups.
//
// One word counts both what is to be done and who waits; the header changes the first
// with one instruction, and is done if nobody waits and nothing is wrong. Who brings it
// to 0 while somebody waits takes the queue, sets the word to 0 as a whole, has done
// with the group by that, and wakes them all.
//
// Locks: the group's spinlock protects the queue. The word is counted up for a waiter
// with it held: it says how many are in the queue.
//
// Source: Go, src/sync/waitgroup.go.

#include "runtime/sync/sync.h"

#include "runtime/panic/panic.h"

static const char text_negative[] = "sync: negative WaitGroup counter";
static const char text_misuse[] =
    "sync: WaitGroup misuse: Add called concurrently with Wait";
static const char text_reused[] =
    "sync: WaitGroup is reused before previous Wait has returned";

static uint64_t load(struct gn_wg *w)
{
    return __atomic_load_n(&w->state_, __ATOMIC_SEQ_CST);
}

static int32_t left(uint64_t state)
{
    return (int32_t)(state >> 32);
}

static uint32_t waiters(uint64_t state)
{
    return (uint32_t)state;
}

// state: after n was added.
void gn_wg_add_slow_(struct gn_wg *w, int64_t n, uint64_t state)
{
    struct gn_waiter_ *woken;

    if (left(state) < 0)
        panic_go(text_negative);
    if (waiters(state) != 0 && n > 0 && left(state) == (int32_t)n)
        panic_go(text_misuse);
    if (left(state) > 0 || waiters(state) == 0)
        return;
    spin_lock(SYNC_LOCK(w));
    if (load(w) != state) {
        spin_unlock(SYNC_LOCK(w));
        panic_go(text_misuse);
    }
    woken = w->last_;
    w->last_ = NULL;
    spin_unlock(SYNC_LOCK(w));
    // Release: pairs with the acquire in gn_wg_wait(). Who sees it may give back w.
    __atomic_store_n(&w->state_, 0, __ATOMIC_RELEASE);
    sync_ready_all(woken);
}

void gn_deferred_done(void *wg)
{
    gn_wg_done(wg);
}

// ---- waiting ----

// In the queue with the lock held, if something is left. Else returns false.
static bool enqueue(struct gn_wg *w, struct gn_waiter_ *me)
{
    uint64_t state = load(w);

    while (left(state) != 0) {
        if (__atomic_compare_exchange_n(&w->state_, &state, state + 1, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            sync_push(&w->last_, me);
            return true;
        }
    }
    return false;
}

void gn_wg_wait_slow_(struct gn_wg *w)
{
    struct gn_waiter_ me = {.g = g_current()};

    spin_lock(SYNC_LOCK(w));
    if (enqueue(w, &me)) {
        g_park("sync.WaitGroup.Wait", sync_unlock, SYNC_LOCK(w));
        if (load(w) != 0)
            panic_go(text_reused);
        return;
    }
    spin_unlock(SYNC_LOCK(w));
    // Who made it 0 has yet to wake the others. Not before it has done with the group,
    // which the caller may have on its stack.
    while (left(load(w)) == 0 && waiters(load(w)) != 0)
        g_yield();
}
