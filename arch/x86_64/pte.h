// Page-table entries as numbers: layout knowledge without privilege.
//
// Everything here is a pure function, so that unit tests on the host run the
// code that the kernel runs. arch/host uses the same format for the tables its
// software walker reads.
//
// Source: Intel SDM vol. 3, 4.5 (4-level paging).
#pragma once

#include "arch/base.h"

typedef uint64_t pte_t;

enum {
    PT_LEVELS = 4, // level 1 maps 4 KiB, 2 maps 2 MiB, 3 maps 1 GiB
    PT_ENTRIES = 512,
};

#define PTE_PRESENT   (UINT64_C(1) << 0)
#define PTE_WRITE     (UINT64_C(1) << 1)
#define PTE_UNCACHED  (UINT64_C(3) << 3) // PWT | PCD
#define PTE_ACCESSED  (UINT64_C(1) << 5)
#define PTE_DIRTY     (UINT64_C(1) << 6)
#define PTE_LARGE     (UINT64_C(1) << 7) // at levels 2 and 3
#define PTE_GLOBAL    (UINT64_C(1) << 8)
#define PTE_NX        (UINT64_C(1) << 63)
#define PTE_ADDR_MASK UINT64_C(0x000ffffffffff000)

static inline unsigned pte_index(uintptr_t va, int level)
{
    return (unsigned)(va >> (PAGE_SHIFT + 9 * (level - 1))) & (PT_ENTRIES - 1);
}

// Bytes that one entry of this level maps.
static inline uint64_t pte_span(int level)
{
    return UINT64_C(1) << (PAGE_SHIFT + 9 * (level - 1));
}

static inline bool pte_present(pte_t e)
{
    return (e & PTE_PRESENT) != 0;
}

static inline bool pte_is_leaf(pte_t e, int level)
{
    return level == 1 || (e & PTE_LARGE) != 0;
}

static inline paddr_t pte_paddr(pte_t e)
{
    return paddr(e & PTE_ADDR_MASK);
}

// What a leaf lets the program do.
enum prot {
    PROT_NONE_ = 0,
    PROT_R = 1,
    PROT_W = 2,
    PROT_X = 4,
    PROT_UNCACHED = 8, // device registers
    PROT_GLOBAL = 16,  // the same in every address space: image, direct map
};

static inline pte_t pte_make_leaf(paddr_t frame, unsigned prot, int level)
{
    pte_t e = frame.raw | PTE_PRESENT | PTE_ACCESSED;

    if (prot & PROT_W)
        e |= PTE_WRITE;
    if (!(prot & PROT_X))
        e |= PTE_NX;
    if (prot & PROT_UNCACHED)
        e |= PTE_UNCACHED;
    if (prot & PROT_GLOBAL)
        e |= PTE_GLOBAL;
    if (level > 1)
        e |= PTE_LARGE;
    return e;
}

static inline pte_t pte_make_table(paddr_t table)
{
    return table.raw | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
}

static inline unsigned pte_prot(pte_t e)
{
    unsigned prot = PROT_R;

    if (e & PTE_WRITE)
        prot |= PROT_W;
    if (!(e & PTE_NX))
        prot |= PROT_X;
    return prot;
}

// Bits 47..63 must be equal.
static inline bool va_is_canonical(uintptr_t va)
{
    return (uintptr_t)((intptr_t)(va << 16) >> 16) == va;
}
