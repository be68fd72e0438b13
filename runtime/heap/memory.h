// What the heap needs of mm/, and nothing else. Context of all: system stack,
// heap_lock may be held; none faults.
#pragma once

#include "arch/arch.h"

// Makes [va, va + bytes), in the area of the heap's own tables, readable and
// writable: zero when first asked for, as it is when asked again. False: no
// memory.
MUST_USE bool heap_memory_meta(uintptr_t va, size_t bytes);

// Makes the heap end at `end`: up to there it is demand-zero memory. Its frames
// are promised by heap_memory_charge, its page tables here. False: no memory.
MUST_USE bool heap_memory_grow(uintptr_t end);

// Promises frames of 4 KiB to heap pages that are going to be used, or gives the
// promise back (R14).
MUST_USE bool heap_memory_charge(uint64_t frames);
void heap_memory_uncharge(uint64_t frames);

// Gives the frames of [va, va + bytes) back: it reads as zero afterwards.
void heap_memory_drop(uintptr_t va, size_t bytes);

// Whether a page has a frame, or is one of the zeros.
bool heap_memory_has_frame(uintptr_t va);

// Gives [va, va + bytes) large pages as far as there are any. What is dropped of it
// later is a whole such range. Returns bytes in large pages.
uint64_t heap_memory_enlarge(uintptr_t va, size_t bytes);

// Around taking heap pages and moving others there: in between faults map nothing
// in advance, which could lie where the others go. Context: any.
void heap_memory_move_begin(void);
void heap_memory_move_end(void);

// Moves the contents of [from, from + bytes) to `to`, where no page has a frame,
// by page-table entries; `from` reads as zero afterwards. False: no memory.
MUST_USE bool heap_memory_move(uintptr_t from, uintptr_t to, size_t bytes);

// Cleared memory for the heap's own structures, at least bytes (at most 8 KiB),
// never given back. NULL: no memory.
MUST_USE void *heap_memory_frames(size_t bytes);

// Asks everybody else for frames. True if some came.
bool heap_memory_reclaim(uint64_t frames);

// From now on fn is asked for frames when they get few: with no lock held, in the
// scheduler or in a goroutine whose call would fail. Once.
void heap_memory_on_pressure(uint64_t (*fn)(void));

// Bytes of memory that there are.
uint64_t heap_memory_total(void);
