// Caches of single frames.
//
// Each CPU has a stack of free frames, filled and drained by batches from the
// buddy allocator, so that most faults take no shared lock. Its own lock is hardly
// ever contended: others take it only when there is no frame anywhere else.
// One list of frames that idle CPUs have cleared in advance is shared. Each CPU
// also keeps a reserve for growing a stack, whose fault cannot wait (R14).
//
//   buddy --batch--> cpu cache --> mapped --> cpu cache --batch--> buddy
//                                     idle CPU: buddy --clear--> zeroed list
//
// A frame in a cache is FRAME_USED with no users. The zeroed list is bounded, so
// that it neither starves others nor makes counts depend on idle time.
//
// Locks: each cache's lock protects its frames; reserves and counters belong to
// their CPU [o]; zeroed_lock protects the zeroed list. Several caches are locked
// in the order of their CPUs, then zeroed_lock, then frame_lock. Counts are read by
// anybody, relaxed, for statistics.

#include "mm/fcache.h"

#include <string.h>

#include "arch/option.h"
#include "mm/fail.h"
#include "mm/frame_impl.h"
#include "mm/mm.h"
#include "mm/mm_impl.h"

enum {
    CACHE_MAX = 64,
    BATCH = 32,
    RESERVE = 12,      // frames: 8 for pages of a stack, 4 for page tables
    SCARCE_SHARE = 16, // caches stay small while a CPU's share is below this
};

struct frame_cache {
    struct spinlock lock;
    _Atomic unsigned n;                    // [lock]
    _Atomic unsigned nreserve;             // [o]
    paddr_t frames[CACHE_MAX];             // [lock]
    paddr_t reserve[RESERVE];              // [o]
    _Atomic uint64_t from_zeroed, cleared; // [o]
} __attribute__((aligned(64)));

static struct frame_cache boot_cache = {.lock = SPINLOCK_INIT(RANK_FCACHE)};
static struct frame_cache *_Atomic caches[ARCH_MAX_CPUS] = {&boot_cache};

static struct spinlock zeroed_lock = SPINLOCK_INIT(RANK_ZEROED);
static uint32_t zeroed_list;     // [zeroed_lock] first pfn, by next
static _Atomic uint64_t nzeroed; // [zeroed_lock] writes; read anywhere

uint64_t frame_zeroed_max = 1024;
OPTION_UINT(opt_zeroed, "mm.zeroed", frame_zeroed_max, 0, UINT32_MAX,
            "most frames that idle CPUs clear in advance (1024)");

static struct frame_cache *mine(void)
{
    struct frame_cache *_Atomic *c = &caches[arch_cpu_id()];

    if (unlikely(*c == NULL)) {
        paddr_t p = frame_alloc(0, FRAME_ZERO);

        if (p.raw == 0)
            return NULL;
        struct frame_cache *fresh = arch_direct(p);

        spin_init(&fresh->lock, RANK_FCACHE);
        *c = fresh;
    }
    return *c;
}

// Counts have one writer at a time: no locked instruction is needed.
static void set_n(struct frame_cache *c, unsigned n)
{
    atomic_store_explicit(&c->n, n, memory_order_relaxed);
}

static void count(_Atomic uint64_t *counter, unsigned n)
{
    atomic_store_explicit(counter, *counter + n, memory_order_relaxed);
}

static paddr_t pop(struct frame_cache *c)
{
    set_n(c, c->n - 1);
    return c->frames[c->n];
}

// How many frames a CPU may hold back from the others.
static unsigned cache_limit(void)
{
    uint64_t share = frames_free_now() / arch_cpu_count() / SCARCE_SHARE;

    return share < CACHE_MAX ? (unsigned)share : CACHE_MAX;
}

// Up to n frames of this CPU's; when it has none, a batch comes in.
static unsigned take_cached(struct frame_cache *c, paddr_t *out, unsigned n)
{
    unsigned got = 0;

    if (c == NULL)
        return 0;
    spin_lock(&c->lock);
    if (c->n < n) {
        unsigned want = cache_limit() / 2;

        want = want > BATCH ? BATCH : want > 0 ? want : 1;
        if (c->n == 0 || want >= n)
            set_n(c, c->n + frame_take_batch(c->frames + c->n, want));
    }
    while (got < n && c->n > 0)
        out[got++] = pop(c);
    spin_unlock(&c->lock);
    return got;
}

// With zeroed_lock held.
static unsigned pop_zeroed(paddr_t *out, unsigned n)
{
    unsigned got = 0;

    for (uint64_t pfn = zeroed_list; got < n && pfn != 0; pfn = zeroed_list) {
        zeroed_list = frame_of(pfn)->next;
        out[got++] = paddr(pfn << PAGE_SHIFT);
    }
    mm_count(&nzeroed, -(uint64_t)got);
    return got;
}

static unsigned take_zeroed(paddr_t *out, unsigned n)
{
    if (atomic_load_explicit(&nzeroed, memory_order_relaxed) == 0)
        return 0;
    spin_lock(&zeroed_lock);
    unsigned got = pop_zeroed(out, n);

    spin_unlock(&zeroed_lock);
    return got;
}

// The last resort: a frame that is free anywhere. No frame goes from one place
// to another meanwhile, or it could pass by unseen, and who has been promised it
// would be told that there is none (R14).
COLD static unsigned take_anywhere(paddr_t *out)
{
    struct frame_cache *held[ARCH_MAX_CPUS];
    unsigned n = 0, got;

    for (unsigned i = 0; i < ARCH_MAX_CPUS; i++) {
        if (caches[i] != NULL) {
            held[n] = caches[i];
            spin_lock(&held[n++]->lock);
        }
    }
    spin_lock(&zeroed_lock);
    got = frame_take_batch(out, 1);
    for (unsigned i = 0; i < n && got == 0; i++) {
        if (held[i]->n > 0) {
            *out = pop(held[i]);
            got = 1;
        }
    }
    if (got == 0)
        got = pop_zeroed(out, 1);
    spin_unlock(&zeroed_lock);
    while (n > 0)
        spin_unlock(&held[--n]->lock);
    return got;
}

static void give_user(paddr_t p)
{
    atomic_store_explicit(&frame_of(p.raw >> PAGE_SHIFT)->refs, 1,
                          memory_order_relaxed);
}

// Frames from where there are some: cleared in advance (if they are to be
// cleared), this CPU's, the buddy allocator's, another's.
static unsigned take(paddr_t *out, unsigned n, enum frame_flags flags)
{
    if (mm_fails())
        return 0;
    struct frame_cache *c = mine();
    unsigned got = flags == FRAME_ZERO ? take_zeroed(out, n) : 0, clean = got;

    if (got < n)
        got += take_cached(c, out + got, n - got);
    if (got == 0)
        got = take_anywhere(out);
    if (c != NULL && flags == FRAME_ZERO) {
        count(&c->from_zeroed, clean);
        count(&c->cleared, got - clean);
    }
    for (unsigned i = 0; i < got; i++) {
        if (flags == FRAME_ZERO && i >= clean)
            memset(arch_direct(out[i]), 0, PAGE_SIZE);
        give_user(out[i]);
    }
    return got;
}

paddr_t frame_cache_take(enum frame_flags flags)
{
    paddr_t p;

    return take(&p, 1, flags) == 1 ? p : paddr(0);
}

unsigned frame_cache_take_many(paddr_t *out, unsigned n)
{
    return take(out, n, FRAME_ZERO);
}

paddr_t frame_cache_take_for_stack(void)
{
    paddr_t p = frame_cache_take(FRAME_ZERO);
    struct frame_cache *c = mine();

    if (p.raw != 0 || c == NULL || c->nreserve == 0)
        return p;
    p = c->reserve[--c->nreserve];
    memset(arch_direct(p), 0, PAGE_SIZE);
    // Filled again when no-preempt ends; the shortage is looked at then too.
    mm_frames_scarce();
    preempt_set_pending();
    give_user(p);
    return p;
}

void frame_cache_give(const paddr_t *p, unsigned n)
{
    struct frame_cache *c = mine();
    unsigned limit = cache_limit();

    if (c == NULL || limit == 0) {
        frame_give_batch(p, n);
        return;
    }
    unsigned keep = limit < BATCH ? limit : BATCH;

    if (n > keep) {
        frame_give_batch(p + keep, n - keep);
        n = keep;
    }
    spin_lock(&c->lock);
    if (c->n + n > limit) {
        unsigned k = c->n > BATCH ? BATCH : c->n;

        // The oldest go; what was used last is warm.
        frame_give_batch(c->frames, k);
        memmove(c->frames, c->frames + k, (c->n - k) * sizeof c->frames[0]);
        set_n(c, c->n - k);
    }
    memcpy(c->frames + c->n, p, n * sizeof *p);
    set_n(c, c->n + n);
    spin_unlock(&c->lock);
}

bool frame_reserve_low(void)
{
    struct frame_cache *c = caches[arch_cpu_id()];

    return c == NULL || c->nreserve < RESERVE;
}

void frame_reserve_refill(void)
{
    struct frame_cache *c = mine();

    if (c != NULL && c->nreserve < RESERVE)
        c->nreserve +=
            frame_take_batch(c->reserve + c->nreserve, RESERVE - c->nreserve);
}

// One at a time: while it is cleared nobody finds it, although it may be promised;
// so many each CPU may keep (KEPT_PER_CPU).
COLD bool frame_zero_ahead(void)
{
    paddr_t p;
    // Not more than were asked for so far: a program that takes few frames
    // finds idle CPUs idle.
    struct frame_cache_stats s = frame_cache_stats();
    uint64_t bound = min_u64(min_u64(frame_zeroed_max, frames_free_now() / 8),
                             s.from_zeroed + s.cleared);

    if (atomic_load_explicit(&nzeroed, memory_order_relaxed) >= bound ||
        frame_take_batch(&p, 1) == 0)
        return false;
    memset(arch_direct(p), 0, PAGE_SIZE);
    spin_lock(&zeroed_lock);
    frame_of(p.raw >> PAGE_SHIFT)->next = zeroed_list;
    zeroed_list = (uint32_t)(p.raw >> PAGE_SHIFT);
    mm_count(&nzeroed, 1);
    spin_unlock(&zeroed_lock);
    return true;
}

COLD void frame_cache_flush(void)
{
    paddr_t p;

    for (unsigned i = 0; i < ARCH_MAX_CPUS; i++) {
        struct frame_cache *c = caches[i];

        if (c == NULL)
            continue;
        spin_lock(&c->lock);
        frame_give_batch(c->frames, c->n);
        set_n(c, 0);
        spin_unlock(&c->lock);
    }
    spin_lock(&zeroed_lock);
    while (pop_zeroed(&p, 1) == 1)
        frame_give_batch(&p, 1);
    spin_unlock(&zeroed_lock);
}

COLD struct frame_cache_stats frame_cache_stats(void)
{
    struct frame_cache_stats s = {
        .zeroed = atomic_load_explicit(&nzeroed, memory_order_relaxed)};

    s.cached = s.zeroed;
    for (unsigned i = 0; i < ARCH_MAX_CPUS; i++) {
        if (caches[i] == NULL)
            continue;
        s.cached += caches[i]->n;
        s.reserved += caches[i]->nreserve;
        s.from_zeroed += caches[i]->from_zeroed;
        s.cleared += caches[i]->cleared;
    }
    return s;
}
