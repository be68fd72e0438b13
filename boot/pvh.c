// See pvh.h.

#include "boot/pvh.h"

#include <string.h>

struct start_info {
    uint32_t magic, version, flags, nr_modules;
    uint64_t modlist, cmdline, rsdp;
    uint64_t memmap; // version 1
    uint32_t memmap_entries, reserved;
};

struct module {
    uint64_t pa, size, cmdline, reserved;
};

enum { START_MAGIC = 0x336ec578, CMDLINE_MAX = 4096 };

#define BOOT_REACH UINT64_C(0x40000000)

static void *reach(uint64_t pa, uint64_t size)
{
    return pa != 0 && pa + size <= BOOT_REACH ? arch_direct(paddr(pa)) : NULL;
}

const char *pvh_read(paddr_t pa, struct pvh_boot *out, struct mm_boot *b)
{
    const struct start_info *s = reach(pa.raw, sizeof *s);

    static char none[1];

    *out = (struct pvh_boot){.cmdline = none};
    if (s == NULL || s->magic != START_MAGIC)
        return "no PVH start info: start the image with -kernel";
    if (s->version < 1 || s->memmap_entries == 0)
        return "the loader gave no memory map (PVH version 0)";
    const struct mm_map_entry *m =
        reach(s->memmap, s->memmap_entries * sizeof *m);
    const struct module *mod =
        s->nr_modules ? reach(s->modlist, sizeof *mod) : NULL;

    if (m == NULL)
        return "the memory map lies above 1 GiB";
    mm_read_map(b, m, s->memmap_entries);
    if (mod != NULL && mod->size != 0)
        out->initrd = (struct mm_range){mod->pa, mod->pa + mod->size};
    if (s->cmdline != 0 && reach(s->cmdline, CMDLINE_MAX) != NULL) {
        out->cmdline = reach(s->cmdline, CMDLINE_MAX);
        uint64_t n = strnlen(out->cmdline, CMDLINE_MAX) + 1;

        if (n > CMDLINE_MAX)
            return "the command line is longer than 4095 bytes";
        out->words = (struct mm_range){s->cmdline, s->cmdline + n};
    }
    out->rsdp = paddr(s->rsdp);
    return NULL;
}
