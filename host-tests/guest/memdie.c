// Accesses to memory of <gneiss/mem.h> that must end in a report. One argument:
// which.

#include <gneiss/mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mm/fail.h"
#include "mm/mm.h"

enum { PAGE = 4096 };

static char *const there = (char *)0x210000000000;

// An entry where no region is: mm must never leave one.
static void leave_entry(void *arg)
{
    spin_lock(&mm_lock);
    if (pt_map((uintptr_t)arg, frame_alloc(0, FRAME_ZERO), PAGE, PROT_R, 1) !=
        0)
        abort();
    spin_unlock(&mm_lock);
}

static volatile char *must(void *p)
{
    if (p == NULL)
        perror("memdie");
    return p;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    volatile char *p = must(gn_map(NULL, 3 * PAGE, GN_READ | GN_WRITE, 0));

    p[0] = 1;
    if (strcmp(what, "past") == 0) {
        p[3 * PAGE] = 1;
    } else if (strcmp(what, "unmapped") == 0) {
        gn_unmap((void *)p, 3 * PAGE);
        p[0] = 1;
    } else if (strcmp(what, "reserve") == 0) {
        volatile char *r = must(gn_reserve(8 * PAGE));

        if (gn_commit((void *)r, 4 * PAGE, GN_READ | GN_WRITE) != 0)
            return 1;
        r[0] = 1;
        gn_decommit((void *)r, 4 * PAGE);
        return r[0];
    } else if (strcmp(what, "decommitted") == 0) {
        gn_decommit((void *)(p + PAGE), PAGE);
        p[2 * PAGE] = 1;
        p[PAGE] = 1;
    } else if (strcmp(what, "zeros") == 0) {
        // A page that shows the shared page of zeros, in a table that stays.
        volatile char *z = must(gn_map(NULL, 2 * PAGE, GN_READ, GN_SPARSE));

        if (z[0] != 0 || z[PAGE] != 0)
            return 1;
        gn_unmap((void *)z, PAGE);
        return z[0];
    } else if (strcmp(what, "guard") == 0) {
        // What a ring buffer or a stack of one's own has at its end.
        gn_unmap((void *)p, 3 * PAGE);
        p = must(gn_map_named(NULL, 3 * PAGE, GN_NONE, 0, "a guard"));
        gn_protect((void *)(p + PAGE), PAGE, GN_READ | GN_WRITE);
        p[2 * PAGE - 1] = 1;
        p[2 * PAGE] = 1;
    } else if (strcmp(what, "device") == 0) {
        volatile char *d =
            must(gn_map_device(0xfec00000, PAGE, GN_READ, "the IOAPIC"));

        d[0] = 1;
    } else if (strcmp(what, "alias") == 0) {
        volatile char *a = must(gn_alias((void *)p, PAGE, GN_READ));

        if (a[0] != 1)
            return 1;
        a[0] = 2;
    } else if (strcmp(what, "read_only") == 0) {
        gn_protect((void *)p, PAGE, GN_READ);
        p[0] = 2;
    } else if (strcmp(what, "touch_no_table") == 0) {
        // What is promised is there, unless requests for frames are failed: a
        // store can't say so.
        p = must(gn_map(NULL, 2 << 20, GN_READ | GN_WRITE, 0));
        mm_fail_at(1, true);
        p[0] = 1;
    } else if (strcmp(what, "touch_no_page") == 0) {
        p = must(gn_map(NULL, 2 << 20, GN_READ | GN_WRITE, 0));
        p[0] = 1;
        mm_fail_at(1, true);
        return p[PAGE];
    } else if (strcmp(what, "cow_no_frame") == 0) {
        volatile char *copy = must(gn_snapshot((void *)p, PAGE));

        mm_fail_at(1, true);
        if (copy[0] != 1 || p[0] != 1) // reading is no matter
            return 1;
        copy[0] = 2;
    } else if (strcmp(what, "zeros_no_frame") == 0) {
        p = must(gn_map(NULL, PAGE, GN_READ | GN_WRITE, GN_SPARSE));
        if (p[0] != 0)
            return 1;
        mm_fail_at(1, true);
        p[0] = 2;
    } else if (strcmp(what, "moved_over") == 0) {
        p[2 * PAGE] = 1;
        arch_on_system_stack(leave_entry, there + 2 * PAGE);
        gn_remap((void *)p, 3 * PAGE, 3 * PAGE, GN_FIXED, there);
    } else if (strcmp(what, "tables_moved_over") == 0) {
        p = must(gn_map(NULL, 2 << 20, GN_READ | GN_WRITE, 0));
        p[0] = 1;
        arch_on_system_stack(leave_entry, there + 2 * PAGE);
        gn_remap((void *)p, 2 << 20, 2 << 20, GN_FIXED, there);
    } else if (strcmp(what, "no_rights") == 0) {
        gn_protect((void *)p, PAGE, GN_NONE);
        return p[0];
    }
    return 1; // still here
}
