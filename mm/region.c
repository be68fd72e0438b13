// The tree of regions, their rings, and their descriptors.
//
// The tree is a treap ordered by start address: the priorities are a hash of
// the address, so the shape is that of a random tree whatever the order of
// insertion, and needs no rebalancing code.
//
// Aliases: regions that show the same memory form a ring, and there is no
// original among them. Which frame a page of that memory has is known by the
// page-table entries of the members: who faults looks at the others first. So
// an alias takes no frame until it is touched, and any member may go.
//
// Invariants (region_check):
//   I1  regions are disjoint and ordered; start < end, multiples of 4 KiB
//   I2  the peers of a region form a ring that comes back to it
//
// Source: Seidel & Aragon, "Randomized search trees", 1996.

#include "mm/region.h"

#include <errno.h>

#include "mm/dirty.h"
#include "mm/fcache.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

struct spinlock mm_lock = SPINLOCK_INIT(RANK_MM);
static struct region *tree; // [mm_lock]
static struct region
    *last_found; // [mm_lock] by region_find; in the tree, or NULL
static struct region *free_regions; // [mm_lock] descriptors, by left

static uint32_t hash(uintptr_t x)
{
    return (uint32_t)((x >> PAGE_SHIFT) * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

// Faults come in runs: mostly it is the one of the last time, however deep it lies.
struct region *region_find(uintptr_t va)
{
    struct region *r = last_found;

    if (r != NULL && va >= r->start && va < r->end)
        return r;
    for (r = tree; r != NULL; r = va < r->start ? r->left : r->right) {
        if (va >= r->start && va < r->end) {
            last_found = r;
            return r;
        }
    }
    return NULL;
}

struct region *region_first_above(uintptr_t va)
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

static void link_node(struct region *r)
{
    struct region **at = &tree;

    r->priority = hash(r->start);
    while (*at != NULL && (*at)->priority > r->priority)
        at = r->start < (*at)->start ? &(*at)->left : &(*at)->right;
    split(*at, r->start, &r->left, &r->right);
    *at = r;
}

static void unlink_node(struct region *r)
{
    struct region **at = &tree;

    while (*at != r) {
        ASSERT(*at != NULL);
        at = r->start < (*at)->start ? &(*at)->left : &(*at)->right;
    }
    *at = merge(r->left, r->right);
    if (last_found == r)
        last_found = NULL;
}

COLD int region_insert(struct region *r)
{
    struct region *next = region_first_above(r->start);

    ASSERT((r->start | r->end) % PAGE_SIZE == 0 && r->start <= r->end);
    if (next != NULL && next->start < r->end)
        return -EEXIST;
    if (r->peer == NULL)
        r->peer = r;
    link_node(r);
    return 0;
}

void region_rekey(struct region *r, uintptr_t start, uintptr_t end)
{
    unlink_node(r);
    r->start = start;
    r->end = end;
    link_node(r);
}

// The member of the ring whose peer r is.
static struct region *before(struct region *r)
{
    struct region *p = r;

    while (p->peer != r)
        p = p->peer;
    return p;
}

void region_erase(struct region *r)
{
    unlink_node(r);
    before(r)->peer = r->peer;
    r->peer = r;
}

void region_join(struct region *fresh, struct region *r, uintptr_t at)
{
    fresh->object_page = r->object_page + (at - r->start) / PAGE_SIZE;
    fresh->frozen = r->frozen;
    fresh->peer = r->peer;
    r->peer = fresh;
}

// ---- descriptors ----

// A page of them, which stays: that much less can be promised.
COLD static bool make_descriptors(void)
{
    paddr_t p = frame_cache_take(FRAME_ZERO);

    if (p.raw == 0)
        return false;
    struct region *all = arch_direct(p);

    for (size_t i = 0; i < PAGE_SIZE / sizeof *all; i++) {
        all[i].left = free_regions;
        free_regions = &all[i];
    }
    mm_commit_less(1);
    return true;
}

static struct region *take_descriptor(void)
{
    struct region *r = free_regions;

    free_regions = r->left;
    *r = (struct region){.ops = &region_anon_ops, .pooled = true};
    return r;
}

struct region *region_new(void)
{
    if (free_regions == NULL) {
        // None that is promised to others.
        if (!vm_charge(1))
            return NULL;
        bool made = make_descriptors();

        vm_uncharge(1);
        if (!made)
            return NULL;
    }
    return take_descriptor();
}

void region_free(struct region *r)
{
    dirty_forget(r);
    if (!r->pooled)
        return;
    r->left = free_regions;
    free_regions = r;
}

COLD struct region *region_cut(struct region *r, uintptr_t va)
{
    ASSERT(va > r->start && va < r->end && va % PAGE_SIZE == 0);
    // Memory can be given back when all is promised: the parts of what is cut
    // are charged with more tables than there are, which pays for descriptors.
    if (free_regions == NULL && !make_descriptors())
        return NULL;
    struct region *hi = take_descriptor();

    if (!dirty_cut(r, hi, va)) {
        region_free(hi);
        return NULL;
    }
    struct dirty_log *logs = hi->logs;

    *hi = *r;
    hi->logs = logs;
    hi->pooled = true;
    hi->start = va;
    hi->window = 0;
    r->end = va;
    // Rings are by page of the memory, so both halves stay in the one ring; who
    // was alone stays alone.
    hi->object_page = r->object_page + (va - r->start) / PAGE_SIZE;
    hi->peer = r->peer == r ? hi : r->peer;
    if (r->peer != r)
        r->peer = hi;
    link_node(hi);
    return hi;
}

// Do two neighbours say the same of their pages, and the same to who watches?
static bool same(const struct region *lo, const struct region *hi)
{
    bool alone = lo->peer == lo && hi->peer == hi;
    const struct region *p = lo->peer;

    if (lo->end != hi->start || lo->ops != hi->ops || lo->name != hi->name ||
        lo->prot != hi->prot || lo->flags != hi->flags || !lo->pooled ||
        !hi->pooled || !dirty_can_unite(lo, hi) ||
        (lo->flags & (REGION_FIXED | REGION_DEVICE)))
        return false;
    if (alone)
        return true;
    while (p != lo && p != hi)
        p = p->peer;
    return p == hi && hi->object_page - lo->object_page ==
                          (hi->start - lo->start) / PAGE_SIZE;
}

COLD bool region_unite(struct region *lo)
{
    struct region *hi = region_first_above(lo->end);

    if (hi == NULL || !same(lo, hi))
        return false;
    region_erase(hi);
    dirty_unite(lo, hi);
    lo->end = hi->end;
    region_free(hi);
    return true;
}

COLD static void each(struct region *t,
                      void (*visit)(struct region *r, void *arg), void *arg)
{
    if (t == NULL)
        return;
    each(t->left, visit, arg);
    visit(t, arg);
    each(t->right, visit, arg);
}

void region_each(void (*visit)(struct region *r, void *arg), void *arg)
{
    each(tree, visit, arg);
}

COLD static void check_one(struct region *r, void *arg)
{
    uintptr_t *last = arg;
    struct region *p = r;
    unsigned n = 0;

    if (r->start < *last || r->start > r->end ||
        (r->start | r->end) % PAGE_SIZE != 0)
        panic("region: %s 0x%lx..0x%lx overlaps or is out of order", r->name,
              (unsigned long)r->start, (unsigned long)r->end);
    do {
        p = p->peer;
        if (p == NULL || ++n > 100000)
            panic("region: the ring of %s is broken", r->name);
    } while (p != r);
    *last = r->end;
}

COLD void region_check(void)
{
    uintptr_t last = 0;

    region_each(check_one, &last);
}

// ---- for the layers above: on the system stack (R5) ----

struct call {
    struct region *r;
    uintptr_t end;
    int result;
};

COLD static void add_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = region_insert(c->r);
    spin_unlock(&mm_lock);
}

COLD int region_add(struct region *r)
{
    struct call c = {.r = r};

    vm_run(add_call, &c);
    return c.result;
}

COLD static void remove_call(void *arg)
{
    struct region *r = ((struct call *)arg)->r;
    uintptr_t start = r->start, end = r->end;

    // Nobody finds it any more, so no fault maps into it while it is emptied,
    // and mm_lock is free while the shootdown waits (R13).
    spin_lock(&mm_lock);
    region_erase(r);
    dirty_forget(r);
    spin_unlock(&mm_lock);
    vm_drop_range(start, end);
}

COLD void region_remove(struct region *r)
{
    struct call c = {.r = r};

    vm_run(remove_call, &c);
}

COLD static void resize_call(void *arg)
{
    struct call *c = arg;
    struct region *r = c->r;
    uintptr_t old = r->end;

    spin_lock(&mm_lock);
    struct region *next = c->end > old ? region_first_above(old) : NULL;

    if (next != NULL && next->start < c->end)
        c->result = -EEXIST;
    else if (!dirty_reserve(r, (c->end - r->start) / PAGE_SIZE))
        c->result = -ENOMEM;
    else
        r->end = c->end;
    dirty_trim(r);
    spin_unlock(&mm_lock);
    if (c->end < old)
        vm_drop_range(c->end, old);
}

COLD int region_resize(struct region *r, uintptr_t end)
{
    struct call c = {.r = r, .end = end};

    ASSERT(end >= r->start && end % PAGE_SIZE == 0);
    vm_run(resize_call, &c);
    return c.result;
}

struct range {
    uintptr_t start, end;
    uint64_t dropped;
};

COLD static void discard_call(void *arg)
{
    struct range *c = arg;

    c->dropped = vm_drop_range(c->start, c->end);
}

COLD uint64_t region_discard(uintptr_t start, uintptr_t end)
{
    struct range c = {.start = start, .end = end};

    vm_run(discard_call, &c);
    return c.dropped;
}

struct nailed_call {
    uintptr_t va, end;
    bool ok;
};

// One page, charged before it is taken, with the tables it may need: frames that
// are promised to others are not touched (R14).
COLD static bool map_nailed(uintptr_t va)
{
    const uint64_t most =
        PT_LEVELS; // the page and a table for each level below

    if (mm_readable(va, 1))
        return true;
    if (!mm_charge(most))
        return false;
    uint64_t tables = pt_tables();
    bool ok = region_map_page(va, PROT_R | PROT_W | PROT_GLOBAL, false);

    mm_uncharge(most - ok - (pt_tables() - tables));
    return ok;
}

COLD static void map_nailed_call(void *arg)
{
    struct nailed_call *c = arg;

    c->ok = true;
    for (; c->ok && c->va < c->end; c->va += PAGE_SIZE) {
        spin_lock(&mm_lock);
        c->ok = map_nailed(c->va);
        spin_unlock(&mm_lock);
    }
}

COLD bool region_map_nailed(uintptr_t va, size_t bytes)
{
    struct nailed_call c = {.va = va, .end = va + bytes};

    arch_on_system_stack(map_nailed_call, &c);
    return c.ok;
}
