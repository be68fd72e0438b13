// Operations on ranges; see vm.h.
//
// Each runs on the system stack (R5) and follows one pattern:
//
//   1  under mm_lock: check the range, cut regions at its ends, make the
//      regions quiet: frozen stops new copy-on-write breaks, and pages that are
//      busy with one are waited for
//   2  change entries in chunks, so that mm_lock is never held for long
//   3  release mm_lock, shoot down, wait; only then give frames and tables
//      back (R13), or let others see the new region
//
// A region that must not be seen half done is out of the tree meanwhile.

#include "mm/vm.h"

#include <errno.h>
#include <string.h>

#include "mm/dirty.h"
#include "mm/fcache.h"
#include "mm/mm_impl.h"

enum {
    CHUNK = 512,   // entries changed in one go
    BATCH = 256,   // frames given back after one shootdown
    HUGE_ORDER = 9,
    GUARD = PAGE_SIZE, // left free behind each mapping
};

#define HUGE_BYTES pte_span(2)

static uintptr_t search_from; // [mm_lock] where the last mapping ended

// ---- accounts ----

// What is promised to programs is the sum of what their regions cost (vm_check).
static uint64_t charged; // [mm_lock]

static uint64_t cost_of(unsigned flags, size_t bytes)
{
    if (flags & (REGION_UNCHARGED | REGION_RESERVED | REGION_ALIAS))
        return 0;
    return mm_mapping_cost(bytes);
}

static uint64_t cost(const struct region *r)
{
    return cost_of(r->flags, r->end - r->start);
}

static bool charge(uint64_t npages)
{
    if (!mm_charge(npages))
        return false;
    charged += npages;
    return true;
}

// What cannot be refused: a region is cut, and its parts need more tables.
static void charge_anyway(uint64_t npages)
{
    mm_charge_stack(npages);
    charged += npages;
}

static void uncharge(uint64_t npages)
{
    mm_uncharge(npages);
    charged -= npages;
}

// ---- helpers, mm_lock held ----

static void breathe(void)
{
    spin_unlock(&mm_lock);
    arch_relax();
    spin_lock(&mm_lock);
}

static int check_range(uintptr_t va, size_t bytes)
{
    if (bytes == 0 || (va | bytes) % PAGE_SIZE != 0 || va + bytes < va)
        return -EINVAL;
    return 0;
}

// A large page that lies across va becomes small ones.
static int split_at(uintptr_t va)
{
    int level;
    pte_t *e = pt_find(va, &level);

    if (e == NULL || level == 1 || !pte_present(pt_get(e)) ||
        va % pte_span(level) == 0)
        return 0;
    paddr_t p = paddr(pte_paddr(pt_get(e)).raw & ~(pte_span(level) - 1));

    ASSERT(level == 2);
    if (pt_split(va) != 0)
        return -ENOMEM;
    frame_split(p, HUGE_ORDER);
    return 0;
}

static int cut_at(uintptr_t va)
{
    struct region *r;

    // A frozen region is in the hands of another operation.
    while ((r = region_find(va)) != NULL && r->start != va && r->frozen > 0)
        breathe();
    if (split_at(va) != 0)
        return -ENOMEM;
    if (r == NULL || r->start == va)
        return 0;
    uint64_t whole = cost(r);
    struct region *hi = region_cut(r, va);

    if (hi == NULL)
        return -ENOMEM;
    if (cost(r) + cost(hi) > whole)
        charge_anyway(cost(r) + cost(hi) - whole);
    return 0;
}

// The regions of [va, end) end at its ends; with no holes unless they are fine.
static int isolate(uintptr_t va, uintptr_t end, bool holes)
{
    uintptr_t at = va;

    for (struct region *r = region_first_above(va);
         r != NULL && r->start < end; r = region_first_above(r->end)) {
        if (r->flags & REGION_FIXED)
            return -EPERM;
        if (r->start > at && !holes)
            return -ENOMEM;
        at = r->end;
    }
    if (at < end && !holes)
        return -ENOMEM;
    if (cut_at(va) != 0 || cut_at(end) != 0)
        return -ENOMEM;
    return 0;
}

static bool busy_in(uintptr_t va, uintptr_t end)
{
    while (va < end) {
        int level;
        pte_t *e = pt_find(va, &level);

        if (e == NULL) {
            va = align_down(va, pte_span(2)) + pte_span(2);
            continue;
        }
        if (pt_get(e) == PTE_BUSY)
            return true;
        va += PAGE_SIZE;
    }
    return false;
}

// From here until thaw() nobody replaces a frame of r. r stays valid: only
// frozen operations change regions, and they wait for each other.
static void freeze(struct region *r)
{
    while (r->frozen > 0)
        breathe();
    struct region *p = r;

    do {
        p->frozen++;
        p = p->peer;
    } while (p != r);
    while (busy_in(r->start, r->end))
        breathe();
}

static void thaw(struct region *r)
{
    struct region *p = r;

    do {
        p->frozen--;
        p = p->peer;
    } while (p != r);
}

static uintptr_t find_gap(size_t bytes, uintptr_t from)
{
    for (uintptr_t at = from;;) {
        struct region *r = region_first_above(at);

        if (at + bytes + GUARD > ARCH_REGION_END || at + bytes < at)
            return 0;
        if (r == NULL || r->start >= at + bytes + GUARD)
            return at;
        at = align_up(r->end + GUARD, PAGE_SIZE);
        // Large things start where large pages and relinking can work.
        if (bytes >= HUGE_BYTES)
            at = align_up(at, HUGE_BYTES);
    }
}

static uintptr_t place(uintptr_t wish, size_t bytes)
{
    uintptr_t first = ARCH_REGION_BASE + (ARCH_REGION_END - ARCH_REGION_BASE) / 2;
    uintptr_t from = search_from != 0 ? search_from : first, at;
    struct region *r = wish != 0 ? region_first_above(wish) : NULL;

    if (wish >= ARCH_REGION_BASE && wish + bytes > wish &&
        wish + bytes <= ARCH_REGION_END && wish % PAGE_SIZE == 0 &&
        (r == NULL || r->start >= wish + bytes))
        return wish;
    if (bytes >= HUGE_BYTES)
        from = align_up(from, HUGE_BYTES);
    at = find_gap(bytes, from);
    if (at == 0)
        at = find_gap(bytes, first);
    if (at != 0)
        search_from = at + bytes + GUARD;
    return at;
}

// ---- giving back ----

struct batch {
    unsigned n;
    paddr_t frames[BATCH];
    uint8_t orders[BATCH]; // 0 or HUGE_ORDER
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
    return *b;
}

_Static_assert(sizeof(struct batch) <= PAGE_SIZE, "a frame holds it");

static void take_out(struct region *r, uintptr_t va, pte_t *e, int level,
                     struct batch *b)
{
    pte_t old = pt_set(e, 0);

    if (!pt_has_frame(old))
        return;
    if (r != NULL && (old & PTE_DIRTY))
        dirty_note(r, va);
    paddr_t p = paddr(pte_paddr(old).raw & ~(pte_span(level) - 1));

    if (mm_is_zero_frame(p) || (r != NULL && (r->flags & REGION_DEVICE)))
        return;
    b->frames[b->n] = p;
    b->orders[b->n++] = level == 1 ? 0 : HUGE_ORDER;
}

// Clears entries from *va until the batch is full or end is reached.
static void fill_batch(uintptr_t *va, uintptr_t end, struct batch *b)
{
    unsigned looked = 0;

    while (*va < end && b->n < BATCH && looked++ < CHUNK) {
        int level;
        pte_t *e = pt_find(*va, &level);

        if (e == NULL) {
            *va = align_down(*va, pte_span(2)) + pte_span(2);
            continue;
        }
        if (pt_get(e) == PTE_BUSY) {
            breathe();
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
        static struct pt_garbage garbage[ARCH_MAX_CPUS];
        struct pt_garbage *g = &garbage[arch_cpu_id()];

        spin_lock(&mm_lock);
        fill_batch(&va, end, b);
        // Whole tables below what is done so far.
        pt_prune(from, va, g);
        spin_unlock(&mm_lock);
        if (b->n > 0 || g->n > 0)
            arch_tlb_shootdown(from, (va - from) / PAGE_SIZE);
        for (unsigned i = 0; i < b->n; i++) {
            if (b->orders[i] == 0)
                frame_put(b->frames[i]);
            else
                frame_free(b->frames[i], b->orders[i]);
        }
        dropped += b->n;
        b->n = 0;
        pt_free_garbage(g);
    }
    preempt_enable();
    return dropped;
}

// ---- calls: arguments on the caller's stack, work on the system stack ----

struct call {
    uintptr_t va, to;
    size_t bytes, new_bytes;
    unsigned prot, flags;
    const char *name;
    long result;
};

static struct region *new_region(uintptr_t va, size_t bytes, unsigned prot,
                                 unsigned flags, const char *name)
{
    struct region *r = region_new();

    if (r != NULL) {
        r->start = va;
        r->end = va + bytes;
        r->prot = prot;
        r->flags = flags;
        r->name = name;
        r->peer = r;
    }
    return r;
}

// Into a place that place() found.
static void insert_free(struct region *r)
{
    int err = region_insert(r);

    ASSERT(err == 0);
}

static int map_locked(struct call *c)
{
    unsigned flags = (c->flags & VM_NORESERVE ? REGION_UNCHARGED : 0) |
                     (c->flags & VM_SPARSE ? REGION_SPARSE : 0) |
                     (c->prot == 0 ? REGION_RESERVED : 0);
    uintptr_t at = place(c->va, c->bytes);

    if ((c->flags & VM_FIXED) && at != c->va)
        return -EEXIST;
    if (at == 0)
        return -ENOMEM;
    struct region *r = new_region(at, c->bytes, c->prot, flags, c->name);

    if (r == NULL || !charge(cost(r))) {
        if (r != NULL)
            region_free(r);
        return -ENOMEM;
    }
    insert_free(r);
    c->va = at;
    return 0;
}

static void map_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = map_locked(c);
    spin_unlock(&mm_lock);
}

int vm_map(uintptr_t *va, size_t bytes, unsigned prot, unsigned flags,
           const char *name)
{
    struct call c = {.va = *va, .bytes = bytes, .prot = prot, .flags = flags,
                     .name = name};

    if (check_range(*va, bytes) != 0)
        return -EINVAL;
    arch_on_system_stack(map_call, &c);
    if (c.result == 0)
        *va = c.va;
    return (int)c.result;
}

// An alias costs nothing while the memory is charged to another; when that one
// goes, it is charged to the alias.
static void bequeath(struct region *r)
{
    struct region *heir = r->peer;

    if (heir == r || (r->flags & REGION_ALIAS) ||
        !(heir->flags & REGION_ALIAS))
        return;
    heir->flags &= ~(unsigned)REGION_ALIAS;
    charge_anyway(cost(heir));
}

static pte_t *small_entry(uintptr_t va)
{
    int level;
    pte_t *e = va != 0 ? pt_find(va, &level) : NULL;

    return e != NULL && level == 1 ? e : NULL;
}

// The frames of [va, end) in r are about to go. Pages that others of the ring
// show, but that only r has an entry for, are handed to one of them. Returns 0
// or -ENOMEM.
static int hand_over(struct region *r, uintptr_t va, uintptr_t end)
{
    for (; r->peer != r && va < end; va += PAGE_SIZE) {
        pte_t *e = small_entry(va);
        struct region *heir = NULL;
        bool held = e == NULL || !pt_has_frame(pt_get(e)) ||
                    mm_is_zero_frame(pte_paddr(pt_get(e)));

        for (struct region *p = r->peer; p != r && !held; p = p->peer) {
            uintptr_t at = mm_peer_address(r, va, p);
            pte_t *pe = small_entry(at);

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
        pt_set(pe, mm_leaf(heir, pte_paddr(pt_get(e)),
                           (pt_get(e) & PTE_COW) != 0));
    }
    return 0;
}

// Takes the regions of the range out of the tree.
static int unmap_locked(struct call *c)
{
    uintptr_t end = c->va + c->bytes;
    int r = isolate(c->va, end, true);

    if (r != 0)
        return r;
    for (;;) {
        struct region *at = region_first_above(c->va);

        if (at == NULL || at->start >= end)
            return 0;
        freeze(at);
        thaw(at); // quiet, and the lock is not released until it is out
        if (hand_over(at, at->start, at->end) != 0)
            return -ENOMEM;
        bequeath(at);
        uncharge(cost(at));
        region_erase(at);
        region_free(at);
    }
}

static void unmap_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = unmap_locked(c);
    spin_unlock(&mm_lock);
    if (c->result == 0)
        vm_drop_range(c->va, c->va + c->bytes);
}

int vm_unmap(uintptr_t va, size_t bytes)
{
    struct call c = {.va = va, .bytes = bytes};

    if (check_range(va, bytes) != 0)
        return -EINVAL;
    arch_on_system_stack(unmap_call, &c);
    return (int)c.result;
}

// ---- protect ----

// Changes the entries of r to its rights; true if any lost one.
static bool apply_rights(struct region *r)
{
    bool lost = false;

    for (uintptr_t va = r->start; va < r->end;) {
        int level;
        pte_t *e = pt_find(va, &level);
        pte_t v = e != NULL ? pt_get(e) : 0;

        if (e == NULL) {
            va = align_down(va, pte_span(2)) + pte_span(2);
            continue;
        }
        if (pt_has_frame(v)) {
            paddr_t p = paddr(pte_paddr(v).raw & ~(pte_span(level) - 1));
            pte_t to = mm_leaf(r, p, (v & PTE_COW) != 0) |
                       (v & (PTE_DIRTY | (level > 1 ? PTE_LARGE : 0)));

            lost = lost || (pte_present(v) && (!pte_present(to) ||
                                               (pte_prot(v) & ~pte_prot(to))));
            // The hardware may set D meanwhile: then look again.
            if (to != v && !pt_try_set(e, v, to))
                continue;
        }
        va = align_down(va, pte_span(level)) + pte_span(level);
    }
    return lost;
}

static struct region *next_in(struct region *r, uintptr_t end)
{
    struct region *n = region_first_above(r->end);

    return n != NULL && n->start < end ? n : NULL;
}

static int protect_locked(struct call *c)
{
    uintptr_t end = c->va + c->bytes;
    int err = isolate(c->va, end, false);
    uint64_t more = 0;

    if (err != 0)
        return err;
    for (struct region *r = region_find(c->va); r != NULL; r = next_in(r, end)) {
        if ((r->flags & REGION_RESERVED) && c->prot != 0 &&
            !(r->flags & REGION_UNCHARGED))
            more += mm_mapping_cost(r->end - r->start);
    }
    if (!charge(more))
        return -ENOMEM;
    for (struct region *r = region_find(c->va); r != NULL; r = next_in(r, end)) {
        freeze(r);
        r->prot = c->prot;
        if (c->prot != 0)
            r->flags &= ~(unsigned)REGION_RESERVED;
        if (apply_rights(r))
            c->flags = 1; // a shootdown is due
        thaw(r);
    }
    return 0;
}

static void protect_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = protect_locked(c);
    spin_unlock(&mm_lock);
    if (c->flags)
        arch_tlb_shootdown(c->va, c->bytes / PAGE_SIZE);
}

int vm_protect(uintptr_t va, size_t bytes, unsigned prot)
{
    struct call c = {.va = va, .bytes = bytes, .prot = prot};

    if (check_range(va, bytes) != 0)
        return -EINVAL;
    arch_on_system_stack(protect_call, &c);
    return (int)c.result;
}

// ---- decommit ----

static int decommit_locked(struct call *c)
{
    uintptr_t end = c->va + c->bytes;
    int err = isolate(c->va, end, false);

    if (err != 0)
        return err;
    for (struct region *r = region_find(c->va); r != NULL; r = next_in(r, end)) {
        freeze(r);
        thaw(r);
        if (c->flags) { // back to a mere reservation
            uncharge(cost(r));
            r->flags |= REGION_RESERVED;
            r->prot = 0;
        }
        r->window = 0;
    }
    return 0;
}

// A page at which another view of [va, end) still has a frame; 0: none has.
static uintptr_t other_view(uintptr_t va, uintptr_t end)
{
    for (; va < end; va += PAGE_SIZE) {
        struct region *r = region_find(va);

        if (r == NULL || r->peer == r) {
            va = r != NULL ? r->end - PAGE_SIZE : va;
            continue;
        }
        for (struct region *p = r->peer; p != r; p = p->peer) {
            uintptr_t at = mm_peer_address(r, va, p);
            pte_t *e = small_entry(at);

            if (e != NULL && pt_has_frame(pt_get(e)))
                return at;
        }
    }
    return 0;
}

static void decommit_call(void *arg)
{
    struct call *c = arg;
    uintptr_t at;

    spin_lock(&mm_lock);
    c->result = decommit_locked(c);
    spin_unlock(&mm_lock);
    if (c->result != 0)
        return;
    vm_drop_range(c->va, c->va + c->bytes);
    // The memory is discarded, whoever shows it.
    for (;;) {
        spin_lock(&mm_lock);
        at = other_view(c->va, c->va + c->bytes);
        spin_unlock(&mm_lock);
        if (at == 0)
            return;
        vm_drop_range(at, at + PAGE_SIZE);
    }
}

int vm_decommit(uintptr_t va, size_t bytes, bool unreserve)
{
    struct call c = {.va = va, .bytes = bytes, .flags = unreserve};

    if (check_range(va, bytes) != 0)
        return -EINVAL;
    arch_on_system_stack(decommit_call, &c);
    return (int)c.result;
}

// ---- move ----

// Whole tables go from `from` to `to` as they are, at this offset.
static bool links(uintptr_t from, uintptr_t to, size_t offset, size_t bytes)
{
    return (from + offset) % HUGE_BYTES == 0 &&
           (to + offset) % HUGE_BYTES == 0 && bytes - offset >= HUGE_BYTES;
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
            o += HUGE_BYTES;
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
            o += HUGE_BYTES;
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
    for (uintptr_t va = align_up(from, HUGE_BYTES); va < from + bytes;
         va += HUGE_BYTES) {
        if (!links(from, to, va - from, bytes) &&
            split_at(va + PAGE_SIZE) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int move_locked(struct call *c)
{
    size_t keep = c->bytes < c->new_bytes ? c->bytes : c->new_bytes;
    int err = isolate(c->va, c->va + c->bytes, false);
    struct region *r = region_find(c->va);
    uint64_t had, has = 0;

    if (err != 0)
        return err;
    if (r->end != c->va + c->bytes)
        return -EINVAL; // several regions
    freeze(r);
    thaw(r);
    // Memory that others show too does not grow: what is added is of its own,
    // or it would show what they have behind.
    bool extra = r->peer != r && c->new_bytes > c->bytes;

    had = cost(r);
    if (extra)
        has = had + cost_of(r->flags & ~(unsigned)REGION_ALIAS,
                            c->new_bytes - c->bytes);
    else
        has = cost_of(r->flags, c->new_bytes);
    // A wish that is not free is an error: the caller counts on it.
    uintptr_t to = place(c->to, c->new_bytes);

    if (to == 0 || (c->to != 0 && to != c->to))
        return c->to != 0 ? -EEXIST : -ENOMEM;
    if (has > had && !charge(has - had))
        return -ENOMEM;
    if (split_large_in(c->va, to, keep) != 0 ||
        !make_tables(c->va, to, keep) ||
        hand_over(r, c->va + keep, c->va + c->bytes) != 0) {
        if (has > had)
            uncharge(has - had);
        return -ENOMEM;
    }
    struct region *tail = NULL;

    if (extra) {
        tail = new_region(to + keep, c->new_bytes - keep, r->prot,
                          r->flags & ~(unsigned)REGION_ALIAS, r->name);
        if (tail == NULL) {
            if (has > had)
                uncharge(has - had);
            return -ENOMEM;
        }
    }
    region_rekey(r, to, to + (tail != NULL ? keep : c->new_bytes));
    if (tail != NULL)
        insert_free(tail);
    r->window = 0;
    if (!dirty_resize(r))
        dirty_forget(r);
    move_entries(c->va, to, keep);
    if (has < had)
        uncharge(had - has);
    c->to = to;
    atomic_fetch_add_explicit(&mm_counters.moves, 1, memory_order_relaxed);
    return 0;
}

static void move_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = move_locked(c);
    spin_unlock(&mm_lock);
    if (c->result != 0)
        return;
    arch_tlb_shootdown(c->va, c->bytes / PAGE_SIZE);
    // What was cut off at the end, and tables that are empty now.
    vm_drop_range(c->va, c->va + c->bytes);
}

int vm_move(uintptr_t va, size_t bytes, size_t new_bytes, uintptr_t *to)
{
    struct call c = {.va = va, .bytes = bytes, .new_bytes = new_bytes,
                     .to = *to};

    if (check_range(va, bytes) != 0 || check_range(*to, new_bytes) != 0)
        return -EINVAL;
    arch_on_system_stack(move_call, &c);
    if (c.result == 0)
        *to = c.to;
    return (int)c.result;
}

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

static int alias_locked(struct call *c)
{
    uintptr_t end = c->va + c->bytes;
    struct region *r;

    // The range may be a part of a region: the ring knows by pages.
    r = region_find(c->va);
    if (r == NULL || r->end < end || r->ops != &region_anon_ops)
        return r != NULL && r->end >= end ? -EPERM : -ENOMEM;
    if (r->flags & REGION_FIXED)
        return -EPERM;
    for (uintptr_t va = align_down(c->va, HUGE_BYTES); va < end;
         va += HUGE_BYTES) {
        if (split_at(va + PAGE_SIZE) != 0)
            return -ENOMEM;
    }
    uintptr_t at = place(c->to, c->bytes);
    struct region *a = at != 0 ? new_region(at, c->bytes, c->prot,
                                            REGION_ALIAS, "an alias")
                               : NULL;

    if (a == NULL)
        return -ENOMEM;
    if (drop_zero_frames(r))
        c->flags = 1;
    region_join(a, r, c->va);
    insert_free(a);
    c->to = at;
    return 0;
}

static void alias_call(void *arg)
{
    struct call *c = arg;

    c->flags = 0;
    spin_lock(&mm_lock);
    c->result = alias_locked(c);
    spin_unlock(&mm_lock);
    if (c->flags)
        arch_tlb_shootdown(0, 0);
}

int vm_alias(uintptr_t va, size_t bytes, unsigned prot, uintptr_t *alias)
{
    struct call c = {.va = va, .bytes = bytes, .prot = prot, .to = *alias};

    if (check_range(va, bytes) != 0)
        return -EINVAL;
    arch_on_system_stack(alias_call, &c);
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
            if ((v & PTE_COW) ||
                pt_try_set(e, v, (v & ~PTE_WRITE) | PTE_COW))
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
        if (o % (CHUNK * PAGE_SIZE) == 0 && o > 0)
            breathe();
        if (split_at(align_down(from + o, HUGE_BYTES) + PAGE_SIZE) != 0)
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

static int clone_locked(struct call *c)
{
    struct region *r = region_find(c->va);
    uintptr_t end = c->va + c->bytes;

    if (r == NULL || r->end < end)
        return -ENOMEM;
    if (r->ops != &region_anon_ops || (r->flags & REGION_FIXED))
        return -EPERM;
    uintptr_t at = place(c->to, c->bytes);
    struct region *copy =
        at != 0 ? new_region(at, c->bytes, r->prot,
                             r->flags & (REGION_UNCHARGED | REGION_SPARSE),
                             "a snapshot")
                : NULL;

    if (copy == NULL || !charge(cost(copy))) {
        if (copy != NULL)
            region_free(copy);
        return -ENOMEM;
    }
    // Nobody stores through a fault until every page is protected and every
    // CPU knows: the clone is of one moment. Until then the copy's place is
    // taken by a region that serves nothing.
    copy->prot = 0;
    copy->flags |= REGION_FIXED;
    insert_free(copy);
    freeze(r);
    copy->prot = r->prot;
    int err = clone_pages(r, copy, c->va);
    spin_unlock(&mm_lock);
    arch_tlb_shootdown(c->va, r->peer == r ? c->bytes / PAGE_SIZE : 0);
    spin_lock(&mm_lock);
    copy->flags &= ~(unsigned)REGION_FIXED;
    thaw(r);
    if (err != 0) {
        uncharge(cost(copy));
        region_erase(copy);
        region_free(copy);
    }
    c->to = at;
    return err;
}

static void clone_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = clone_locked(c);
    spin_unlock(&mm_lock);
    if (c->result != 0 && c->to != 0)
        vm_drop_range(c->to, c->to + c->bytes);
}

int vm_clone(uintptr_t va, size_t bytes, uintptr_t *clone)
{
    struct call c = {.va = va, .bytes = bytes, .to = 0};

    if (check_range(va, bytes) != 0)
        return -EINVAL;
    arch_on_system_stack(clone_call, &c);
    if (c.result == 0)
        *clone = c.to;
    return (int)c.result;
}

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
    for (uintptr_t p = va; p < va + HUGE_BYTES; p += PAGE_SIZE) {
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
static int promote_one(struct region *r, uintptr_t va, paddr_t huge,
                       pte_t *old)
{
    struct pt_garbage g = {0};
    pte_t dirty = 0;

    if (!make_busy(va, old))
        return -ENOMEM;
    spin_unlock(&mm_lock);
    arch_tlb_shootdown(va, PT_ENTRIES);
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
    arch_tlb_shootdown(va, PT_ENTRIES);
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        if (pt_has_frame(old[i]))
            frame_put(pte_paddr(old[i]));
    }
    pt_free_garbage(&g);
    spin_lock(&mm_lock);
    return 0;
}

static long promote_locked(struct call *c)
{
    uintptr_t end = c->va + c->bytes;
    long n = 0;
    paddr_t page = frame_alloc(0, FRAME_DIRTY); // 512 old entries

    if (page.raw == 0)
        return -ENOMEM;
    for (uintptr_t va = align_up(c->va, HUGE_BYTES); va + HUGE_BYTES <= end;
         va += HUGE_BYTES) {
        struct region *r = region_find(va);
        bool large;

        if (r == NULL || r->ops != &region_anon_ops ||
            (r->flags & (REGION_FIXED | REGION_DEVICE)) ||
            r->end < va + HUGE_BYTES)
            continue;
        freeze(r);
        bool can = promotable(r, va, &large);

        n += large;
        paddr_t huge = can ? frame_alloc(HUGE_ORDER, FRAME_DIRTY) : paddr(0);

        if (huge.raw != 0) {
            if (promote_one(r, va, huge, arch_direct(page)) == 0)
                n++;
            else
                frame_free(huge, HUGE_ORDER);
        }
        thaw(r);
    }
    frame_free(page, 0);
    return n;
}

static void promote_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&mm_lock);
    c->result = promote_locked(c);
    spin_unlock(&mm_lock);
}

long vm_promote(uintptr_t va, size_t bytes)
{
    struct call c = {.va = va, .bytes = bytes};

    if (check_range(va, bytes) != 0)
        return -EINVAL;
    arch_on_system_stack(promote_call, &c);
    return c.result;
}

// ---- check ----

static void add_cost(struct region *r, void *arg)
{
    if (r->pooled)
        *(uint64_t *)arg += cost(r);
}

static void check_call(void *arg)
{
    uint64_t sum = 0;

    (void)arg;
    spin_lock(&mm_lock);
    region_check();
    pt_check();
    region_each(add_cost, &sum);
    if (sum != charged)
        panic("vm: regions cost %lu pages, charged are %lu",
              (unsigned long)sum, (unsigned long)charged);
    spin_unlock(&mm_lock);
    frame_check();
}

void mm_check(void)
{
    arch_on_system_stack(check_call, NULL);
}
