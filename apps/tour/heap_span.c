// A span, and the bits beside it that say which of its objects are free.

#include "apps/tour/heap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 32, OBJECTS = 512, ROW = 64, AGAIN = 10 };

static char *objects[OBJECTS];

static bool is_in(const struct gn_span *s, const void *p)
{
    return (uintptr_t)p - (uintptr_t)s->address < s->bytes;
}

static char letter_of(const struct gn_span *s, unsigned i)
{
    return bit_of(s->allocated_bits, i) ? '#'
           : bit_of(s->free_bits, i)    ? '.'
                                        : 'o';
}

// Draws the span of p and returns it.
static struct gn_span draw_span(const void *p, const char *when)
{
    struct gn_span s = {.cpu = -1};
    char row[ROW + 1];

    find_span(p, &s);
    if (s.cpu >= 0)
        say("%s (the span is CPU %d's):", when, s.cpu);
    else
        say("%s (the span is nobody's):", when);
    for (unsigned i = 0; i < s.objects; i++) {
        row[i % ROW] = letter_of(&s, i);
        row[i % ROW + 1] = '\0';
        if (i % ROW == ROW - 1 || i == s.objects - 1)
            say("%5u  %s", i / ROW * ROW, row);
    }
    putchar('\n');
    return s;
}

// The bits of this span say of each object what we know of it.
static bool bits_are_right(const struct gn_span *s, char *const *p,
                           const bool *held, unsigned n)
{
    bool right = true;

    for (unsigned i = 0; i < n; i++) {
        if (is_in(s, p[i]))
            right = right &&
                    held[i] == bit_of(s->allocated_bits, number_in(s, p[i]));
    }
    return right;
}

static unsigned count_cached(const struct gn_span *s)
{
    return s->objects - s->allocated - s->free;
}

static void print_class(void)
{
    size_t below;
    struct gn_class_stats k = class_of(SIZE, &below);
    unsigned per_span = k.span_bytes / k.size;
    size_t least = per_span * (below + 1);

    say("Objects of %u to %u bytes take %u. A span has %s: %u of them.",
        (unsigned)below + 1, (unsigned)k.size, (unsigned)k.size,
        size_text(k.span_bytes), per_span);
    say("At the worst %u %% of it is lost, by rounding up and at its end.\n",
        (unsigned)((k.span_bytes - least) * 100 / k.span_bytes));
    say("  # allocated   o free, in a CPU's cache   . free, in the span\n");
}

static void claim_span(const struct gn_span *before,
                       const struct gn_span *after)
{
    unsigned per_span = before->objects;
    struct gn_class_stats k = class_of(SIZE, NULL);

    claim(k.objects + k.cached + k.free == k.spans * per_span,
          "of the class: %u allocated + %u cached + %u free = %u span%s x %u",
          (unsigned)k.objects, (unsigned)k.cached, (unsigned)k.free,
          (unsigned)k.spans, k.spans == 1 ? "" : "s", per_span);
    claim(after->cpu < 0 && count_cached(after) == 0 &&
              after->allocated == before->allocated,
          "%u came back to the span; then any CPU could have taken it",
          count_cached(before));
}

// Allocates until AGAIN objects are in the span: others of the class may be used
// first. Returns how many.
static unsigned fill_again(const struct gn_span *s, char *p[OBJECTS])
{
    unsigned n = 0;

    for (unsigned in = 0; n < OBJECTS && in < AGAIN; n++) {
        p[n] = malloc(SIZE);
        in += is_in(s, p[n]);
    }
    return n;
}

// No slot that is free in both lies below one that came to be allocated.
static bool are_lowest(const struct gn_span *before,
                       const struct gn_span *after)
{
    bool free_below = false;

    for (unsigned i = 0; i < before->objects; i++) {
        if (bit_of(before->allocated_bits, i))
            continue;
        if (!bit_of(after->allocated_bits, i))
            free_below = true;
        else if (free_below)
            return false;
    }
    return true;
}

static void free_all(char *const *p, const bool *held, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (held == NULL || held[i])
            free(p[i]);
}

// Frees every third, gives the cache back, allocates again.
static void show_span(char *const *p, unsigned n)
{
    static bool held[OBJECTS];
    static char *again[OBJECTS];
    const void *in = p[1]; // stays
    unsigned freed = 0;

    memset(held, true, sizeof held);
    draw_span(in, "Full of objects");
    for (unsigned i = 0; i < n; i += 3, freed++) {
        free(p[i]);
        held[i] = false;
    }
    struct gn_span s = draw_span(in, "Every third freed"), t;
    bool right = bits_are_right(&s, p, held, n);

    gn_heap_trim();
    t = draw_span(in, "gn_heap_trim() has emptied the cache");
    claim(right, "%u were freed, and the bits say which", freed);
    claim_span(&s, &t);
    putchar('\n');
    unsigned more = fill_again(&t, again);

    struct gn_span u = draw_span(in, "Ten more allocated");

    if (are_lowest(&t, &u))
        claim(u.allocated == t.allocated + AGAIN, "they are the lowest");
    else
        say("A boot option picks them at random.");
    free_all(again, NULL, more);
    free_all(p, held, n);
}

// Allocates more than a span holds. Keeps those that lie in the same as one in
// the middle, and returns how many.
static unsigned fill_span(void)
{
    struct gn_span s = {0};
    unsigned n = 0;

    for (unsigned i = 0; i < OBJECTS; i++)
        objects[i] = malloc(SIZE);
    find_span(objects[OBJECTS / 2], &s);
    for (unsigned i = 0; i < OBJECTS; i++) {
        if (is_in(&s, objects[i]))
            objects[n++] = objects[i];
        else
            free(objects[i]);
    }
    return n;
}

void chapter_span(void)
{
    if (!spans_are_used())
        return;
    unsigned n = fill_span();

    if (n > AGAIN) {
        print_class();
        show_span(objects, n);
    } else {
        skip("not so much memory here (run with more MEM)");
        free_all(objects, NULL, n);
    }
    // The collector takes them for pointers to what comes into their place.
    memset(objects, 0, sizeof objects);
}
