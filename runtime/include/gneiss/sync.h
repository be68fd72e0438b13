// Waiting for each other. Who waits is parked: its CPU runs others.
//
// Context of all calls: any goroutine, not interrupt handlers, no lock of the
// runtime held.
#pragma once

#include <stdint.h>

// Waits until a number of things are done: Go's sync.WaitGroup. All zero: nothing
// is to be done. It must not move or go while somebody uses it. What was done
// before gn_wg_done is seen after gn_wg_wait.
struct gn_wg {
    _Atomic uint32_t lock_;
    uint32_t pad_;
    int64_t n_;
    void *waiters_;
};

// n more things are to be done, or -n fewer. Ends the program with Go's text if
// less than none would be left. From none on, it must come before gn_wg_wait.
void gn_wg_add(struct gn_wg *w, int64_t n);

// One thing is done.
void gn_wg_done(struct gn_wg *w);

// Returns when nothing is left to be done.
void gn_wg_wait(struct gn_wg *w);
