// Blocks of the heap that know what is in them: every byte that may be used
// carries a signature, and no byte belongs to two.
#pragma once

#include "runtime/heap/heap.h"

struct block {
    void *p; // NULL: there is none
    size_t n, usable;
    uint64_t seed;
    enum heap_kind kind;
};

struct block_request {
    size_t n, align;
    enum heap_kind kind;
    bool zero;
};

// Allocates, and looks at the result: alignment, size, zeros; signs it. False: no
// memory. Context of all: any CPU; whose block it is decides the caller.
bool block_new(struct block *b, struct block_request r, uint64_t seed);

// Ends the process if a byte has changed.
void block_check(const struct block *b);

// As realloc: what fits is still there. False: no memory, and b is as it was.
bool block_resize(struct block *b, size_t n, uint64_t seed);

void block_free(struct block *b);

// A request as programs make them, out of a random number: small ones mostly,
// all kinds, some aligned; n is at most `most`.
struct block_request block_some(uint64_t random, size_t most);

// Bytes and number of all blocks there are.
struct block_totals {
    uint64_t bytes, number;
};

struct block_totals block_totals(void);

// A CPU's own random numbers (xorshift).
uint64_t block_random(uint64_t *state);
