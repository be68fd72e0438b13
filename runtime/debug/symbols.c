// The image's symbol table: functions only, made by tools/symtab from nm.
//
// Sorted offsets from the start of the text, and the names one after the other
// in the same order: 4 bytes a function and its name. Looking up the name walks
// the names, which only a report does.

#include "runtime/debug/debug.h"

#include <string.h>

// In section .gn_symtab; empty in the first link, whose addresses the second
// keeps because the table comes after the text.
extern const uint32_t gn_symtab_count WEAK;
extern const uint32_t gn_symtab_offsets[] WEAK;
extern const char gn_symtab_names[] WEAK;
extern const char text_start[], text_end[];

const char *symbol_find(uintptr_t addr, size_t *offset)
{
    uintptr_t base = (uintptr_t)text_start;
    uint32_t lo = 0, n;
    const char *name = gn_symtab_names;

    if (&gn_symtab_count == NULL || addr < base || addr >= (uintptr_t)text_end)
        return NULL;
    n = gn_symtab_count;
    while (n > 1) { // the last one at or below addr
        uint32_t half = n / 2;

        if (base + gn_symtab_offsets[lo + half] <= addr)
            lo += half;
        n -= half;
    }
    if (n == 0 || base + gn_symtab_offsets[lo] > addr)
        return NULL;
    for (uint32_t i = 0; i < lo; i++)
        name += strlen(name) + 1;
    *offset = addr - base - gn_symtab_offsets[lo];
    return name;
}
