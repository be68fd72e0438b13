// What runtime/heap needs to be the malloc of Linux programs, beside
// arch/host/native: memory from the kernel, start, fork. tools/bench-heap/run
// links it all into libgneiss.so.
//
// All of the heap's range is mapped at the start, readable and writable, not
// reserved: a page costs something when it is touched. So nothing is left to do
// when the heap or its tables grow.

#define _GNU_SOURCE

#include "runtime/heap/memory.h"

#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "arch/host/native/native.h"
#include "mm/mm.h"
#include "runtime/heap/cache.h"
#include "runtime/heap/heap.h"

// The tables, behind them the frames, and the classes of nobody's pages.
#define META_SIZE   (UINT64_C(1) << 38)
#define FRAMES_BASE (ARCH_HEAPMETA_BASE + META_SIZE)
#define FRAMES_SIZE (UINT64_C(1) << 34)
#define ZERO_BASE   (FRAMES_BASE + FRAMES_SIZE)
#define ZERO_SIZE   (ARCH_HEAP_SIZE >> HEAP_PAGE_SHIFT)

// Of the machine that the heap shall think it is on: it decides how much free
// memory is kept.
#define RAM_SIZE (UINT64_C(1) << 30)

static _Atomic uintptr_t next_frame = FRAMES_BASE;

static void map(uintptr_t va, size_t bytes)
{
    int flags =
        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;

    if (mmap((void *)va, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) !=
        (void *)va)
        panic("native: no address space at 0x%lx", (unsigned long)va);
}

// ---- memory.h ----

bool heap_memory_meta(uintptr_t va, size_t bytes)
{
    return va + bytes <= FRAMES_BASE;
}

bool heap_memory_grow(uintptr_t end)
{
    return end <= ARCH_HEAP_BASE + ARCH_HEAP_SIZE;
}

bool heap_memory_charge(uint64_t frames)
{
    (void)frames;
    return true;
}

void heap_memory_uncharge(uint64_t frames)
{
    (void)frames;
}

void heap_memory_drop(uintptr_t va, size_t bytes)
{
    if (madvise((void *)va, bytes, MADV_DONTNEED) != 0)
        panic("native: madvise of 0x%lx failed", (unsigned long)va);
}

// The kernel maps nothing in advance.
void heap_memory_move_begin(void)
{
}

void heap_memory_move_end(void)
{
}

bool heap_memory_has_frame(uintptr_t va)
{
    (void)va;
    return true;
}

uint64_t heap_memory_enlarge(uintptr_t va, size_t bytes)
{
    return madvise((void *)va, bytes, MADV_HUGEPAGE) == 0 ? bytes : 0;
}

bool heap_memory_move(uintptr_t from, uintptr_t to, size_t bytes)
{
    return mremap((void *)from, bytes, bytes,
                  MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
                  (void *)to) == (void *)to;
}

void *heap_memory_frames(size_t bytes)
{
    uintptr_t at = atomic_fetch_add_explicit(
        &next_frame, align_up(bytes, PAGE_SIZE), memory_order_relaxed);

    return at + bytes <= FRAMES_BASE + FRAMES_SIZE ? (void *)at : NULL;
}

bool heap_memory_reclaim(uint64_t frames)
{
    (void)frames;
    return false;
}

void heap_memory_on_pressure(uint64_t (*give)(void))
{
    (void)give; // the kernel says nothing
}

uint64_t heap_memory_total(void)
{
    return RAM_SIZE;
}

// ---- mm/, for boot options that nobody can set here ----

struct spinlock mm_lock;

int vm_map(uintptr_t *va, size_t bytes, unsigned prot, unsigned flags,
           const char *name)
{
    (void)va, (void)bytes, (void)prot, (void)flags, (void)name;
    return -ENOMEM;
}

int vm_unmap(uintptr_t va, size_t bytes)
{
    (void)va, (void)bytes;
    return -EINVAL;
}

void mm_look(uintptr_t va, struct mm_look *l)
{
    (void)va;
    *l = (struct mm_look){0};
}

// ---- start and fork ----

// What a thread has for a cache until it starts: nothing can be taken from it,
// nothing can be put into it.
static void *no_stack[2 * CACHE_SLOTS] __attribute__((aligned(CACHE_ALIGN)));

struct native_nobody {
    struct cache cache;
} native_nobody = {
    .cache =
        {
            .stack = {[0 ... CACHE_STACKS - 1] = {no_stack + CACHE_SLOTS, 0}},
            .classes = (uint8_t *)ZERO_BASE,
        },
};

// Of the heap's locks, so that the child finds none of them held.
static void before_fork(void)
{
    native_start();
    heap_lock_all();
}

static void in_parent(void)
{
    heap_unlock_all();
}

static void in_child(void)
{
    native_forked();
    heap_unlock_all();
}

void native_init(void)
{
    map(ARCH_HEAP_BASE, ARCH_HEAP_SIZE);
    map(ARCH_HEAPMETA_BASE, META_SIZE + FRAMES_SIZE + ZERO_SIZE);
    heap_init();
}

void native_init_cpu(void)
{
    heap_cpu_init();
}

// The first of all constructors (-z initfirst): the heap must not be used before.
__attribute__((constructor)) static void begin(void)
{
    native_start();
    if (pthread_atfork(before_fork, in_parent, in_child) != 0)
        panic("native: pthread_atfork failed");
}
