// What libc asks of the machine and of the scheduler: the whole of it.
//
// Programs' libc calls end here. Everything below is supplied from outside
// runtime/libc/ (in the guest by the console, the clock and the scheduler; in
// host tests by a stub of a few lines), so that the file system and the
// archive reader build unchanged against any C library.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct _reent;

// Writes all n bytes to the console: stream 1 is stdout, 2 is stderr.
// Returns n, or fewer if the stream is gone (the reader has closed its end).
// Context: any.
size_t console_write(int stream, const void *p, size_t n);

// Reads at least one and at most n bytes of console input, n > 0.
// Returns the count, 0 at end of file, or a negative errno.
// Context: parks the caller until there is input, so no lock is held.
ssize_t console_read(void *p, size_t n);

// True when a person's terminal is at the other end of the console.
bool console_is_tty(void);

// Nanoseconds since some fixed instant of boot; never goes back.
uint64_t clock_mono_ns(void);

// Nanoseconds since 1970-01-01 00:00:00 UTC.
uint64_t clock_wall_ns(void);

// Parks the caller until clock_mono_ns() >= mono_ns.
void clock_sleep_until(uint64_t mono_ns);

// Fills p with n random bytes. Returns 0 or a negative errno.
int random_bytes(void *p, size_t n);

// The break of newlib's malloc: moves it by incr and returns its old place, or
// (void *)-1 when memory is out.
void *libc_sbrk(ptrdiff_t incr);

// The caller's slot for its C library state; the slot is NULL where no thread
// of execution runs yet, or where it has not got a state of its own.
struct _reent **g_reent_slot(void);

// Ends the program with a status of 0..255. Nothing is flushed here.
_Noreturn void gn_exit_status(int status);

// Ends the program as abort() does: a report, then status 134.
_Noreturn void gn_abort(void);

// Reports a failed assert() and ends the program as gn_abort() does.
_Noreturn void gn_panic_assert(const char *file, int line, const char *func,
                               const char *expr);
