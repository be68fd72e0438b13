// The heap's memory, over mm/. One region, which grows at its end; what is below
// the end and promised has frames as it is touched.

#include "runtime/heap/memory.h"

#include <stdatomic.h>

#include "mm/mm.h"
#include "runtime/heap/pages.h"

static _Atomic unsigned moves; // that have begun and not ended

// While pages are moved, nothing is mapped in advance: it could lie where they go.
static unsigned map_ahead(uintptr_t va, unsigned n)
{
    n = pages_promised(va, n);
    // Pairs with heap_memory_move_begin: who sees its promise sees the move.
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&moves, memory_order_relaxed) == 0 ? n : 0;
}

static struct region heap_region = {
    .ops = &region_anon_ops,
    .name = "the heap",
    .prot = PROT_R | PROT_W,
    .flags = REGION_FIXED,
    .ahead = map_ahead,
};

bool heap_memory_meta(uintptr_t va, size_t bytes)
{
    uintptr_t from = align_down(va, PAGE_SIZE);

    return region_map_nailed(from, align_up(va + bytes, PAGE_SIZE) - from);
}

static uint64_t tables_for(uint64_t bytes)
{
    return mm_mapping_cost(bytes) - bytes / PAGE_SIZE;
}

bool heap_memory_grow(uintptr_t end)
{
    if (heap_region.start == 0) {
        heap_region.start = heap_region.end = ARCH_HEAP_BASE;
        if (region_add(&heap_region) != 0)
            return false;
    }
    uint64_t tables = tables_for(end - ARCH_HEAP_BASE) -
                      tables_for(heap_region.end - ARCH_HEAP_BASE);

    if (!mm_charge(tables))
        return false;
    if (region_resize(&heap_region, end) == 0)
        return true;
    mm_uncharge(tables);
    return false;
}

bool heap_memory_charge(uint64_t frames)
{
    return mm_charge(frames);
}

void heap_memory_uncharge(uint64_t frames)
{
    mm_uncharge(frames);
}

void heap_memory_drop(uintptr_t va, size_t bytes)
{
    region_discard(va, va + bytes);
}

bool heap_memory_has_frame(uintptr_t va)
{
    return mm_readable(va, 1);
}

uint64_t heap_memory_enlarge(uintptr_t va, size_t bytes)
{
    return region_promote(va, va + bytes) * (2 * MIB);
}

void heap_memory_move_begin(void)
{
    atomic_fetch_add_explicit(&moves, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
}

void heap_memory_move_end(void)
{
    atomic_fetch_sub_explicit(&moves, 1, memory_order_release);
}

bool heap_memory_move(uintptr_t from, uintptr_t to, size_t bytes)
{
    return region_move_pages(&heap_region, from, to, bytes) == 0;
}

void *heap_memory_frames(size_t bytes)
{
    unsigned order = bytes > PAGE_SIZE;

    ASSERT(bytes <= 2 * PAGE_SIZE);
    if (!mm_charge(UINT64_C(1) << order))
        return NULL;
    paddr_t p = frame_alloc(order, FRAME_ZERO);

    if (p.raw == 0)
        mm_uncharge(UINT64_C(1) << order);
    return p.raw != 0 ? arch_direct(p) : NULL;
}

bool heap_memory_reclaim(uint64_t frames)
{
    return mm_reclaim(frames) > 0;
}

static uint64_t (*on_pressure)(void); // [c] after heap_init

static uint64_t reclaim(uint64_t npages, enum mm_pressure level)
{
    (void)npages, (void)level;
    return on_pressure();
}

void heap_memory_on_pressure(uint64_t (*fn)(void))
{
    static struct mm_reclaimer r = {.reclaim = reclaim};

    on_pressure = fn;
    mm_reclaimer_add(&r);
}

uint64_t heap_memory_total(void)
{
    return frame_stats().total * PAGE_SIZE;
}
