// Page tables.
//
// Four levels, each a frame of 512 entries, seen through the direct map. Tables
// are made on demand and given back when their last entry is cleared: the count
// of entries that are not zero is kept in the table's struct frame.
//
// Entries are changed by exchange, since the hardware walker of every CPU reads
// them and sets A and D behind our back: what was there is always looked at.
//
// Invariants (pt_check):
//   I1  frame(table).refs == number of its entries that are not zero
//   I2  no table but the root has a count of zero once mm_lock is released by
//       who cleared its last entry (boot tables excepted)
//
// Locks: mm_lock (region.h) protects the shape of the tables and every entry of
// the software; the hardware sets A and D at any time.

#include "mm/pt.h"

#include <errno.h>
#include <stdatomic.h>

#include "mm/frame_impl.h"

uint64_t pt_valid_bits = ~UINT64_C(0);
int pt_max_level = 2;

static pte_t *root;
static uint64_t nshared; // of ntables, that neighbours share
static paddr_t (*alloc_table)(void);
static void (*release_table)(paddr_t p);
static uint64_t ntables; // [mm_lock]

void pt_init(paddr_t r, paddr_t (*alloc)(void), void (*release)(paddr_t))
{
    root = arch_direct(r);
    alloc_table = alloc;
    release_table = release;
}

void pt_set_alloc(paddr_t (*alloc)(void))
{
    alloc_table = alloc;
}

uint64_t pt_tables(void)
{
    return ntables;
}

static paddr_t table_frame(const pte_t *e)
{
    return paddr(align_down(arch_direct_to_paddr(e).raw, PAGE_SIZE));
}

// The count of entries; while the boot builds the first tables there is no
// frame array yet, and pt_count_boot_tables sets it afterwards.
static bool counting;

// A table's count is changed under mm_lock only: no locked instruction.
static _Atomic uint32_t *entries_of(const pte_t *e)
{
    return &frame_of(table_frame(e).raw >> PAGE_SHIFT)->refs;
}

static bool is_empty(const pte_t *table)
{
    return counting &&
           atomic_load_explicit(entries_of(table), memory_order_relaxed) == 0;
}

bool pt_is_empty(const pte_t *e)
{
    return is_empty(e);
}

void pt_counted(const pte_t *e, int change)
{
    if (change == 0 || !counting)
        return;
    _Atomic uint32_t *n = entries_of(e);

    atomic_store_explicit(
        n, atomic_load_explicit(n, memory_order_relaxed) + (uint32_t)change,
        memory_order_relaxed);
}

static void count(const pte_t *e, pte_t old, pte_t new)
{
    pt_counted(e, (new != 0) - (old != 0));
}

pte_t pt_set(pte_t *e, pte_t to)
{
    pte_t old = pt_swap(e, to);

    count(e, old, to);
    return old;
}

static pte_t *table_of(pte_t e)
{
    return arch_direct(pte_paddr(e));
}

// The way to most entries, without a loop: the table of level 1 for va. NULL:
// there is none, or a large page.
static inline pte_t *small_table(uintptr_t va)
{
    const pte_t small = PTE_PRESENT, mask = PTE_PRESENT | PTE_LARGE;
    pte_t v = pt_get(&root[pte_index(va, 4)]);

    if (!pte_present(v))
        return NULL;
    v = pt_get(&table_of(v)[pte_index(va, 3)]);
    if ((v & mask) != small)
        return NULL;
    v = pt_get(&table_of(v)[pte_index(va, 2)]);
    return (v & (mask | PTE_SHARED)) == small ? table_of(v) : NULL;
}

static pte_t *new_table(pte_t *e)
{
    paddr_t p = alloc_table();

    if (p.raw == 0)
        return NULL;
    if (counting)
        frame_of(p.raw >> PAGE_SHIFT)->refs = 0;
    ntables++;
    pt_set(e, pte_make_table(p));
    return arch_direct(p);
}

// The entry for va at `level`, making tables on the way. NULL: no frame.
static pte_t *walk_make(uintptr_t va, int level)
{
    pte_t *t = root;

    for (int l = PT_LEVELS; l > level; l--) {
        pte_t *e = &t[pte_index(va, l)];
        pte_t v = pt_get(e);

        ASSERT(!pte_present(v) || !pte_is_leaf(v, l));
        ASSERT(l != 2 || pt_in_part(v, va));
        t = pte_present(v) ? table_of(v) : new_table(e);
        if (t == NULL)
            return NULL;
    }
    return &t[pte_index(va, level)];
}

pte_t *pt_make(uintptr_t va)
{
    pte_t *t = small_table(va);

    return t != NULL ? &t[pte_index(va, 1)] : walk_make(va, 1);
}

bool pt_make_parent(uintptr_t va, int level)
{
    return walk_make(va, level) != NULL;
}

static int best_level(uintptr_t va, uint64_t pa, uint64_t size, int max)
{
    int l = max < pt_max_level ? max : pt_max_level;

    while (l > 1 && ((va | pa) % pte_span(l) != 0 || size < pte_span(l)))
        l--;
    return l;
}

COLD int pt_map(uintptr_t va, paddr_t pa, uint64_t size, unsigned prot,
                int max_level)
{
    ASSERT((va | pa.raw | size) % PAGE_SIZE == 0);
    while (size > 0) {
        int l = best_level(va, pa.raw, size, max_level);
        pte_t *e = l == 1 ? pt_make(va) : walk_make(va, l);

        if (e == NULL)
            return -ENOMEM;
        pte_t leaf = pte_make_leaf(pa, prot, l) & pt_valid_bits;

        ASSERT(pt_get(e) == 0);
        pt_set(e, leaf);
        arch_pte_installed(va, leaf, l);
        va += pte_span(l);
        pa.raw += pte_span(l);
        size -= pte_span(l);
    }
    return 0;
}

pte_t *pt_find(uintptr_t va, int *level)
{
    pte_t *t = small_table(va);

    if (likely(t != NULL)) {
        *level = 1;
        return &t[pte_index(va, 1)];
    }
    t = root;
    for (int l = PT_LEVELS;; l--) {
        pte_t *e = &t[pte_index(va, l)];
        pte_t v = pt_get(e);

        if (pte_is_leaf(v, l)) {
            *level = l;
            return e;
        }
        if (!pte_present(v) || (l == 2 && !pt_in_part(v, va)))
            return NULL;
        t = table_of(v);
    }
}

struct pt_run pt_run(uintptr_t va, uintptr_t end)
{
    pte_t *t = root;

    for (int l = PT_LEVELS;; l--) {
        pte_t *e = &t[pte_index(va, l)];
        pte_t v = pt_get(e);
        uint64_t span = l == 1 ? pte_span(2) : pte_span(l);
        uintptr_t last = va | (span - 1); // of the entry, or of the table
        struct pt_run run = {
            e, ((last < end ? last + 1 : end) - va) / PAGE_SIZE, l};

        if (pte_is_leaf(v, l)) // parked large pages too
            return run;
        t = pte_present(v) ? table_of(v) : NULL;
        // Of a shared table, one part at a time.
        if (l == 2 && t != NULL && (v & PTE_SHARED)) {
            last = va | (PT_PART * PAGE_SIZE - 1);
            end = last < end ? last + 1 : end;
            run.n = (end - va) / PAGE_SIZE;
            if (!pt_in_part(v, va))
                t = NULL;
        }
        if (t == NULL || is_empty(t)) {
            run.e = NULL;
            return run;
        }
    }
}

COLD int pt_split(uintptr_t va)
{
    int level;
    pte_t *e = pt_find(va, &level);
    pte_t v = e != NULL ? pt_get(e) : 0;

    ASSERT(e != NULL && level > 1 && pt_has_frame(v));
    paddr_t table = alloc_table();

    if (table.raw == 0)
        return -ENOMEM;
    pte_t *t = arch_direct(table);
    uint64_t step = pte_span(level - 1);
    uint64_t pa = v & PTE_ADDR_MASK & ~(pte_span(level) - 1);

    ntables++;
    if (counting)
        frame_of(table.raw >> PAGE_SHIFT)->refs = PT_ENTRIES;
    // A store between reading v and the exchange sets D in the large entry; it
    // is then handed to all small ones.
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        pte_t small = (v & ~PTE_ADDR_MASK) | (pa + i * step);

        t[i] = level - 1 == 1 ? small & ~PTE_LARGE : small;
    }
    v = pt_set(e, pte_make_table(table));
    for (unsigned i = 0; (v & PTE_DIRTY) && i < PT_ENTRIES; i++)
        atomic_fetch_or_explicit((_Atomic pte_t *)&t[i], PTE_DIRTY,
                                 memory_order_relaxed);
    return 0;
}

// The entry for va of this level, if there is a table for it.
static pte_t *entry_at(uintptr_t va, int level)
{
    pte_t *t = root;

    for (int l = PT_LEVELS; l > level; l--) {
        pte_t v = pt_get(&t[pte_index(va, l)]);

        if (!pte_present(v) || pte_is_leaf(v, l))
            return NULL;
        t = table_of(v);
    }
    return &t[pte_index(va, level)];
}

size_t pt_relink(uintptr_t va, uintptr_t to, size_t n, int level)
{
    unsigned i = pte_index(va, level), k = pte_index(to, level);
    pte_t *from = entry_at(va, level);
    size_t room = PT_ENTRIES - (i > k ? i : k);
    int came = 0;

    n = n < room ? n : room;
    if (from == NULL)
        return n; // nothing there
    pte_t *dest = walk_make(to, level);

    ASSERT(dest != NULL); // the caller made it
    for (size_t j = 0; j < n; j++) {
        pte_t there = pt_get(&dest[j]);

        if (pt_get(&from[j]) == 0)
            continue;
        // An empty table that was left there takes the other's place.
        ASSERT(there == 0 ||
               (pte_present(there) && !pte_is_leaf(there, level) &&
                is_empty(table_of(there))));
        pt_swap(&dest[j], pt_swap(&from[j], there));
        came += there == 0;
    }
    pt_counted(dest, came);
    pt_counted(from, -came);
    return n;
}

void pt_promote(uintptr_t va, int level, pte_t leaf, struct pt_garbage *g)
{
    pte_t *e = entry_at(va, level);

    ASSERT(e != NULL && g->n < ARRAY_LEN(g->tables));
    g->tables[g->n++] = pte_paddr(pt_set(e, leaf));
    ntables--;
}

// ---- tables that are shared ----

paddr_t pt_new_shared(void)
{
    paddr_t p = alloc_table();
    pte_t *t = arch_direct(p);

    if (p.raw == 0)
        return p;
    frame_of(p.raw >> PAGE_SHIFT)->refs = 0;
    pt_set(t, PTE_FENCE);
    ntables++;
    nshared++;
    return p;
}

COLD void pt_free_shared(paddr_t table)
{
    ntables--;
    nshared--;
    frame_of(table.raw >> PAGE_SHIFT)->refs = 1;
    release_table(table);
}

COLD void pt_end_share(uintptr_t va)
{
    pt_set(entry_at(va, 2), 0);
}

uint64_t pt_shared_tables(void)
{
    return nshared;
}

bool pt_share(uintptr_t va, paddr_t table)
{
    pte_t *e = walk_make(va, 2);

    if (e == NULL)
        return false;
    ASSERT(pt_get(e) == 0);
    pt_set(e, pte_make_table(table) | PTE_SHARED |
                  (pte_t)(pte_index(va, 1) / PT_PART) << PTE_PART_SHIFT);
    return true;
}

COLD bool pt_is_shared(uintptr_t va)
{
    const pte_t *e = entry_at(va, 2);

    return e != NULL && pte_present(pt_get(e)) && (pt_get(e) & PTE_SHARED);
}

COLD bool pt_unshare(uintptr_t va)
{
    pte_t *e = entry_at(va, 2);
    unsigned first = (pt_get(e) >> PTE_PART_SHIFT) % 16 * PT_PART;
    paddr_t own = alloc_table();

    if (own.raw == 0)
        return false;
    pte_t *from = table_of(pt_get(e)), *to = arch_direct(own);

    frame_of(own.raw >> PAGE_SHIFT)->refs = 0;
    ntables++;
    // By exchange: the hardware may set D until an entry is gone from the old one.
    // Who needs the page meanwhile faults, and waits for mm_lock.
    for (unsigned i = first + 1; i < first + PT_PART; i++)
        pt_set(&to[i], pt_set(&from[i], 0));
    pt_set(e, pte_make_table(own));
    return true;
}

// ---- giving tables back ----

COLD static void prune_table(pte_t *t, int level, uintptr_t base, uintptr_t va,
                             uintptr_t end, struct pt_garbage *g)
{
    uint64_t span = pte_span(level);
    uintptr_t from = va > base ? va : base;

    for (uintptr_t at = align_down(from, span);
         at < end && at - base < span * PT_ENTRIES; at += span) {
        pte_t *e = &t[pte_index(at, level)];
        pte_t v = pt_get(e);

        if (g->n == ARRAY_LEN(g->tables))
            return;
        if (!pte_present(v) || pte_is_leaf(v, level))
            continue;
        if (level == 2 && (v & PTE_SHARED))
            continue;
        if (level > 2 && !is_empty(table_of(v)))
            prune_table(table_of(v), level - 1, at, va, end, g);
        if (g->n < ARRAY_LEN(g->tables) && is_empty(table_of(v))) {
            pt_set(e, 0);
            ntables--;
            g->tables[g->n++] = pte_paddr(v);
        }
    }
}

void pt_prune(uintptr_t va, uintptr_t end, struct pt_garbage *g)
{
    uint64_t top = pte_span(PT_LEVELS);

    // Top-level slots are kept: a few frames, and the next mapping wants them.
    for (uintptr_t at = align_down(va, top); at < end; at += top) {
        pte_t v = pt_get(&root[pte_index(at, PT_LEVELS)]);

        if (pte_present(v))
            prune_table(table_of(v), PT_LEVELS - 1, at, va, end, g);
        if (at + top < at)
            break;
    }
}

void pt_free_garbage(struct pt_garbage *g)
{
    for (unsigned i = 0; i < g->n; i++) {
        frame_of(g->tables[i].raw >> PAGE_SHIFT)->refs = 1;
        release_table(g->tables[i]);
    }
    g->n = 0;
}

// ---- walks ----

struct visitor {
    uintptr_t start, last;
    void (*visit)(uintptr_t va, pte_t e, int level, void *arg);
    void *arg;
};

COLD static void walk_table(const pte_t *t, int level, uintptr_t base,
                            const struct visitor *v)
{
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        pte_t e = pt_get(&t[i]);
        uintptr_t va = base + i * pte_span(level);

        if (level == PT_LEVELS && i >= PT_ENTRIES / 2)
            va |= UINT64_C(0xffff) << 48;
        if (!pte_present(e) || va > v->last ||
            va + (pte_span(level) - 1) < v->start)
            continue;
        if (pte_is_leaf(e, level)) {
            v->visit(va, e, level, v->arg);
        } else if (level == 2 && (e & PTE_SHARED)) {
            uintptr_t part =
                va + (e >> PTE_PART_SHIFT) % 16 * PT_PART * PAGE_SIZE;
            struct visitor only = *v;

            only.start = max_u64(v->start, part);
            only.last = min_u64(v->last, part + PT_PART * PAGE_SIZE - 1);
            walk_table(table_of(e), 1, va, &only);
        } else {
            walk_table(table_of(e), level - 1, va, v);
        }
    }
}

COLD void pt_walk(uintptr_t start, uintptr_t end,
                  void (*visit)(uintptr_t va, pte_t e, int level, void *arg),
                  void *arg)
{
    struct visitor v = {start, end - 1, visit, arg};

    walk_table(root, PT_LEVELS, 0, &v);
}

COLD static uint64_t recount(const pte_t *t, int level, bool fix)
{
    uint64_t tables = 0;
    uint32_t used = 0;

    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        pte_t e = pt_get(&t[i]);

        used += e != 0;
        if (pte_present(e) && !pte_is_leaf(e, level))
            tables += (level > 2 || (e & PTE_SHARED) == 0) +
                      recount(table_of(e), level - 1, fix);
    }
    struct frame *f = frame_of(table_frame(t).raw >> PAGE_SHIFT);

    if (fix)
        f->refs = used;
    else if (t != root && f->refs != used)
        panic("pt: table 0x%lx of level %d counts %u entries, has %u",
              (unsigned long)table_frame(t).raw, level, f->refs, used);
    return tables;
}

void pt_count_boot_tables(void)
{
    ntables = recount(root, PT_LEVELS, true);
    counting = true;
}

void pt_check(void)
{
    uint64_t n = recount(root, PT_LEVELS, false) + nshared;

    if (n != ntables)
        panic("pt: %lu tables counted, %lu found", (unsigned long)ntables,
              (unsigned long)n);
}

COLD static void free_tables(pte_t e, int level)
{
    pte_t *t = table_of(e);

    for (unsigned i = 0; level > 1 && i < PT_ENTRIES; i++) {
        if (pte_present(pt_get(&t[i])) && !pte_is_leaf(pt_get(&t[i]), level))
            free_tables(pt_get(&t[i]), level - 1);
    }
    ntables--;
    frame_of(pte_paddr(e).raw >> PAGE_SHIFT)->refs = 1;
    release_table(pte_paddr(e));
}

COLD void pt_drop_top(unsigned slot)
{
    pte_t e = pt_set(&root[slot], 0);

    arch_tlb_shootdown(0, 0);
    if (pte_present(e))
        free_tables(e, PT_LEVELS - 1);
}
