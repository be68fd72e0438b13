// What lies at an address, and that nothing lies wrongly.

#include "arch/fmt.h"
#include "mm/mm_impl.h"
#include "mm/pt.h"

struct mm_image_part mm_image[5];
unsigned mm_nimage;

static const char nowhere[] = "no region";

enum { NEAR = GIB / 2 }; // an address this far behind a region is blamed on it

static const char *area_of(uintptr_t va)
{
    if (!va_is_canonical(va))
        return "not a canonical address";
    if (va < PAGE_SIZE)
        return "the nil page";
    if (va < UINT64_C(1) << 32)
        return "the low 4 GiB, never mapped";
    if (va >= ARCH_DIRECT_BASE && va < ARCH_DIRECT_BASE + ARCH_DIRECT_SIZE)
        return "the direct map of physical memory";
    if (va >= ARCH_META_BASE && va < ARCH_SLOTS_BASE)
        return "the frame array";
    // All tables of the heap together are less than a 32nd of it.
    if (va >= ARCH_HEAPMETA_BASE &&
        va - ARCH_HEAPMETA_BASE < ARCH_HEAP_SIZE / 16)
        return "the heap's tables";
    if (va >= ARCH_SLOTS_BASE && va < ARCH_MMIO_BASE)
        return "the stack slot array";
    if (va >= ARCH_MMIO_BASE && va < ARCH_MMIO_END)
        return "device registers and CPU stacks";
    return nowhere;
}

const char *mm_describe(uintptr_t va, char *buf, size_t size)
{
    for (unsigned i = 0; i < mm_nimage; i++) {
        if (va >= mm_image[i].va && va < mm_image[i].va + mm_image[i].size)
            return mm_image[i].name;
    }
    struct region *r = va_is_canonical(va) ? region_find(va) : NULL;

    if (r != NULL && r->ops->describe != NULL)
        return r->ops->describe(r, va, buf, size);
    const char *area = area_of(va);

    if (area != nowhere)
        return area;
    r = region_below(va);
    if (r != NULL && va - r->end < NEAR) {
        fmt_string(buf, size, "no region, %lu bytes past the end of %s",
                   (unsigned long)(va - r->end), r->name);
        return buf;
    }
    return area;
}

static void check_leaf(uintptr_t va, pte_t e, int level, void *arg)
{
    uint64_t pa = e & PTE_ADDR_MASK & ~(pte_span(level) - 1);

    (void)arg;
    if (!(e & PTE_WRITE))
        return;
    if (!(e & PTE_NX) && (pt_valid_bits & PTE_NX))
        panic("mm: page 0x%lx is writable and executable", (unsigned long)va);
    for (unsigned i = 0; i < mm_nimage; i++) {
        const struct mm_image_part *p = &mm_image[i];

        if (!(p->prot & PROT_W) && pa < p->pa + p->size &&
            pa + pte_span(level) > p->pa)
            panic("mm: frame 0x%lx, %s, is writable at 0x%lx",
                  (unsigned long)pa, p->name, (unsigned long)va);
    }
}

void mm_check_wx(void)
{
    pt_walk(0, 0, check_leaf, NULL);
}

bool mm_readable(uintptr_t va, size_t n)
{
    for (uintptr_t p = align_down(va, PAGE_SIZE); p < va + n; p += PAGE_SIZE) {
        int level;
        pte_t *e = va_is_canonical(p) ? pt_find(p, &level) : NULL;

        if (e == NULL || !pte_present(pt_get(e)))
            return false;
    }
    return true;
}

void mm_free_image(uintptr_t va, size_t size)
{
    // The rest of the image never merges with what is given back.
    for (unsigned i = 0; i < mm_nimage; i++) {
        for (uint64_t o = 0; o < mm_image[i].size; o += PAGE_SIZE)
            frame_reserve((mm_image[i].pa + o) >> PAGE_SHIFT);
    }
    for (size_t o = 0; o < size; o += PAGE_SIZE) {
        int level;
        pte_t old = pt_set(pt_find(va + o, &level), 0);

        arch_tlb_shootdown(va + o, 1);
        frame_adopt(pte_paddr(old));
    }
}
