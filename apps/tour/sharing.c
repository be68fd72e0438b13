// Who sees which frame: snapshots, aliases, moves.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/tour/tour.h"

static unsigned long long frame(const char *p)
{
    return (unsigned long long)look(p).frame;
}

static unsigned long long address(const char *p)
{
    return (unsigned long long)(uintptr_t)p;
}

// ---- cow ----

static void check_shared(const char *p, const char *s)
{
    say("p 0x%012llx --+", address(p));
    say("                    +--> frame 0x%llx \"%s\", %u users", frame(p), p,
        look(p).users);
    say("s 0x%012llx --+\n", address(s));
    claim(frame(p) == frame(s) && look(p).users == 2, "one frame, two users");
    claim(!look(p).writable && look(p).cow && !look(s).writable,
          "neither can be stored to without a fault");
}

static void check_parted(const char *p, const char *s,
                         unsigned long long shared)
{
    say("p 0x%012llx -----> frame 0x%llx \"%s\"", address(p), frame(p), p);
    say("s 0x%012llx -----> frame 0x%llx \"%s\"\n", address(s), frame(s), s);
    claim(frame(p) != shared && frame(s) == shared,
          "who stored got the copy, the snapshot kept the frame");
    claim(strcmp(p, "new text") == 0 && strcmp(s, "old text") == 0,
          "the snapshot is of the moment when it was made");
    claim(frame(p + PAGE) == frame(s + PAGE), "page 1 is still shared");
}

void chapter_cow(void)
{
    enum { BYTES = 64 * PAGE };
    char *p = memory(BYTES, 0, "cloned");

    if (p == NULL)
        return;
    for (unsigned i = 0; i < BYTES; i += PAGE)
        strcpy(p + i, "old text");
    uint64_t before = stats().cow_faults, t = now_ns();
    char *s = gn_snapshot(p, BYTES);

    t = now_ns() - t;
    if (s != NULL) {
        unsigned long long shared = frame(p);

        say("A snapshot of 64 pages, made in %u ns:\n", (unsigned)t);
        check_shared(p, s);
        memcpy(p, "new", 3);
        putchar('\n');
        say("After a store to p:\n");
        check_parted(p, s, shared);
        uint64_t faults = stats().cow_faults - before;

        claim(faults == 1, "%u page of 64 was copied", (unsigned)faults);
        gn_unmap(s, BYTES);
    } else {
        skip("not so much memory here (run with more MEM)");
    }
    gn_unmap(p, BYTES);
}

// ---- alias ----

void chapter_alias(void)
{
    char *p = memory(PAGE, 0, "seen twice");
    char *a = p != NULL ? gn_alias(p, PAGE, GN_READ) : NULL;

    if (a == NULL) {
        if (p != NULL)
            skip("not so much memory here (run with more MEM)");
        gn_unmap(p, PAGE);
        return;
    }
    strcpy(p, "written once");
    say("p 0x%012llx, read-write --+", address(p));
    say("                                +--> one frame");
    say("a 0x%012llx, read-only  --+\n", address(a));
    claim(strcmp(a, "written once") == 0, "stored at p, read at a: \"%s\"", a);
    claim(frame(p) == frame(a) && look(a).users == 2, "both show frame 0x%llx",
          frame(a));
    claim(look(p).writable && !look(a).writable,
          "the rights belong to the view: a can't be stored to");
    gn_unmap(p, PAGE);
    claim(strcmp(a, "written once") == 0 && !look(p).mapped,
          "p is unmapped; a keeps the memory");
    gn_unmap(a, PAGE);
}

// ---- move ----

enum { MOVE_BYTES = 16 * MIB };

// Nanoseconds to copy 1 MiB.
static uint64_t copy_cost(const char *from)
{
    static char copy[MIB];
    char *volatile to = copy; // or the compiler leaves it out

    memset(to, 1, sizeof copy);
    uint64_t t = now_ns();

    memcpy(to, from, sizeof copy);
    return now_ns() - t;
}

// What leads to a page: the entry for its 2 MiB, and its own. Returns the frame of
// the table; *entry is the page's, 0 if there is none.
static unsigned long long draw_entries(const char *name, const char *p,
                                       uint64_t *entry)
{
    struct gn_walk_step s[4];
    unsigned n = gn_walk(p, s);

    *entry = 0;
    if (n < 3 || !s[2].present) {
        say("%s 0x%012llx  [%3u] nothing", name, address(p),
            (unsigned)(address(p) / (2 * MIB) % 512));
        return 0;
    }
    if (n < 4) { // one page of 2 MiB
        say("%s 0x%012llx  [%3u] a large page", name, address(p), s[2].index);
        return 0;
    }
    say("%s 0x%012llx  [%3u] --> table 0x%llx: [%3u] 0x%016llx", name,
        address(p), s[2].index, (unsigned long long)s[2].frame, s[3].index,
        (unsigned long long)s[3].entry);
    *entry = s[3].entry;
    return (unsigned long long)s[2].frame;
}

static void report_move(char *p, char *q, uint64_t took_ns,
                        const unsigned long long *frames)
{
    uint64_t copy_ns = copy_cost(q) * (MOVE_BYTES / MIB);

    say("from 0x%012llx  frames 0x%llx 0x%llx ... 0x%llx", address(p),
        frames[0], frames[1], frames[2]);
    say("to   0x%012llx  frames 0x%llx 0x%llx ... 0x%llx\n", address(q),
        frame(q), frame(q + PAGE), frame(q + MOVE_BYTES - PAGE));
    say("%s: %u ns; with memcpy it would have been about %u ns",
        size_text(MOVE_BYTES), (unsigned)took_ns, (unsigned)copy_ns);
    claim(frame(q) == frames[0] && frame(q + PAGE) == frames[1] &&
              frame(q + MOVE_BYTES - PAGE) == frames[2],
          "the frames are the same: bytes copied 0");
}

void chapter_move(void)
{
    char *p = memory(MOVE_BYTES, 0, "moved");
    unsigned long long frames[3];
    bool same = true;

    if (p == NULL)
        return;
    for (uint32_t i = 0; i < MOVE_BYTES; i += PAGE)
        memcpy(p + i, &i, sizeof i);
    frames[0] = frame(p);
    frames[1] = frame(p + PAGE);
    frames[2] = frame(p + MOVE_BYTES - PAGE);
    uint64_t was, is, left;

    say("Before:");
    unsigned long long table = draw_entries("p", p + PAGE, &was);
    uint64_t tables = stats().page_tables, t = now_ns();
    char *q = gn_remap(p, MOVE_BYTES, MOVE_BYTES, GN_MOVE, NULL);

    t = now_ns() - t;
    if (q == NULL) {
        skip("not so much memory here (run with more MEM)");
        gn_unmap(p, MOVE_BYTES);
        return;
    }
    say("After, at the old place and the new:");
    draw_entries("p", p + PAGE, &left);
    unsigned long long now = draw_entries("q", q + PAGE, &is);

    putchar('\n');
    claim(left == 0 && was != 0 && is == was && now == table,
          "the same entry in the same table, hung over as a whole");
    report_move(p, q, t, frames);
    for (uint32_t i = 0; i < MOVE_BYTES; i += PAGE)
        same = same && memcmp(q + i, &i, sizeof i) == 0;
    claim(same, "all %d pages have their contents", MOVE_BYTES / PAGE);
    claim(!look(p).mapped, "nothing is left at the old address");
    // Both are multiples of 2 MiB: the tables themselves were hung over.
    claim(stats().page_tables <= tables + 2,
          "the page tables moved along: %u before, %u now", (unsigned)tables,
          (unsigned)stats().page_tables);
    gn_unmap(q, MOVE_BYTES);
}
