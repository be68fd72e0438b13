// Panics of programs, for the runtime. (panic() of arch/base.h is the runtime's own:
// it ends the program, and nobody recovers from it.)
#pragma once

#include "arch/arch.h"

// As gn_panic, with a text that stays. Context: goroutine, no-preempt 0.
NORETURN void panic_go(const char *text);

// Whether the caller is a deferred call, or called by one, that a panic runs which nobody
// has recovered. Context: goroutine.
bool panic_is_running(void);

// Runs the deferred calls of the caller's goroutine, and ends it. Context: goroutine,
// no-preempt 0.
NORETURN void panic_goexit(void);
