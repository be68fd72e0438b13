// Goroutines as roots: their stacks and registers.
#pragma once

#include "runtime/gc/mark.h"

// A cycle begins: all goroutines have to be scanned.
void stacks_begin(void);

struct stacks_count {
    uint64_t goroutines; // that had changed, or were new
    uint64_t pages;      // of their stacks that were scanned
};

// Scans every goroutine that has changed since it was last scanned, and that is not
// running; stopped: the world is, so all are. The caller is left out. Context:
// goroutine.
void stacks_scan(struct marker *m, bool stopped, struct stacks_count *n);

// Panics unless all that goroutines point to is marked. Context: the world is
// stopped.
void stacks_check(struct marker *m);
