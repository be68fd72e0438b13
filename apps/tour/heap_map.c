// A map of the heap, and how much of its spans a few survivors keep.

#include "apps/tour/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COLUMNS = 64,
    CELLS = 8 * COLUMNS,
    LEAST = 16,
    MOST = 1024,
    SURVIVE = 16
};

static struct map {
    uintptr_t start, end;
    size_t per_cell;
    uint32_t allocated[CELLS], inuse[CELLS]; // bytes
} map;

static bool extend_map(const struct gn_span *s, void *arg)
{
    (void)arg;
    map.end = (uintptr_t)s->address + s->bytes;
    return true;
}

// The map goes from the first page of the heap to the last span there is now.
static void choose_scale(const void *in_heap)
{
    size_t page = 2 * PAGE;

    map.start = look(in_heap).start;
    gn_heap_spans(extend_map, NULL);
    size_t pages = (map.end - map.start) / page;

    map.per_cell = (pages + CELLS - 1) / CELLS * page;
}

// Adds [p, p + n) to the cells that it lies in.
static void add_to(uint32_t *cells, uintptr_t p, size_t n)
{
    while (n > 0 && p < map.end) {
        size_t off = p - map.start, part = map.per_cell - off % map.per_cell;

        part = part < n ? part : n;
        cells[off / map.per_cell] += (uint32_t)part;
        p += part;
        n -= part;
    }
}

static bool add_span(const struct gn_span *s, void *arg)
{
    uintptr_t p = (uintptr_t)s->address;

    (void)arg;
    add_to(map.inuse, p, s->bytes);
    for (unsigned i = 0; i < s->objects; i++, p += s->object_size)
        if (bit_of(s->allocated_bits, i))
            add_to(map.allocated, p, s->object_size);
    return true;
}

static char cell(unsigned i)
{
    const char *from = (char *)map.start + i * map.per_cell;
    unsigned tenths =
        map.inuse[i] > 0
            ? (unsigned)((uint64_t)map.allocated[i] * 10 / map.inuse[i])
            : 0;

    if (map.inuse[i] == 0)
        return gn_resident(from, map.per_cell) > 0 ? 'o' : '.';
    return tenths >= 9 ? '#' : (char)('0' + tenths);
}

static void draw_map(void)
{
    unsigned n =
        (unsigned)((map.end - map.start + map.per_cell - 1) / map.per_cell);

    memset(map.allocated, 0, sizeof map.allocated);
    memset(map.inuse, 0, sizeof map.inuse);
    gn_heap_spans(add_span, NULL);
    for (unsigned i = 0; i < n; i += COLUMNS) {
        char row[COLUMNS + 1] = {0};

        for (unsigned k = 0; k < COLUMNS && i + k < n; k++)
            row[k] = cell(i + k);
        say("%9s  %s", size_text(i * map.per_cell), row);
    }
    putchar('\n');
}

static unsigned random_below(unsigned n)
{
    static uint32_t state = 1;

    state = state * 1664525 + 1013904223;
    return (unsigned)((uint64_t)n * state >> 32);
}

// Objects of about `bytes` together. Returns how many.
static unsigned fill(void **p, unsigned most, size_t bytes)
{
    unsigned n = 0;

    for (size_t sum = 0; n < most && sum < bytes; n++) {
        size_t size = LEAST + random_below(MOST - LEAST);

        p[n] = malloc(size);
        if (p[n] == NULL)
            break;
        sum += size;
    }
    return n;
}

// Frees all but one in SURVIVE: any, or neighbours.
static void free_most(void **p, unsigned n, bool any)
{
    unsigned first = random_below(n - n / SURVIVE);

    for (unsigned i = 0; i < n; i++) {
        if (any ? random_below(SURVIVE) == 0 : i - first < n / SURVIVE)
            continue;
        free(p[i]);
        p[i] = NULL;
    }
}

static void say_share(const struct gn_heap_stats *s)
{
    say("%s are allocated, in spans of %s: %u %%\n", size_text(s->alloc),
        size_text(s->heap_inuse), (unsigned)(s->alloc * 100 / s->heap_inuse));
}

static struct gn_heap_stats show_random(void **p, unsigned n)
{
    struct gn_heap_stats s = heap_stats();

    choose_scale(p[0]);
    say("%u objects of %u to %u bytes, a character for %s of addresses:", n,
        LEAST, MOST, size_text(map.per_cell));
    draw_map();
    say_share(&s);
    free_most(p, n, true);
    say("Freed at random, all but one of %u:", SURVIVE);
    draw_map();
    gn_heap_trim();
    say("What is free has been given back (gn_heap_trim):");
    draw_map();
    s = heap_stats();
    say_share(&s);
    return s;
}

static struct gn_heap_stats show_neighbours(void **p, unsigned n)
{
    struct gn_heap_stats s;

    free_most(p, n, false);
    gn_heap_trim();
    say("The same again, but all that stay were allocated in a row:");
    draw_map();
    s = heap_stats();
    say_share(&s);
    return s;
}

static void free_all(void **p, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        free(p[i]);
        p[i] = NULL;
    }
    gn_heap_trim();
}

static void show_fragments(void **p, unsigned most, size_t bytes)
{
    unsigned n = fill(p, most, bytes);

    if (n < 2 * SURVIVE) {
        skip("not so much memory here (run with more MEM)");
        free_all(p, n);
        return;
    }
    say("# nine tenths of what spans have there is allocated, and more");
    say("8 eight tenths ... 0 less than one   o frames, no span   . nothing\n");
    struct gn_heap_stats random = show_random(p, n), row;

    free_all(p, n);
    row = show_neighbours(p, fill(p, n, bytes));
    free_all(p, n);
    claim(row.heap_inuse < random.heap_inuse,
          "what was allocated together keeps %s, not %s",
          size_text(row.heap_inuse), size_text(random.heap_inuse));
    claim(gn_resident((void *)map.start, map.end - map.start) <=
              heap_stats().promised,
          "all is freed and given back: %s of the heap have frames",
          size_text(gn_resident((void *)map.start, map.end - map.start)));
}

void chapter_fragments(void)
{
    size_t bytes = choose_size(2 * MIB, 8);
    unsigned most = (unsigned)(bytes / 256);
    void **p;

    if (!spans_are_used())
        return;
    if (bytes < 256 * KIB) {
        skip("not so much memory here (run with more MEM)");
        return;
    }
    p = (void **)memory(most * sizeof *p, 0, "pointers of the tour");
    if (p == NULL)
        return;
    gn_heap_trim();
    show_fragments(p, most, bytes);
    gn_unmap(p, most * sizeof *p);
}
