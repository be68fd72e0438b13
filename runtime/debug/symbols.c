// The image's symbol table: functions only, made by tools/symtab from nm.
//
// By address, an entry each: how far the function begins behind the one before
// (the first: behind the beginning of the text), as ULEB128, and its name with a
// NUL. Most distances take one byte or two. A look-up walks the table from its
// beginning, which only a report does.

#include "runtime/debug/debug.h"

#include <string.h>

// In section .gn_symtab; empty in the first link, whose addresses the second
// keeps because the table comes after the text.
extern const uint32_t gn_symtab_count WEAK;
extern const char gn_symtab_entries[] WEAK;
extern const char text_start[], text_end[];

static uintptr_t read_uleb128(const char **at)
{
    uintptr_t value = 0, byte;
    unsigned shift = 0;

    do {
        byte = (unsigned char)*(*at)++;
        value |= (byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    return value;
}

const char *symbol_find(uintptr_t addr, size_t *offset)
{
    uintptr_t start = (uintptr_t)text_start;
    const char *at = gn_symtab_entries, *name = NULL;

    if (&gn_symtab_count == NULL || addr < start || addr >= (uintptr_t)text_end)
        return NULL;
    for (uint32_t i = 0; i < gn_symtab_count; i++) {
        start += read_uleb128(&at);
        if (start > addr)
            break;
        name = at;
        *offset = addr - start;
        at += strlen(at) + 1;
    }
    return name;
}
