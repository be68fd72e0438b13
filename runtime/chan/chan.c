// Channels.
//
// A channel is a ring of values and two queues, of goroutines that wait to receive and
// to send; at most one of both has somebody, but for selects that wait for both. Who
// finds somebody waiting serves that one: copies the value between the two, to or from
// the other's memory, and makes it ready. Else it uses the ring, or waits itself.
//
//            send                         recv
//   closed   panic                        the ring's; then zero
//   waiter   copy to its memory           full ring: first of it, then the waiter's
//                                         value behind; unbuffered: copy from it
//   else     room: into the ring; wait    a value: out of the ring; wait
//
// Locks: the channel's spinlock protects it all. It is taken on goroutine stacks (R5):
// a fault is served while it is held, of the stack or of a program's memory that a
// value is copied from or to; nothing that serves faults takes a channel's lock.
//
// A waiter's record lies on its stack; so waiting needs no memory. It is its
// goroutine's again when that has been made ready.
//
// Source: Go, src/runtime/chan.go.

#include "runtime/chan/chan.h"

#include <gneiss/heap.h>

#include <errno.h>
#include <string.h>

#include "runtime/panic/panic.h"

// ---- making and freeing ----

// All of it but the ring is zero.
static inline void init(struct gn_chan *c, size_t elem, size_t cap)
{
    spin_init(&c->lock, RANK_CHAN);
    c->elem = elem;
    c->cap = cap;
    c->head = c->tail = c->buf;
    c->end = c->buf + elem * cap;
}

struct gn_chan *gn_chan_new(size_t elem, size_t cap)
{
    size_t bytes;

    if (__builtin_mul_overflow(elem, cap, &bytes) ||
        bytes > PTRDIFF_MAX - sizeof(struct gn_chan)) {
        errno = EINVAL;
        return NULL;
    }
    // Zero: the ring is read only where it was written, but the collector looks at all
    // of it.
    struct gn_chan *c = gn_alloc(sizeof *c + bytes, GN_SCAN, 0);

    if (c != NULL)
        init(c, elem, cap);
    return c;
}

void chan_init_signal(struct gn_chan *c)
{
    memset(c, 0, sizeof *c);
    init(c, 0, 0);
}

struct gn_chan *chan_new_of_timer(size_t elem)
{
    struct gn_chan *c = gn_chan_new(elem, 1);

    if (c != NULL)
        c->of_timer = true;
    return c;
}

bool chan_has_receiver(struct gn_chan *c)
{
    return __atomic_load_n(&c->recv.first, __ATOMIC_ACQUIRE) != NULL;
}

void gn_chan_free(struct gn_chan *c)
{
    if (c == NULL)
        return;
    if (__atomic_load_n(&c->recv.first, __ATOMIC_ACQUIRE) != NULL ||
        __atomic_load_n(&c->send.first, __ATOMIC_ACQUIRE) != NULL)
        panic_go("free of a channel that a goroutine waits on");
    gn_free(c);
}

// ---- waiters ----

// Release: see chan_may_recv, which reads it without the lock.
static inline void set_first(struct chan_queue *q, struct chan_waiter *w)
{
    __atomic_store_n(&q->first, w, __ATOMIC_RELEASE);
}

void chan_enqueue(struct gn_chan *of, struct chan_queue *q,
                  struct chan_waiter *w)
{
    chan_news(of);
    w->queued = true;
    w->next = NULL;
    w->prev = q->last;
    if (q->last != NULL)
        q->last->next = w;
    else
        set_first(q, w);
    q->last = w;
}

void chan_dequeue(struct chan_queue *q, struct chan_waiter *w)
{
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        set_first(q, w->next);
    *(w->next != NULL ? &w->next->prev : &q->last) = w->prev;
    w->queued = false;
}

// The first that is ours to serve.
static struct chan_waiter *take_waiter(struct chan_queue *q)
{
    struct chan_waiter *w;

    while ((w = q->first) != NULL) {
        chan_dequeue(q, w);
        struct chan_waiter *nobody = NULL;

        if (w->sel == NULL ||
            atomic_compare_exchange_strong(&w->sel->fired, &nobody, w))
            break; // else another channel has served that select
    }
    return w;
}

// ---- values ----

static inline void copy(void *to, const void *from, size_t n)
{
    if (n == sizeof(uint64_t))
        memcpy(to, from, sizeof(uint64_t));
    else if (n == sizeof(uint32_t))
        memcpy(to, from, sizeof(uint32_t));
    else
        memcpy(to, from, n);
}

static inline char *after(const struct gn_chan *c, char *at)
{
    at += c->elem;
    return at < c->end ? at : (char *)c->buf;
}

static inline size_t count(const struct gn_chan *c)
{
    return atomic_load_explicit(&c->count, memory_order_relaxed);
}

// Release: see chan_may_recv.
static inline void set_count(struct gn_chan *c, size_t n)
{
    atomic_store_explicit(&c->count, n, memory_order_release);
}

static inline void put(struct gn_chan *c, const void *elem)
{
    copy(c->tail, elem, c->elem);
    c->tail = after(c, c->tail);
}

static inline void take(struct gn_chan *c, void *elem)
{
    if (elem != NULL)
        copy(elem, c->head, c->elem);
    c->head = after(c, c->head);
}

static inline bool is_closed(const struct gn_chan *c)
{
    return atomic_load_explicit(&c->closed, memory_order_relaxed);
}

// Most of what channels with a buffer do.

static inline bool can_put(const struct gn_chan *c)
{
    return c->recv.first == NULL && count(c) < c->cap && !is_closed(c);
}

static inline void put_one(struct gn_chan *c, const void *elem)
{
    put(c, elem);
    set_count(c, count(c) + 1);
    chan_news(c);
}

static inline bool can_take(const struct gn_chan *c)
{
    return c->send.first == NULL && count(c) > 0;
}

static inline void take_one(struct gn_chan *c, void *elem)
{
    take(c, elem);
    set_count(c, count(c) - 1);
    chan_news(c);
}

enum chan_done chan_send_locked(struct gn_chan *c, const void *elem,
                                struct g **wake)
{
    if (unlikely(is_closed(c)))
        return CHAN_CLOSED;
    struct chan_waiter *w =
        c->recv.first != NULL ? take_waiter(&c->recv) : NULL;

    *wake = NULL;
    if (w != NULL) {
        if (w->elem != NULL)
            copy(w->elem, elem, c->elem);
        w->ok = true;
        *wake = w->g;
        return CHAN_DONE;
    }
    if (count(c) == c->cap)
        return CHAN_WAIT;
    put_one(c, elem);
    return CHAN_DONE;
}

enum chan_done chan_recv_locked(struct gn_chan *c, void *elem, struct g **wake)
{
    struct chan_waiter *w =
        c->send.first != NULL ? take_waiter(&c->send) : NULL;

    *wake = NULL;
    if (w != NULL) {
        if (c->cap == 0) {
            if (elem != NULL)
                copy(elem, w->elem, c->elem);
        } else {
            take(c, elem);
            put(c, w->elem);
        }
        w->ok = true;
        *wake = w->g;
        return CHAN_DONE;
    }
    if (count(c) > 0) {
        take_one(c, elem);
        return CHAN_DONE;
    }
    if (!is_closed(c))
        return CHAN_WAIT;
    if (elem != NULL)
        memset(elem, 0, c->elem);
    return CHAN_CLOSED;
}

// ---- sending and receiving ----

static void unlock(void *c)
{
    spin_unlock(&((struct gn_chan *)c)->lock);
}

static void finish(struct gn_chan *c, struct g *wake)
{
    spin_unlock(&c->lock);
    if (wake != NULL)
        g_ready(wake);
}

NORETURN static void wait_for_ever(const char *why)
{
    for (;;)
        g_park(why, NULL, NULL);
}

void chan_send_on_closed(void)
{
    panic_go("send on closed channel");
}

// With the lock held, which it releases.
NOINLINE static void send_or_wait(struct gn_chan *c, const void *v)
{
    struct g *wake;

    switch (chan_send_locked(c, v, &wake)) {
    case CHAN_DONE:
        finish(c, wake);
        return;
    case CHAN_CLOSED:
        spin_unlock(&c->lock);
        chan_send_on_closed();
    case CHAN_WAIT:
        break;
    }
    struct chan_waiter w = {.g = g_current(), .elem = (void *)v};

    chan_enqueue(c, &c->send, &w);
    g_park("chan send", unlock, c);
    if (!w.ok)
        chan_send_on_closed();
}

void gn_chan_send(struct gn_chan *c, const void *v)
{
    if (unlikely(c == NULL))
        wait_for_ever("chan send (nil chan)");
    spin_lock(&c->lock);
    if (likely(can_put(c))) {
        put_one(c, v);
        spin_unlock(&c->lock);
    } else {
        send_or_wait(c, v);
    }
}

NOINLINE static bool recv_or_wait(struct gn_chan *c, void *v)
{
    struct g *wake;
    enum chan_done done = chan_recv_locked(c, v, &wake);

    if (done == CHAN_DONE) {
        finish(c, wake);
        return true;
    }
    if (done == CHAN_CLOSED) {
        spin_unlock(&c->lock);
        return false;
    }
    struct chan_waiter w = {.g = g_current(), .elem = v};

    chan_enqueue(c, &c->recv, &w);
    g_park("chan receive", unlock, c);
    return w.ok;
}

bool gn_chan_recv(struct gn_chan *c, void *v)
{
    if (unlikely(c == NULL))
        wait_for_ever("chan receive (nil chan)");
    spin_lock(&c->lock);
    if (unlikely(!can_take(c)))
        return recv_or_wait(c, v);
    take_one(c, v);
    spin_unlock(&c->lock);
    return true;
}

// ---- without waiting ----

bool gn_chan_try_send(struct gn_chan *c, const void *v)
{
    struct g *wake;

    if (c == NULL || !chan_may_send(c))
        return false;
    spin_lock(&c->lock);
    enum chan_done done = chan_send_locked(c, v, &wake);

    if (done == CHAN_DONE) {
        finish(c, wake);
        return true;
    }
    spin_unlock(&c->lock);
    if (done == CHAN_CLOSED)
        chan_send_on_closed();
    return false;
}

bool gn_chan_try_recv(struct gn_chan *c, void *v, bool *ok)
{
    struct g *wake;

    if (c == NULL || !chan_may_recv(c))
        return false;
    spin_lock(&c->lock);
    enum chan_done done = chan_recv_locked(c, v, &wake);

    if (done == CHAN_DONE)
        finish(c, wake);
    else
        spin_unlock(&c->lock);
    if (ok != NULL)
        *ok = done == CHAN_DONE;
    return done != CHAN_WAIT;
}

// ---- closing ----

void gn_chan_close(struct gn_chan *c)
{
    struct chan_waiter *w, *woken = NULL;

    if (c == NULL)
        panic_go("close of nil channel");
    spin_lock(&c->lock);
    if (is_closed(c)) {
        spin_unlock(&c->lock);
        panic_go("close of closed channel");
    }
    // Release: see chan_may_recv.
    atomic_store_explicit(&c->closed, true, memory_order_release);
    chan_news(c);
    while ((w = take_waiter(&c->recv)) != NULL) {
        if (w->elem != NULL)
            memset(w->elem, 0, c->elem);
        w->ok = false;
        w->next = woken;
        woken = w;
    }
    while ((w = take_waiter(&c->send)) != NULL) { // they will panic
        w->ok = false;
        w->next = woken;
        woken = w;
    }
    spin_unlock(&c->lock);
    while (woken != NULL) {
        struct chan_waiter *next = woken->next;

        g_ready(woken->g); // its record may be gone from here on
        woken = next;
    }
}

size_t gn_chan_len(const struct gn_chan *c)
{
    return c != NULL && !c->of_timer ? count(c) : 0;
}

size_t gn_chan_cap(const struct gn_chan *c)
{
    return c != NULL && !c->of_timer ? c->cap : 0;
}
