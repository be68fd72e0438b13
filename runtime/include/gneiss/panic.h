// Panic, defer, recover: Go's, in C.
//
//     static void work(void *arg)
//     {
//         FILE *f = fopen(arg, "r");
//         gn_defer(close_file, f);            runs when the block is left, however
//         if (f == NULL)
//             gn_panic("no such file: %s", (char *)arg);
//         ...
//     }
//
//     struct gn_panic p;
//     if (!gn_try(work, "data", &p))
//         printf("work has failed: %s\n", p.text);
//
// A panic runs the deferred calls of its goroutine, the last first, up to the innermost
// gn_try, which returns false. Without one it ends the program, after all deferred
// calls: with Go's text, a backtrace of all goroutines, and exit status 2.
//
// A deferred call may end the panic with gn_recover. Then things go on as if the
// function that the innermost gn_try has called had returned; if there is none, as if
// the goroutine's function had (main: the program ends with status 0). In Go it is the
// function that has deferred the call which returns: call what is to survive by gn_try.
//
// These panic, too, with Go's texts: an access to the first 4096 bytes of memory
// ("invalid memory address or nil pointer dereference") and a division by zero or
// INT_MIN / -1 ("integer divide by zero"), unless a lock of the C library is held; and
// what <gneiss/chan.h>, <gneiss/sync.h> and others call misuse.
//
// Variables of the function that calls gn_try keep their values, as in any call; what
// the function within has allocated is its deferred calls' to give back. setjmp's rules
// do not matter.
//
// Context of all calls: any goroutine, not interrupt handlers, no lock of the runtime
// held. None of them allocates.
//
// Source: Go, src/runtime/panic.go; "The Go Programming Language Specification",
// Handling panics.
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { GN_PANIC_TEXT = 160 };

// What a panic was about.
struct gn_panic {
    const char *text; // never NULL
    void *value;      // of gn_panic_with; else NULL
    bool runtime;     // a run-time error: a fault
    char buf_[GN_PANIC_TEXT];
};

// Panics with a text, cut after 159 bytes if it has to be formatted; a text without %
// is not copied and has to stay. Never returns.
void gn_panic(const char *format, ...)
    __attribute__((noreturn, format(printf, 1, 2)));

// Panics with a value of the program's, and a text for who reports it (not copied).
void gn_panic_with(void *value, const char *text) __attribute__((noreturn));

// Calls fn(arg). True: it has returned, or a deferred call has recovered. False: it has
// panicked, and *p (NULL: not wanted) says why.
bool gn_try(void (*fn)(void *), void *arg, struct gn_panic *p);

// In a deferred call, or what it calls: ends the panic that runs it, and fills *p (NULL:
// not wanted). False: it is not run by a panic, or that has been ended already.
bool gn_recover(struct gn_panic *p);

// ---- deferred calls -------------------------------------------------------------

struct gn_deferred {
    struct gn_deferred *next_;
    unsigned kind_;
    void (*fn_)(void *);
    void *arg_;
};

void gn_defer_push_(struct gn_deferred *d);
void gn_defer_run_(struct gn_deferred *d);

#define GN_CAT_(a, b)  a##b
#define GN_NAME_(a, b) GN_CAT_(a, b)

// From here on: fn(arg) is called when the block is left: at its end, by return, break,
// goto, a panic or gn_goexit (not by longjmp or exit). Several of one block are called
// the last first. Unlike Go's, a loop's are called in each round.
#define gn_defer(fn, arg)                                                      \
    gn_defer_(GN_NAME_(gn_deferred_, __COUNTER__), fn, arg)
#define gn_defer_(name, fn, arg)                                               \
    __attribute__((cleanup(gn_defer_run_))) struct gn_deferred name = {        \
        NULL, 0, (fn), (arg)};                                                 \
    gn_defer_push_(&name)
