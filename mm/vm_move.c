// Moving memory by its page-table entries (R15: D goes along, no byte is copied).
//
// Where source and destination agree modulo 2 MiB, whole tables are relinked:
// one entry for 512 pages. The tables that the destination needs are made before
// the first entry moves, so that it can't fail half way. The region changes its
// place first: nobody faults at the old one any more, and nobody knows the new.

#include <errno.h>

#include "mm/dirty.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

// ---- move ----

// Whole tables go from `from` to `to` as they are, at this offset.
static bool links(uintptr_t from, uintptr_t to, size_t offset, size_t bytes)
{
    return (from + offset) % VM_HUGE_BYTES == 0 &&
           (to + offset) % VM_HUGE_BYTES == 0 &&
           bytes - offset >= VM_HUGE_BYTES;
}

// Makes the tables at `to` that the entries will need, so that moving them can't
// fail half way.
static bool make_tables(uintptr_t from, uintptr_t to, size_t bytes)
{
    for (size_t o = 0; o < bytes;) {
        int level;
        pte_t *e;

        if (links(from, to, o, bytes)) {
            if (!pt_make_parent(to + o))
                return false;
            o += VM_HUGE_BYTES;
            continue;
        }
        e = pt_find(from + o, &level);
        if (e == NULL) {
            o = align_down(from + o, pte_span(2)) + pte_span(2) - from;
            continue;
        }
        if (pt_get(e) != 0 && pt_make(to + o) == NULL)
            return false;
        o += PAGE_SIZE;
    }
    return true;
}

static void move_entries(uintptr_t from, uintptr_t to, size_t bytes)
{
    for (size_t o = 0; o < bytes;) {
        int level;
        pte_t *e;

        if (links(from, to, o, bytes)) {
            pt_relink(from + o, to + o);
            o += VM_HUGE_BYTES;
            continue;
        }
        e = pt_find(from + o, &level);
        if (e == NULL) {
            o = align_down(from + o, pte_span(2)) + pte_span(2) - from;
            continue;
        }
        ASSERT(level == 1);
        if (pt_get(e) != 0) {
            pte_t v = pt_set(e, 0);

            pt_set(pt_make(to + o), v);
        }
        o += PAGE_SIZE;
    }
}

// Large pages that can't be relinked whole become small ones.
static int split_large_in(uintptr_t from, uintptr_t to, size_t bytes)
{
    for (uintptr_t va = align_up(from, VM_HUGE_BYTES); va < from + bytes;
         va += VM_HUGE_BYTES) {
        if (!links(from, to, va - from, bytes) &&
            vm_split_at(va + PAGE_SIZE) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int move_locked(struct vm_call *c)
{
    size_t keep = c->bytes < c->new_bytes ? c->bytes : c->new_bytes;
    int err = vm_isolate(c->va, c->va + c->bytes, false);
    struct region *r = region_find(c->va);
    uint64_t had, has = 0;

    if (err != 0)
        return err;
    if (r->end != c->va + c->bytes)
        return -EINVAL; // several regions
    vm_freeze(r);
    vm_thaw(r);
    // Memory that others show too does not grow: what is added is of its own,
    // or it would show what they have behind.
    bool extra = r->peer != r && c->new_bytes > c->bytes;

    had = vm_cost(r);
    if (extra)
        has = had + vm_cost_of(r->flags & ~(unsigned)REGION_ALIAS,
                               c->new_bytes - c->bytes);
    else
        has = vm_cost_of(r->flags, c->new_bytes);
    // A wish that is not free is an error: the caller counts on it.
    uintptr_t to = vm_place(c->to, c->new_bytes);

    if (to == 0 || (c->to != 0 && to != c->to))
        return c->to != 0 ? -EEXIST : -ENOMEM;
    if (has > had && !vm_charge(has - had))
        return -ENOMEM;
    c->to = to;
    c->flags = 1; // there may be tables, or the memory
    if (!dirty_reserve(r, c->new_bytes / PAGE_SIZE) ||
        split_large_in(c->va, to, keep) != 0 || !make_tables(c->va, to, keep) ||
        vm_hand_over(r, c->va + keep, c->va + c->bytes, r->start, r->end) !=
            0) {
        if (has > had)
            vm_uncharge(has - had);
        return -ENOMEM;
    }
    struct region *tail = NULL;

    if (extra) {
        tail = vm_new_region(to + keep, c->new_bytes - keep, r->prot,
                             r->flags & ~(unsigned)REGION_ALIAS, r->name);
        if (tail == NULL) {
            if (has > had)
                vm_uncharge(has - had);
            return -ENOMEM;
        }
    }
    region_rekey(r, to, to + (tail != NULL ? keep : c->new_bytes));
    if (tail != NULL)
        vm_insert_free(tail);
    r->window = 0;
    move_entries(c->va, to, keep);
    if (has < had)
        vm_uncharge(had - has);
    atomic_fetch_add_explicit(&mm_counters.moves, 1, memory_order_relaxed);
    return 0;
}

static void move_call(void *arg)
{
    struct vm_call *c = arg;

    spin_lock(&mm_lock);
    c->result = move_locked(c);
    spin_unlock(&mm_lock);
    if (c->result != 0) {
        if (c->flags)
            vm_drop_range(c->to, c->to + c->new_bytes);
        return;
    }
    arch_tlb_shootdown(c->va, c->bytes / PAGE_SIZE);
    // What was cut off at the end, and tables that are empty now.
    vm_drop_range(c->va, c->va + c->bytes);
}

int vm_move(uintptr_t va, size_t bytes, size_t new_bytes, uintptr_t *to)
{
    struct vm_call c = {
        .va = va, .bytes = bytes, .new_bytes = new_bytes, .to = *to};

    if (vm_check_range(va, bytes) != 0 || vm_check_range(*to, new_bytes) != 0)
        return -EINVAL;
    vm_run(move_call, &c);
    if (c.result == 0)
        *to = c.to;
    return (int)c.result;
}
