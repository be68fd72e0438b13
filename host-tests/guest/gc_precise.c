// What is dropped goes: of 100 MiB in trees, lists, arrays and tables, with real data
// beside them, at most one per cent is still there after three collections.
//
// usage: gc_precise [MiB]

#include <gneiss/gc.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host-tests/guest/tap.h"

enum { KIB = 1024, MIB = 1024 * KIB };

struct node {
    struct node *left, *right;
    uint64_t key;
    double weight;
    void *data; // without pointers: numbers, text
};

static _Atomic uint64_t total; // bytes allocated

static uint64_t random_next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void *get(size_t n, enum gn_heap_kind kind)
{
    void *p = gn_alloc(n, kind, 0);

    if (p == NULL)
        abort();
    total += n;
    return p;
}

// Real data: floating-point numbers, text, hashes, and small integers, both where the
// collector looks and where it need not.
static void *data(uint64_t *seed)
{
    size_t n = 16 + random_next(seed) % 200;
    bool scanned = random_next(seed) % 4 == 0;
    unsigned what = random_next(seed) % 4;
    uint64_t *p = get(n, scanned ? GN_SCAN : GN_NOSCAN);

    for (size_t i = 0; i < n / 8; i++) {
        double d = (double)(random_next(seed) % 1000000) / 997;

        if (what == 0)
            memcpy(&p[i], &d, 8);
        else
            p[i] = what == 1   ? random_next(seed)
                   : what == 2 ? random_next(seed) % 1000000
                               : 0x6d6f732074786574; // text
    }
    return p;
}

static struct node *node_new(uint64_t *seed)
{
    struct node *p = get(sizeof *p, GN_SCAN);

    p->key = random_next(seed);
    p->weight = (double)p->key / 3;
    if (p->key % 4 == 0)
        p->data = data(seed);
    return p;
}

static struct node *tree(unsigned depth, uint64_t *seed)
{
    struct node *p = node_new(seed);

    if (depth > 0) {
        p->left = tree(depth - 1, seed);
        p->right = tree(depth - 1, seed);
    }
    return p;
}

// Both ways round, so a single pointer into it keeps it all.
static struct node *list(unsigned n, uint64_t *seed)
{
    struct node *first = NULL;

    for (; n > 0; n--) {
        struct node *p = node_new(seed);

        p->right = first;
        if (first != NULL)
            first->left = p;
        first = p;
    }
    return first;
}

static void *table(unsigned n, uint64_t *seed)
{
    struct node **a = get(n * sizeof *a, GN_SCAN);

    for (unsigned i = 0; i < n; i++)
        a[i] = random_next(seed) % 2 != 0 ? node_new(seed) : NULL;
    return a;
}

static NOINLINE void *one_of_all(uint64_t *seed)
{
    struct node *p = node_new(seed);

    p->left = tree(10, seed);
    p->right = list(2000, seed);
    void **three = get(3 * sizeof *three, GN_SCAN);

    p->data = three;
    three[0] = table(3000, seed);
    three[1] = table(40000, seed); // large
    three[2] = get(300 * KIB, GN_NOSCAN);
    memset(three[2], 0xa5, 300 * KIB);
    return p;
}

// All at once: what one structure drags in, the others hang on to it, too.
static NOINLINE void *graph(uint64_t *seed, uint64_t until)
{
    struct node *all = NULL;

    while (total < until) {
        struct node *link = get(sizeof *link, GN_SCAN);

        link->left = one_of_all(seed);
        link->right = all;
        all = link;
    }
    return all;
}

static NOINLINE uint64_t count(const struct node *p)
{
    uint64_t n = 0;

    for (; p != NULL; p = p->right) {
        const struct node *in = p->left;

        for (const struct node *q = in->right; q != NULL; q = q->right)
            n++;
    }
    return n;
}

static NOINLINE void wipe(void)
{
    volatile uint64_t a[1000];

    for (unsigned i = 0; i < 1000; i++)
        a[i] = 0;
    __asm__ volatile("" : : "r"(a) : "memory");
}

static uint64_t live(void)
{
    struct gn_gc_stats s;

    gn_gc();
    gn_gc_stats(&s);
    return s.live;
}

// Built by a goroutine that goes on afterwards, as a program's does.
static NOINLINE void build(uint64_t seed, uint64_t bytes)
{
    struct node *all = graph(&seed, total + bytes);
    uint64_t n = count(all), now = live();

    ok(n > 2000 && now > bytes / 10 * 9, "of %lu MiB in a graph %lu are found",
       (unsigned long)(bytes / MIB), (unsigned long)(now / MIB));
    ok(count(all) == n, "it is as it was");
}

static void drop(uint64_t bytes, uint64_t seed)
{
    uint64_t before, after = 0;

    before = live();
    total = 0;
    build(seed, bytes);
    wipe();
    for (int i = 0; i < 3; i++)
        after = live();
    uint64_t left = after > before ? after - before : 0;

    ok(left <= total / 100, "of %lu KiB dropped %lu are left",
       (unsigned long)(total / KIB), (unsigned long)(left / KIB));
}

// The same by several goroutines, which drop theirs and stay.
static struct gn_wg built, go_on, gone;
static uint64_t each_until;
static _Atomic uint64_t counted;

static NOINLINE void build_part(uintptr_t number)
{
    uint64_t seed = number * 31337;
    struct node *all = graph(&seed, each_until);

    counted += count(all);
}

static void build_and_stay(void *arg)
{
    build_part((uintptr_t)arg);
    gn_wg_done(&built);
    gn_wg_wait(&go_on);
    gn_wg_done(&gone);
}

static void drop_by_many(uint64_t bytes)
{
    enum { MANY = 8 };
    uint64_t before = live(), after = 0;

    total = 0;
    each_until = bytes;
    gn_wg_add(&go_on, 1);
    for (uintptr_t i = 1; i <= MANY; i++) {
        gn_wg_add(&built, 1);
        gn_wg_add(&gone, 1);
        if (gn_go(build_and_stay, (void *)i) != 0)
            abort();
    }
    gn_wg_wait(&built);
    for (int i = 0; i < 3; i++)
        after = live();
    uint64_t left = after > before ? after - before : 0;

    ok(counted > 0 && left <= total / 100,
       "of %lu KiB that goroutines dropped that stay %lu are left",
       (unsigned long)(total / KIB), (unsigned long)(left / KIB));
    gn_wg_done(&go_on);
    gn_wg_wait(&gone);
}

int main(int argc, char **argv)
{
    uint64_t mib = argc > 1 ? (uint64_t)atoi(argv[1]) : 100;

    for (uint64_t seed = 1; seed <= 3; seed++)
        drop(mib * MIB, seed * 977);
    drop_by_many(mib * MIB);
    gn_heap_check();
    return tap_end();
}
