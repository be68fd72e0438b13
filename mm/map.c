// A firmware's memory map, read as a set of bytes.
//
// The map is not trusted: entries may overlap, touch, be unaligned, empty, out of
// order, and any number. A byte is RAM if an entry for RAM holds it and none of
// another type does. What lies at one address is found by looking at all entries,
// and so is the next edge of any: from edge to edge that needs no memory, and
// maps are short.
//
// Of more pieces than there is place for, the largest stay.

#include <string.h>

#include "mm/mm.h"

enum { TYPE_RAM = 1 };

// Is x RAM? As far as *next.
static bool is_ram(const struct mm_map_entry *m, size_t n, uint64_t x,
                   uint64_t *next)
{
    bool ram = false, other = false;

    *next = UINT64_MAX;
    for (; n > 0; n--, m++) {
        uint64_t end = m->addr + m->size;
        bool is = m->type == TYPE_RAM;

        // RAM that nobody can have is none; what is reserved up there stays so.
        if (end < m->addr || end > ARCH_DIRECT_SIZE)
            end = is ? m->addr : UINT64_MAX;
        if (x >= end)
            continue;
        *next = min_u64(*next, x < m->addr ? m->addr : end);
        if (x >= m->addr) {
            ram |= is;
            other |= !is;
        }
    }
    return ram && !other;
}

static uint64_t bytes_of(const struct mm_range *r)
{
    return r->end - r->start;
}

// Whole pages of a piece that lies above all others.
static void add(struct mm_boot *b, uint64_t start, uint64_t end)
{
    struct mm_range r = {align_up(start, PAGE_SIZE),
                         align_down(end, PAGE_SIZE)},
                    *least = b->ram, *last = b->ram + b->nram;

    if (r.start >= r.end)
        return;
    if (b->nram < MM_MAX_RANGES) {
        b->ram[b->nram++] = r;
        return;
    }
    for (struct mm_range *p = b->ram; p < last; p++) {
        if (bytes_of(p) < bytes_of(least))
            least = p;
    }
    b->ncut++;
    if (bytes_of(&r) <= bytes_of(least)) {
        b->cut_bytes += bytes_of(&r);
        return;
    }
    b->cut_bytes += bytes_of(least);
    memmove(least, least + 1, (size_t)(last - least - 1) * sizeof *least);
    last[-1] = r;
}

void mm_read_map(struct mm_boot *b, const struct mm_map_entry *m, size_t n)
{
    uint64_t start = 0, next;
    bool in_ram = false;

    b->nram = b->ncut = 0;
    b->cut_bytes = 0;
    for (uint64_t x = 0; x < UINT64_MAX; x = next) {
        bool ram = is_ram(m, n, x, &next);

        if (ram && !in_ram)
            start = x;
        if (!ram && in_ram)
            add(b, start, x);
        in_ram = ram;
    }
}
