// The PVH boot protocol: what the loader leaves in memory.
//
// Source: Xen, xen/include/public/arch-x86/hvm/start_info.h (layout).
#pragma once

#include "mm/mm.h"

struct pvh_boot {
    struct mm_range initrd; // empty if there is none
    struct mm_range words;  // where the command line lies, the same
    paddr_t rsdp;           // 0 if unknown
    char *cmdline;          // "" if none; the loader's memory, ours to change
};

// Reads the start info at pa (below 1 GiB) and adds the memory map to b.
// Returns NULL or what is wrong with it.
const char *pvh_read(paddr_t pa, struct pvh_boot *out, struct mm_boot *b);
