// What hangs on objects: weak pointers, cleanups, finalizers.
//
// Records lie in blocks of malloc, so what a cleanup is given stays reachable; the
// object's own address is kept as its complement, which keeps nothing.
//
// After the final stop, while goroutines run and before anything is swept:
//
//   1  what is in white objects with finalizers is marked, but not these themselves
//   2  those that are white still: weak pointers to them are cleared; they are kept,
//      and their finalizer queued
//   3  of other white objects weak pointers are cleared, cleanups queued
//
// Nobody but a weak pointer leads to what was white, so nobody changes it meanwhile, and
// who asks a weak pointer waits for step 1 (R26).
//
// Source: Go, src/runtime/mheap.go (specials), mfinal.go, mcleanup.go, and
// src/weak/pointer.go for what they mean.
#pragma once

#include "runtime/gc/mark.h"

// The final stop is over: nobody gets an object from a weak pointer that is white.
// Context: the world is stopped.
void special_begin(void);

// Does steps 1 to 3; drain is called to mark what was found. Context: the collector's
// goroutine, pages held, not yet swept.
void special_finish(struct marker *m, void (*drain)(struct marker *m));

// An object is freed by the program: as if it had been found dead, but for its finalizer,
// which is forgotten. Context: goroutine.
void special_freed(void *p);
