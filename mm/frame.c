// Physical page frames.
//
// A block is 2^order frames, aligned to its size. Free blocks of one order are
// on a doubly linked list threaded through the frame array; freeing merges a
// block with its buddy (the frame number with one bit flipped) while that is
// free and of the same order.
//
// The array is never cleared: only heads of blocks are read, and every frame
// whose number could be asked for as a buddy's head is the head of some block,
// or was marked reserved at boot. Proof: a block of order k came from splitting
// one of order k+1, which wrote both heads, or from frame_add, which cuts RAM
// into the largest aligned blocks; then its buddy is the start of a block of at
// most order k (written), or outside RAM (frame_add marks it reserved). So
// booting with 1 TiB costs no more than with 4 MiB.
//
// Invariants (frame_check):
//   I1  every block on free_list[k] has state FREE, order k, is aligned to it
//   I2  the free list lengths add up to nfree
//   I3  no two buddies of one order are both free (below the maximum)
//
// Locks: frame_lock protects everything. It is the innermost lock of mm.

#include "mm/frame_impl.h"

#include <string.h>

#include "mm/fail.h"
#include "mm/fcache.h"
#include "mm/mm.h"

static struct spinlock frame_lock = SPINLOCK_INIT(RANK_FRAME);
static uint32_t
    free_list[FRAME_MAX_ORDER + 1]; // [frame_lock] first pfn, 0 none
static uint64_t ntotal, low_mark;   // [frame_lock] in frames
static _Atomic uint64_t nfree;      // [frame_lock]; read anywhere, relaxed

// Has one writer at a time: no locked instruction is needed.
static void set_free(uint64_t n)
{
    atomic_store_explicit(&nfree, n, memory_order_relaxed);
}

static void push(uint64_t pfn, unsigned order)
{
    struct frame *f = frame_of(pfn);

    *f = (struct frame){
        .next = free_list[order], .order = (uint8_t)order, .state = FRAME_FREE};
    if (f->next != 0)
        frame_of(f->next)->prev = (uint32_t)pfn;
    free_list[order] = (uint32_t)pfn;
}

static void unlink_block(uint64_t pfn)
{
    struct frame *f = frame_of(pfn);

    if (f->prev != 0)
        frame_of(f->prev)->next = f->next;
    else
        free_list[f->order] = f->next;
    if (f->next != 0)
        frame_of(f->next)->prev = f->prev;
}

static uint64_t take(unsigned order)
{
    unsigned k = order;

    while (k <= FRAME_MAX_ORDER && free_list[k] == 0)
        k++;
    if (k > FRAME_MAX_ORDER)
        return 0;
    uint64_t pfn = free_list[k];

    unlink_block(pfn);
    // Keep the lower half, so that used memory stays low and dense.
    while (k > order) {
        k--;
        push(pfn + (UINT64_C(1) << k), k);
    }
    *frame_of(pfn) =
        (struct frame){.refs = 1, .order = (uint8_t)order, .state = FRAME_USED};
    set_free(nfree - (UINT64_C(1) << order));
    if (nfree < low_mark)
        low_mark = nfree;
    return pfn;
}

paddr_t frame_alloc(unsigned order, enum frame_flags flags)
{
    ASSERT(order <= FRAME_MAX_ORDER);
    if (mm_fails())
        return paddr(0);
    spin_lock(&frame_lock);
    uint64_t pfn = take(order);

    spin_unlock(&frame_lock);
    paddr_t p = paddr(pfn << PAGE_SHIFT);

    if (pfn != 0 && flags == FRAME_ZERO)
        memset(arch_direct(p), 0, (size_t)PAGE_SIZE << order);
    return p;
}

static void give(uint64_t pfn, unsigned order)
{
    set_free(nfree + (UINT64_C(1) << order));
    for (; order < FRAME_MAX_ORDER; order++) {
        uint64_t buddy = pfn ^ (UINT64_C(1) << order);
        struct frame *b = frame_of(buddy);

        if (b->state != FRAME_FREE || b->order != order)
            break;
        unlink_block(buddy);
        pfn &= ~(UINT64_C(1) << order);
    }
    push(pfn, order);
}

void frame_free(paddr_t p, unsigned order)
{
    uint64_t pfn = p.raw >> PAGE_SHIFT;
    struct frame *f = frame_of(pfn);

    ASSERT(pfn != 0 && p.raw % PAGE_SIZE == 0);
    spin_lock(&frame_lock);
    struct frame was = *f;
    bool ok = was.state == FRAME_USED && was.order == order;

    if (ok)
        give(pfn, order);
    spin_unlock(&frame_lock);
    if (!ok)
        panic("frame_free: frame 0x%lx order %u is %s of order %u",
              (unsigned long)p.raw, order,
              was.state == FRAME_FREE   ? "free"
              : was.state == FRAME_USED ? "a block"
                                        : "not a block",
              was.order);
}

void frame_get(paddr_t p)
{
    atomic_fetch_add_explicit(&frame_of(p.raw >> PAGE_SHIFT)->refs, 1,
                              memory_order_relaxed);
}

void frame_set_counted(paddr_t p)
{
    frame_of(p.raw >> PAGE_SHIFT)->counted = 1;
}

bool frame_is_counted(paddr_t p)
{
    return frame_of(p.raw >> PAGE_SHIFT)->counted != 0;
}

// Of a frame that has no user any more: the next one's is another matter.
static unsigned take_count(struct frame *f)
{
    unsigned counted = f->counted;

    f->counted = 0;
    return counted;
}

void frame_put(paddr_t p)
{
    struct frame *f = frame_of(p.raw >> PAGE_SHIFT);
    // Release: our last use of the contents; acquire: everybody else's.
    uint32_t old = atomic_fetch_sub_explicit(&f->refs, 1, memory_order_acq_rel);

    ASSERT(old > 0);
    if (old == 1) {
        unsigned counted = take_count(f);

        frame_cache_give(&p, 1);
        if (counted > 0)
            mm_uncharge(counted);
    }
}

void frame_put_many(paddr_t *p, unsigned n)
{
    unsigned last = 0, counted = 0;

    for (unsigned i = 0; i < n; i++) {
        struct frame *f = frame_of(p[i].raw >> PAGE_SHIFT);
        _Atomic uint32_t *refs = &f->refs;
        // Acquire: everybody else's last use. Who is alone needs no more.
        uint32_t old = atomic_load_explicit(refs, memory_order_acquire);

        if (old == 1)
            atomic_store_explicit(refs, 0, memory_order_relaxed);
        else
            old = atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel);
        ASSERT(old > 0);
        if (old == 1) {
            counted += take_count(f);
            p[last++] = p[i];
        }
    }
    if (last > 0)
        frame_cache_give(p, last);
    // Others get the promise when the frames are free.
    if (counted > 0)
        mm_uncharge(counted);
}

uint32_t frame_refs(paddr_t p)
{
    return atomic_load_explicit(&frame_of(p.raw >> PAGE_SHIFT)->refs,
                                memory_order_relaxed);
}

void frame_split(paddr_t p, unsigned order, unsigned to)
{
    uint64_t pfn = p.raw >> PAGE_SHIFT;

    spin_lock(&frame_lock);
    ASSERT(frame_of(pfn)->state == FRAME_USED && frame_of(pfn)->order == order);
    for (uint64_t i = 0; i < UINT64_C(1) << order; i += UINT64_C(1) << to)
        *frame_of(pfn + i) = (struct frame){
            .refs = 1, .order = (uint8_t)to, .state = FRAME_USED};
    spin_unlock(&frame_lock);
}

// Only the head of a block is read.
void frame_join(paddr_t p, unsigned order)
{
    spin_lock(&frame_lock);
    frame_of(p.raw >> PAGE_SHIFT)->order = (uint8_t)order;
    spin_unlock(&frame_lock);
}

static unsigned smallest_free(void)
{
    unsigned k = 0;

    while (k <= FRAME_MAX_ORDER && free_list[k] == 0)
        k++;
    return k;
}

// Batches for the caches of single frames (fcache.c): whole small blocks first,
// then a piece of a larger one. The last of them is the lowest of its block.
unsigned frame_take_batch(paddr_t *out, unsigned n)
{
    unsigned got = 0;

    spin_lock(&frame_lock);
    while (got < n) {
        unsigned k = smallest_free(),
                 most = 31 - (unsigned)__builtin_clz(n - got);

        if (k > FRAME_MAX_ORDER)
            break;
        k = k < most ? k : most;
        uint64_t pfn = take(k), count = UINT64_C(1) << k;

        while (count-- > 0) {
            *frame_of(pfn + count) =
                (struct frame){.refs = 1, .state = FRAME_USED};
            out[got++] = paddr((pfn + count) << PAGE_SHIFT);
        }
    }
    spin_unlock(&frame_lock);
    return got;
}

void frame_give_batch(const paddr_t *p, unsigned n)
{
    spin_lock(&frame_lock);
    for (unsigned i = 0; i < n; i++)
        give(p[i].raw >> PAGE_SHIFT, 0);
    spin_unlock(&frame_lock);
}

void frame_adopt(paddr_t p)
{
    uint64_t pfn = p.raw >> PAGE_SHIFT;

    spin_lock(&frame_lock);
    ASSERT(frame_of(pfn)->state == FRAME_RESERVED);
    ntotal++;
    give(pfn, 0);
    spin_unlock(&frame_lock);
}

void frame_reserve(uint64_t pfn)
{
    *frame_of(pfn) = (struct frame){.state = FRAME_RESERVED};
}

void frame_add(uint64_t first, uint64_t end)
{
    if (first == 0)
        first = 1; // frame 0 stands for "none"
    while (first < end) {
        unsigned k = (unsigned)__builtin_ctzll(first);

        if (k > FRAME_MAX_ORDER)
            k = FRAME_MAX_ORDER;
        while (UINT64_C(1) << k > end - first)
            k--;
        push(first, k);
        first += UINT64_C(1) << k;
        ntotal += UINT64_C(1) << k;
        set_free(nfree + (UINT64_C(1) << k));
    }
    low_mark = nfree;
}

uint64_t frames_free_now(void)
{
    return atomic_load_explicit(&nfree, memory_order_relaxed);
}

struct frame_stats frame_stats(void)
{
    spin_lock(&frame_lock);
    struct frame_stats s = {ntotal, nfree, low_mark};

    spin_unlock(&frame_lock);
    return s;
}

void frame_check(void)
{
    uint64_t sum = 0;

    spin_lock(&frame_lock);
    for (unsigned k = 0; k <= FRAME_MAX_ORDER; k++) {
        uint32_t prev = 0;

        for (uint64_t p = free_list[k]; p != 0; p = frame_of(p)->next) {
            struct frame *f = frame_of(p);
            struct frame *b = frame_of(p ^ (UINT64_C(1) << k));

            ASSERT(f->state == FRAME_FREE && f->order == k);
            ASSERT((p & ((UINT64_C(1) << k) - 1)) == 0);
            ASSERT(f->prev == prev);
            ASSERT(k == FRAME_MAX_ORDER ||
                   !(b->state == FRAME_FREE && b->order == k));
            sum += UINT64_C(1) << k;
            prev = (uint32_t)p;
        }
    }
    ASSERT(sum == nfree);
    spin_unlock(&frame_lock);
}
