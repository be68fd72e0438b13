// A collection, watched step by step.

#include <gneiss/gc.h>

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "apps/tour/tour.h"

enum {
    OBJECTS = 48,
    STEPS = GN_GC_SWEPT + 1,
    STORER = 0, // is stored to while it is black
    HIDDEN = 25,
};

struct object {
    struct object *next, *other;
    uintptr_t number;
    char pad[40];
};

// Numbers, not pointers: these keep nothing.
static uintptr_t hidden[OBJECTS];
static struct object *volatile list;
static char rows[STEPS][OBJECTS + 1];
static bool seen[STEPS];

// In the collector's goroutine: nothing is printed here, others may be stopped.
static void watch(enum gn_gc_step step)
{
    if (seen[step])
        return;
    seen[step] = true;
    for (unsigned i = 0; i < OBJECTS; i++)
        rows[step][i] = ".wgB"[gn_gc_colour((void *)~hidden[i])];
    // Somebody who had it in a register stores it into one that was scanned.
    if (step == GN_GC_MARKED)
        ((struct object *)~hidden[STORER])->other =
            (struct object *)~hidden[HIDDEN];
}

static NOINLINE void make(void)
{
    struct object *last = NULL;

    for (unsigned i = 0; i < OBJECTS; i++) {
        struct object *o = gn_new(struct object);

        hidden[i] = ~(uintptr_t)o;
        if (o == NULL)
            return;
        o->number = i;
        if (i % 2 == 0) {
            *(last != NULL ? &last->next : (struct object **)&list) = o;
            last = o;
        }
    }
}

// What calls have left below.
static NOINLINE void forget(void)
{
    volatile char junk[2048];

    memset((void *)junk, 0, sizeof junk);
}

static unsigned count(const char *row, unsigned from, unsigned by, char c)
{
    unsigned n = 0;

    for (unsigned i = from; i < OBJECTS; i += by)
        n += row[i] == c;
    return n;
}

void chapter_collect(void)
{
    static const char *const what[STEPS] = {
        "all objects are white",        "roots scanned: one is gray",
        "marked from there, B: black",  "stored to meanwhile: again",
        "the world stopped: all found", "swept: white ones are free",
    };

    list = NULL;
    memset(seen, 0, sizeof seen);
    memset(rows, 0, sizeof rows);
    gn_gc(); // what others have left
    make();
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (~hidden[i] == 0) {
            skip("no memory for its objects");
            return;
        }
    }
    forget();
    gn_gc_watch(watch);
    gn_gc();
    gn_gc_watch(NULL);
    if (!seen[GN_GC_ROOTS]) {
        skip("with gc.mode=stw the world stands still for all of it");
        list = NULL;
        return;
    }
    say("%d objects; a variable points to the first, and every second one to",
        OBJECTS);
    say("the next but one. Nobody points to the others.");
    putchar('\n');
    for (unsigned s = 0; s < STEPS; s++)
        say("%s  %s", rows[s], what[s]);
    putchar('\n');
    claim(count(rows[GN_GC_WHITE], 0, 1, 'w') == OBJECTS,
          "at first all are white");
    claim(count(rows[GN_GC_MARKED], 0, 2, 'B') == OBJECTS / 2,
          "the list is black when it was marked, while goroutines ran");
    claim(rows[GN_GC_ROUND][HIDDEN] == 'B' ||
              rows[GN_GC_STOPPED][HIDDEN] == 'B',
          "number %d was stored into a black one: its dirty page gave it away",
          HIDDEN);
    claim(count(rows[GN_GC_SWEPT], 0, 2, 'B') == OBJECTS / 2 &&
              rows[GN_GC_SWEPT][HIDDEN] == 'B',
          "they are there after sweeping");
    // A register or an old frame may show some.
    claim(count(rows[GN_GC_SWEPT], 1, 2, '.') >= OBJECTS / 2 - 6,
          "%u of the others are free", count(rows[GN_GC_SWEPT], 1, 2, '.'));
    struct gn_gc_stats now;

    gn_gc_stats(&now);
    say("%u rounds over dirty pages, then %u pages in the final stop.",
        (unsigned)now.last_rounds, (unsigned)now.final_pages);
    list = NULL;
}
