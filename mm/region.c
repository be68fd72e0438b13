// Regions and page faults.
//
// The tree is a treap ordered by start address: the priorities are a hash of
// the address, so the shape is that of a random tree whatever the order of
// insertion, and needs no rebalancing code. A fault is one look-up and one
// indirect call.
//
// Invariants: regions don't overlap; every page mapped inside a region belongs
// to it and is given back by its removal.
//
// Source: Seidel & Aragon, "Randomized search trees", 1996.

#include "mm/region.h"

#include <errno.h>

#include "mm/frame.h"
#include "mm/mm.h"
#include "mm/pt.h"

enum { FAULT_AROUND_MAX = 16 }; // pages: 64 KiB, the bound of R4

struct spinlock mm_lock;
static struct region *tree;
static uint8_t last_fault[ARCH_MAX_CPUS]; // [own CPU] enum fault_result

static uint32_t hash(uintptr_t x)
{
    return (uint32_t)((x >> PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

struct region *region_find(uintptr_t va)
{
    struct region *r = tree;

    while (r != NULL && !(va >= r->start && va < r->end))
        r = va < r->start ? r->left : r->right;
    return r;
}

// The lowest region that ends above va.
static struct region *first_above(uintptr_t va)
{
    struct region *best = NULL;

    for (struct region *r = tree; r != NULL;) {
        if (r->end > va) {
            best = r;
            r = r->left;
        } else {
            r = r->right;
        }
    }
    return best;
}

struct region *region_below(uintptr_t va)
{
    struct region *best = NULL;

    for (struct region *r = tree; r != NULL;) {
        if (r->end <= va) {
            best = r;
            r = r->right;
        } else {
            r = r->left;
        }
    }
    return best;
}

static void split(struct region *t, uintptr_t at, struct region **lo,
                  struct region **hi)
{
    if (t == NULL) {
        *lo = *hi = NULL;
    } else if (t->start < at) {
        *lo = t;
        split(t->right, at, &t->right, hi);
    } else {
        *hi = t;
        split(t->left, at, lo, &t->left);
    }
}

static struct region *merge(struct region *lo, struct region *hi)
{
    if (lo == NULL || hi == NULL)
        return lo == NULL ? hi : lo;
    if (lo->priority > hi->priority) {
        lo->right = merge(lo->right, hi);
        return lo;
    }
    hi->left = merge(lo, hi->left);
    return hi;
}

static int insert(struct region *r)
{
    struct region *next = first_above(r->start);
    struct region **at = &tree;

    ASSERT((r->start | r->end) % PAGE_SIZE == 0 && r->start <= r->end);
    if (next != NULL && next->start < r->end)
        return -EEXIST;
    r->priority = hash(r->start);
    while (*at != NULL && (*at)->priority > r->priority)
        at = r->start < (*at)->start ? &(*at)->left : &(*at)->right;
    split(*at, r->start, &r->left, &r->right);
    *at = r;
    return 0;
}

static void erase(struct region *r)
{
    struct region **at = &tree;

    while (*at != r) {
        ASSERT(*at != NULL);
        at = r->start < (*at)->start ? &(*at)->left : &(*at)->right;
    }
    *at = merge(r->left, r->right);
}

static void free_page(paddr_t p)
{
    frame_free(p, 0);
}

// ---- calls, each run on the system stack (R5) ----

struct call {
    struct region *r;
    uintptr_t end;
    int result;
};

static void add_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = insert(c->r);
    spin_unlock(&mm_lock);
}

int region_add(struct region *r)
{
    struct call c = {.r = r};

    arch_on_system_stack(add_call, &c);
    return c.result;
}

static void remove_call(void *arg)
{
    struct region *r = ((struct call *)arg)->r;

    spin_lock(&mm_lock);
    erase(r);
    spin_unlock(&mm_lock);
    // Nobody finds it any more, so no fault maps into it while we unmap; and
    // mm_lock is free while the shootdown waits (R13).
    pt_unmap(r->start, (r->end - r->start) / PAGE_SIZE, free_page);
}

void region_remove(struct region *r)
{
    struct call c = {.r = r};

    arch_on_system_stack(remove_call, &c);
}

static void resize_call(void *arg)
{
    struct call *c = arg;
    struct region *r = c->r;
    uintptr_t old = r->end;

    spin_lock(&mm_lock);
    struct region *next = c->end > old ? first_above(old) : NULL;

    if (next != NULL && next->start < c->end)
        c->result = -EEXIST;
    else
        r->end = c->end;
    spin_unlock(&mm_lock);
    if (c->end < old)
        pt_unmap(c->end, (old - c->end) / PAGE_SIZE, free_page);
}

int region_resize(struct region *r, uintptr_t end)
{
    struct call c = {.r = r, .end = end};

    ASSERT(end >= r->start && end % PAGE_SIZE == 0);
    arch_on_system_stack(resize_call, &c);
    return c.result;
}

// ---- faults ----

bool region_map_page(uintptr_t va, unsigned prot)
{
    int level;
    pte_t *e = pt_find(va, &level);

    if (e != NULL && pte_present(*e))
        return true;
    paddr_t p = frame_alloc(0, FRAME_ZERO);

    if (p.raw == 0)
        return false;
    if (pt_map(va, p, PAGE_SIZE, prot, 1) != 0) {
        frame_free(p, 0);
        return false;
    }
    return true;
}

// Demand-zero: maps 1, 2, 4 … 16 pages while the accesses go on in order.
static enum fault_result anon_fault(struct region *r, uintptr_t va,
                                    unsigned access, uintptr_t rsp)
{
    uintptr_t page = align_down(va, PAGE_SIZE);

    (void)rsp;
    if ((r->prot & access) != access)
        return FAULT_DENIED;
    if (page == r->next_fault && r->window < FAULT_AROUND_MAX)
        r->window *= 2;
    else if (page != r->next_fault)
        r->window = 1;
    if (!region_map_page(page, r->prot))
        return FAULT_OOM;
    for (uint32_t i = 1; i < r->window; i++) {
        uintptr_t more = page + i * (uintptr_t)PAGE_SIZE;

        // Only what is certain to be affordable is mapped in advance.
        if (more >= r->end || mm_frames_scarce() ||
            !region_map_page(more, r->prot))
            break;
    }
    r->next_fault = page + r->window * (uintptr_t)PAGE_SIZE;
    return FAULT_SERVED;
}

static const char *anon_describe(struct region *r, uintptr_t va, char *buf,
                                 size_t size)
{
    (void)va, (void)size;
    (void)buf;
    return r->name;
}

const struct region_ops region_anon_ops = {anon_fault, anon_describe};

static bool already_allowed(uintptr_t va, unsigned access)
{
    int level;
    pte_t *e = pt_find(va, &level);

    return e != NULL && pte_present(*e) && (pte_prot(*e) & access) == access;
}

static enum fault_result serve(uintptr_t va, unsigned access, uintptr_t rsp)
{
    if (!va_is_canonical(va))
        return FAULT_WILD;
    struct region *r = region_find(va);

    // Another CPU may have served it since; a stale translation is dropped by
    // the fault itself. Outside regions nothing is ever mapped lazily.
    if (r == NULL)
        return FAULT_WILD;
    if (already_allowed(va, access))
        return FAULT_SERVED;
    return r->ops->fault(r, va, access, rsp);
}

bool mm_fault(uintptr_t va, unsigned access, uintptr_t rsp)
{
    // A CPU that holds the lock and faults has broken R5.
    if (spin_held(&mm_lock))
        return false;
    spin_lock(&mm_lock);
    enum fault_result f = serve(va, access, rsp);

    last_fault[arch_cpu_id()] = (uint8_t)f;
    spin_unlock(&mm_lock);
    return f == FAULT_SERVED;
}

enum fault_result mm_last_fault(void)
{
    return last_fault[arch_cpu_id()];
}
