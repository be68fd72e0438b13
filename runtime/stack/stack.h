// Stack slots: sparse pieces of address space that page faults fill.
//
// Source: the idea of DESIGN 1; fault-around after Linux's filemap.
#pragma once

#include "runtime/sched/g_impl.h"

enum { STACK_SLOT_SHIFT = 26 }; // 64 MiB each

#define STACK_SLOT_BYTES ((uintptr_t)1 << STACK_SLOT_SHIFT)

// Most that a stack can hold: the slot less its guard page.
#define STACK_LIMIT_BYTES (STACK_SLOT_BYTES - PAGE_SIZE)

// Registers the area of slots with mm. Context: boot.
void stack_init(void);

// Takes a slot and maps its top page(s), `reserve` bytes at least. Returns its
// goroutine, all fields but low and window zero, or NULL when there is no frame
// or no slot. Context: any but interrupt, mm_lock not held.
MUST_USE struct g *stack_alloc(size_t reserve);

// Gives the slot back; everything but the top page is unmapped. The caller does
// not stand on it. Context: scheduler.
void stack_free(struct g *g);

// One past the slot's highest byte.
uintptr_t stack_top(const struct g *g);

// The goroutine of the i-th slot, in use or not; NULL: so many were never used.
struct g *stack_nth(size_t i);

// The goroutine whose slot holds va, in use or not; NULL if no slot does.
struct g *stack_owner(uintptr_t va);
