// What a channel is made of, for chan.c and select.c.
#pragma once

#include <gneiss/chan.h>

#include <stdatomic.h>

#include "runtime/sched/sched.h"

// Who waits on a channel; on its own stack. Tags: [l] the lock of the channel that it
// waits on; [w] who takes it out of the queue, until it makes g ready.
struct chan_waiter {
    struct chan_waiter *next, *prev; // [l]
    struct g *g;
    void *elem;         // [w] to receive to, NULL: nowhere; or to send from
    struct select *sel; // NULL: g waits for this alone
    bool queued;        // [l] nobody has taken it out
    bool ok;            // [w] a value has changed hands, else it was closed
};

// A select that waits: the first to set `fired` may serve it.
struct select {
    struct chan_waiter *_Atomic fired;
    struct gn_case *cases;
    size_t n; // of those that are not nil
};

// Tags: [l] lock; [c] constant; [a] written with the lock, read by anybody.
struct chan_queue {
    struct chan_waiter *first; // [a]
    struct chan_waiter *last;  // [l]
};

struct gn_chan {
    struct spinlock lock;
    _Atomic bool closed;  // [a]
    bool of_timer;        // [c] its buffer is not told of
    _Atomic size_t count; // [a] values in the buffer
    _Atomic uint64_t
        news; // [a] see select_try: times that something became possible
    size_t elem, cap;       // [c] bytes of one; how many
    char *end;              // [c] of the buffer
    char *head, *tail;      // [l] where the next one is taken and put
    struct chan_queue recv; // those that wait for a value
    struct chan_queue send; // and for room
    char buf[] __attribute__((aligned(16)));
};

static inline bool chan_is_closed(const struct gn_chan *c)
{
    return atomic_load_explicit(&c->closed, memory_order_acquire);
}

// Without a lock: whether it looks as if a receive, or a send, need not wait. Where the
// answer is no, it was so at some time during the call: nobody waits to send where there
// is room, and closing comes last.
static inline bool chan_may_recv(struct gn_chan *c)
{
    return atomic_load_explicit(&c->count, memory_order_acquire) > 0 ||
           __atomic_load_n(&c->send.first, __ATOMIC_ACQUIRE) != NULL ||
           atomic_load_explicit(&c->closed, memory_order_acquire);
}

static inline bool chan_may_send(struct gn_chan *c)
{
    return atomic_load_explicit(&c->count, memory_order_acquire) < c->cap ||
           __atomic_load_n(&c->recv.first, __ATOMIC_ACQUIRE) != NULL ||
           atomic_load_explicit(&c->closed, memory_order_acquire);
}

// Something has become possible. With the lock held, before it is released.
static inline void chan_news(struct gn_chan *c)
{
    atomic_store_explicit(
        &c->news, atomic_load_explicit(&c->news, memory_order_relaxed) + 1,
        memory_order_release);
}

// What has come of a send or a receive that was tried with the lock held. *wake: who
// has to be made ready after the lock is released, or NULL.
enum chan_done {
    CHAN_WAIT,   // neither value nor room
    CHAN_DONE,   // a value has changed hands
    CHAN_CLOSED, // it is closed; a receive has filled *elem with zero
};

enum chan_done chan_send_locked(struct gn_chan *c, const void *elem,
                                struct g **wake);
enum chan_done chan_recv_locked(struct gn_chan *c, void *elem, struct g **wake);

// In the queue of its side, and out. With the lock held.
void chan_enqueue(struct gn_chan *of, struct chan_queue *q,
                  struct chan_waiter *w);
void chan_dequeue(struct chan_queue *q, struct chan_waiter *w);

// In the caller's memory: one that nothing is sent by, but that is closed.
void chan_init_signal(struct gn_chan *c);

// Of a timer: with room for one, though it looks as if it had none (Go since 1.23).
struct gn_chan *chan_new_of_timer(size_t elem);

// Whether somebody waits to receive: a moment ago.
bool chan_has_receiver(struct gn_chan *c);

// Panics with Go's text.
NORETURN void chan_send_on_closed(void);
