// What is mapped where; see look.h.

#include "mm/look.h"

#include "mm/frame.h"
#include "mm/mm_impl.h"
#include "mm/pt.h"

enum { LOOK_CHUNK = 512 }; // entries looked at with mm_lock held

// The entry at which the walk for va ends: a leaf, or nothing of that level.
static const pte_t *walk_end(uintptr_t va, int *level)
{
    static const pte_t nothing;
    const pte_t *table = arch_pt_root();

    for (int l = PT_LEVELS;; l--) {
        const pte_t *e = &table[pte_index(va, l)];
        pte_t v = pt_get(e);

        if (pte_is_leaf(v, l) || !pte_present(v)) {
            *level = l;
            return e;
        }
        if (l == 2 && !pt_in_part(v, va)) {
            *level = 1;
            return &nothing;
        }
        table = arch_direct(pte_paddr(v));
    }
}

static unsigned count_views(const struct region *r)
{
    unsigned n = 1;

    for (const struct region *p = r->peer; p != NULL && p != r; p = p->peer)
        n++;
    return n;
}

static void look_region(uintptr_t va, struct mm_look *l)
{
    struct region *r = region_find(va);

    if (r == NULL) {
        struct region *below = region_below(va);
        struct region *above = region_first_above(va);

        l->start = below != NULL ? below->end : 0;
        l->end = above != NULL ? above->start : 0;
        return;
    }
    l->in_region = true;
    l->start = r->start;
    l->end = r->end;
    l->ops = r->ops;
    l->name = r->name;
    l->prot = r->prot;
    l->flags = r->flags;
    l->views = count_views(r);
}

void mm_look(uintptr_t va, struct mm_look *l)
{
    *l = (struct mm_look){0};
    if (!va_is_canonical(va))
        return;
    look_region(va, l);
    pte_t *e = pt_find(va, &l->level);
    pte_t v = e != NULL ? pt_get(e) : 0;

    if (!pt_has_frame(v)) {
        l->level = 0;
        return;
    }
    uint64_t head = pte_paddr(v).raw & ~(pte_span(l->level) - 1);
    uint64_t inside = va & (pte_span(l->level) - 1);

    l->mapped = pte_present(v);
    l->kept = !l->mapped;
    l->rights = l->mapped ? pte_prot(v) : 0;
    l->accessed = (v & PTE_ACCESSED) != 0;
    l->dirty = (v & PTE_DIRTY) != 0;
    l->cow = (v & PTE_COW) != 0;
    l->zero_frame = mm_is_zero_frame(paddr(head));
    l->frame = (head + inside) >> PAGE_SHIFT;
    // Only frames of regions are counted; the image's are not ours.
    if (l->in_region && !l->zero_frame && !(l->flags & REGION_DEVICE))
        l->users = frame_refs(paddr(head));
}

unsigned mm_walk(uintptr_t va, struct mm_walk_step steps[PT_LEVELS])
{
    const pte_t *table = arch_pt_root();
    unsigned n = 0;

    if (!va_is_canonical(va))
        return 0;
    for (int level = PT_LEVELS; level > 0; level--) {
        pte_t e = pt_get(&table[pte_index(va, level)]);
        bool leaf = pte_is_leaf(e, level);

        steps[n++] = (struct mm_walk_step){.level = level,
                                           .index = pte_index(va, level),
                                           .entry = e,
                                           .present = pte_present(e),
                                           .leaf = leaf};
        if (leaf || !pte_present(e))
            break;
        table = arch_direct(pte_paddr(e));
    }
    return n;
}

// Looks at a few entries from *va on; mm_lock held.
static uint64_t count_chunk(uintptr_t *va, uintptr_t end)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < LOOK_CHUNK && *va < end; i++) {
        int level;
        pte_t v = pt_get(walk_end(*va, &level));
        uintptr_t next = align_down(*va, pte_span(level)) + pte_span(level);

        if (next > end || next < *va)
            next = end;
        if (pt_has_frame(v) && !mm_is_zero_frame(pte_paddr(v)))
            n += (next - *va) / PAGE_SIZE;
        *va = next;
    }
    return n;
}

uint64_t mm_count_resident(uintptr_t start, uintptr_t end)
{
    uint64_t n = 0;

    for (uintptr_t va = start; va < end;) {
        spin_lock(&mm_lock);
        n += count_chunk(&va, end);
        spin_unlock(&mm_lock);
        arch_relax();
    }
    return n;
}

static uint64_t events_of(const _Atomic uint64_t *c)
{
    return atomic_load_explicit(c, memory_order_relaxed);
}

struct mm_events mm_events(void)
{
    return (struct mm_events){.faults = events_of(&mm_counters.faults),
                              .zero_fills = events_of(&mm_counters.zero_fills),
                              .cow_faults = events_of(&mm_counters.cow_faults),
                              .moves = events_of(&mm_counters.moves),
                              .shootdowns = events_of(&mm_counters.shootdowns),
                              .large = {events_of(&mm_counters.large[0]),
                                        events_of(&mm_counters.large[1])}};
}
