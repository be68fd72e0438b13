// Giving pages back: the one place where frames of programs are freed.
//
// Entries are cleared under mm_lock in chunks; then the lock is released, the
// translations are shot down and waited for, and only then go the frames and the
// tables that became empty (R13). Frames that another view of the memory still
// needs are handed over to it before.

#include <errno.h>

#include "mm/dirty.h"
#include "mm/fcache.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

// ---- giving back ----

struct batch {
    unsigned n;
    bool stale; // entries were taken out, with a frame to give back or not
    paddr_t frames[VM_BATCH];
    uint8_t orders[VM_BATCH]; // 0 or VM_HUGE_ORDER
    struct pt_garbage tables;
};

static struct batch *batches[ARCH_MAX_CPUS]; // [own CPU, no-preempt]

static struct batch *my_batch(void)
{
    struct batch **b = &batches[arch_cpu_id()];

    if (*b == NULL) {
        paddr_t p = frame_alloc(0, FRAME_ZERO);

        if (p.raw == 0)
            p = frame_cache_take_for_stack();
        if (p.raw == 0)
            panic("mm: no frame left, not even to give some back");
        *b = arch_direct(p);
    }
    (*b)->n = 0;
    (*b)->stale = false;
    return *b;
}

_Static_assert(sizeof(struct batch) <= PAGE_SIZE, "a frame holds it");

static void take_out(struct region *r, uintptr_t va, pte_t *e, int level,
                     struct batch *b)
{
    pte_t old = pt_set(e, 0);

    if (!pt_has_frame(old))
        return;
    b->stale = true;
    if (r != NULL && (old & PTE_DIRTY))
        dirty_note(r, va);
    paddr_t p = paddr(pte_paddr(old).raw & ~(pte_span(level) - 1));

    if (mm_is_zero_frame(p) || (r != NULL && (r->flags & REGION_DEVICE)))
        return;
    b->frames[b->n] = p;
    b->orders[b->n++] = level == 1 ? 0 : VM_HUGE_ORDER;
}

// Clears entries from *va until the batch is full or end is reached.
static void fill_batch(uintptr_t *va, uintptr_t end, struct batch *b)
{
    unsigned looked = 0;

    while (*va < end && b->n < VM_BATCH && looked++ < VM_CHUNK) {
        int level;
        pte_t *e = pt_find(*va, &level);

        if (e == NULL) {
            *va = align_down(*va, pte_span(2)) + pte_span(2);
            continue;
        }
        if (pt_get(e) == PTE_BUSY) {
            vm_breathe();
            continue;
        }
        if (pt_get(e) != 0)
            take_out(region_find(*va), *va, e, level, b);
        *va = align_down(*va, pte_span(level)) + pte_span(level);
    }
    if (*va > end)
        *va = end;
}

uint64_t vm_drop_range(uintptr_t start, uintptr_t end)
{
    uint64_t dropped = 0;

    preempt_disable();
    struct batch *b = my_batch();

    for (uintptr_t va = start; va < end;) {
        uintptr_t from = va;
        struct pt_garbage *g = &b->tables;

        spin_lock(&mm_lock);
        fill_batch(&va, end, b);
        // Whole tables below what is done so far.
        pt_prune(from, va, g);
        spin_unlock(&mm_lock);
        if (b->stale || g->n > 0)
            arch_tlb_shootdown(from, (va - from) / PAGE_SIZE);
        for (unsigned i = 0; i < b->n; i++) {
            if (b->orders[i] == 0)
                frame_put(b->frames[i]);
            else
                frame_free(b->frames[i], b->orders[i]);
        }
        dropped += b->n + g->n;
        b->n = 0;
        b->stale = false;
        pt_free_garbage(g);
    }
    preempt_enable();
    return dropped;
}

// An alias costs nothing while the memory is charged to another; when that one
// goes, it is charged to the alias.
void vm_bequeath(struct region *r)
{
    struct region *heir = r->peer;

    if (heir == r || (r->flags & REGION_ALIAS) || !(heir->flags & REGION_ALIAS))
        return;
    heir->flags &= ~(unsigned)REGION_ALIAS;
    vm_charge_anyway(vm_cost(heir));
}

pte_t *vm_small_entry(uintptr_t va)
{
    int level;
    pte_t *e = va != 0 ? pt_find(va, &level) : NULL;

    return e != NULL && level == 1 ? e : NULL;
}

// The frames of [va, end) in r are about to go. Pages that others of the ring
// show, but that only r has an entry for, are handed to one of them that stays.
// Returns 0 or -ENOMEM.
int vm_hand_over(struct region *r, uintptr_t va, uintptr_t end, uintptr_t gone,
                 uintptr_t gone_end)
{
    for (; r->peer != r && va < end; va += PAGE_SIZE) {
        pte_t *e = vm_small_entry(va);
        struct region *heir = NULL;
        bool held = e == NULL || !pt_has_frame(pt_get(e)) ||
                    mm_is_zero_frame(pte_paddr(pt_get(e)));

        for (struct region *p = r->peer; p != r && !held; p = p->peer) {
            uintptr_t at = mm_peer_address(r, va, p);
            pte_t *pe = vm_small_entry(at);

            if (at >= gone && at < gone_end)
                continue;
            held = pe != NULL && pt_has_frame(pt_get(pe));
            if (at != 0 && heir == NULL)
                heir = p;
        }
        if (held || heir == NULL)
            continue;
        pte_t *pe = pt_make(mm_peer_address(r, va, heir));

        if (pe == NULL)
            return -ENOMEM;
        frame_get(pte_paddr(pt_get(e)));
        pt_set(pe,
               mm_leaf(heir, pte_paddr(pt_get(e)), (pt_get(e) & PTE_COW) != 0));
    }
    return 0;
}
