// <gneiss/context.h>.
//
// A context that can be canceled has a channel; others use that of the nearest one that
// they are made from, their `of`. Those that can be canceled form trees, by parent,
// children and siblings.
//
//     background                    of == NULL
//       cancelable A                of == A
//         with a value  V           of == A, value
//           timeout T               of == T, a child of A
//
// To cancel is to walk the tree from there: error first, then the channel, so that who
// finds it closed finds the error; and gn_ctx_err waits for the channel, so that who
// finds the error finds it closed.
//
// Locks: tree_lock, a spinlock for all contexts, protects the trees, the lists of calls,
// and who sets `err`. The channel's lock is taken inside it, a timer's heap lock outside
// (a deadline comes with it held): so nobody stops a timer with tree_lock. Who cancels
// makes a list of those with timers, and stops these after; what is in such a list is
// not freed meanwhile.
//
// Source: Go, src/context/context.go; there each context has a mutex.

#include <gneiss/context.h>

#include <gneiss/heap.h>
#include <gneiss/time.h>

#include <errno.h>
#include <stdatomic.h>

#include "runtime/chan/chan.h"
#include "runtime/panic/panic.h"
#include "runtime/sched/sched.h"
#include "runtime/sched/timer.h"

const char gn_ctx_canceled[] = "context canceled";
const char gn_ctx_deadline_exceeded[] = "context deadline exceeded";

// Tags: [t] tree_lock; [c] constant; [a] written with it, read by anybody.
struct gn_ctx {
    struct gn_ctx *parent;          // [c]
    struct gn_ctx *of;              // [c] the nearest that can be canceled
    struct gn_chan *done;           // [c] of == this: its own
    const char *_Atomic err;        // [a] of == this
    const char *cause;              // [a] valid when err is set
    struct gn_ctx *in;              // [t] whose child it is; NULL: nobody's
    struct gn_ctx *children, *next; // [t]
    struct gn_ctx **link;           // [t] what points at it
    struct gn_ctx_call *calls;      // [t]
    const void *key;                // [c]
    void *value;                    // [c]
    int64_t deadline;               // [c] of == this
    bool has_deadline;              // [c]
    const char *deadline_cause;     // [c]
    struct timer timer;
    bool armed; // [t] its timer has been set
    _Atomic bool
        stopping; // [a] it is in the list of one who cancels, by `next`
    _Atomic unsigned users; // made from it, or calls, and not freed
};

struct gn_ctx_call {
    struct gn_ctx *of;
    struct gn_ctx_call *next, **link; // [t]
    struct g *g;                      // [t] NULL: it has been made ready
    bool stopped;                     // [t] and calls nothing
    _Atomic unsigned users;           // the program, and the goroutine
    void (*fn)(void *);
    void *arg;
};

static struct spinlock tree_lock = SPINLOCK_INIT(RANK_CTX);
static struct gn_ctx background, never; // never: whose calls are never made

struct gn_ctx *gn_ctx_background(void)
{
    return &background;
}

// ---- canceling, with the lock ----

static void leave_parent(struct gn_ctx *c)
{
    if (c->in == NULL)
        return;
    *c->link = c->next;
    if (c->next != NULL)
        c->next->link = c->link;
    c->in = NULL;
}

static void call_off(struct gn_ctx_call *call)
{
    struct g *g = call->g;

    *call->link = call->next;
    if (call->next != NULL)
        call->next->link = call->link;
    call->g = NULL;
    g_ready(g); // which reads the call
}

// In no list of siblings any more. timers (NULL: they go off by themselves): the list.
static void cancel_one(struct gn_ctx *c, const char *err, const char *cause,
                       struct gn_ctx **timers)
{
    c->cause = cause;
    atomic_store_explicit(&c->err, err, memory_order_release);
    gn_chan_close(c->done);
    while (c->calls != NULL)
        call_off(c->calls);
    if (timers != NULL && c->armed) {
        c->stopping = true;
        c->next = *timers;
        *timers = c;
    }
}

// c and what is made from it: the innermost first is as good.
static void cancel_tree(struct gn_ctx *c, const char *err, const char *cause,
                        struct gn_ctx **timers)
{
    struct gn_ctx *at = c;

    if (c->err != NULL)
        return;
    leave_parent(c);
    cancel_one(c, err, cause, timers);
    for (;;) {
        struct gn_ctx *child = at->children;

        if (child != NULL) {
            *child->link = child->next; // stays `in` at, for the way back
            if (child->next != NULL)
                child->next->link = child->link;
            cancel_one(child, err, cause, timers);
            at = child;
        } else if (at == c) {
            return;
        } else {
            struct gn_ctx *up = at->in;

            at->in = NULL;
            at = up;
        }
    }
}

// ---- making ----

static struct gn_ctx *make(struct gn_ctx *parent)
{
    struct gn_ctx *c = gn_alloc(sizeof *c, GN_SCAN, 0);

    if (c == NULL)
        return NULL;
    c->parent = parent;
    c->of = parent->of;
    atomic_fetch_add_explicit(&parent->users, 1, memory_order_relaxed);
    return c;
}

static void unmake(struct gn_ctx *c)
{
    atomic_fetch_sub_explicit(&c->parent->users, 1, memory_order_relaxed);
    gn_free(c);
}

static void join_parent(struct gn_ctx *c)
{
    struct gn_ctx *p = c->parent->of;

    spin_lock(&tree_lock);
    if (p != NULL && p->err != NULL) {
        cancel_one(c, p->err, p->cause, NULL);
    } else if (p != NULL) {
        c->in = p;
        c->link = &p->children;
        c->next = p->children;
        if (c->next != NULL)
            c->next->link = &c->next;
        p->children = c;
    }
    spin_unlock(&tree_lock);
}

static struct gn_ctx *make_cancelable(struct gn_ctx *parent)
{
    struct gn_ctx *c = make(parent);

    if (c == NULL)
        return NULL;
    c->of = c;
    c->done = gn_chan_new(0, 0);
    if (c->done == NULL) {
        unmake(c);
        return NULL;
    }
    c->has_deadline = gn_ctx_has_deadline(parent, &c->deadline);
    return c;
}

struct gn_ctx *gn_ctx_cancelable(struct gn_ctx *parent)
{
    struct gn_ctx *c = make_cancelable(parent);

    if (c != NULL)
        join_parent(c);
    return c;
}

static void cancel(struct gn_ctx *c, const char *err, const char *cause)
{
    struct gn_ctx *timers = NULL, *next;

    spin_lock(&tree_lock);
    cancel_tree(c, err, cause, &timers);
    spin_unlock(&tree_lock);
    for (; timers != NULL; timers = next) {
        next = timers->next;
        (void)timer_stop(&timers->timer, NULL);
        // Release: pairs with the acquire in gn_ctx_free().
        atomic_store_explicit(&timers->stopping, false, memory_order_release);
    }
}

// With the heap's lock. The timers below are due as well, or were never set.
static uint64_t expire(struct timer *t, uint64_t when, uint64_t now)
{
    struct gn_ctx *c = container_of(t, struct gn_ctx, timer);

    (void)when, (void)now;
    spin_lock(&tree_lock);
    cancel_tree(c, gn_ctx_deadline_exceeded, c->deadline_cause, NULL);
    spin_unlock(&tree_lock);
    return 0;
}

// Sets the timer, unless c has been canceled meanwhile. False: there is no memory.
static bool arm(struct gn_ctx *c)
{
    if (!timer_set(&c->timer, (uint64_t)c->deadline))
        return false;
    spin_lock(&tree_lock);
    bool late = c->err != NULL;

    c->armed = !late;
    spin_unlock(&tree_lock);
    if (late)
        (void)timer_stop(&c->timer, NULL);
    return true;
}

struct gn_ctx *gn_ctx_deadline(struct gn_ctx *parent, int64_t at,
                               const char *cause)
{
    struct gn_ctx *c = make_cancelable(parent);

    if (c == NULL)
        return NULL;
    if (c->has_deadline && c->deadline <= at) {
        join_parent(c);
        return c;
    }
    c->has_deadline = true;
    c->deadline = at;
    c->deadline_cause = cause != NULL ? cause : gn_ctx_deadline_exceeded;
    c->timer.fire = expire;
    join_parent(c);
    if (at <= gn_now()) {
        cancel(c, gn_ctx_deadline_exceeded, c->deadline_cause);
    } else if (gn_ctx_err(c) == NULL && !arm(c)) {
        gn_ctx_free(c);
        errno = ENOMEM;
        return NULL;
    }
    return c;
}

struct gn_ctx *gn_ctx_timeout(struct gn_ctx *parent, int64_t d)
{
    int64_t at;

    if (__builtin_add_overflow(gn_now(), d, &at))
        at = INT64_MAX;
    return gn_ctx_deadline(parent, at, NULL);
}

struct gn_ctx *gn_ctx_with(struct gn_ctx *parent, const void *key, void *value)
{
    struct gn_ctx *c = make(parent);

    if (c != NULL) {
        c->key = key;
        c->value = value;
    }
    return c;
}

struct gn_ctx *gn_ctx_without_cancel(struct gn_ctx *parent)
{
    struct gn_ctx *c = make(parent);

    if (c != NULL)
        c->of = NULL;
    return c;
}

// ---- canceling, asking ----

void gn_ctx_cancel(struct gn_ctx *ctx)
{
    gn_ctx_cancel_cause(ctx, NULL);
}

void gn_ctx_cancel_cause(struct gn_ctx *ctx, const char *cause)
{
    if (ctx->of != ctx)
        return;
    cancel(ctx, gn_ctx_canceled, cause != NULL ? cause : gn_ctx_canceled);
}

gn_signal gn_ctx_done(const struct gn_ctx *ctx)
{
    return (gn_signal){ctx->of != NULL ? ctx->of->done : NULL};
}

// With an error it is done: who cancels it is about to close the channel, with no-preempt
// above zero.
const char *gn_ctx_err(const struct gn_ctx *ctx)
{
    const struct gn_ctx *of = ctx->of;

    if (of == NULL)
        return NULL;
    const char *err = atomic_load_explicit(&of->err, memory_order_acquire);

    while (err != NULL && !chan_is_closed(of->done))
        arch_relax();
    return err;
}

const char *gn_ctx_cause(const struct gn_ctx *ctx)
{
    return gn_ctx_err(ctx) != NULL ? ctx->of->cause : NULL;
}

bool gn_ctx_has_deadline(const struct gn_ctx *ctx, int64_t *at)
{
    const struct gn_ctx *of = ctx->of;

    if (of == NULL || !of->has_deadline)
        return false;
    if (at != NULL)
        *at = of->deadline;
    return true;
}

void *gn_ctx_value(const struct gn_ctx *ctx, const void *key)
{
    for (; ctx != NULL; ctx = ctx->parent) {
        if (ctx->key == key && key != NULL)
            return ctx->value;
    }
    return NULL;
}

// ---- calls ----

static void let_go(struct gn_ctx_call *call)
{
    if (atomic_fetch_sub(&call->users, 1) == 1)
        gn_free(call);
}

static void run_call(void *arg)
{
    struct gn_ctx_call call = *(struct gn_ctx_call *)arg; // [t] is over

    let_go(arg);
    if (!call.stopped)
        call.fn(call.arg);
}

struct gn_ctx_call *gn_ctx_after_func(struct gn_ctx *ctx, void (*fn)(void *),
                                      void *arg)
{
    struct gn_ctx_call *call = gn_alloc(sizeof *call, GN_SCAN, 0);
    struct gn_ctx *of = ctx->of;

    if (call == NULL)
        return NULL;
    call->g = g_create(run_call, call, "", G_ANY_CPU);
    if (call->g == NULL) {
        gn_free(call);
        errno = ENOMEM;
        return NULL;
    }
    call->users = 2;
    call->fn = fn;
    call->arg = arg;
    call->of = of != NULL ? of : &never;
    atomic_fetch_add_explicit(&call->of->users, 1, memory_order_relaxed);
    spin_lock(&tree_lock);
    call->link = &call->of->calls;
    call->next = call->of->calls;
    if (call->next != NULL)
        call->next->link = &call->next;
    call->of->calls = call;
    if (call->of->err != NULL)
        call_off(call);
    spin_unlock(&tree_lock);
    return call;
}

bool gn_ctx_call_stop(struct gn_ctx_call *call)
{
    spin_lock(&tree_lock);
    bool waits = call->g != NULL;

    call->stopped |= waits;
    if (waits)
        call_off(call); // for its goroutine to end
    spin_unlock(&tree_lock);
    return waits;
}

void gn_ctx_call_free(struct gn_ctx_call *call)
{
    if (call == NULL)
        return;
    (void)gn_ctx_call_stop(call);
    atomic_fetch_sub_explicit(&call->of->users, 1, memory_order_relaxed);
    let_go(call);
}

// ---- freeing ----

void gn_ctx_free(struct gn_ctx *ctx)
{
    if (ctx == NULL || ctx == &background)
        return;
    if (atomic_load_explicit(&ctx->users, memory_order_relaxed) != 0)
        panic_go("free of a context that others are made from");
    gn_ctx_cancel(ctx);
    while (atomic_load_explicit(&ctx->stopping, memory_order_acquire))
        g_yield();
    if (ctx->of == ctx) {
        // Canceled by a parent's deadline it may be about to go off.
        if (ctx->timer.fire != NULL)
            (void)timer_stop(&ctx->timer, NULL);
        gn_chan_free(ctx->done);
    }
    unmake(ctx);
}
