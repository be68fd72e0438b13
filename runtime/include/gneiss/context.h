// Contexts: Go's. They say to all goroutines that work on one thing that it is to be
// given up, by a call, at a time, or because what it is part of is given up; and they
// carry values along.
//
//     struct gn_ctx *ctx = gn_ctx_timeout(gn_ctx_background(), 2 * GN_SECOND);
//     gn_go(work, ctx);
//     ...
//     gn_ctx_cancel(ctx);
//
//     work:  struct gn_case cases[] = {GN_RECV(gn_ctx_done(ctx), NULL),
//                                      GN_RECV(in, &v)};
//            if (gn_select(cases, 2) == 0)
//                return;                      gn_ctx_err(ctx) says why
//
// A context is made from another, its parent, and canceled with it. It is never changed
// but by being canceled, once.
//
// Errors and causes are texts, compared as pointers; gn_ctx_canceled and
// gn_ctx_deadline_exceeded are Go's. They are not copied and have to stay.
//
// No context has to be freed: what is not used any more is the collector's (gc.h). But
// cancel it when it is not needed: that takes it
// from its parent. gn_ctx_free does both.
//
// Context of all calls: any goroutine, not interrupt handlers, no lock of the runtime
// held. None blocks. Those that make one allocate; they return NULL and set errno to
// ENOMEM if there is no memory. A parent is never NULL.
//
// Source: Go, src/context/context.go.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <gneiss/chan.h>

struct gn_ctx;

typedef gn_chan(char) gn_signal; // nothing is ever sent; it is closed

extern const char gn_ctx_canceled[];          // "context canceled"
extern const char gn_ctx_deadline_exceeded[]; // "context deadline exceeded"

// The one that all are made from: never canceled, no deadline, no values.
struct gn_ctx *gn_ctx_background(void);

// One that gn_ctx_cancel cancels, or its parent.
struct gn_ctx *gn_ctx_cancelable(struct gn_ctx *parent);

// And the time (of gn_now) `at`, or after d; with gn_ctx_deadline_exceeded, and `cause`
// unless it is NULL. A parent with an earlier deadline keeps it.
struct gn_ctx *gn_ctx_deadline(struct gn_ctx *parent, int64_t at,
                               const char *cause);
struct gn_ctx *gn_ctx_timeout(struct gn_ctx *parent, int64_t d);

// One with a value more. Keys are compared as pointers: take the address of a variable.
struct gn_ctx *gn_ctx_with(struct gn_ctx *parent, const void *key, void *value);

// One with its parent's values that is not canceled with it, and has no deadline.
struct gn_ctx *gn_ctx_without_cancel(struct gn_ctx *parent);

// Cancels ctx and all made from it, with gn_ctx_canceled and a cause (NULL: the same),
// unless they are. Does nothing to one that was not made by gn_ctx_cancelable,
// gn_ctx_deadline or gn_ctx_timeout.
void gn_ctx_cancel(struct gn_ctx *ctx);
void gn_ctx_cancel_cause(struct gn_ctx *ctx, const char *cause);

// A channel that is closed when it is canceled; nil if it never is.
gn_signal gn_ctx_done(const struct gn_ctx *ctx);

// NULL until it is canceled; then why, and the cause that was given, of it or of the
// parent that was canceled first.
const char *gn_ctx_err(const struct gn_ctx *ctx);
const char *gn_ctx_cause(const struct gn_ctx *ctx);

// Whether it has a deadline; *at (NULL: not wanted): when.
bool gn_ctx_has_deadline(const struct gn_ctx *ctx, int64_t *at);

// The value of the nearest with this key; NULL: there is none.
void *gn_ctx_value(const struct gn_ctx *ctx, const void *key);

// Calls fn(arg) as a new goroutine when ctx is canceled; it is made at once, and waits.
struct gn_ctx_call;
struct gn_ctx_call *gn_ctx_after_func(struct gn_ctx *ctx, void (*fn)(void *),
                                      void *arg);

// Returns true if that has prevented the call; false: it was made, or prevented before.
bool gn_ctx_call_stop(struct gn_ctx_call *call);

// Gives back what gn_ctx_after_func has made, which it stops. NULL: nothing.
void gn_ctx_call_free(struct gn_ctx_call *call);

// Cancels ctx and gives it and its channel back; nobody may wait on it or use it any
// more. Panics if a context made from it, or a call, has not been freed. NULL, or the
// background: nothing.
void gn_ctx_free(struct gn_ctx *ctx);
