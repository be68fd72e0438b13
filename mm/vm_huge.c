// 2 MiB pages for memory that exists already.
//
// A whole table of entries becomes one (R12, break before make): all are made
// busy, the old translations are shot down, the contents are copied to 2 MiB of
// contiguous frames, the large entry takes the table's place. Its D bit is the
// OR of theirs (R15).

#include <errno.h>
#include <string.h>

#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

// ---- promote ----

// Can the 2 MiB at va be one page? Counts what is there already.
static bool promotable(struct region *r, uintptr_t va, bool *is_large)
{
    int level;
    pte_t *e = pt_find(va, &level);

    *is_large = e != NULL && level == 2;
    if (*is_large || r->prot == 0 || r->peer != r ||
        (r->flags & REGION_UNCHARGED))
        return false;
    for (uintptr_t p = va; p < va + VM_HUGE_BYTES; p += PAGE_SIZE) {
        e = pt_find(p, &level);
        if (e == NULL)
            break; // no table: nothing there
        pte_t v = pt_get(e);

        if (v == PTE_BUSY || (v & PTE_COW))
            return false;
    }
    return true;
}

// All entries become busy; what was there is noted in old.
static bool make_busy(uintptr_t va, pte_t *old)
{
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        pte_t *e = pt_make(va + i * (uintptr_t)PAGE_SIZE);

        if (e == NULL) {
            ASSERT(i == 0); // one table holds them all
            return false;
        }
        old[i] = pt_set(e, PTE_BUSY);
    }
    return true;
}

// Break before make (R12), for a whole table. mm_lock held; released between.
static int promote_one(struct region *r, uintptr_t va, paddr_t huge, pte_t *old)
{
    struct pt_garbage g = {0};
    pte_t dirty = 0;

    if (!make_busy(va, old))
        return -ENOMEM;
    spin_unlock(&mm_lock);
    mm_shootdown(va, PT_ENTRIES);
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        char *to = (char *)arch_direct(huge) + i * (size_t)PAGE_SIZE;

        dirty |= old[i] & PTE_DIRTY;
        if (pt_has_frame(old[i]))
            memcpy(to, arch_direct(pte_paddr(old[i])), PAGE_SIZE);
        else
            memset(to, 0, PAGE_SIZE);
    }
    spin_lock(&mm_lock);
    r = region_find(va);
    pt_promote(va, (pte_make_leaf(huge, r->prot, 2) & pt_valid_bits) | dirty,
               &g);
    spin_unlock(&mm_lock);
    mm_shootdown(va, PT_ENTRIES);
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        if (pt_has_frame(old[i]))
            frame_put(pte_paddr(old[i]));
    }
    pt_free_garbage(&g);
    spin_lock(&mm_lock);
    return 0;
}

static long promote_locked(struct vm_call *c)
{
    uintptr_t end = c->va + c->bytes;
    long n = 0;
    paddr_t page = frame_alloc(0, FRAME_DIRTY); // 512 old entries

    if (page.raw == 0)
        return -ENOMEM;
    for (uintptr_t va = align_up(c->va, VM_HUGE_BYTES);
         va + VM_HUGE_BYTES <= end; va += VM_HUGE_BYTES) {
        struct region *r = region_find(va);
        bool large;

        if (r == NULL || r->ops != &region_anon_ops ||
            (r->flags & (REGION_FIXED | REGION_DEVICE)) ||
            r->end < va + VM_HUGE_BYTES)
            continue;
        vm_freeze(r);
        bool can = promotable(r, va, &large);

        n += large;
        paddr_t huge = can ? frame_alloc(VM_HUGE_ORDER, FRAME_DIRTY) : paddr(0);

        if (huge.raw != 0) {
            if (promote_one(r, va, huge, arch_direct(page)) == 0)
                n++;
            else
                frame_free(huge, VM_HUGE_ORDER);
        }
        vm_thaw(r);
    }
    frame_free(page, 0);
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
