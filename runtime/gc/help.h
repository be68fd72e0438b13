// Who marks beside the collector's goroutine: goroutines of other CPUs while these have
// nothing else to do, and those that allocate too fast.
#pragma once

#include "runtime/gc/mark.h"

// Others may help from now on, and no longer: when help_end returns nobody does, and
// what they have found is in the common queue. Context: goroutine.
void help_begin(void);
void help_end(void);

// Whether somebody helps, who may find more to do.
bool help_is_active(void);

// What helpers have marked and scanned since the last call is added to m's counts.
void help_count(struct marker *m);

// Marks for about `bytes`, if there is anything to do. Returns whether there was.
// Context: goroutine, no-preempt 0.
bool help_mark(uint64_t bytes);

// Makes the goroutines of the other CPUs that are not there yet; as many as there is
// memory for.
void help_start(void);

// They look for work.
void help_wake(void);
