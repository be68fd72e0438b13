// When a collection begins, and who has to wait meanwhile.
//
// A heap of `live` reachable bytes may grow by gc.percent per cent of them, to the goal.
// A collection begins so early that as much as was allocated during the last one still
// fits below the goal. Who allocates more than half of that while it runs helps to mark,
// at most PACE_ASSIST bytes each time; who reaches the goal waits for its end.
//
// Source: Go, src/runtime/mgcpacer.go, and its design document for the goal.
#pragma once

#include "runtime/gc/gc.h"

// Context: boot.
void pace_init(void);

// A collection begins, or has ended with `marked` bytes reached. pace_begin returns the
// size of the heap. Context: the world is stopped.
uint64_t pace_begin(void);
void pace_end(uint64_t marked);

// Who waits for the end goes on. Context: goroutine.
void pace_let_go(void);

// Fills in what the report says of sizes. Context: the collector's goroutine.
void pace_report(struct gc_report *r);

// Whether somebody waits for the end.
bool pace_is_late(void);

// Before a slow allocation. Context: goroutine, no-preempt 0; may park.
void pace_assist(void);
