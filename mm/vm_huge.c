// 2 MiB and 1 GiB pages for memory that exists already.
//
// A whole table of entries becomes one (R12, break before make): all are made
// busy, the old translations are shot down, the contents are copied to contiguous
// frames, the large entry takes the table's place. Its D bit is the OR of theirs
// (R15).
//
// 1 GiB is 512 times that, each 2 MiB to its place in one block, and faults are
// served between; then, with nothing left to copy, the table of the 512.
//
// The frames that are taken beside those in use are promised meanwhile (R14).

#include <errno.h>
#include <string.h>

#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

// ---- promote ----

// Does another use the frame, too, or replace it now?
static bool is_shared(pte_t v)
{
    if (v & PTE_COW)
        return !mm_is_zero_frame(pte_paddr(v)) && frame_refs(pte_paddr(v)) > 1;
    return v & PTE_BUSY;
}

// Can what is at va be one page? *is: the largest level that is there already.
// r is frozen.
static bool promotable(const struct region *r, uintptr_t va, uintptr_t end,
                       int *is)
{
    struct pt_run run;

    for (*is = 1; va < end; va += run.n * PAGE_SIZE) {
        run = pt_run(va, end);
        if (run.e != NULL && run.level > *is)
            *is = run.level;
        for (size_t i = 0; i < pt_run_entries(&run); i++) {
            if (is_shared(pt_get(&run.e[i])))
                return false;
        }
        vm_breathe();
    }
    return r->prot != 0 && r->peer == r && !(r->flags & REGION_UNCHARGED);
}

static paddr_t take_block(int level)
{
    uint64_t n = UINT64_C(1) << vm_order(level);
    paddr_t p = paddr(0);

    if (mm_charge(n)) {
        p = frame_alloc(vm_order(level), FRAME_DIRTY);
        if (p.raw == 0)
            mm_uncharge(n);
    }
    return p;
}

// Break before make (R12), for a whole table; what was there is noted in old.
// mm_lock held; released between.
static bool promote_table(uintptr_t va, int level, paddr_t to, pte_t *old)
{
    struct pt_garbage g = {0};
    pte_t dirty = 0;
    int below;
    pte_t *e = level == 2 ? pt_make(va) : pt_find(va, &below);
    size_t npages = pte_span(level) / PAGE_SIZE;

    if (e == NULL)
        return false;
    // Busy as a leaf of its level.
    for (unsigned i = 0; i < PT_ENTRIES; i++)
        old[i] = pt_set(&e[i], level == 2 ? PTE_BUSY : PTE_BUSY | PTE_LARGE);
    spin_unlock(&mm_lock);
    mm_shootdown(va, npages);
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        char *page = (char *)arch_direct(to) + i * (size_t)PAGE_SIZE;

        dirty |= old[i] & PTE_DIRTY;
        if (level > 2)
            continue; // it lies where it should
        if (pt_has_frame(old[i]))
            memcpy(page, arch_direct(pte_paddr(old[i])), PAGE_SIZE);
        else
            memset(page, 0, PAGE_SIZE);
    }
    spin_lock(&mm_lock);
    pte_t leaf = pte_make_leaf(to, region_find(va)->prot, level);

    pt_promote(va, level, (leaf & pt_valid_bits) | dirty, &g);
    mm_count_large(level, 1);
    mm_count_large(level - 1, -(uint64_t)PT_ENTRIES);
    spin_unlock(&mm_lock);
    mm_shootdown(va, npages);
    for (unsigned i = 0; level == 2 && i < PT_ENTRIES; i++) {
        if (pt_has_frame(old[i]) && !mm_is_zero_frame(pte_paddr(old[i])))
            frame_put(pte_paddr(old[i]));
    }
    pt_free_garbage(&g);
    spin_lock(&mm_lock);
    return true;
}

// Returns whether the 2 MiB at va are one page now, or part of one; with `to`,
// of these frames.
static bool promote_2mib(struct region *r, uintptr_t va, paddr_t to, pte_t *old)
{
    int is;

    vm_freeze(r);
    bool can = promotable(r, va, va + VM_HUGE_BYTES, &is);
    bool done = is > 1 && to.raw == 0;

    if (can && !done && vm_split_at(va + PAGE_SIZE) == 0) {
        paddr_t block = to.raw != 0 ? to : take_block(2);

        done = block.raw != 0 && promote_table(va, 2, block, old);
        if (!done && to.raw == 0 && block.raw != 0)
            frame_free(block, vm_order(2));
        if (to.raw == 0 && block.raw != 0)
            mm_uncharge(PT_ENTRIES);
    }
    vm_thaw(r);
    return done;
}

// Returns whether the 1 GiB at va is one page now.
static bool promote_1gib(struct region *r, uintptr_t va, pte_t *old)
{
    uint64_t done = 0;
    int is;

    vm_freeze(r);
    bool can = promotable(r, va, va + pte_span(3), &is);

    vm_thaw(r);
    paddr_t block = can && is < 3 ? take_block(3) : paddr(0);

    if (block.raw == 0)
        return is == 3;
    frame_split(block, vm_order(3), vm_order(2));
    while (done < pte_span(3) &&
           promote_2mib(r, va + done, paddr(block.raw + done), old))
        done += VM_HUGE_BYTES;
    bool whole = done == pte_span(3);

    // No frame for a table: those in use stay as they are.
    for (; done < pte_span(3); done += VM_HUGE_BYTES)
        frame_free(paddr(block.raw + done), vm_order(2));
    if (whole) {
        vm_freeze(r);
        promote_table(va, 3, block, old);
        frame_join(block, vm_order(3));
        vm_thaw(r);
    }
    mm_uncharge(UINT64_C(1) << vm_order(3));
    // The last old frames would be taken from the caches, for tables say, and
    // then what was there would be no block for the next 1 GiB.
    frame_cache_flush();
    return whole;
}

static long promote_locked(struct vm_call *c)
{
    uintptr_t end = c->va + c->bytes, next;
    long n = 0;
    pte_t *old = vm_scratch(); // 512 old entries

    for (uintptr_t va = align_up(c->va, VM_HUGE_BYTES); va < end; va = next) {
        struct region *r = region_find(va);
        uintptr_t most = r != NULL ? min_u64(r->end, end) : va;

        next = va + VM_HUGE_BYTES;
        if (most < next || r->ops != &region_anon_ops ||
            (r->flags &
             (c->flags ? REGION_DEVICE : REGION_FIXED | REGION_DEVICE)))
            continue;
        if (pt_max_level >= 3 && va % pte_span(3) == 0 &&
            most - va >= pte_span(3) && promote_1gib(r, va, old)) {
            next = va + pte_span(3);
            n += PT_ENTRIES;
        } else {
            n += promote_2mib(r, va, paddr(0), old);
        }
    }
    return n;
}

static void promote_call(void *arg)
{
    struct vm_call *c = arg;

    spin_lock(&mm_lock);
    c->result = promote_locked(c);
    spin_unlock(&mm_lock);
}

long vm_promote(uintptr_t va, size_t bytes)
{
    struct vm_call c = {.va = va, .bytes = bytes};

    if (vm_check_range(va, bytes) != 0)
        return -EINVAL;
    vm_run(promote_call, &c);
    return c.result;
}

uint64_t region_promote(uintptr_t start, uintptr_t end)
{
    // The runtime's own regions, too.
    struct vm_call c = {.va = start, .bytes = end - start, .flags = 1};

    vm_run(promote_call, &c);
    return c.result > 0 ? (uint64_t)c.result : 0;
}
