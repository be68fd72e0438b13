// Makes classes.h: the sizes of small objects and how many heap pages a span of
// each has.
//
//   cc -o generate generate.c && ./generate >classes.h
//
// The rule. Steps between classes are an eighth of the power of two below them,
// 16 bytes at least (8 below 32), 256 at most: so rounding up wastes little more
// than an eighth. A span is the shortest run of pages that wastes at most an
// eighth behind its last object and, so that refills are rare, holds at least 16
// objects unless that takes more than 32 KiB: spans are backed by frames only
// where they are touched. Where two sizes give the same number of objects in the
// same span, only the larger one stays, and each grows to what the span can hold.
//
// Source: the rule follows that of tcmalloc and of Go (mksizeclasses.go).

#include <stdio.h>

enum {
    PAGE = 8192,
    MOST = 32768,      // the largest small object
    OBJECTS = 16,      // wanted in a span
    SPAN_WANT = 32768, // but no span is longer only for that
    CLASSES = 100,
};

static struct {
    unsigned size, pages;
} class[CLASSES];
static unsigned n = 1; // class 0 is "no small object"

static unsigned step_at(unsigned size)
{
    unsigned pow = 1;

    while (pow * 2 <= size)
        pow *= 2;
    unsigned step = pow / 8;

    if (size < 32)
        return 8;
    return step < 16 ? 16 : step > 256 ? 256 : step;
}

static unsigned tail(unsigned size, unsigned pages)
{
    return pages * PAGE % size;
}

static unsigned span_pages(unsigned size)
{
    unsigned pages = 1;

    while (tail(size, pages) > pages * PAGE / 8)
        pages++;
    unsigned least = pages;

    while (pages * PAGE / size < OBJECTS && (pages + 1) * PAGE <= SPAN_WANT)
        pages++;
    while (tail(size, pages) * least > tail(size, least) * pages)
        pages--; // never a larger share of waste than the shortest has
    return pages;
}

static unsigned worst_waste(unsigned c) // per mille of the span
{
    unsigned span = class[c].pages * PAGE, least = class[c - 1].size + 1;

    return 1000 - (unsigned)(1000ul * (span / class[c].size) * least / span);
}

static void choose(void)
{
    for (unsigned size = 8; size <= MOST; size += step_at(size)) {
        unsigned pages = span_pages(size);

        if (n > 1 && class[n - 1].pages == pages &&
            pages * PAGE / class[n - 1].size == pages * PAGE / size)
            n--;
        class[n].size = size;
        class[n++].pages = pages;
    }
    for (unsigned c = 1; c < n; c++) {
        unsigned objects = class[c].pages * PAGE / class[c].size;
        unsigned fits = class[c].pages * PAGE / objects;
        unsigned align = class[c].size >= 1024 ? 128 : 16;

        if (class[c].size >= 32 && fits / align * align > class[c].size)
            class[c].size = fits / align * align;
    }
}

int main(void)
{
    unsigned c = 1;

    choose();
    printf(
        "// Made by generate.c; see there. Do not edit.\n#pragma once\n\n"
        "// clang-format off\n"
        "// size, heap pages of a span, objects in it, worst waste per mille\n"
        "#define HEAP_CLASS_TABLE(X) \\\n");
    for (; c < n; c++)
        printf("    X(%u, %u) /* %u objects, %u.%u %% */%s\n", class[c].size,
               class[c].pages, class[c].pages * PAGE / class[c].size,
               worst_waste(c) / 10, worst_waste(c) % 10,
               c + 1 < n ? " \\" : "");
    printf("\nenum { HEAP_CLASSES = %u }; // class 0 is none\n", n);
    return 0;
}
