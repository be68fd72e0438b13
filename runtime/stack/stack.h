// Stack slots: sparse pieces of address space that page faults fill.
//
// Source: the idea of DESIGN 1; fault-around after Linux's filemap.
#pragma once

#include "runtime/sched/g_impl.h"

// How far slots are apart; pages.c says why.
#define STACK_SLOT_BYTES ((uintptr_t)64 * MIB + 128 * KIB)

// What a limit may be.
#define STACK_LIMIT_MIN (16 * KIB)
#define STACK_LIMIT_MAX (UINT64_C(16) * GIB)

// Registers the area of slots with mm. Context: boot.
void stack_init(void);

// Takes a slot and maps its top page(s), `reserve` bytes at least. limit: bytes that
// the stack may have, 0: as the boot option stack.limit says. Returns its goroutine,
// all fields but those of the stack zero, or NULL: no frame, no slot, or a limit out
// of range. Context: any but interrupt, mm_lock not held.
MUST_USE struct g *stack_alloc(size_t reserve, size_t limit);

// Gives the slot back; everything but the top page is unmapped. The caller does
// not stand on it. Context: scheduler.
void stack_free(struct g *g);

// Gives the pages of g's stack back that lie wholly below sp, less the bytes that
// code may use there. Returns how many, tables included. g does not run, or is the
// caller, which stands on its system stack. Context: mm_lock not held.
uint64_t stack_trim(struct g *g, uintptr_t sp);

// The lowest page that it has, or once had since the last stack_trim. Context: any.
uintptr_t stack_low(const struct g *g);

// Whose stack va lies on, for reports. Returns buf, or a text that stays.
const char *stack_describe(uintptr_t va, char *buf, size_t size);

// One past the slot's highest byte, and the lowest that the limit allows.
__attribute__((always_inline)) static inline uintptr_t
stack_top(const struct g *g)
{
    return ARCH_STACK_BASE + (g_slot(g) + 1) * STACK_SLOT_BYTES;
}

static inline uintptr_t stack_bottom(const struct g *g)
{
    return stack_top(g) - g->limit;
}

// The goroutine of the i-th slot, in use or not; NULL: so many were never used.
struct g *stack_nth(size_t i);

// The goroutine whose slot holds va, in use or not; NULL if no slot does.
struct g *stack_owner(uintptr_t va);
