// Page tables.
//
// Four levels, each a frame of 512 entries, seen through the direct map. Tables
// above the leaves are made on demand and, for now, kept: the address space of
// one program comes back to the same places.
//
// Entries are written with atomic stores, since the hardware walker of every
// CPU reads them, and A and D are set behind our back: an entry is taken out by
// exchange, so that no D bit is lost.
//
// Locks: mm_lock (region.h) protects the shape of the tables.

#include "mm/pt.h"

#include <errno.h>
#include <stdatomic.h>

#include "mm/frame.h"

uint64_t pt_valid_bits = ~UINT64_C(0);
int pt_max_level = 2;

static pte_t *root;
static paddr_t (*alloc_table)(void);
static uint64_t ntables; // [mm_lock] made since the start

void pt_init(paddr_t r, paddr_t (*alloc)(void))
{
    root = arch_direct(r);
    alloc_table = alloc;
}

void pt_set_alloc(paddr_t (*alloc)(void))
{
    alloc_table = alloc;
}

static pte_t load(const pte_t *e)
{
    return atomic_load_explicit((const _Atomic pte_t *)e, memory_order_relaxed);
}

static void store(pte_t *e, pte_t v)
{
    // Release: the frame's contents are there before a walker can reach it.
    atomic_store_explicit((_Atomic pte_t *)e, v, memory_order_release);
}

static pte_t *table_of(pte_t e)
{
    return arch_direct(pte_paddr(e));
}

// The entry for va at `level`, making tables on the way. NULL: no frame.
static pte_t *walk_make(uintptr_t va, int level)
{
    pte_t *t = root;

    for (int l = PT_LEVELS; l > level; l--) {
        pte_t *e = &t[pte_index(va, l)];

        if (!pte_present(load(e))) {
            paddr_t p = alloc_table();

            if (p.raw == 0)
                return NULL;
            store(e, pte_make_table(p));
            ntables++;
        }
        ASSERT(!pte_is_leaf(load(e), l));
        t = table_of(load(e));
    }
    return &t[pte_index(va, level)];
}

uint64_t pt_tables_made(void)
{
    return ntables;
}

static int best_level(uintptr_t va, uint64_t pa, uint64_t size, int max)
{
    int l = max < pt_max_level ? max : pt_max_level;

    while (l > 1 && ((va | pa) % pte_span(l) != 0 || size < pte_span(l)))
        l--;
    return l;
}

int pt_map(uintptr_t va, paddr_t pa, uint64_t size, unsigned prot,
           int max_level)
{
    ASSERT((va | pa.raw | size) % PAGE_SIZE == 0);
    while (size > 0) {
        int l = best_level(va, pa.raw, size, max_level);
        pte_t *e = walk_make(va, l);

        if (e == NULL)
            return -ENOMEM;
        ASSERT(!pte_present(load(e)));
        pte_t leaf = pte_make_leaf(pa, prot, l) & pt_valid_bits;

        store(e, leaf);
        arch_pte_installed(va, leaf, l);
        va += pte_span(l);
        pa.raw += pte_span(l);
        size -= pte_span(l);
    }
    return 0;
}

pte_t *pt_find(uintptr_t va, int *level)
{
    pte_t *t = root;

    for (int l = PT_LEVELS;; l--) {
        pte_t *e = &t[pte_index(va, l)];

        if (pte_is_leaf(load(e), l)) {
            *level = l;
            return e;
        }
        if (!pte_present(load(e)))
            return NULL;
        t = table_of(load(e));
    }
}

enum { UNMAP_BATCH = 32 };

static void drop_batch(uintptr_t va, size_t npages, paddr_t *frames, unsigned n,
                       void (*drop)(paddr_t p))
{
    if (n == 0)
        return;
    arch_tlb_shootdown(va, npages);
    for (unsigned i = 0; i < n; i++)
        drop(frames[i]);
}

void pt_unmap(uintptr_t va, size_t npages, void (*drop)(paddr_t p))
{
    paddr_t frames[UNMAP_BATCH];
    uintptr_t first = va, end = va + npages * PAGE_SIZE;
    unsigned n = 0;

    while (va < end) {
        int level;
        pte_t *e = pt_find(va, &level);

        if (e == NULL) {
            va = align_down(va, pte_span(2)) + pte_span(2);
            continue;
        }
        ASSERT(level == 1 || !pte_present(load(e)));
        pte_t old = atomic_exchange_explicit((_Atomic pte_t *)e, 0,
                                             memory_order_relaxed);

        va += PAGE_SIZE;
        if (!pte_present(old))
            continue;
        frames[n++] = pte_paddr(old);
        if (n == UNMAP_BATCH) {
            drop_batch(first, (va - first) / PAGE_SIZE, frames, n, drop);
            n = 0;
            first = va;
        }
    }
    drop_batch(first, (end - first) / PAGE_SIZE, frames, n, drop);
}

struct visitor {
    void (*visit)(uintptr_t va, pte_t e, int level, void *arg);
    void *arg;
};

static void walk_table(const pte_t *t, int level, uintptr_t base,
                       const struct visitor *v)
{
    for (unsigned i = 0; i < PT_ENTRIES; i++) {
        pte_t e = load(&t[i]);
        uintptr_t va = base + i * pte_span(level);

        if (!pte_present(e))
            continue;
        if (level == PT_LEVELS && i >= PT_ENTRIES / 2)
            va |= UINT64_C(0xffff) << 48;
        if (pte_is_leaf(e, level))
            v->visit(va, e, level, v->arg);
        else
            walk_table(table_of(e), level - 1, va, v);
    }
}

void pt_walk(void (*visit)(uintptr_t va, pte_t e, int level, void *arg),
             void *arg)
{
    struct visitor v = {visit, arg};

    walk_table(root, PT_LEVELS, 0, &v);
}

static void free_tables(pte_t e, int level)
{
    pte_t *t = table_of(e);

    for (unsigned i = 0; level > 1 && i < PT_ENTRIES; i++) {
        if (pte_present(load(&t[i])) && !pte_is_leaf(load(&t[i]), level))
            free_tables(load(&t[i]), level - 1);
    }
    frame_free(pte_paddr(e), 0);
}

void pt_drop_top(unsigned slot)
{
    pte_t e = load(&root[slot]);

    store(&root[slot], 0);
    arch_tlb_shootdown(0, 0);
    if (pte_present(e))
        free_tables(e, PT_LEVELS - 1);
}
