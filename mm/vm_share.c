// Two ways to have the same frames twice.
//
// An alias joins the ring of the region (region.c): it costs nothing until it is
// touched. A clone shares the frames until one side stores: every page of the
// original's ring loses the right to store, the copy gets entries of its own.
// Stores through faults wait (frozen) until all CPUs have forgotten that they
// might, so the clone is of one moment.

#include <errno.h>

#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

// ---- alias ----

// Pages that show the zero frame become absent. True: some did.
static bool take_zero_frames(struct region *r)
{
    bool any = false;
    struct pt_run run;

    for (uintptr_t va = r->start; va < r->end; va += run.n * PAGE_SIZE) {
        run = pt_run(va, r->end);
        for (size_t i = 0; run.level == 1 && i < pt_run_entries(&run); i++) {
            pte_t v = pt_get(&run.e[i]);

            if (pt_has_frame(v) && mm_is_zero_frame(pte_paddr(v))) {
                pt_set(&run.e[i], 0);
                any = true;
            }
        }
    }
    return any;
}

// The zero frame is no memory of its own: the first store is to be seen through
// every alias. No page gets a frame before all CPUs have forgotten it (R12).
static void drop_zero_frames(struct region *r)
{
    vm_freeze(r);
    if (take_zero_frames(r)) {
        spin_unlock(&mm_lock);
        mm_shootdown(r->start, (r->end - r->start) / PAGE_SIZE);
        spin_lock(&mm_lock);
    }
    vm_thaw(r);
}

static int alias_locked(struct vm_call *c)
{
    uintptr_t end = c->va + c->bytes;
    struct region *r;

    // The range may be a part of a region: the ring knows by pages.
    r = region_find(c->va);
    if (r == NULL || r->end < end || r->ops != &region_anon_ops)
        return r != NULL && r->end >= end ? -EPERM : -ENOMEM;
    if (r->flags & REGION_FIXED)
        return -EPERM;
    // Rings know by 4 KiB.
    if (vm_split_all(c->va, end, 1) != 0)
        return -ENOMEM;
    if (r->flags & REGION_SPARSE)
        drop_zero_frames(r);
    uintptr_t at = vm_place(c->to, c->bytes);
    // A mere reservation pays for nothing: the alias does.
    unsigned flags =
        REGION_VIEW | (r->flags & REGION_UNCHARGED  ? REGION_UNCHARGED
                       : r->flags & REGION_RESERVED ? 0
                                                    : REGION_ALIAS);
    struct region *a =
        at != 0 ? vm_new_region(at, c->bytes, c->prot, flags, "an alias")
                : NULL;

    if (a == NULL || !vm_charge(vm_cost(a))) {
        if (a != NULL)
            region_free(a);
        return -ENOMEM;
    }
    region_join(a, r, c->va);
    vm_insert_free(a);
    c->to = at;
    return 0;
}

static void alias_call(void *arg)
{
    struct vm_call *c = arg;

    spin_lock(&mm_lock);
    c->result = alias_locked(c);
    spin_unlock(&mm_lock);
}

int vm_alias(uintptr_t va, size_t bytes, unsigned prot, uintptr_t *alias)
{
    struct vm_call c = {.va = va, .bytes = bytes, .prot = prot, .to = *alias};

    if (vm_check_range(va, bytes) != 0)
        return -EINVAL;
    vm_run_charging(alias_call, &c);
    if (c.result == 0)
        *alias = c.to;
    return (int)c.result;
}

// ---- clone ----

// Takes the right to store from an entry. Returns what is there then, 0 if it
// has no frame of its own.
static pte_t make_cow(pte_t *e)
{
    for (;;) {
        pte_t v = pt_get(e), to = (v & ~PTE_WRITE) | PTE_COW;

        if (!pt_has_frame(v) || mm_is_zero_frame(pte_paddr(v)))
            return 0;
        // D may be set meanwhile: then look again.
        if ((v & PTE_COW) || pt_try_set(e, v, to))
            return v;
    }
}

// The frame that the ring has for a page; all its entries lose the right to
// store. paddr 0: none has it.
static paddr_t protect_ring(struct region *r, uintptr_t va)
{
    paddr_t frame = paddr(0);
    struct region *p = r;

    do {
        pte_t *e = vm_small_entry(mm_peer_address(r, va, p));
        pte_t v = e != NULL ? make_cow(e) : 0;

        if (v != 0)
            frame = pte_paddr(v);
        p = p->peer;
    } while (p != r);
    return frame;
}

// n pages of the ring at va, whose entries in r are e[0..n) (NULL: r has none),
// into one table of the copy. Returns 0 or -ENOMEM.
static int clone_some(struct region *r, uintptr_t va, pte_t *e, size_t n,
                      const struct region *copy, uintptr_t to)
{
    pte_t leaf = mm_leaf(copy, paddr(0), true), *dest = NULL;
    int came = 0;

    for (size_t i = 0; i < n; i++) {
        paddr_t p = r->peer == r ? pte_paddr(make_cow(&e[i]))
                                 : protect_ring(r, va + i * PAGE_SIZE);

        if (p.raw == 0)
            continue;
        if (dest == NULL)
            dest = mm_make_entry(copy, to);
        if (dest == NULL)
            return -ENOMEM;
        frame_get(p);
        atomic_store_explicit((_Atomic pte_t *)&dest[i], leaf | p.raw,
                              memory_order_release);
        came++;
    }
    if (came > 0)
        pt_counted(dest, came);
    return 0;
}

static int clone_pages(struct region *r, struct region *copy, uintptr_t from)
{
    uintptr_t end = from + (copy->end - copy->start);
    struct pt_run run;

    if (vm_split_all(from, end, 1) != 0)
        return -ENOMEM;
    for (uintptr_t va = from; va < end; va += run.n * PAGE_SIZE) {
        uintptr_t to = copy->start + (va - from);
        size_t room = PT_ENTRIES - pte_index(to, 1);

        run = pt_run(va, end);
        if (run.e == NULL && r->peer == r)
            continue;
        run.n = run.n < room ? run.n : room;
        if (clone_some(r, va, run.e, run.n, copy, to) != 0)
            return -ENOMEM;
        vm_breathe(); // the ring is frozen
    }
    return 0;
}

static int clone_locked(struct vm_call *c)
{
    struct region *r = region_find(c->va);
    uintptr_t end = c->va + c->bytes;

    if (r == NULL || r->end < end)
        return -ENOMEM;
    if (r->ops != &region_anon_ops || (r->flags & REGION_FIXED))
        return -EPERM;
    uintptr_t at = vm_place(c->to, c->bytes);
    struct region *copy =
        at != 0
            ? vm_new_region(at, c->bytes, r->prot,
                            REGION_SNAPSHOT |
                                (r->flags & (REGION_UNCHARGED | REGION_SPARSE)),
                            "a snapshot")
            : NULL;

    if (copy == NULL || !vm_charge(vm_cost(copy))) {
        if (copy != NULL)
            region_free(copy);
        return -ENOMEM;
    }
    // Nobody stores through a fault until every page is protected and every
    // CPU knows: the clone is of one moment. Until then the copy's place is
    // taken, and nothing appears there but what is put there here: who guesses
    // the address waits.
    copy->frozen = 1;
    copy->flags |= REGION_FIXED;
    vm_insert_free(copy);
    vm_freeze(r);
    int err = clone_pages(r, copy, c->va);
    spin_unlock(&mm_lock);
    mm_shootdown(c->va, r->peer == r ? c->bytes / PAGE_SIZE : 0);
    spin_lock(&mm_lock);
    copy->flags &= ~(unsigned)REGION_FIXED;
    vm_thaw(copy);
    vm_thaw(r);
    if (err != 0) {
        vm_uncharge_later(c, vm_cost(copy));
        region_erase(copy);
        region_free(copy);
    }
    c->to = at;
    return err;
}

static void clone_call(void *arg)
{
    struct vm_call *c = arg;

    spin_lock(&mm_lock);
    c->result = clone_locked(c);
    spin_unlock(&mm_lock);
    if (c->result != 0 && c->to != 0)
        vm_drop_range(c->to, c->to + c->bytes);
    vm_given_back(c);
}

int vm_clone(uintptr_t va, size_t bytes, uintptr_t *clone)
{
    struct vm_call c = {.va = va, .bytes = bytes, .to = 0};

    if (vm_check_range(va, bytes) != 0)
        return -EINVAL;
    vm_run_charging(clone_call, &c);
    if (c.result == 0)
        *clone = c.to;
    return (int)c.result;
}
