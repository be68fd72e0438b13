// Pages that get their frames late: demand faults, fault-around, the zero frame.

#include <stdio.h>

#include "apps/tour/tour.h"

// ---- fault ----

static void print_page(const char *when, const char *p)
{
    struct gn_where w = look(p);

    if (w.mapped)
        say("%-7s page 0x%012llx --> frame 0x%llx, %u user, %s%s", when,
            (unsigned long long)(uintptr_t)p, (unsigned long long)w.frame,
            w.users, w.writable ? "writable" : "read-only",
            w.dirty ? ", dirty" : "");
    else
        say("%-7s page 0x%012llx --> nothing", when,
            (unsigned long long)(uintptr_t)p);
}

void chapter_fault(void)
{
    char *p = memory(2 * MIB, 0, "touched late");

    if (p == NULL)
        return;
    say("2 MiB were mapped, which is 512 pages and no frame:\n");
    print_page("before", p);
    struct gn_mem_stats before = stats();
    uint64_t t = now_ns();

    put(p, 1);
    t = now_ns() - t;
    struct gn_mem_stats after = stats();

    print_page("after", p);
    putchar('\n');
    say("The store took %u ns, with the fault in it.", (unsigned)t);
    claim(after.faults - before.faults == 1, "it was one page fault");
    claim(gn_resident(p, 2 * MIB) == PAGE, "one page of the 512 has a frame");
    claim(get(p) == 1 && get(p + 1) == 0, "the rest of the page reads as zero");
    claim(after.committed == before.committed,
          "nothing new was promised: that was done by gn_map");
    gn_unmap(p, 2 * MIB);
    claim(!look(p).mapped && look(p).kind == GN_KIND_NOTHING,
          "unmapped again: nothing lies there");
}

// ---- around ----

enum { AROUND_PAGES = 64 };

void chapter_around(void)
{
    char *p;
    unsigned faults = 0, have = 0, expected = 1;
    bool doubled = true;

    if (stats().scarce) {
        skip("memory is so short that nothing is mapped in advance");
        return;
    }
    p = memory(AROUND_PAGES * PAGE, 0, "touched in order");
    if (p == NULL)
        return;
    say("A store to each of %d pages, in order. One line is one fault:\n",
        AROUND_PAGES);
    uint64_t t = now_ns(), spent = 0;

    for (unsigned i = 0; i < AROUND_PAGES; i++) {
        t = now_ns();
        put(p + i * PAGE, 1);
        spent += now_ns() - t;
        unsigned now = (unsigned)(gn_resident(p, AROUND_PAGES * PAGE) / PAGE);

        if (now == have)
            continue;
        say("page %2u  %s%s", i, bar('.', have), bar('#', now - have));
        doubled = doubled && (now - have == expected || now == AROUND_PAGES);
        expected = expected < 16 ? expected * 2 : 16;
        have = now;
        faults++;
    }
    putchar('\n');
    claim(doubled,
          "each fault mapped twice as many as the last: 1, 2, 4 ... 16");
    claim(faults <= 8, "%u faults for %d pages, %u ns a page", faults,
          AROUND_PAGES, (unsigned)(spent / AROUND_PAGES));
    gn_unmap(p, AROUND_PAGES * PAGE);
}

// ---- zero ----

enum { TABLE_PAGES = 16384, STRIDE = 61 }; // 64 MiB; every 61st page is read

void chapter_zero(void)
{
    size_t bytes = (size_t)TABLE_PAGES * PAGE;
    char *p = memory(bytes, GN_SPARSE, "a sparse table");
    unsigned reads = 0, same = 0;

    if (p == NULL)
        return;
    for (size_t i = 0; i < TABLE_PAGES; i += STRIDE, reads++) {
        if (get(p + i * PAGE) != 0)
            break;
        same += look(p + i * PAGE).zero_frame &&
                look(p + i * PAGE).frame == look(p).frame;
    }
    say("%u pages read, all over a table of %s:\n", reads, size_text(bytes));
    say("page     0 --+");
    say("page %5d --+", STRIDE);
    say("page %5d --+--> frame 0x%llx: the one page of zeros", 2 * STRIDE,
        (unsigned long long)look(p).frame);
    say("page %5d --+\n", 3 * STRIDE);
    claim(same == reads, "all of them show the same frame, read-only");
    claim(gn_resident(p, bytes) == 0, "none has a frame of its own");
    put(p + STRIDE * PAGE, 1);
    struct gn_where w = look(p + STRIDE * PAGE);

    claim(!w.zero_frame && w.writable && w.users == 1,
          "a store: page %d has frame 0x%llx of its own", STRIDE,
          (unsigned long long)w.frame);
    claim(gn_resident(p, bytes) == PAGE && get(p + 2 * STRIDE * PAGE) == 0,
          "the others read as zero as before");
    gn_unmap(p, bytes);
}
