// Physical page frames: a buddy allocator from 4 KiB to 1 GiB.
//
// Source: Knuth, TAOCP vol. 1, 2.5 (buddy system); the lazily initialised
// frame array is our own.
#pragma once

#include "arch/arch.h"

enum {
    FRAME_MAX_ORDER = 18, // 1 GiB
};

enum frame_state {
    FRAME_RESERVED, // not ours: firmware, image, holes
    FRAME_FREE,     // head of a free block
    FRAME_USED,     // head of an allocated block
};

enum frame_flags {
    FRAME_DIRTY = 0, // contents are whatever was there
    FRAME_ZERO = 1,  // cleared
};

struct frame_stats {
    uint64_t total;    // frames handed to the allocator
    uint64_t free;     // of these, not allocated now
    uint64_t low_mark; // fewest free since boot
};

// Takes 2^order frames, aligned to their size. Returns 0 when there is no block
// of that size. Context: system stack (R5); takes frame_lock.
paddr_t frame_alloc(unsigned order, enum frame_flags flags);

// Gives back what frame_alloc returned. Panics on a double or foreign free.
// Every translation to the frames must be gone (R13). Context: as frame_alloc.
void frame_free(paddr_t p, unsigned order);

// One more, or one fewer, user of a single frame that frame_alloc(0, ...) or
// frame_split made; the last one frees it. frame_refs: how many now.
// Context: system stack. The last frame_put takes frame_lock.
void frame_get(paddr_t p);
void frame_put(paddr_t p);
uint32_t frame_refs(paddr_t p);

// frame_put of n frames; p is used as scratch. Context: as frame_put.
void frame_put_many(paddr_t *p, unsigned n);

// The frame, which has its users and no promise behind it, is counted against what
// can be promised; it is no more when its last user goes. Who calls has charged it.
// frame_is_counted: it is already. Context: mm_lock held, or the frame is new.
void frame_set_counted(paddr_t p);
bool frame_is_counted(paddr_t p);

// Makes blocks of order `to` of an allocated block; single frames have one user.
// frame_join undoes it. Context: as frame_alloc.
void frame_split(paddr_t p, unsigned order, unsigned to);
void frame_join(paddr_t p, unsigned order);

// Hands RAM to the allocator: pfn range first..end, not in use by anyone. The
// frame array must be mapped there. Context: boot, one CPU.
void frame_add(uint64_t first, uint64_t end);

// Takes over a single frame that was reserved, as if it were freed.
// Context: as frame_alloc.
void frame_adopt(paddr_t p);

// Marks the frame a reserved neighbour, which never merges. Context: boot.
void frame_reserve(uint64_t pfn);

struct frame_stats frame_stats(void);

// Free frames, read without the lock: a hint. Context: any.
uint64_t frames_free_now(void);

// Walks every free block and panics if an invariant of frame.c is broken.
// Context: system stack; takes frame_lock for the whole walk.
void frame_check(void);
