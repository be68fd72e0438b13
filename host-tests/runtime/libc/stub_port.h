// The machine that libc's host tests run on: see stub_port.c.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern uint64_t stub_wall_ns;     // what the wall clock shows
extern bool stub_tty;             // is the console a terminal
extern const char *stub_input;    // what the console will read
extern char stub_output[3][4096]; // what streams 1 and 2 have got
extern int stub_lock_depth;       // is the file system lock held

void stub_reset(void);

// Random numbers from a seed that is printed, or given in TEST_SEED.
uint64_t stub_seed(const char *test);
uint64_t stub_random(uint64_t *state);
