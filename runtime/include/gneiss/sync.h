// Waiting for each other: Go's package sync, x/sync/semaphore and errgroup, in C.
//
//     static struct gn_mutex m;            all zero: unlocked
//     gn_mutex_lock(&m);
//     gn_defer(gn_deferred_unlock, &m);    defer m.Unlock()
//
//     struct gn_wg w = {0};
//     gn_wg_go(&w, work, arg);             w.Go(func() { work(arg) })
//     gn_wg_wait(&w);
//
// All of them are ready for use when all bytes are zero. They must not move or be
// copied, and must stay while a call for them has not returned; but for two kinds of
// calls, which have done with the memory when another can know it: gn_mutex_unlock, when
// the next has it locked, and gn_wg_done, when all have returned from gn_wg_wait.
//
// Who waits is parked: its CPU runs others. Waiting needs no memory: its record lies
// on the stack of who waits. Nothing here belongs to a goroutine: one may lock, and
// another unlock.
//
// What was done before an unlock is seen after the next lock; what was done before
// gn_wg_done, after gn_wg_wait; before a release of a semaphore, after the acquire that
// it lets go on; before the return of what gn_once_do has called, after all gn_once_do.
//
// Misuse ends as in Go: a lock that is not locked is unlocked: "fatal error", which
// nobody can recover; the others panic (<gneiss/panic.h>).
//
// Context of all calls: any goroutine, not interrupt handlers, no lock of the runtime
// held. Those block of which it is said. Only gn_wg_go, gn_group_go,
// gn_group_try_go and gn_group_ctx allocate. Fields whose names end in _ are not for programs.
//
// Source: Go, src/sync, src/internal/sync/mutex.go, src/runtime/sema.go;
// golang.org/x/sync.
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct gn_ctx;
struct gn_waiter_;

// ---- mutex ------------------------------------------------------------------------

// Not recursive. Who wakes up competes with those that come: they run already, and
// that is fast. But once somebody has waited for more than a millisecond the mutex is
// handed from one to the next, first come, first served, until one of them has waited
// for less, or is the last.
struct gn_mutex {
    uint32_t state_;
    uint32_t pad_;
    struct gn_waiter_ *last_;
};

// Locks m; waits while it is locked.
static inline void gn_mutex_lock(struct gn_mutex *m);

// Locks m if that can be done at once. Returns whether it has.
static inline bool gn_mutex_try_lock(struct gn_mutex *m);

// Unlocks m. Ends the program ("sync: unlock of unlocked mutex") if it is not locked.
// May let another goroutine run first.
static inline void gn_mutex_unlock(struct gn_mutex *m);

// The same, for gn_defer.
void gn_deferred_unlock(void *mutex);

// ---- readers and writers ----------------------------------------------------------

struct gn_sema_ {
    uint32_t lock_[2];
    struct gn_waiter_ *last_;
    uint32_t count_;
    uint32_t pad_;
};

// Any number of readers, or one writer. A writer that waits keeps new readers out: who
// reads must not lock it for reading once more. At most 2^30 readers.
struct gn_rwmutex {
    struct gn_mutex writers_;
    int32_t readers_; // less 2^30 when a writer has it, or waits
    int32_t leaving_; // readers that it waits for
    struct gn_sema_ reader_, writer_;
};

// For reading: waits while a writer has it or waits.
static inline void gn_rwmutex_rlock(struct gn_rwmutex *rw);

// The same if it can be done at once. Returns whether it has.
bool gn_rwmutex_try_rlock(struct gn_rwmutex *rw);

// Undoes one lock for reading. Ends the program ("sync: RUnlock of unlocked RWMutex")
// if there is none.
static inline void gn_rwmutex_runlock(struct gn_rwmutex *rw);

// For writing: waits while others have it.
void gn_rwmutex_lock(struct gn_rwmutex *rw);

// The same if it can be done at once. Returns whether it has.
bool gn_rwmutex_try_lock(struct gn_rwmutex *rw);

// Ends the program ("sync: Unlock of unlocked RWMutex") if it is not locked for
// writing.
void gn_rwmutex_unlock(struct gn_rwmutex *rw);

// ---- conditions -------------------------------------------------------------------

struct gn_cond {
    uint32_t lock_[2];
    struct gn_waiter_ *last_;
};

// Unlocks m, waits for a signal or broadcast that comes after the call, and locks m
// again. What is waited for may not be so any more: call it in a loop.
void gn_cond_wait(struct gn_cond *c, struct gn_mutex *m);

// Wakes the one that has waited the longest, if anybody waits; or all. The caller need
// not hold the mutex.
void gn_cond_signal(struct gn_cond *c);
void gn_cond_broadcast(struct gn_cond *c);

// ---- once -------------------------------------------------------------------------

struct gn_once {
    uint32_t done_;
    struct gn_mutex mutex_;
};

// Calls fn(arg) if no call for o has done that yet. Returns when the one that does has
// returned, panicked or ended its goroutine: that counts as done. fn must not call it
// for the same o: it would wait for itself.
static inline void gn_once_do(struct gn_once *o, void (*fn)(void *), void *arg);

// ---- wait group -------------------------------------------------------------------

// Waits until a number of things are done. Used anew it must not be before all have
// returned from gn_wg_wait.
struct gn_wg {
    uint64_t state_; // from bit 32: things to be done, below: who waits
    uint32_t lock_[2];
    struct gn_waiter_ *last_;
};

// n more things are to be done, or -n fewer; the count has 32 bits. Panics ("sync:
// negative WaitGroup counter") if less than none would be left. From none on, it must
// come before gn_wg_wait: else it may panic ("sync: WaitGroup misuse: Add called
// concurrently with Wait").
static inline void gn_wg_add(struct gn_wg *w, int64_t n);

// One thing is done.
static inline void gn_wg_done(struct gn_wg *w);

// The same, for gn_defer.
void gn_deferred_done(void *wg);

// Returns when nothing is left to be done. Panics ("sync: WaitGroup is reused before
// previous Wait has returned") if more was to be done by then.
static inline void gn_wg_wait(struct gn_wg *w);

// Adds one thing to be done: fn(arg), run as a new goroutine. It is done when fn has
// returned, or called gn_goexit; fn must not panic. Returns 0, or -ENOMEM: then nothing
// has changed. Never blocks.
int gn_wg_go(struct gn_wg *w, void (*fn)(void *), void *arg);

// ---- semaphore --------------------------------------------------------------------

// A resource of which there is so much, taken by the piece. First come, first served:
// who wants much is not overtaken by those that want little.
struct gn_sem {
    int64_t size_, used_;
    uint32_t lock_[2];
    struct gn_waiter_ *last_;
};

// One of which there is n.
#define GN_SEM(n)                                                              \
    {                                                                          \
        .size_ = (n)                                                           \
    }

// Makes it one of which there is n. Nobody uses it yet.
void gn_sem_init(struct gn_sem *s, int64_t n);

// Takes n; waits while there is not so much, or somebody else waits. More than there
// is at all: waits for ever.
void gn_sem_acquire(struct gn_sem *s, int64_t n);

// The same unless ctx (<gneiss/context.h>) is canceled, before or meanwhile, even if
// there is enough: then nothing is taken. Returns NULL, or gn_ctx_err(ctx).
const char *gn_sem_acquire_ctx(struct gn_sem *s, int64_t n, struct gn_ctx *ctx);

// Takes n if that can be done at once. Returns whether it has.
bool gn_sem_try_acquire(struct gn_sem *s, int64_t n);

// Gives n back. Panics ("semaphore: released more than held").
void gn_sem_release(struct gn_sem *s, int64_t n);

// ---- tasks that can fail ----------------------------------------------------------

// Goroutines that work on one thing: who waits is told of the first that has failed.
struct gn_group {
    // Of the program, before the first task: called with cancel_arg and the first
    // failure when it comes, and once more, with what it returns, by gn_group_wait. So
    // it can tell the others to give up. NULL: nothing is.
    void (*cancel)(void *arg, int failure);
    void *cancel_arg;
    struct gn_wg tasks_;
    struct gn_sem limit_;
    bool limited_;
    int failure_;
};

// Has g's failures cancel a context, which it makes from parent, instead of a hook: the
// first, with the cause gn_group_failed, or else gn_group_wait. Before the first task.
// Returns the context, for the tasks; NULL and errno ENOMEM: no memory.
struct gn_ctx *gn_group_ctx(struct gn_group *g, struct gn_ctx *parent);

extern const char gn_group_failed[]; // "errgroup: a task has failed"

// The first failure until now; 0: there is none.
int gn_group_failure(const struct gn_group *g);

// At most n tasks at a time; n < 0: any number, as at first; 0: none any more. Panics
// ("errgroup: modify limit while %lld goroutines in the group are still active") if n
// is not below 0 and tasks run under another limit.
void gn_group_set_limit(struct gn_group *g, int64_t n);

// Runs fn(arg) as a new goroutine; waits while as many run as may. What fn returns is 0,
// or its failure. Returns 0, or -ENOMEM: then it does not run, and nothing has changed:
// it is no failure of the group.
int gn_group_go(struct gn_group *g, int (*fn)(void *), void *arg);

// The same without waiting: *started says whether it does. Returns 0, or -ENOMEM.
int gn_group_try_go(struct gn_group *g, int (*fn)(void *), void *arg,
                    bool *started);

// Waits until all have returned. Returns the first failure, 0 if there was none.
int gn_group_wait(struct gn_group *g);

// ---- the short ways ---------------------------------------------------------------
//
// What is free is had by one instruction. It locks the bus only if there is another
// CPU: on a single one, it can be interrupted before or after.

extern bool gn_one_cpu_; // constant

static inline bool gn_alone_(void)
{
#ifdef __gneiss__
    return false; // there it is instructions that count: to ask are two
#else
    return gn_one_cpu_;
#endif
}

static inline bool gn_cas_(uint32_t *p, uint32_t from, uint32_t to)
{
    bool done;

    if (!gn_alone_())
        return __atomic_compare_exchange_n(p, &from, to, false,
                                           __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    __asm__ volatile("cmpxchgl %3, %1"
                     : "=@ccz"(done), "+m"(*p), "+a"(from)
                     : "r"(to)
                     : "memory");
    return done;
}

static inline int32_t gn_add32_(int32_t *p, int32_t n)
{
    int32_t was = n;

    if (!gn_alone_())
        return __atomic_add_fetch(p, n, __ATOMIC_SEQ_CST);
    __asm__ volatile("xaddl %0, %1" : "+r"(was), "+m"(*p) : : "memory", "cc");
    return was + n;
}

static inline uint64_t gn_add64_(uint64_t *p, uint64_t n)
{
    uint64_t was = n;

    if (!gn_alone_())
        return __atomic_add_fetch(p, n, __ATOMIC_SEQ_CST);
    __asm__ volatile("xaddq %0, %1" : "+r"(was), "+m"(*p) : : "memory", "cc");
    return was + n;
}

void gn_mutex_lock_slow_(struct gn_mutex *m);
bool gn_mutex_try_lock_slow_(struct gn_mutex *m);
void gn_mutex_unlock_slow_(struct gn_mutex *m);
void gn_rwmutex_rlock_slow_(struct gn_rwmutex *rw);
void gn_rwmutex_runlock_slow_(struct gn_rwmutex *rw, int32_t readers);
void gn_once_do_slow_(struct gn_once *o, void (*fn)(void *), void *arg);
void gn_wg_add_slow_(struct gn_wg *w, int64_t n, uint64_t state);
void gn_wg_wait_slow_(struct gn_wg *w);

static inline void gn_mutex_lock(struct gn_mutex *m)
{
    if (__builtin_expect(!gn_cas_(&m->state_, 0, 1), 0))
        gn_mutex_lock_slow_(m);
}

static inline bool gn_mutex_try_lock(struct gn_mutex *m)
{
    return gn_cas_(&m->state_, 0, 1) || gn_mutex_try_lock_slow_(m);
}

static inline void gn_mutex_unlock(struct gn_mutex *m)
{
    if (__builtin_expect(!gn_cas_(&m->state_, 1, 0), 0))
        gn_mutex_unlock_slow_(m);
}

static inline void gn_rwmutex_rlock(struct gn_rwmutex *rw)
{
    if (__builtin_expect(gn_add32_(&rw->readers_, 1) < 0, 0))
        gn_rwmutex_rlock_slow_(rw);
}

static inline void gn_rwmutex_runlock(struct gn_rwmutex *rw)
{
    int32_t left = gn_add32_(&rw->readers_, -1);

    if (__builtin_expect(left < 0, 0))
        gn_rwmutex_runlock_slow_(rw, left);
}

static inline void gn_once_do(struct gn_once *o, void (*fn)(void *), void *arg)
{
    // Acquire: pairs with the release in set_done() of once.c.
    if (__builtin_expect(__atomic_load_n(&o->done_, __ATOMIC_ACQUIRE) == 0, 0))
        gn_once_do_slow_(o, fn, arg);
}

static inline void gn_wg_add(struct gn_wg *w, int64_t n)
{
    uint64_t state = gn_add64_(&w->state_, (uint64_t)n << 32);

    if (__builtin_expect((int64_t)state < 0 || (uint32_t)state != 0, 0))
        gn_wg_add_slow_(w, n, state);
}

static inline void gn_wg_done(struct gn_wg *w)
{
    gn_wg_add(w, -1);
}

static inline void gn_wg_wait(struct gn_wg *w)
{
    // Acquire: pairs with what made it 0.
    if (__atomic_load_n(&w->state_, __ATOMIC_ACQUIRE) != 0)
        gn_wg_wait_slow_(w);
}
