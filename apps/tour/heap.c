// One malloc after the other, until each layer of the heap had its turn.

#include "apps/tour/heap.h"

#include <gneiss/cpu.h>

#include <stdio.h>
#include <stdlib.h>

// ---- what all chapters on the heap use ----

struct search {
    uintptr_t address;
    struct gn_span *found;
};

static bool is_elsewhere(const struct gn_span *s, void *arg)
{
    const struct search *search = arg;

    if (search->address - (uintptr_t)s->address >= s->bytes)
        return true;
    *search->found = *s;
    return false;
}

bool find_span(const void *p, struct gn_span *s)
{
    struct search search = {(uintptr_t)p, s};

    return !gn_heap_spans(is_elsewhere, &search);
}

unsigned number_in(const struct gn_span *s, const void *p)
{
    return (unsigned)(((uintptr_t)p - (uintptr_t)s->address) / s->object_size);
}

struct gn_class_stats class_of(size_t n, size_t *below)
{
    static struct gn_class_stats rows[128];
    size_t all = gn_heap_classes(rows, sizeof rows / sizeof rows[0]), i = 1;

    // The first row is that of the blocks that small objects share.
    while (i + 1 < all && rows[i].size < n)
        i++;
    if (below != NULL)
        *below = i > 1 ? rows[i - 1].size : 0;
    return rows[i];
}

struct gn_heap_stats heap_stats(void)
{
    struct gn_heap_stats s;

    gn_heap_stats(&s);
    return s;
}

bool spans_are_used(void)
{
    struct gn_span s;
    void *p = malloc(1);
    bool used = find_span(p, &s);

    if (p == NULL)
        skip("not so much memory here (run with more MEM)");
    else if (!used)
        skip("a boot option puts objects on pages of their own");
    free(p);
    return used;
}

size_t choose_size(size_t most, unsigned share)
{
    size_t step = 64 * KIB, n = stats().frames_free / share * PAGE;

    return n < most ? n / step * step : most;
}

// ---- heap ----

enum { SIZE = 48, MOST = 2048 };

// Free objects of the class in the caches, in spans, and spans.
struct layers {
    uint64_t cached, free, spans;
};

// How often a call of malloc ended in a layer, and how it was the first time.
struct event {
    unsigned count, number;
    uint64_t ns;
    char *p;
    struct layers before, after;
};

static struct follow {
    void *kept[MOST];
    unsigned n;
    struct event hit, refill, cut;
    struct event direct; // straight from a span: there are no caches
} follow;

static struct layers layers_now(void)
{
    struct gn_class_stats k = class_of(SIZE, NULL);

    return (struct layers){k.cached, k.free, k.spans};
}

static struct event *event_of(struct follow *f, const struct layers *before,
                              const struct layers *after)
{
    return after->spans > before->spans     ? &f->cut
           : after->cached > before->cached ? &f->refill
           : after->cached < before->cached ? &f->hit
                                            : &f->direct;
}

static bool have_seen_all(const struct follow *f)
{
    return f->cut.count > 0 &&
           (f->direct.count > 0 || (f->hit.count > 0 && f->refill.count > 0));
}

// False: no memory.
static bool allocate_until_seen(struct follow *f)
{
    struct layers before = layers_now();

    *f = (struct follow){0};
    while (f->n < MOST && !have_seen_all(f)) {
        uint64_t t = now_ns();
        char *p = malloc(SIZE);

        t = now_ns() - t;
        if (p == NULL)
            return false;
        struct layers after = layers_now();
        struct event *e = event_of(f, &before, &after);

        f->kept[f->n++] = p;
        if (e->count++ == 0) {
            *e = (struct event){1, f->n, t, p, before, after};
        }
        before = after;
    }
    return have_seen_all(f);
}

static void print_event(const struct event *e, const char *what)
{
    say("  ^");
    say("  |  %s: %u of %u calls; the first, number %u, took %u ns", what,
        e->count, follow.n, e->number, (unsigned)e->ns);
}

static void draw_follow(const struct follow *f, const struct gn_span *s)
{
    size_t rest = s->bytes - s->objects * s->object_size;

    say("malloc(%d)", SIZE);
    if (f->hit.count > 0) {
        print_event(&f->hit, "a hit");
        say("[cache of CPU %d]  %u free objects -> %u", s->cpu,
            (unsigned)f->hit.before.cached, (unsigned)f->hit.after.cached);
    }
    if (f->refill.count > 0) {
        print_event(&f->refill, "a refill");
        say("[spans]           %u free objects -> %u; in the cache %u -> %u",
            (unsigned)f->refill.before.free, (unsigned)f->refill.after.free,
            (unsigned)f->refill.before.cached,
            (unsigned)f->refill.after.cached);
    }
    if (f->direct.count > 0) {
        print_event(&f->direct, "no cache (a boot option)");
        say("[spans]           %u free objects -> %u",
            (unsigned)f->direct.before.free, (unsigned)f->direct.after.free);
    }
    print_event(&f->cut, "a new span");
    say("[heap pages]      spans of this class: %u -> %u. %s are cut into",
        (unsigned)f->cut.before.spans, (unsigned)f->cut.after.spans,
        size_text(s->bytes));
    say("                  %u objects of %u bytes; %u bytes are left over",
        s->objects, (unsigned)s->object_size, (unsigned)rest);
}

static uint64_t added(const struct event *e)
{
    return e->after.cached - e->before.cached;
}

static void check_follow(const struct follow *f, const struct gn_span *s)
{
    const struct event *r = &f->refill, *c = &f->cut, *d = &f->direct;

    if (f->hit.count > 0)
        claim(f->hit.before.cached - f->hit.after.cached == 1 &&
                  f->hit.before.free == f->hit.after.free,
              "a hit takes one object from the cache; no span notices");
    if (r->count > 0)
        claim(r->before.free - r->after.free == added(r) + 1,
              "a refill: the span gave %u, %u for the cache and one for malloc",
              (unsigned)added(r) + 1, (unsigned)added(r));
    if (d->count > 0)
        claim(d->before.free - d->after.free == 1, "the span gave one");
    claim(c->before.free + s->objects == c->after.free + added(c) + 1,
          "each of the %u objects of the new span is somewhere", s->objects);
    claim(s->cpu == (int)gn_cpu_id(),
          "it is CPU %d's: no other takes objects from it, so no lock", s->cpu);
}

static void show_frame(char *p)
{
    bool had = look(p).mapped;
    uint64_t faults = stats().faults;

    putchar('\n');
    if (had)
        say("0x%012llx --> frame 0x%llx: it was touched already",
            (unsigned long long)(uintptr_t)p,
            (unsigned long long)look(p).frame);
    else
        say("0x%012llx --> nothing: malloc has only promised a frame",
            (unsigned long long)(uintptr_t)p);
    put(p, 1);
    faults = stats().faults - faults;
    say("0x%012llx --> frame 0x%llx after a store to it",
        (unsigned long long)(uintptr_t)p, (unsigned long long)look(p).frame);
    claim(look(p).mapped && faults == !had, "%u page fault%s", (unsigned)faults,
          faults == 1 ? " brought it" : "s");
}

// Its place in the cache is on top.
static void show_free(struct follow *f)
{
    struct layers before = layers_now();
    void **p = &f->kept[f->n - 1];
    volatile uintptr_t was = (uintptr_t)*p; // not to be looked up later

    free(*p);
    struct layers after = layers_now();

    *p = malloc(SIZE);
    if (after.cached > before.cached)
        claim((uintptr_t)*p == was,
              "freed, it is the next to be handed out, still in the CPU's "
              "caches");
}

void chapter_heap(void)
{
    struct gn_span s;

    if (!spans_are_used())
        return;
    gn_heap_trim(); // no free page has a frame
    if (allocate_until_seen(&follow) && find_span(follow.cut.p, &s)) {
        draw_follow(&follow, &s);
        show_frame(follow.cut.p);
        putchar('\n');
        check_follow(&follow, &s);
        show_free(&follow);
    } else {
        skip("not so much memory here (run with more MEM)");
    }
    while (follow.n > 0)
        free(follow.kept[--follow.n]);
    // The collector takes them for pointers to what comes into their place.
    follow = (struct follow){0};
}
