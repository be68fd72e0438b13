// Memory for the heap's own structures: the structs of spans and the stacks of
// free objects. Each CPU has its own, so that no two write to one cache line.
#pragma once

#include "arch/arch.h"

enum {
    META_UNIT = 16,
    META_LARGEST = 48 + 128 + 1024, // the struct of a tiny span
    META_BLOCK = 2048,              // stacks end at multiples of it
    META_KEPT = 64,                 // free ones of a size that a CPU keeps
};

// [o] the CPU, no-preempt
struct meta {
    char *fresh, *fresh_end;                   // not yet cut
    char *block, *block_end;                   // whole blocks
    void *spare[META_LARGEST / META_UNIT + 1]; // by size, linked
    uint16_t spares[META_LARGEST / META_UNIT + 1];
};

// A cleared structure of size bytes (at most META_LARGEST), 16-byte aligned. NULL:
// no memory. Context of all: no-preempt, system stack.
void *meta_new(struct meta *m, size_t size);

// Takes it back, for structures of the same size only: it never becomes anything
// else.
void meta_free(struct meta *m, void *p, size_t size);

// The end of a block of META_BLOCK bytes, of which the last `bytes` are the
// caller's for ever. NULL: no memory.
void *meta_block_end(struct meta *m, size_t bytes);

// Bytes of frames taken by all CPUs.
extern _Atomic uint64_t meta_bytes;

// Keeps everybody off the common lists, for heap_lock_all.
void meta_lock_common(void);
void meta_unlock_common(void);
