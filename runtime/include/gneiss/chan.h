// Channels and select: Go's, to the letter.
//
// A channel carries values of one type from goroutine to goroutine. Unbuffered, who
// sends waits until somebody receives; with a buffer, until there is room. Values are
// copied, straight into the memory of who waits if somebody does. Who waits is served
// first come, first served.
//
//     typedef gn_chan(int) ints;
//     ints c = gn_make_chan(ints, 10);
//     gn_send(c, 42);                  c <- 42
//     gn_recv(c, &v);                  v, ok = <-c
//     int v = gn_next(c);              v := <-c
//     gn_close(c);
//
// A typed channel is one pointer, passed and assigned as such; all zero it is nil: it
// never becomes ready, so a send or a receive waits for ever. The compiler checks the
// types. The functions below, without types, are what the typed forms call.
//
// What was done before a send is seen after the receive that gets the value; what was
// done before a close, after a receive that finds it closed; and what was done before
// a receive, after the send that it made room for (docs/memory-model.md).
//
// No channel needs to be freed: what is not used any more is the collector's (gc.h).
// gn_chan_free gives one back at once.
//
// Misuse panics with Go's texts: "send on closed channel", "close of closed channel",
// "close of nil channel".
//
// Context of all calls: any goroutine, not interrupt handlers, no lock of the runtime
// held. They may block where it says so; only gn_chan_new allocates.
//
// Source: Go, src/runtime/chan.go and select.go.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gn_chan;

// ---- channels of any elements ---------------------------------------------------

// Makes a channel of elements of `elem` bytes with room for `cap` of them. Returns
// NULL and sets errno: ENOMEM, or EINVAL if that is more than can be addressed.
struct gn_chan *gn_chan_new(size_t elem, size_t cap);

// Gives c back at once; nobody may use it any more. NULL: nothing. Panics if somebody
// waits on it.
void gn_chan_free(struct gn_chan *c);

// Sends the value at v; waits while there is no room. Panics if c is closed, also
// while it waits. NULL: waits for ever.
void gn_chan_send(struct gn_chan *c, const void *v);

// Receives a value to v (NULL: drops it); waits until there is one. Returns false,
// and fills v with zero, if c is closed and empty. NULL channel: waits for ever.
bool gn_chan_recv(struct gn_chan *c, void *v);

// The same without waiting. Sends, or returns false.
bool gn_chan_try_send(struct gn_chan *c, const void *v);

// Returns false if it would have to wait. *ok (NULL: not wanted): what gn_chan_recv
// would have returned.
bool gn_chan_try_recv(struct gn_chan *c, void *v, bool *ok);

// Nothing more will be sent: who receives gets what is in it, then zeroes. Wakes all
// who wait. Panics if c is closed already, or NULL.
void gn_chan_close(struct gn_chan *c);

// How many values are in it, and room for how many it has. 0 for NULL.
size_t gn_chan_len(const struct gn_chan *c);
size_t gn_chan_cap(const struct gn_chan *c);

// ---- select -----------------------------------------------------------------------

// One case. All but the first four are for gn_select. Nil channels are never ready.
struct gn_case {
    struct gn_chan *chan;
    void *elem; // to receive to (NULL: dropped), or to send from
    bool send;
    bool ok; // set where a value was received: as gn_chan_recv returns
    uint32_t order_[2];
    void *waiter_[7];
};

// Waits until one of n cases can be done, does it, and returns its number. Among
// several it takes any, all with the same probability. n may be 0, or all channels
// NULL: waits for ever. Panics if the case is a send to a closed channel.
size_t gn_select(struct gn_case *cases, size_t n);

// The same with a default: returns -1, at once, if none can be done.
ptrdiff_t gn_select_try(struct gn_case *cases, size_t n);

// ---- channels of a type -----------------------------------------------------------

// The type of channels of T. Each use is a type of its own: give it a name.
#define gn_chan(T)                                                             \
    union {                                                                    \
        struct gn_chan *raw;                                                   \
        T *type_;                                                              \
    }

// A channel of the named type; .raw is NULL and errno set if there is no memory.
#define gn_make_chan(name, cap)                                                \
    ((name){gn_chan_new(sizeof *((name *)0)->type_, (cap))})

// A pointer that has to be one to c's elements.
#define gn_elem_(c, p) (1 ? (p) : (c).type_)

// c <- v
#define gn_send(c, ...)                                                        \
    ({                                                                         \
        __typeof__(*(c).type_) gn_v_ = (__VA_ARGS__);                          \
        gn_chan_send((c).raw, &gn_v_);                                         \
    })
// select { case c <- v: true; default: false }
#define gn_try_send(c, ...)                                                    \
    ({                                                                         \
        __typeof__(*(c).type_) gn_v_ = (__VA_ARGS__);                          \
        gn_chan_try_send((c).raw, &gn_v_);                                     \
    })
// *p, ok = <-c
#define gn_recv(c, p) gn_chan_recv((c).raw, gn_elem_(c, p))
// <-c
#define gn_next(c)                                                             \
    ({                                                                         \
        __typeof__(*(c).type_) gn_v_;                                          \
        gn_chan_recv((c).raw, &gn_v_);                                         \
        gn_v_;                                                                 \
    })
// select { case *p, *ok = <-c: true; default: false }
#define gn_try_recv(c, p, ok) gn_chan_try_recv((c).raw, gn_elem_(c, p), ok)
#define gn_close(c)           gn_chan_close((c).raw)
#define gn_len(c)             gn_chan_len((c).raw)
#define gn_cap(c)             gn_chan_cap((c).raw)

// Cases: struct gn_case of[] = {GN_RECV(in, &v), GN_SEND(out, &w)}. What is sent is
// read when the case is done.
#define GN_RECV(c, p)                                                          \
    {                                                                          \
        .chan = (c).raw, .elem = gn_elem_(c, p)                                \
    }
#define GN_SEND(c, p)                                                          \
    {                                                                          \
        .chan = (c).raw, .elem = gn_elem_(c, p), .send = true                  \
    }
