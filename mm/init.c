// From the firmware's memory map to page tables and a frame allocator.
//
// RAM is what the map says (map.c), less what is kept.
// The first tables come from a bump allocator in the largest piece of RAM below
// 1 GiB, the part that the boot tables reach; what it did not use goes to the
// frame allocator with the rest.

#include "mm/mm.h"

#include <string.h>

#include "arch/fmt.h"
#include "mm/fcache.h"
#include "mm/frame_impl.h"
#include "mm/mm_impl.h"
#include "mm/pt.h"

#define BOOT_REACH UINT64_C(0x40000000)

// Sorted, disjoint pages.
static struct mm_range ram[MM_MAX_RANGES + 16] BOOT_ONLY;
static unsigned nram;
static struct mm_range bump; // what is left of the piece we take frames from

// Cuts [start, end) out of the list.
static void exclude(uint64_t start, uint64_t end)
{
    for (unsigned i = 0; i < nram; i++) {
        struct mm_range *r = &ram[i];

        if (end <= r->start || start >= r->end)
            continue;
        if (start > r->start && end < r->end) {
            if (nram < ARRAY_LEN(ram))
                ram[nram++] = (struct mm_range){end, r->end};
            r->end = start;
        } else if (start > r->start) {
            r->end = start;
        } else if (end < r->end) {
            r->start = end;
        } else {
            ram[i--] = ram[--nram];
        }
    }
}

static void sort(void)
{
    for (unsigned i = 1; i < nram; i++) {
        for (unsigned k = i; k > 0 && ram[k].start < ram[k - 1].start; k--) {
            struct mm_range t = ram[k];

            ram[k] = ram[k - 1];
            ram[k - 1] = t;
        }
    }
}

static struct mm_range *best_low_piece(void)
{
    struct mm_range *best = NULL;
    uint64_t most = 0;

    for (unsigned i = 0; i < nram; i++) {
        uint64_t e = min_u64(ram[i].end, BOOT_REACH);

        if (ram[i].start < e && e - ram[i].start > most) {
            most = e - ram[i].start;
            best = &ram[i];
        }
    }
    return best;
}

// A frame as it is.
static paddr_t bump_next(void)
{
    paddr_t p = paddr(bump.start);

    if (bump.start >= bump.end)
        return paddr(0);
    bump.start += PAGE_SIZE;
    return p;
}

static paddr_t bump_frame(void)
{
    paddr_t p = bump_next();

    if (p.raw != 0)
        memset(arch_direct(p), 0, PAGE_SIZE);
    return p;
}

static void release_table(paddr_t p)
{
    frame_put(p);
}

// The frames that the start-up took for good, so that frame.c knows them.
static void adopt_bump(uint64_t from)
{
    for (; from < bump.start; from += PAGE_SIZE)
        *frame_of(from >> PAGE_SHIFT) =
            (struct frame){.refs = 1, .state = FRAME_USED};
}

static uint64_t too_little; // set when a mapping found no frame

static void map(uintptr_t va, uint64_t pa, uint64_t size, unsigned prot,
                int level)
{
    if (size > 0 && pt_map(va, paddr(pa), size, prot, level) != 0)
        too_little++;
}

// The direct map of one piece of RAM; frames of text and rodata read-only.
static void map_direct(struct mm_range r)
{
    for (unsigned i = 0; i < mm_nimage; i++) {
        uint64_t s = max_u64(r.start, mm_image[i].pa);
        uint64_t e = min_u64(r.end, mm_image[i].pa + mm_image[i].size);

        if (s >= e || (mm_image[i].prot & PROT_W))
            continue;
        map_direct((struct mm_range){r.start, s});
        map(ARCH_DIRECT_BASE + s, s, e - s, PROT_R | PROT_GLOBAL, 3);
        r.start = e;
    }
    if (r.start < r.end)
        map(ARCH_DIRECT_BASE + r.start, r.start, r.end - r.start,
            PROT_R | PROT_W | PROT_GLOBAL, 3);
}

// What is kept need not lie in RAM as the map has it: QEMU 10 puts the end of the
// initial files below what it calls reserved [seen]. It is mapped all the same.
static void map_kept(struct mm_range k, const struct mm_range *all,
                     unsigned nall)
{
    for (uint64_t p = align_down(k.start, PAGE_SIZE); p < k.end;
         p += PAGE_SIZE) {
        bool is_ram = false;

        for (unsigned i = 0; i < nall; i++)
            is_ram = is_ram || (p >= all[i].start && p < all[i].end);
        // Two kept parts may share a page.
        if (!is_ram && !mm_readable(ARCH_DIRECT_BASE + p, 1))
            map(ARCH_DIRECT_BASE + p, p, PAGE_SIZE,
                PROT_R | PROT_W | PROT_GLOBAL, 1);
    }
}

// Takes the highest 2 MiB of a piece for good. paddr 0: there is none that large.
static paddr_t take_2mib(void)
{
    uint64_t size = pte_span(2), tables = MIB;

    for (unsigned i = nram; i-- > 0;) {
        uint64_t s = ram[i].start, e = align_down(ram[i].end, size);
        bool bumped = s <= bump.start && bump.start < ram[i].end;

        if (bumped)
            s = bump.start + tables;
        if (e < size || e - size <= s)
            continue;
        exclude(e - size, e); // cuts, and leaves the piece where it is
        if (bumped)
            bump.end = min_u64(bump.end, e - size);
        return paddr(e - size);
    }
    return paddr(0);
}

// Backs the part of the frame array that describes [first, end). It is never
// cleared (frame.c), and large pages keep its cost independent of RAM's size.
static void map_frame_array(uint64_t first, uint64_t end)
{
    uintptr_t a = align_down((uintptr_t)frame_of(first), PAGE_SIZE);
    uintptr_t z = align_up((uintptr_t)frame_of(end), PAGE_SIZE);
    unsigned prot = PROT_R | PROT_W | PROT_GLOBAL;
    uint64_t n;

    for (; a < z && too_little == 0; a += n) {
        int level;
        pte_t *e = pt_find(a, &level);
        paddr_t p = paddr(0);

        n = PAGE_SIZE;
        if (e != NULL && pte_present(pt_get(e)))
            continue;
        if (e == NULL && a % pte_span(2) == 0 && z - a >= pte_span(2))
            p = take_2mib();
        if (p.raw != 0)
            n = pte_span(2);
        else
            p = bump_next();
        if (p.raw != 0)
            map(a, p.raw, n, prot, 2);
        else
            too_little++;
    }
}

static bool in_ram(uint64_t pfn)
{
    for (unsigned i = 0; i < nram; i++) {
        if (pfn >= ram[i].start >> PAGE_SHIFT && pfn < ram[i].end >> PAGE_SHIFT)
            return true;
    }
    return false;
}

// Heads that frame.c may look at although they are no RAM of ours: the buddies
// of the blocks at the edges of a piece.
static void reserve_edges(struct mm_range r)
{
    uint64_t first = r.start >> PAGE_SHIFT, end = r.end >> PAGE_SHIFT;

    for (unsigned k = 0; k < FRAME_MAX_ORDER; k++) {
        uint64_t edge[2] = {(first >> k) << k, (end >> k) << k};

        for (int i = 0; i < 2; i++) {
            uint64_t buddy[2] = {edge[i], edge[i] ^ (UINT64_C(1) << k)};

            for (int j = 0; j < 2; j++) {
                if (in_ram(buddy[j]))
                    continue;
                map_frame_array(buddy[j], buddy[j] + 1);
                if (too_little == 0)
                    frame_reserve(buddy[j]);
            }
        }
    }
}

static const char *shortage(void)
{
    static char msg[128] BOOT_ONLY;
    uint64_t have = 0;

    for (unsigned i = 0; i < nram; i++)
        have += ram[i].end - ram[i].start;
    fmt_string(msg, sizeof msg,
               "too little memory: %lu KiB usable beside the image; "
               "at least 512 KiB are needed (run with MEM=2M or more)",
               (unsigned long)(have / KIB));
    return msg;
}

const char *mm_init(struct mm_boot *b, void (*load_root)(paddr_t root))
{
    memcpy(mm_image, b->image, sizeof b->image);
    mm_nimage = b->nimage;
    const struct mm_range *all = b->ram;
    unsigned nall = nram = b->nram;

    memcpy(ram, all, nall * sizeof *all);
    for (unsigned i = 0; i < b->nkeep; i++)
        exclude(align_down(b->keep[i].start, PAGE_SIZE),
                align_up(b->keep[i].end, PAGE_SIZE));
    exclude(0, PAGE_SIZE);
    sort();
    struct mm_range *low = best_low_piece();

    if (low == NULL)
        return shortage();
    bump = (struct mm_range){low->start, min_u64(low->end, BOOT_REACH)};
    uint64_t bump_from = bump.start;
    paddr_t root = bump_frame();

    pt_init(root, bump_frame, release_table);
    for (unsigned i = 0; i < nall; i++)
        map_direct(all[i]);
    for (unsigned i = 0; i < b->nkeep; i++)
        map_kept(b->keep[i], all, nall);
    for (unsigned i = 0; i < mm_nimage; i++)
        map(mm_image[i].va, mm_image[i].pa, mm_image[i].size,
            mm_image[i].prot | PROT_GLOBAL, 1);
    if (too_little != 0)
        return shortage();
    load_root(root);
    // Kept frames are described too: some are given back after the start-up.
    for (unsigned i = 0; i < nall; i++)
        map_frame_array(all[i].start >> PAGE_SHIFT, all[i].end >> PAGE_SHIFT);
    // The array pages of the edges come from the same piece, whose own edge
    // moves with them: until it stands still.
    do {
        low->start = bump.start;
        for (unsigned i = 0; i < nram; i++)
            reserve_edges(ram[i]);
    } while (too_little == 0 && low->start != bump.start);
    if (too_little != 0)
        return shortage();
    for (unsigned i = 0; i < nram; i++)
        frame_add(ram[i].start >> PAGE_SHIFT, ram[i].end >> PAGE_SHIFT);
    adopt_bump(bump_from);
    pt_count_boot_tables();
    pt_set_alloc(fault_table_frame);
    fault_init();
    if (mm_is_zero_frame(paddr(0)))
        return shortage();
    mm_boot_done();
    arch_hooks.fault = mm_fault;
    return NULL;
}

void *mm_boot_page(void)
{
    paddr_t p = frame_alloc(0, FRAME_ZERO);

    if (p.raw == 0)
        panic("mm: no frame left during start-up: run with more MEM");
    return arch_direct(p);
}

void mm_map_nailed(uintptr_t va, paddr_t pa, size_t npages, unsigned prot)
{
    if (pt_map(va, pa, npages * PAGE_SIZE, prot, 1) != 0)
        panic("mm: no frame left during start-up: run with more MEM");
}
