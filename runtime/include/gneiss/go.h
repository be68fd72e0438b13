// Goroutines: functions that run beside each other, on all CPUs.
//
// A goroutine costs a few KiB while it waits. Its stack grows by itself, in place:
// pointers to what lies on it stay valid, for others as well. It may be taken from
// its CPU at any instruction, and go on on another: without locks or atomics no two
// goroutines may use the same variable, as with threads.
//
// main() is goroutine 1, one like the others; but when it returns, the program ends,
// whatever others do.
//
// Context of all calls: any goroutine, not interrupt handlers, no lock of the
// runtime held.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Runs fn(arg) as a new goroutine, soon. It ends when fn returns, or calls
// gn_goexit. arg is passed on, nothing is copied. Returns 0, or -ENOMEM: no memory
// for a stack, or a million of them exist. Never blocks.
int gn_go(void (*fn)(void *), void *arg);

struct gn_go_options {
    const char *name;   // for reports; not copied. NULL: none
    size_t stack_limit; // bytes, 16 KiB to 16 GiB (stack.h); 0: the default
    bool pinned;        // only `cpu` runs it
    unsigned cpu;       // 0..gn_cpu_count()-1
};

// The same with options, all zero or NULL by default; NULL: gn_go. -EINVAL: no such
// CPU, or a limit out of range.
int gn_go_with(const struct gn_go_options *o, void (*fn)(void *), void *arg);

// Lets others run first, if any want to.
void gn_yield(void);

// Ends the calling goroutine. Of main: ends it, not the program, which goes on
// until exit() is called by another.
void gn_goexit(void) __attribute__((noreturn));

// The caller's number: 1 is main's; none is used twice.
uint64_t gn_go_id(void);

// How many exist, main included.
size_t gn_go_count(void);

struct gn_go_info {
    uint64_t id;
    const char *name;  // as it was given, "" if it was not
    const char *state; // "running", "runnable", or what it waits for, in Go's
                       // words: "sleep", "sync.WaitGroup.Wait"
    uint64_t waits_ns; // nanoseconds since it began to wait; 0: it does not
};

// Fills the list with those that exist, max at most, in no particular order, and
// returns how many these are. It stops nobody: the states are those of slightly
// different moments, and who comes or goes meanwhile may be missing.
size_t gn_go_list(struct gn_go_info *list, size_t max);

// ---- values of a goroutine --------------------------------------------------
//
// _Thread_local variables are a goroutine's own, too, and faster; these are for
// libraries that must have something done at the end.

// Returns a new key, or -ENOSPC (there are 64). destroy(value) is called at the end
// of each goroutine whose value is not NULL, on it; NULL: nothing is. Keys stay.
int gn_local_new(void (*destroy)(void *value));

// Sets the caller's value. Returns 0, -EINVAL (no such key), -ENOMEM.
int gn_local_set(int key, void *value);

// The caller's value, NULL if it was never set.
void *gn_local(int key);
