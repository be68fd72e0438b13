// See failing_memory.h.

#include "host-tests/runtime/heap/failing_memory.h"

#define heap_memory_meta    real_meta
#define heap_memory_grow    real_grow
#define heap_memory_charge  real_charge
#define heap_memory_move    real_move
#define heap_memory_frames  real_frames
#define heap_memory_reclaim real_reclaim

#include "runtime/heap/memory.c"

#undef heap_memory_meta
#undef heap_memory_grow
#undef heap_memory_charge
#undef heap_memory_move
#undef heap_memory_frames
#undef heap_memory_reclaim

MUST_USE bool heap_memory_meta(uintptr_t va, size_t bytes);
MUST_USE bool heap_memory_grow(uintptr_t end);
MUST_USE bool heap_memory_charge(uint64_t frames);
MUST_USE bool heap_memory_move(uintptr_t from, uintptr_t to, size_t bytes);
MUST_USE void *heap_memory_frames(size_t bytes);
bool heap_memory_reclaim(uint64_t frames);

static uint64_t left; // calls until one fails; 0: none does
static bool all_later, has_failed;

void heap_memory_fail_at(uint64_t nth, bool on)
{
    left = nth;
    all_later = on;
    has_failed = false;
}

bool heap_memory_has_failed(void)
{
    return has_failed;
}

static bool fails(void)
{
    if (has_failed && all_later)
        return true;
    if (left == 0 || --left > 0)
        return false;
    has_failed = true;
    return true;
}

bool heap_memory_meta(uintptr_t va, size_t bytes)
{
    return !fails() && real_meta(va, bytes);
}

bool heap_memory_grow(uintptr_t end)
{
    return !fails() && real_grow(end);
}

bool heap_memory_charge(uint64_t frames)
{
    return !fails() && real_charge(frames);
}

bool heap_memory_move(uintptr_t from, uintptr_t to, size_t bytes)
{
    return !fails() && real_move(from, to, bytes);
}

void *heap_memory_frames(size_t bytes)
{
    return fails() ? NULL : real_frames(bytes);
}

bool heap_memory_reclaim(uint64_t frames)
{
    return !fails() && real_reclaim(frames);
}
