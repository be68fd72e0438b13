// The pages of stack slots, as stack.c asks for them: by page faults of our own
// (pages.c), or those of Linux (runtime/native/pages.c).
#pragma once

#include "runtime/sched/g_impl.h"

enum {
    STACK_RED_ZONE = 128, // bytes below rsp that belong to the code (DESIGN 13)
    STACK_COLD_MOST = 64, // stacks in a call of stack_drop_tops
};

// Takes the area of the slots. Context: boot.
void stack_pages_init(void);

// Maps the struct g of a slot. False: no frame. Context: mm_lock held.
bool stack_map_g(size_t slot);

// Makes a stack ready: maps `reserve` bytes at its top, and sees to it that what lies
// below its limit is a guard. warm: its top page is still there. Sets low and window.
// False: no frame. Context: mm_lock held.
bool stack_map_top(struct g *g, size_t reserve, bool warm);

// A stack has died: whether stack_drop has to be called now. Context: mm_lock held.
bool stack_note_dead(struct g *g);

// Gives the pages of a dead stack back, but for the top one. Context: scheduler,
// mm_lock not held; nobody else has g.
void stack_drop(struct g *g);

// Gives the top pages of dead stacks back: a list by next, STACK_COLD_MOST at most,
// that nobody else knows. Context: scheduler.
void stack_drop_tops(struct g *g);
