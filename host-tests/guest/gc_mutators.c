// Mutators that move and hide pointers as fast as they can while collections run. An
// object that is freed too early is cleared and given to somebody else: its mark is
// wrong then; and gc.check=1 says so before.
//
// usage: gc_mutators [milliseconds of each [number of the only one]]

#include <gneiss/chan.h>
#include <gneiss/gc.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/tap.h"

enum { MARK = 0x5ca1ab1e, SLOTS = 64, EACH = 3 };

struct item {
    uint64_t mark, id;
    struct item *left, *right;
    uint64_t pad[4];
};

static _Atomic bool stop;
static _Atomic uint64_t bad, steps;
static _Atomic uint64_t next_id = 1;

static struct item *item_new(void)
{
    struct item *p = gn_new(struct item);

    if (p == NULL)
        abort();
    p->id = next_id++;
    p->mark = p->id ^ MARK;
    return p;
}

static bool check(const struct item *p)
{
    bool good = p == NULL || p->mark == (p->id ^ MARK);

    bad += !good;
    return good;
}

static uint64_t random_next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

// ---- between objects: the last pointer is here, then there ----

static void shuffle(void *arg)
{
    uint64_t seed = (uintptr_t)arg * 977 + 1;
    struct item **a = gn_new_array(struct item *, SLOTS);
    struct item **b = gn_new_array(struct item *, SLOTS);

    while (!stop) {
        unsigned i = random_next(&seed) % SLOTS, k = random_next(&seed) % SLOTS;
        struct item *p = a[i];

        if (p == NULL)
            p = item_new();
        a[i] = NULL;
        check(p);
        check(b[k]);
        p->left = NULL;
        p->right = b[k]; // and what hung there is dropped, mostly
        if (p->right != NULL)
            p->right->right = NULL;
        b[k] = p;
        if (random_next(&seed) % 4 == 0) {
            struct item **t = a;

            a = b;
            b = t;
        }
        steps++;
    }
}

// ---- trees that turn: what was scanned gets what was not ----

static struct item *tree_new(unsigned depth)
{
    struct item *p = item_new();

    if (depth > 0) {
        p->left = tree_new(depth - 1);
        p->right = tree_new(depth - 1);
    }
    return p;
}

static uint64_t tree_count(const struct item *p)
{
    return p == NULL || !check(p)
               ? 0
               : 1 + tree_count(p->left) + tree_count(p->right);
}

static void turn(void *arg)
{
    enum { DEPTH = 8 };
    uint64_t seed = (uintptr_t)arg * 31337 + 1;
    struct item *root = tree_new(DEPTH);

    while (!stop) {
        struct item **at = &root;

        for (unsigned d = random_next(&seed) % DEPTH; d > 0; d--) {
            struct item *p = *at;

            // The children change places, and a child's children with them.
            struct item *l = p->left;

            p->left = p->right;
            p->right = l;
            if (p->left != NULL && p->right != NULL) {
                struct item *x = p->left->left;

                p->left->left = p->right->right;
                p->right->right = x;
            }
            at = random_next(&seed) % 2 != 0 ? &p->left : &p->right;
            if (*at == NULL)
                break;
        }
        if (*at != NULL && random_next(&seed) % 64 == 0) {
            uint64_t n = tree_count(*at);

            *at = NULL;
            // As many new ones, in a list that then becomes part of the tree.
            for (; n > 0; n--) {
                struct item *p = item_new();

                p->left = *at;
                *at = p;
            }
            if (tree_count(root) != (2u << DEPTH) - 1)
                bad++;
            if (random_next(&seed) % 16 == 0)
                root = tree_new(DEPTH);
        }
        steps++;
    }
}

// ---- only in a register ----

// p is in RBX alone, then in XMM3 alone, for a while.
static NOINLINE struct item *in_registers(struct item **from, uint64_t n)
{
    struct item *p;

    __asm__ volatile("movq (%1), %%rbx\n"
                     "movq $0, (%1)\n"
                     "movq %2, %%rcx\n"
                     "1: decq %%rcx\n"
                     "jnz 1b\n"
                     "movq %%rbx, %%xmm3\n"
                     "xorl %%ebx, %%ebx\n"
                     "movq %2, %%rcx\n"
                     "2: decq %%rcx\n"
                     "jnz 2b\n"
                     "movq %%xmm3, %0\n"
                     "pxor %%xmm3, %%xmm3\n"
                     : "=&r"(p)
                     : "r"(from), "r"(n)
                     : "rbx", "rcx", "xmm3", "memory");
    return p;
}

static void hide(void *arg)
{
    uint64_t seed = (uintptr_t)arg * 7 + 1;
    struct item **box = gn_new_array(struct item *, 1);

    while (!stop) {
        *box = item_new();
        (*box)->left = item_new();
        struct item *p = in_registers(box, 1 + random_next(&seed) % 20000);

        check(p);
        check(p->left);
        *box = p->left;
        p = in_registers(box, 1 + random_next(&seed) % 2000);
        check(p);
        steps++;
    }
}

// ---- in frames of others ----

struct frame_job {
    struct item *there; // in the frame of who waits
    struct gn_wg done;
};

static void fill_frame(void *arg)
{
    struct frame_job *j = arg;

    j->there = item_new();
    j->there->left = item_new();
    gn_yield();
    j->there = j->there->left; // only the frame knows it now
    gn_yield();
    gn_wg_done(&j->done);
}

static void frames(void *arg)
{
    (void)arg;
    while (!stop) {
        struct frame_job j = {0};

        gn_wg_add(&j.done, 1);
        while (gn_go(fill_frame, &j) != 0)
            gn_yield(); // others have the memory for its stack
        gn_wg_wait(&j.done);
        check(j.there);
        steps++;
    }
}

// ---- in channels ----

typedef gn_chan(struct item *) items;

static items pipe_in, pipe_out;

static void pass_on(void *arg)
{
    struct item *p;

    (void)arg;
    while (gn_recv(pipe_in, &p)) {
        check(p);
        check(p->left);
        struct item *q = p->left;

        p = NULL;
        gn_send(pipe_out, q);
    }
    gn_close(pipe_out);
}

static void channels(void *arg)
{
    (void)arg;
    pipe_in = gn_make_chan(items, 7);
    pipe_out = gn_make_chan(items, 0);
    if (pipe_in.raw == NULL || pipe_out.raw == NULL ||
        gn_go(pass_on, NULL) != 0)
        abort();
    while (!stop) {
        for (int i = 0; i < 5; i++) {
            struct item *p = item_new();

            p->left = item_new();
            gn_send(pipe_in, p);
        }
        for (int i = 0; i < 5; i++) {
            struct item *p;

            gn_recv(pipe_out, &p);
            check(p);
        }
        steps++;
    }
    gn_close(pipe_in);
}

// ---- in arrays that are sorted, moved, grown ----

static int by_id(const void *a, const void *b)
{
    const struct item *x = *(struct item *const *)a,
                      *y = *(struct item *const *)b;

    return check(x) && check(y) ? (x->id > y->id) - (x->id < y->id) : 0;
}

static void arrays(void *arg)
{
    uint64_t seed = (uintptr_t)arg + 99;

    while (!stop) {
        size_t n = 16 + random_next(&seed) % 3000;
        struct item **a = gn_new_array(struct item *, n);

        for (size_t i = 0; i < n; i++)
            a[i] = item_new();
        for (size_t i = n; i > 1; i--) {
            size_t k = random_next(&seed) % i;
            struct item *t = a[i - 1];

            a[i - 1] = a[k];
            a[k] = t;
        }
        qsort(a, n, sizeof *a, by_id);
        for (size_t i = 1; i < n; i++)
            bad += a[i - 1]->id >= a[i]->id;
        memmove(a, a + n / 2, n / 2 * sizeof *a);
        memset(a + n / 2, 0, (n - n / 2) * sizeof *a);
        for (size_t i = 0; i < n / 2; i++)
            check(a[i]);
        steps++;
    }
}

// Only a block of malloc knows them, which grows and moves.
static void blocks(void *arg)
{
    uint64_t seed = (uintptr_t)arg + 5;
    struct item **a = NULL;
    size_t n = 0;

    while (!stop) {
        size_t want = 1 + random_next(&seed) % 40000;

        a = realloc(a, want * sizeof *a);
        if (a == NULL)
            abort();
        n = n < want ? n : want;
        for (size_t i = 0; i < n; i += 101)
            check(a[i]);
        memset(a + n, 0, (want - n) * sizeof *a);
        for (size_t i = n; i < want; i += 101) {
            a[i] = item_new();
            a[i - i % 101] = a[i];
        }
        for (size_t i = 0; i < n; i++)
            a[i] = i % 101 == 0 ? a[i] : NULL;
        n = want;
        steps++;
    }
    free(a);
}

// ---- huge, and nearly empty ----

static void sparse(void *arg)
{
    enum { WORDS = 1 << 20, USED = 32 }; // 8 MiB
    uint64_t seed = (uintptr_t)arg + 17;
    struct item **a = gn_new_array(struct item *, WORDS);
    size_t at[USED] = {0};

    if (a == NULL)
        return; // there is less memory than addresses
    while (!stop) {
        unsigned i = random_next(&seed) % USED;

        check(a[at[i]]);
        a[at[i]] = NULL;
        at[i] = random_next(&seed) % WORDS / 65536 * 65536 + i;
        a[at[i]] = item_new();
        steps++;
    }
}

// ---- explicit frees ----

static void frees(void *arg)
{
    uint64_t seed = (uintptr_t)arg + 3;
    struct item *mine[SLOTS] = {0};

    while (!stop) {
        unsigned i = random_next(&seed) % SLOTS;

        check(mine[i]);
        gn_free(mine[i]);
        mine[i] = item_new();
        if (random_next(&seed) % 32 == 0) {
            void *big =
                gn_alloc(40000 + random_next(&seed) % 100000, GN_SCAN, 0);

            gn_free(big);
        }
        steps++;
    }
}

static void collect(void *arg)
{
    (void)arg;
    while (!stop)
        gn_gc();
}

static const struct {
    const char *name;
    void (*fn)(void *);
} all[] = {
    {"between objects", shuffle},     {"in trees that turn", turn},
    {"in registers", hide},           {"in frames of others", frames},
    {"in channels", channels},        {"in arrays that are sorted", arrays},
    {"in blocks of malloc", blocks},  {"in sparse objects", sparse},
    {"beside explicit frees", frees},
};

struct job {
    void (*fn)(void *);
    uintptr_t number;
    struct gn_wg *wg;
};

static void run_job(void *arg)
{
    struct job *j = arg;

    j->fn((void *)j->number);
    gn_wg_done(j->wg);
}

static void start(struct gn_wg *wg, struct job *j, void (*fn)(void *),
                  unsigned number)
{
    *j = (struct job){fn, number, wg};
    gn_wg_add(wg, 1);
    if (gn_go(run_job, j) != 0)
        abort();
}

// n of `from`, from the first on, and somebody who collects all the time.
static void run(const char *name, unsigned first, unsigned n, unsigned each,
                unsigned ms)
{
    struct gn_gc_stats before, after;
    struct job jobs[32];
    unsigned k = 0;
    struct gn_wg wg = {0};

    stop = false;
    bad = steps = 0;
    gn_gc_stats(&before);
    start(&wg, &jobs[k++], collect, 0);
    for (unsigned i = first; i < first + n; i++) {
        // One pipe there is.
        for (unsigned e = 0; e < (all[i].fn == channels ? 1 : each); e++)
            start(&wg, &jobs[k++], all[i].fn, e + 1);
    }
    gn_sleep(ms * GN_MILLISECOND);
    do {
        gn_sleep(GN_MILLISECOND);
        gn_gc_stats(&after);
    } while (after.cycles < before.cycles + 3);
    stop = true;
    gn_wg_wait(&wg);
    ok(bad == 0 && steps > 0 && after.cycles > before.cycles, "%s", name);
    printf("# %lu collections, %lu steps, %lu objects freed, %lu bad\n",
           (unsigned long)(after.cycles - before.cycles), (unsigned long)steps,
           (unsigned long)(after.freed - before.freed), (unsigned long)bad);
}

int main(int argc, char **argv)
{
    unsigned ms = argc > 1 ? (unsigned)atoi(argv[1]) : 300;
    int only = argc > 2 ? atoi(argv[2]) : -1;
    const unsigned n = sizeof all / sizeof *all;

    for (unsigned i = 0; i < n; i++) {
        if (only < 0 || only == (int)i)
            run(all[i].name, i, 1, EACH, ms);
    }
    if (only < 0)
        run("all together", 0, n, 2, 4 * ms);
    return tap_end();
}
