// What may still be promised, and what happens when frames get few.
//
// Commit accounting (R14): every mapping that a program makes is charged with
// the frames it can take, page tables included, when it is made; what cannot be
// refused (pages of stacks, tables of regions that are cut) is counted against
// the rest. So a store into mapped memory finds a frame, and running out is an
// error of a call. Memory that opted out is charged as it is touched (fault.c).
//
// Pressure is about frames that are really free. Whoever finds few sets a mark;
// the scheduler calls the reclaimers from its loop, where they may take locks.
// A charge that fails calls them too, by mm_reclaim, before the call fails.
//
// Locks: the counters are atomic, relaxed: only the sum matters. The list of
// reclaimers only grows, published by release.

#include <stdatomic.h>

#include "arch/option.h"
#include "mm/fcache.h"
#include "mm/mm.h"
#include "mm/mm_impl.h"

static _Atomic uint64_t committed; // pages promised or counted
static _Atomic uint64_t
    commit_limit;       // [mm_lock] after mm_boot_done; read anywhere
static uint64_t usable; // [c] frames that were free at the start
static struct mm_reclaimer *_Atomic reclaimers;
static _Atomic bool pending; // somebody saw few frames

static uint64_t limit_bytes;
OPTION_ROW(opt_limit, "mm.limit",
           "most memory that may be promised, bytes with K, M, G (0: all)",
           &limit_bytes, NULL, 0, UINT64_MAX, OPTION_SIZE);

enum { KEPT_PER_CPU = 16 };

void mm_boot_done(void)
{
    // What the CPUs keep for themselves is promised to nobody: the reserve, a
    // cache, a batch, a frame that is being cleared in advance, and the old one of
    // a page that all who share it are copying at once.
    uint64_t kept = arch_cpu_count() * (uint64_t)KEPT_PER_CPU;

    usable = mm_free_frames();
    uint64_t limit = usable > kept ? usable - kept : 0;

    if (limit_bytes != 0 && limit_bytes / PAGE_SIZE < limit)
        limit = limit_bytes / PAGE_SIZE;
    atomic_store_explicit(&commit_limit, limit, memory_order_relaxed);
}

bool mm_charge(uint64_t npages)
{
    uint64_t old = atomic_load_explicit(&committed, memory_order_relaxed);

    do {
        uint64_t limit =
            atomic_load_explicit(&commit_limit, memory_order_relaxed);

        if (npages > limit || old > limit - npages)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(
        &committed, &old, old + npages, memory_order_relaxed,
        memory_order_relaxed));
    return true;
}

void mm_commit_less(uint64_t npages)
{
    mm_count(&commit_limit, -npages);
}

void mm_charge_stack(uint64_t npages)
{
    atomic_fetch_add_explicit(&committed, npages, memory_order_relaxed);
}

uint64_t mm_mapping_cost_at(uintptr_t va, uint64_t bytes)
{
    uint64_t cost = bytes / PAGE_SIZE;

    // A table for each stretch of addresses that it lies in.
    for (int level = 2; level <= PT_LEVELS && bytes > 0; level++)
        cost += (va + bytes - 1) / pte_span(level) - va / pte_span(level) + 1;
    return cost;
}

uint64_t mm_mapping_cost(uint64_t bytes)
{
    return mm_mapping_cost_at(0, bytes);
}

void mm_uncharge(uint64_t npages)
{
    atomic_fetch_sub_explicit(&committed, npages, memory_order_relaxed);
}

struct mm_commit mm_commit(void)
{
    return (struct mm_commit){
        atomic_load_explicit(&committed, memory_order_relaxed),
        atomic_load_explicit(&commit_limit, memory_order_relaxed), usable};
}

uint64_t mm_free_frames(void)
{
    return frame_stats().free + frame_cache_stats().cached;
}

// ---- pressure ----

// Shares of the frames that were free at the start: an eighth, a sixteenth, and
// a 64th, but 64 at least, below which nothing is mapped in advance.
enum { LOW_SHARE = 8, HIGH_SHARE = 16, CRITICAL_SHARE = 64, FEW = 64 };

static uint64_t critical_below(void)
{
    uint64_t few = usable / CRITICAL_SHARE;

    return few < FEW ? FEW : few;
}

enum mm_pressure mm_pressure(void)
{
    uint64_t free = frames_free_now();

    if (free < critical_below())
        return MM_CRITICAL;
    if (free < usable / HIGH_SHARE)
        return MM_HIGH;
    return free < usable / LOW_SHARE ? MM_LOW : MM_PLENTY;
}

bool mm_frames_scarce(void)
{
    if (likely(frames_free_now() >= critical_below()))
        return false;
    atomic_store_explicit(&pending, true, memory_order_relaxed);
    return true;
}

void mm_reclaimer_add(struct mm_reclaimer *r)
{
    r->next = atomic_load_explicit(&reclaimers, memory_order_relaxed);
    // Pairs with the acquire in mm_reclaim.
    while (!atomic_compare_exchange_weak_explicit(
        &reclaimers, &r->next, r, memory_order_release, memory_order_relaxed))
        ;
}

static void flush_cache(void *arg)
{
    (void)arg;
    frame_cache_flush();
}

uint64_t mm_reclaim(uint64_t npages)
{
    enum mm_pressure level = mm_pressure();
    uint64_t got = 0;

    for (struct mm_reclaimer *r =
             atomic_load_explicit(&reclaimers, memory_order_acquire);
         r != NULL && got < npages; r = r->next)
        got += r->reclaim(npages - got, level);
    arch_on_system_stack(flush_cache, NULL);
    return got;
}

bool mm_pressure_pending(void)
{
    return atomic_load_explicit(&pending, memory_order_relaxed);
}

void mm_relieve(void)
{
    if (atomic_exchange_explicit(&pending, false, memory_order_relaxed))
        mm_reclaim(critical_below());
}
