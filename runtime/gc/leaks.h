// heap.leaks=1: which blocks of malloc nobody could free any more, and who made them.
//
// With it malloc's blocks are collected ones (malloc.gc), and each has a record with the
// calls that made it. A block that a collection finds dead while it has a record is a
// leak. At exit, after a last collection, leaks and what is left are reported, by calls.
#pragma once

#include "arch/arch.h"

// Context: boot.
void leaks_init(void);

// leaks_at_exit: see gc.h.

// A block was freed by the program. Context: goroutine.
void leaks_freed(void *p);

// Records of blocks that are white become leaks. Context: as special_finish.
void leaks_sweep(void);
