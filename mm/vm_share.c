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

// The zero frame is no memory of its own: pages that show it go back to absent,
// so that the first store is seen through every alias.
static bool drop_zero_frames(struct region *r)
{
    bool any = false;

    for (uintptr_t va = r->start; va < r->end; va += PAGE_SIZE) {
        int level;
        pte_t *e = pt_find(va, &level);

        if (e == NULL) {
            va = align_down(va, pte_span(2)) + pte_span(2) - PAGE_SIZE;
            continue;
        }
        if (pt_has_frame(pt_get(e)) && mm_is_zero_frame(pte_paddr(pt_get(e)))) {
            pt_set(e, 0);
            any = true;
        }
    }
    return any;
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
    for (uintptr_t va = align_down(c->va, VM_HUGE_BYTES); va < end;
         va += VM_HUGE_BYTES) {
        if (vm_split_at(va + PAGE_SIZE) != 0)
            return -ENOMEM;
    }
    uintptr_t at = vm_place(c->to, c->bytes);
    // A mere reservation pays for nothing: the alias does.
    unsigned flags = r->flags & REGION_UNCHARGED  ? REGION_UNCHARGED
                     : r->flags & REGION_RESERVED ? 0
                                                  : REGION_ALIAS;
    struct region *a =
        at != 0 ? vm_new_region(at, c->bytes, c->prot, flags, "an alias")
                : NULL;

    if (a == NULL || !vm_charge(vm_cost(a))) {
        if (a != NULL)
            region_free(a);
        return -ENOMEM;
    }
    if (drop_zero_frames(r))
        c->flags = 1;
    region_join(a, r, c->va);
    vm_insert_free(a);
    c->to = at;
    return 0;
}

static void alias_call(void *arg)
{
    struct vm_call *c = arg;

    c->flags = 0;
    spin_lock(&mm_lock);
    c->result = alias_locked(c);
    spin_unlock(&mm_lock);
    if (c->flags)
        arch_tlb_shootdown(0, 0);
}

int vm_alias(uintptr_t va, size_t bytes, unsigned prot, uintptr_t *alias)
{
    struct vm_call c = {.va = va, .bytes = bytes, .prot = prot, .to = *alias};

    if (vm_check_range(va, bytes) != 0)
        return -EINVAL;
    vm_run(alias_call, &c);
    if (c.result == 0)
        *alias = c.to;
    return (int)c.result;
}

// ---- clone ----

// The frame that the ring has for a page; all its entries lose the right to
// store. paddr 0: none has it.
static paddr_t protect_ring(struct region *r, uintptr_t va)
{
    paddr_t frame = paddr(0);
    struct region *p = r;

    do {
        int level;
        uintptr_t at = mm_peer_address(r, va, p);
        pte_t *e = at != 0 ? pt_find(at, &level) : NULL;

        while (e != NULL && pt_has_frame(pt_get(e))) {
            pte_t v = pt_get(e);

            if (mm_is_zero_frame(pte_paddr(v)))
                break;
            frame = pte_paddr(v);
            if ((v & PTE_COW) || pt_try_set(e, v, (v & ~PTE_WRITE) | PTE_COW))
                break;
        }
        p = p->peer;
    } while (p != r);
    return frame;
}

static int clone_pages(struct region *r, struct region *copy, uintptr_t from)
{
    size_t bytes = copy->end - copy->start;

    for (size_t o = 0; o < bytes; o += PAGE_SIZE) {
        if (o % (VM_CHUNK * PAGE_SIZE) == 0 && o > 0)
            vm_breathe();
        if (vm_split_at(align_down(from + o, VM_HUGE_BYTES) + PAGE_SIZE) != 0)
            return -ENOMEM;
        int level;

        if (r->peer == r && pt_find(from + o, &level) == NULL) {
            o = align_down(from + o, pte_span(2)) + pte_span(2) - from -
                PAGE_SIZE;
            continue;
        }
        paddr_t p = protect_ring(r, from + o);

        if (p.raw == 0)
            continue;
        pte_t *e = pt_make(copy->start + o);

        if (e == NULL)
            return -ENOMEM;
        frame_get(p);
        pt_set(e, mm_leaf(copy, p, true));
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
        at != 0 ? vm_new_region(at, c->bytes, r->prot,
                                r->flags & (REGION_UNCHARGED | REGION_SPARSE),
                                "a snapshot")
                : NULL;

    if (copy == NULL || !vm_charge(vm_cost(copy))) {
        if (copy != NULL)
            region_free(copy);
        return -ENOMEM;
    }
    // Nobody stores through a fault until every page is protected and every
    // CPU knows: the clone is of one moment. Until then the copy's place is
    // taken by a region that serves nothing.
    copy->prot = 0;
    copy->flags |= REGION_FIXED;
    vm_insert_free(copy);
    vm_freeze(r);
    copy->prot = r->prot;
    int err = clone_pages(r, copy, c->va);
    spin_unlock(&mm_lock);
    arch_tlb_shootdown(c->va, r->peer == r ? c->bytes / PAGE_SIZE : 0);
    spin_lock(&mm_lock);
    copy->flags &= ~(unsigned)REGION_FIXED;
    vm_thaw(r);
    if (err != 0) {
        vm_uncharge(vm_cost(copy));
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
}

int vm_clone(uintptr_t va, size_t bytes, uintptr_t *clone)
{
    struct vm_call c = {.va = va, .bytes = bytes, .to = 0};

    if (vm_check_range(va, bytes) != 0)
        return -EINVAL;
    vm_run(clone_call, &c);
    if (c.result == 0)
        *clone = c.to;
    return (int)c.result;
}
