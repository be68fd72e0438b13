// Marking leaves pages alone that the program never touched: objects and blocks that are
// mostly addresses take as many frames after a collection as before, exactly; and what
// lies in the pages that were touched is found.

#include <gneiss/gc.h>
#include <gneiss/go.h>

#include <malloc.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host-tests/guest/tap.h"
#include "mm/mm.h"

enum { PAGE = 4096, USED = 3, MARK = 0x1eaf };

struct leaf {
    uint64_t mark;
    uint64_t pad[15];
};

static NOINLINE struct leaf *leaf_new(void)
{
    struct leaf *p = gn_new(struct leaf);

    if (p == NULL)
        abort();
    p->mark = MARK;
    return p;
}

static uint64_t resident(const char *p, size_t n)
{
    uint64_t pages = 0;

    for (uintptr_t at = align_down((uintptr_t)p, PAGE); at < (uintptr_t)p + n;
         at += PAGE)
        pages += mm_readable(at, 1);
    return pages;
}

static void use_up_leaves(void)
{
    for (int i = 0; i < 2000; i++)
        memset(leaf_new(), 0, sizeof(struct leaf));
}

// `many` objects of n bytes, of which only some pages are touched: a pointer in each.
static void look(const char *name, enum gn_heap_kind kind, size_t n,
                 unsigned many)
{
    static char *all[64];
    size_t at[USED] = {n / 3 / 8 * 8, n / 2 / PAGE * PAGE + 128,
                       (n - 16) / 8 * 8};
    unsigned used = n < 8 * PAGE ? 1 : USED, lost = 0;

    (void)malloc_trim(0); // pages that were used before would be cleared
    for (unsigned i = 0; i < many; i++) {
        all[i] = gn_alloc(n, kind, 0);
        if (all[i] == NULL)
            abort();
    }
    for (unsigned i = 0; i < many; i++) {
        for (unsigned k = 0; k < used; k++)
            *(struct leaf **)(all[i] + at[k]) = leaf_new();
    }
    uint64_t pages = 0, after = 0;

    for (unsigned i = 0; i < many; i++)
        pages += resident(all[i], n);
    uint64_t free_before = frame_stats().free;

    gn_gc();
    gn_gc();
    uint64_t free_after = frame_stats().free;

    for (unsigned i = 0; i < many; i++)
        after += resident(all[i], n);
    ok(after == pages && pages <= (uint64_t)many * (used + 1),
       "%s: %lu of %lu pages are there, after collections %lu", name,
       (unsigned long)pages, (unsigned long)many * ((n + PAGE - 1) / PAGE),
       (unsigned long)after);
    if (arch_cpu_count() == 1) // others clear frames meanwhile
        IS(free_after, free_before, "as many frames are free");
    use_up_leaves();
    for (unsigned i = 0; i < many; i++) {
        for (unsigned k = 0; k < used; k++)
            lost += (*(struct leaf **)(all[i] + at[k]))->mark != MARK;
        if (kind == GN_MANUAL)
            gn_free(all[i]);
        all[i] = NULL;
    }
    ok(lost == 0, "what was stored there is found");
    gn_gc();
}

int main(void)
{
    gn_gc_percent(-1);
    gn_gc(); // what it needs itself it has from now on
    look("64 MiB", GN_SCAN, 64 * KIB * KIB, 1);
    look("64 MiB of malloc", GN_MANUAL, 64 * KIB * KIB, 1);
    look("1 MiB", GN_SCAN, KIB * KIB, 20);
    look("40 KiB", GN_SCAN, 40 * KIB, 64);
    look("40 KiB of malloc", GN_MANUAL, 40 * KIB, 64);
    look("32 KiB", GN_SCAN, 32 * KIB, 64);
    look("32 KiB of malloc", GN_MANUAL, 32 * KIB, 64);
    look("18 KiB", GN_SCAN, 18 * KIB, 64);
    look("8 KiB", GN_SCAN, 8 * KIB, 64);
    look("8 KiB of malloc", GN_MANUAL, 8 * KIB, 64);
    return tap_end();
}
