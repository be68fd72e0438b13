// Frees, reallocs and unmappings against markers and sweepers: objects of all sizes and
// kinds, freed by whoever gets hold of them, while one collection follows the other. What
// is reachable stays what it was; and what was freed is free once.
//
// usage: gc_free [steps of each [seed]]

#include <gneiss/cpu.h>
#include <gneiss/gc.h>
#include <gneiss/go.h>
#include <gneiss/mem.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host-tests/guest/tap.h"

enum { SLOTS = 48, SHARED = 32, PAGE = 4096, MOST = 400 * 1024 };

// An object as its slot knows it. Those that hold pointers begin with one to a child of
// 32 bytes, which says what the parent is.
struct slot {
    uint8_t *p;
    uint32_t bytes;
    uint8_t kind, fill;
};

struct child {
    uint64_t bytes, fill;
    struct child *next;
    uint64_t mark;
};

static _Atomic unsigned bad, collections;
static _Atomic bool stop;
static _Atomic(struct slot *) shared[SHARED]; // given to whoever comes
static unsigned steps = 20000;

static uint64_t random_next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static size_t random_size(uint64_t *seed)
{
    switch (random_next(seed) % 8) {
    case 0:
        return 1 + random_next(seed) % 15; // tiny
    case 1:
        return 8 * 1024 + random_next(seed) % (24 * 1024);
    case 2:
        return 33 * 1024 + random_next(seed) % 100000;
    case 3:
        return random_next(seed) % 8 == 0 ? random_next(seed) % MOST + 16 : 32;
    default:
        return 16 + random_next(seed) % 2000;
    }
}

static bool has_child(const struct slot *s)
{
    return s->kind != GN_NOSCAN && s->bytes >= 16;
}

// Large ones at their ends only.
static void each_part(const struct slot *s,
                      void (*fn)(const struct slot *s, size_t lo, size_t hi))
{
    size_t lo = has_child(s) ? 8 : 0;

    if (s->bytes <= 600) {
        fn(s, lo, s->bytes);
        return;
    }
    fn(s, lo, 300);
    fn(s, s->bytes - 300, s->bytes);
}

static void fill_part(const struct slot *s, size_t lo, size_t hi)
{
    memset(s->p + lo, s->fill, hi - lo);
}

static void complain(const struct slot *s, const char *what, uint64_t found)
{
    if (bad++ < 5)
        printf("# %s: %p, %u bytes, kind %u: 0x%lx\n", what, (void *)s->p,
               s->bytes, s->kind, (unsigned long)found);
}

static void look_part(const struct slot *s, size_t lo, size_t hi)
{
    for (size_t i = lo; i < hi; i++) {
        if (s->p[i] != s->fill) {
            complain(s, "contents", i);
            return;
        }
    }
}

static void look(const struct slot *s)
{
    each_part(s, look_part);
    if (!has_child(s))
        return;
    const struct child *c = *(struct child **)s->p;

    if (c->mark != ~c->bytes || c->bytes != s->bytes || c->fill != s->fill)
        complain(s, "child", c->mark);
    else if (c->next->mark != ~c->bytes)
        complain(s, "child's child", c->next->mark);
}

static struct child *child_new(uint64_t bytes, uint64_t fill)
{
    struct child *c = gn_new(struct child);

    if (c == NULL)
        abort();
    c->bytes = bytes;
    c->fill = fill;
    c->mark = ~bytes;
    return c;
}

static void describe(struct slot *s)
{
    each_part(s, fill_part);
    if (!has_child(s))
        return;
    struct child *c = child_new(s->bytes, s->fill);

    c->next = child_new(s->bytes, s->fill);
    *(struct child **)s->p = c;
}

static void make(struct slot *s, uint64_t *seed)
{
    static const uint8_t kinds[] = {GN_SCAN, GN_NOSCAN, GN_MANUAL};

    s->bytes = (uint32_t)random_size(seed);
    s->kind = kinds[random_next(seed) % 3];
    s->fill = (uint8_t)random_next(seed);
    s->p = gn_alloc(s->bytes, s->kind, 0);
    if (s->p != NULL)
        describe(s);
}

// Most are freed; collected ones may also be dropped.
static void drop(struct slot *s, uint64_t *seed)
{
    if (s->p == NULL)
        return;
    look(s);
    if (s->kind == GN_MANUAL)
        *s->p = 0;
    if (s->kind == GN_MANUAL || random_next(seed) % 4 != 0)
        gn_free(s->p);
    s->p = NULL;
}

static void resize(struct slot *s, uint64_t *seed)
{
    struct slot was = *s;
    uint8_t *p;

    if (was.p == NULL)
        return;
    s->bytes = (uint32_t)random_size(seed);
    p = gn_realloc(was.p, s->bytes);
    if (p == NULL) {
        s->bytes = was.bytes;
        return;
    }
    s->p = p;
    // What both have of it is the same.
    size_t same = was.bytes < s->bytes ? was.bytes : s->bytes;
    size_t lo = has_child(&was) ? 8 : 0;

    was.p = p;
    if (has_child(&was) && same >= 8 &&
        (*(struct child **)p)->mark != ~(uint64_t)was.bytes)
        complain(&was, "child after realloc", (*(struct child **)p)->mark);
    if (same > lo)
        look_part(&was, lo, same < 300 || was.bytes <= 600 ? same : 300);
    s->fill = (uint8_t)random_next(seed);
    describe(s);
}

static void map_beside(uint64_t *seed)
{
    size_t n = (1 + random_next(seed) % 64) * PAGE;
    char *p = gn_map(NULL, n, GN_READ | GN_WRITE, 0);

    if (p == NULL)
        return;
    for (size_t i = 0; i < n; i += 3 * PAGE)
        p[i] = 1;
    if (random_next(seed) % 2 != 0)
        (void)gn_unmap(p + n / 2 / PAGE * PAGE, PAGE);
    (void)gn_unmap(p, n);
}

// Gives a slot to others, and gets another.
static struct slot *exchange(struct slot *s, uint64_t *seed)
{
    return atomic_exchange(&shared[random_next(seed) % SHARED], s);
}

struct job {
    uint64_t seed;
    struct gn_wg *wg;
};

static void mutate(void *arg)
{
    struct job *j = arg;
    uint64_t seed = j->seed;
    struct slot **mine = gn_new_array(struct slot *, SLOTS);

    for (unsigned n = 0; n < steps; n++) {
        struct slot **at = &mine[random_next(&seed) % SLOTS];
        unsigned what = random_next(&seed) % 16;

        if (*at == NULL && (*at = gn_new(struct slot)) == NULL)
            abort();
        if (what < 6) {
            drop(*at, &seed);
            make(*at, &seed);
        } else if (what < 9) {
            resize(*at, &seed);
        } else if (what < 12) {
            *at = exchange(*at, &seed);
        } else if (what == 12) {
            map_beside(&seed);
        } else if ((*at)->p != NULL) {
            look(*at);
        }
    }
    for (unsigned i = 0; i < SLOTS; i++) {
        if (mine[i] != NULL)
            drop(mine[i], &seed);
    }
    gn_wg_done(j->wg);
}

static void collect(void *wg)
{
    while (!stop) {
        gn_gc();
        collections++;
    }
    gn_wg_done(wg);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1;
    static struct job jobs[8];
    struct gn_wg wg = {0}, gc = {0};
    unsigned n = gn_cpu_count() + 2;

    if (argc > 1)
        steps = (unsigned)atoi(argv[1]);
    gn_wg_add(&gc, 1);
    if (gn_go(collect, &gc) != 0)
        abort();
    for (unsigned i = 0; i < n; i++) {
        jobs[i] = (struct job){(seed + i) * 7919 + 1, &wg};
        gn_wg_add(&wg, 1);
        if (gn_go(mutate, &jobs[i]) != 0)
            abort();
    }
    gn_wg_wait(&wg);
    stop = true;
    gn_wg_wait(&gc);
    ok(bad == 0, "what is reachable is what it was");
    ok(collections > 0, "it collected meanwhile");
    printf("# %u collections, %u bad\n", collections, bad);
    for (unsigned i = 0; i < SHARED; i++) {
        if (shared[i] != NULL) {
            look(shared[i]);
            drop(shared[i], &seed);
        }
    }
    ok(bad == 0, "so is what nobody took");
    gn_heap_check();
    return tap_end();
}
