// Time: sleeping, timers and tickers, with Go's results.
//
// Durations and times are nanoseconds in int64_t. Times are those of gn_now: they never
// go back, and have nothing to do with the date. A time that would overflow is the last
// one, in 292 years; a duration of 0 or less is over at once.
//
// A timer with a channel sends the time on it when it is due; who receives late gets
// the time when it was due, and nothing of before a stop or a reset is ever received.
// No timer has to be freed, nor stopped but for what it would do: when it is neither set
// nor used any more it is the collector's (gc.h). gn_timer_free gives one back at once.
//
// Context of all calls: any goroutine, not interrupt handlers, no lock of the runtime
// held. Only gn_sleep blocks. Those that make something allocate; they return NULL and
// set errno to ENOMEM if there is no memory.
//
// Source: Go, src/time/sleep.go and tick.go.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <gneiss/chan.h>

#define GN_MICROSECOND INT64_C(1000)
#define GN_MILLISECOND INT64_C(1000000)
#define GN_SECOND      INT64_C(1000000000)

typedef gn_chan(int64_t) gn_times;

struct gn_timer;

// The time since boot.
int64_t gn_now(void);

// Parks the caller for d at least. d <= 0: returns at once.
void gn_sleep(int64_t d);

// Has the time sent after d, once: time.NewTimer. gn_timer_channel gets it.
struct gn_timer *gn_timer_new(int64_t d);

// The channel only, for who does not want to stop it: time.After. .raw is NULL and
// errno set if there is no memory.
gn_times gn_after(int64_t d);

// Calls fn(arg) after d, as a new goroutine: time.AfterFunc. If there is no memory for
// that when it is due, later.
struct gn_timer *gn_after_func(int64_t d, void (*fn)(void *), void *arg);

// Has the time sent every d, until it is stopped: time.NewTicker. Who receives too
// slowly misses some. Panics if d <= 0.
struct gn_timer *gn_ticker_new(int64_t d);

// Where the times are sent; all zero for gn_after_func's. It has room for one, though its
// len and cap are 0, as Go's.
gn_times gn_timer_channel(const struct gn_timer *t);

// Stops a timer or ticker. Returns true if that has prevented something: it was
// running, or what it has sent had not been received, and will not be. Its channel is
// not closed, and is empty.
bool gn_timer_stop(struct gn_timer *t);

// Has it go off after d from now (a ticker: every d). Returns as gn_timer_stop.
// If there is no memory (it needs some only if many timers run), waits for it.
bool gn_timer_reset(struct gn_timer *t, int64_t d);

// Stops it, and gives it and its channel back. Nobody may wait on the channel (panics)
// or use them any more. NULL: nothing.
void gn_timer_free(struct gn_timer *t);
