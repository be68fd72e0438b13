// Objects under 16 bytes without pointers, several to a block of 16 (Go's tiny
// allocator). A block is freed when all its tenants are.
//
//   offset 0   2   4   6   8  10  12  14  16
//          | a a a | . | b b b b | c c |    one byte of `begins`: 0b0101'0001
//
// Source: Go, src/runtime/malloc.go (mallocgcTiny). Go never frees a tenant; we
// keep, outside the block, where tenants begin and which of them were freed.
#pragma once

#include "runtime/heap/cache.h"

enum { TINY_MAX = 15 }; // bytes of the largest

// A tenant of n bytes, 1..TINY_MAX. NULL: no memory. Context: no-preempt, system
// stack.
void *tiny_alloc(struct cache *c, size_t n);

// Frees a tenant of a block of a tiny span. Returns what is wrong, or NULL. *dead:
// it was the last, and the block, whose slot this is, is the caller's to free.
const char *tiny_free(struct span *s, uintptr_t va, bool *dead);

// The block that is being filled gets no more tenants. Context: no-preempt, system
// stack.
void tiny_flush(struct cache *c);

// Bytes that a tenant may use. 0: none begins there. Context: no-preempt.
size_t tiny_usable(struct span *s, uintptr_t va);

// Whether the tenants of an allocated block of this CPU are possible. filled: it is
// the one that is being filled. Context: no-preempt.
bool tiny_is_sound(struct span *s, unsigned slot, bool filled);

// How many tenants of the block in a slot are not freed.
unsigned tiny_tenants(struct span *s, unsigned slot);
