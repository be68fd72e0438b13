// Operations on ranges; see vm.h. Device registers are in vm_device.c, moving is in vm_move.c, sharing (alias, clone)
// in vm_share.c, large pages in vm_huge.c.
//
// Each runs on the system stack (R5) and follows one pattern:
//
//   1  under mm_lock: check the range, cut regions at its ends, make the
//      regions quiet (vm_range.c)
//   2  change entries; where frames or tables come or go in chunks, between
//      which mm_lock is free (changing rights is one walk)
//   3  release mm_lock, shoot down, wait; only then give frames and tables
//      back (R13), or let others see the new region

#include <errno.h>

#include "mm/dirty.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

// ---- map and unmap ----

static int map_locked(struct vm_call *c)
{
    unsigned flags = (c->flags & VM_NORESERVE ? REGION_UNCHARGED : 0) |
                     (c->flags & VM_SPARSE ? REGION_SPARSE : 0) |
                     (c->prot == 0 ? REGION_RESERVED : 0);
    uintptr_t at = vm_place(c->va, c->bytes);

    if ((c->flags & VM_FIXED) && at != c->va)
        return -EEXIST;
    if (at == 0)
        return -ENOMEM;
    struct region *r = vm_new_region(at, c->bytes, c->prot, flags, c->name);

    if (r == NULL || !vm_charge(vm_cost(r))) {
        if (r != NULL)
            region_free(r);
        return -ENOMEM;
    }
    vm_insert_free(r);
    vm_unite(at, at + c->bytes);
    c->va = at;
    return 0;
}

static void map_call(void *arg)
{
    struct vm_call *c = arg;

    spin_lock(&mm_lock);
    c->result = map_locked(c);
    spin_unlock(&mm_lock);
}

int vm_map(uintptr_t *va, size_t bytes, unsigned prot, unsigned flags,
           const char *name)
{
    struct vm_call c = {
        .va = *va, .bytes = bytes, .prot = prot, .flags = flags, .name = name};

    if (vm_check_range(*va, bytes) != 0)
        return -EINVAL;
    vm_run_charging(map_call, &c);
    if (c.result == 0)
        *va = c.va;
    return (int)c.result;
}

// Takes the regions of the range out of the tree.
static int unmap_locked(struct vm_call *c)
{
    uintptr_t end = c->va + c->bytes;
    struct region *at;
    int r = vm_isolate(c->va, end, true);

    if (r != 0)
        return r;
    vm_freeze_range(c->va, end);
    vm_thaw_range(c->va, end);
    // Quiet, and the lock is not released until all are out. What can fail
    // comes first, for all of them.
    for (at = vm_first_in(c->va, end); at != NULL; at = vm_next_in(at, end)) {
        if (vm_hand_over(at, at->start, at->end, c->va, end) != 0)
            return -ENOMEM;
    }
    while ((at = vm_first_in(c->va, end)) != NULL) {
        dirty_leave(at, at->start, at->end);
        vm_bequeath(at, at->start);
        vm_uncharge_later(c, vm_cost(at));
        region_erase(at);
        region_free(at);
    }
    return 0;
}

static void unmap_call(void *arg)
{
    struct vm_call *c = arg;

    spin_lock(&mm_lock);
    c->result = unmap_locked(c);
    if (c->result != 0)
        vm_unite(c->va, c->va + c->bytes);
    spin_unlock(&mm_lock);
    if (c->result == 0)
        vm_drop_range(c->va, c->va + c->bytes);
    vm_given_back(c);
}

int vm_unmap(uintptr_t va, size_t bytes)
{
    struct vm_call c = {.va = va, .bytes = bytes};

    if (vm_check_range(va, bytes) != 0)
        return -EINVAL;
    vm_run(unmap_call, &c);
    return (int)c.result;
}

// ---- protect ----

// Changes the entries of r to its rights; true if any lost one.
static bool apply_rights(struct region *r)
{
    pte_t plain = mm_leaf(r, paddr(0), false), cow = mm_leaf(r, paddr(0), true);
    bool lost = false;
    struct pt_run run;

    for (uintptr_t va = r->start; va < r->end; va += run.n * PAGE_SIZE) {
        run = pt_run(va, r->end);
        for (size_t i = 0; i < pt_run_entries(&run);) {
            pte_t v = pt_get(&run.e[i]);
            pte_t to = (v & (PTE_ADDR_MASK | PTE_DIRTY | PTE_LARGE |
                             PTE_UNCACHED | PTE_FOREIGN)) |
                       (v & PTE_COW ? cow : plain);

            // The hardware may set D meanwhile: then look again.
            if (pt_has_frame(v) && to != v && !pt_try_set(&run.e[i], v, to))
                continue;
            lost |= pte_present(v) && pt_loses(v, to);
            i++;
        }
    }
    return lost;
}

static int protect_locked(struct vm_call *c)
{
    uintptr_t end = c->va + c->bytes;
    int err = vm_isolate(c->va, end, false);
    uint64_t more = 0;

    if (err != 0)
        return err;
    for (struct region *r = region_find(c->va); r != NULL;
         r = vm_next_in(r, end)) {
        if ((r->flags & REGION_RESERVED) && c->prot != 0)
            more += vm_cost_of(r->flags & ~(unsigned)REGION_RESERVED, r->start,
                               r->end - r->start);
    }
    if (!vm_charge(more))
        return -ENOMEM;
    for (struct region *r = region_find(c->va); r != NULL;
         r = vm_next_in(r, end)) {
        vm_freeze(r);
        r->prot = c->prot;
        if (c->prot != 0)
            r->flags &= ~(unsigned)REGION_RESERVED;
        if (apply_rights(r))
            c->flags = 1; // a shootdown is due
        vm_thaw(r);
    }
    return 0;
}

static void protect_call(void *arg)
{
    struct vm_call *c = arg;

    spin_lock(&mm_lock);
    c->result = protect_locked(c);
    vm_unite(c->va, c->va + c->bytes);
    spin_unlock(&mm_lock);
    if (c->flags)
        mm_shootdown(c->va, c->bytes / PAGE_SIZE);
}

int vm_protect(uintptr_t va, size_t bytes, unsigned prot)
{
    struct vm_call c = {.va = va, .bytes = bytes, .prot = prot};

    if (vm_check_range(va, bytes) != 0)
        return -EINVAL;
    vm_run_charging(protect_call, &c);
    return (int)c.result;
}

// ---- decommit ----

static int decommit_locked(struct vm_call *c)
{
    uintptr_t end = c->va + c->bytes;
    int err = vm_isolate(c->va, end, false);

    if (err != 0)
        return err;
    for (struct region *r = region_find(c->va); r != NULL;
         r = vm_next_in(r, end)) {
        if (r->flags & REGION_DEVICE)
            return -EPERM;
    }
    vm_freeze_range(c->va, end);
    for (struct region *r = region_find(c->va); r != NULL;
         r = vm_next_in(r, end)) {
        if (c->flags) { // back to a mere reservation
            vm_bequeath(r, r->start);
            vm_uncharge_later(c, vm_cost(r));
            r->flags |= REGION_RESERVED;
            r->prot = 0;
        }
        r->window = 0;
    }
    return 0;
}

// The memory is discarded, whoever shows it. Regions stay as they are: this is
// the only operation.
static void drop_all_views(struct vm_call *c)
{
    uintptr_t end = c->va + c->bytes;

    vm_drop_range(c->va, end);
    for (struct region *r = vm_first_in(c->va, end); r != NULL;
         r = vm_next_in(r, end)) {
        for (struct region *p = r->peer; p != r; p = p->peer) {
            uint64_t lo, hi;
            uintptr_t at = p->start - p->object_page * PAGE_SIZE;

            if (vm_overlap(p, r, &lo, &hi))
                vm_drop_range(at + lo * PAGE_SIZE, at + hi * PAGE_SIZE);
        }
    }
}

static void decommit_call(void *arg)
{
    struct vm_call *c = arg;
    uintptr_t end = c->va + c->bytes;

    spin_lock(&mm_lock);
    c->result = decommit_locked(c);
    if (c->result == 0) {
        // Frozen: a page that came back before the last CPU has forgotten its
        // old frame would be two for a moment (R12).
        spin_unlock(&mm_lock);
        drop_all_views(c);
        spin_lock(&mm_lock);
        vm_thaw_range(c->va, end);
    }
    vm_unite(c->va, end);
    spin_unlock(&mm_lock);
    vm_given_back(c);
}

int vm_decommit(uintptr_t va, size_t bytes, bool unreserve)
{
    struct vm_call c = {.va = va, .bytes = bytes, .flags = unreserve};

    if (vm_check_range(va, bytes) != 0)
        return -EINVAL;
    vm_run(decommit_call, &c);
    return (int)c.result;
}
