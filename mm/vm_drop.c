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
    unsigned n, nhuge;
    bool stale; // translations were taken out, if only of the zero frame
    paddr_t frames[VM_BATCH];
    paddr_t huge[16]; // with the level in the low bits
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
    (*b)->n = (*b)->nhuge = (*b)->tables.n = 0;
    (*b)->stale = false;
    return *b;
}

void *vm_scratch(void)
{
    return my_batch();
}

void mm_cpu_init(void)
{
    batches[arch_cpu_id()] = mm_boot_page();
}

_Static_assert(sizeof(struct batch) <= PAGE_SIZE, "a frame holds it");

// Takes the frame of an entry, which is cleared already, into the batch.
static void take_out(struct region *r, uintptr_t va, pte_t old, int level,
                     struct batch *b)
{
    if (!pt_has_frame(old))
        return;
    b->stale = true;
    // A D bit of a large page stands for all of it.
    for (uintptr_t end = va + pte_span(level);
         r != NULL && (r->logs != NULL || r->peer != r) && (old & PTE_DIRTY) &&
         va < end;
         va += PAGE_SIZE)
        dirty_note(r, va);
    paddr_t p = paddr(pte_paddr(old).raw & ~(pte_span(level) - 1));

    if (mm_is_zero_frame(p) || (old & PTE_FOREIGN))
        return;
    mm_count_large(level, -UINT64_C(1));
    if (level == 1)
        b->frames[b->n++] = p;
    else
        b->huge[b->nhuge++] = paddr(p.raw | (unsigned)level);
}

static bool is_full(const struct batch *b)
{
    return b->n == ARRAY_LEN(b->frames) || b->nhuge == ARRAY_LEN(b->huge);
}

// Clears entries of a run until the batch is full or one is busy; returns how
// many pages it has done.
static size_t empty_run(const struct pt_run *run, uintptr_t va, struct batch *b)
{
    struct region *r = region_find(va);
    size_t i = 0;
    int gone = 0;

    for (; i < pt_run_entries(run) && !is_full(b); i++) {
        uintptr_t at = va + i * PAGE_SIZE;
        pte_t v = pt_get(&run->e[i]);

        if (v == PTE_BUSY)
            break;
        if (v == 0)
            continue;
        if (r == NULL || at >= r->end)
            r = region_find(at);
        take_out(r, at, pt_swap(&run->e[i], 0), run->level, b);
        gone++;
    }
    if (gone > 0)
        pt_counted(run->e, -gone);
    return run->level == 1 || i == 0 ? i : run->n;
}

// Clears entries from *va until the batch is full or end is reached.
static void fill_batch(uintptr_t *va, uintptr_t end, struct batch *b)
{
    for (unsigned runs = 0; *va < end && !is_full(b) && runs < VM_RUNS;
         runs++) {
        struct pt_run run = pt_run(*va, end);
        size_t done = run.e != NULL ? empty_run(&run, *va, b) : run.n;

        *va += done * PAGE_SIZE;
        if (done < run.n && !is_full(b))
            vm_breathe(); // a busy one
    }
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
            mm_shootdown(from, (va - from) / PAGE_SIZE);
        frame_put_many(b->frames, b->n);
        for (unsigned i = 0; i < b->nhuge; i++) {
            uint64_t level = b->huge[i].raw % PAGE_SIZE;

            frame_free(paddr(b->huge[i].raw - level), vm_order((int)level));
        }
        dropped += b->n + b->nhuge + g->n;
        b->n = b->nhuge = 0;
        b->stale = false;
        pt_free_garbage(g);
    }
    preempt_enable();
    return dropped;
}

pte_t *vm_small_entry(uintptr_t va)
{
    int level;
    pte_t *e = va != 0 ? pt_find(va, &level) : NULL;

    return e != NULL && level == 1 ? e : NULL;
}

pte_t *vm_small_entry_or_gap(uintptr_t va, uintptr_t end, uintptr_t *next)
{
    pte_t *e = vm_small_entry(va);

    *next = va + (e != NULL ? 1 : pt_run(va, end).n) * PAGE_SIZE;
    return e;
}

// The frames of [va, end) in r are about to go. Pages that others of the ring
// show, but that only r has an entry for, are handed to one of them that stays.
// Returns 0 or -ENOMEM.
int vm_hand_over(struct region *r, uintptr_t va, uintptr_t end, uintptr_t gone,
                 uintptr_t gone_end)
{
    uintptr_t next;

    for (; r->peer != r && va < end; va = next) {
        pte_t *e = vm_small_entry_or_gap(va, end, &next);
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
        pte_t *pe = mm_make_entry(heir, mm_peer_address(r, va, heir));

        if (pe == NULL)
            return -ENOMEM;
        frame_get(pte_paddr(pt_get(e)));
        pt_set(pe,
               mm_leaf(heir, pte_paddr(pt_get(e)), (pt_get(e) & PTE_COW) != 0));
    }
    return 0;
}
