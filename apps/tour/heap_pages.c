// Heap pages and their frames: large objects, and what goes back when.

#include "apps/tour/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- large ----

enum { TOUCHED = 5, PARTS = 16 };

// One character for each `part` bytes: # frames, + some, . none.
static void draw_frames(const char *p, size_t n, size_t part)
{
    char row[2 * PARTS + 1] = {0};

    for (unsigned i = 0; i < n / part && i < 2 * PARTS; i++) {
        size_t have = gn_resident(p + i * part, part);

        row[i] = have == 0 ? '.' : have < part ? '+' : '#';
    }
    say("0x%012llx  |%s|", (unsigned long long)(uintptr_t)p, row);
}

static void touch(char *p, size_t n, uint64_t frames[TOUCHED])
{
    for (unsigned i = 0; i < TOUCHED; i++) {
        size_t at = n / TOUCHED * i;

        put(p + at, (char)('a' + i));
        frames[i] = look(p + at).frame;
    }
}

static bool are_same(const char *p, size_t n, const uint64_t frames[TOUCHED])
{
    bool same = true;

    for (unsigned i = 0; i < TOUCHED; i++) {
        size_t at = n / TOUCHED * i;

        same = same && get(p + at) == (char)('a' + i) &&
               look(p + at).frame == frames[i];
    }
    return same;
}

static void show_growth(char *p, size_t n, size_t faults,
                        const uint64_t frames[TOUCHED])
{
    volatile uintptr_t old = (uintptr_t)p; // not to be looked up later
    uint64_t t = now_ns();
    char *q = realloc(p, 2 * n);

    t = now_ns() - t;
    if (q == NULL) {
        skip("not so much memory here (run with more MEM)");
        free(p);
        return;
    }
    say("realloc to %s; right behind it another object lies:",
        size_text(2 * n));
    draw_frames(q, 2 * n, n / PARTS);
    putchar('\n');
    claim(faults <= TOUCHED, "%u stores, %u page fault%s", TOUCHED,
          (unsigned)faults, faults == 1 ? "" : "s");
    claim((uintptr_t)q != old && !look((void *)old).mapped,
          "it has moved, nothing is left at the old address");
    claim(are_same(q, n, frames),
          "frames 0x%llx 0x%llx ... 0x%llx are the same: copied 0 bytes",
          (unsigned long long)frames[0], (unsigned long long)frames[1],
          (unsigned long long)frames[TOUCHED - 1]);
    say("It took %u ns.", (unsigned)t);
    free(q);
}

// Two of the same size, one after the other: behind the first there is no room
// for as much again, or the second would lie there.
static void show_large(char *p, size_t n)
{
    uint64_t frames[TOUCHED], faults;
    bool filled = gn_resident(p, n) > 0;
    struct gn_span s = {0};

    if (!find_span(p, &s))
        s.bytes = 0;
    say("malloc of %s, and after stores to %u of its %u pages%s:", size_text(n),
        TOUCHED, (unsigned)(n / PAGE), filled ? " (heap.fill=1)" : "");
    draw_frames(p, n, n / PARTS);
    faults = stats().faults;
    touch(p, n, frames);
    faults = stats().faults - faults;
    draw_frames(p, n, n / PARTS);
    putchar('\n');
    claim(s.bytes == n && s.objects == 1, "its span has no other object");
    if (!filled)
        claim(gn_resident(p, n) < n / 2, "%s of it have frames",
              size_text(gn_resident(p, n)));
    putchar('\n');
    show_growth(p, n, faults, frames);
}

void chapter_large(void)
{
    if (!spans_are_used())
        return;
    gn_heap_trim(); // no free page has a frame
    size_t n = choose_size(16 * MIB, 8);
    char *p = n > 0 ? malloc(n) : NULL, *behind = p != NULL ? malloc(n) : NULL;

    if (behind != NULL) {
        put(behind, 1); // or the compiler leaves it out
        show_large(p, n);
    } else {
        skip("not so much memory here (run with more MEM)");
        free(p);
    }
    free(behind);
}

// ---- return ----

enum { STEPS = 12, STEP_MS = 25, MS = 1000000, COLUMNS = 54 };

static void watch(const char *p, size_t n)
{
    uint64_t start = now_ns();
    size_t have = n;

    say("   ms  frames of it");
    for (unsigned i = 0; i <= STEPS && have > 0; i++) {
        uint64_t due = start + (uint64_t)i * STEP_MS * MS, now = now_ns();

        if (now < due)
            usleep((useconds_t)((due - now) / 1000));
        have = gn_resident(p, n);
        say("%5u  %-*s %s", (unsigned)((now_ns() - start) / MS), COLUMNS,
            bar('#', (unsigned)((have * COLUMNS + n - 1) / n)),
            size_text(have));
    }
    putchar('\n');
}

void chapter_return(void)
{
    if (!spans_are_used())
        return;
    size_t n = choose_size(32 * MIB, 4);
    char *p = n > 0 ? malloc(n) : NULL;

    if (p == NULL) {
        skip("not so much memory here (run with more MEM)");
        return;
    }
    memset(p, 1, n);
    const char *volatile was = p; // to look there when it is freed

    claim(gn_resident(p, n) == n, "%s, all of it stored to", size_text(n));
    free(p);
    say("Then freed. What is free beyond heap.keep, and was not needed for a");
    say("whole heap.delay, goes while this goroutine sleeps:\n");
    watch(was, n);
    uint64_t free_before = stats().frames_free, more = gn_resident(was, n);
    uint64_t trimmed = gn_heap_trim();

    say("gn_heap_trim() gives back at once what is left: %s.",
        size_text(trimmed));
    claim(gn_resident(was, n) == 0, "none of it has a frame now");
    claim(stats().frames_free >= free_before + more / PAGE,
          "%s of memory are free", size_text(stats().frames_free * PAGE));
}
