// Weak pointers, cleanups, finalizers: after Go's tests (src/runtime/mfinal_test.go,
// mcleanup_test.go, src/weak/pointer_test.go), under many goroutines.

#include <gneiss/gc.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/go_test.h"

struct thing {
    uint64_t mark;
    struct thing *next;
    uint64_t pad[2];
};

enum { MARK = 0xfeedbeef };

static _Atomic int calls, wrong;
static int late; // that may still be called
static struct thing *_Atomic saved;

static NOINLINE struct thing *thing_new(void)
{
    struct thing *t = need(gn_new(struct thing));

    t->mark = MARK;
    return t;
}

// What was in registers and on the stack below is overwritten.
static NOINLINE void forget(void)
{
    volatile char junk[4096];

    memset((void *)junk, 0, sizeof junk);
}

// Collects until most of n were called, as far as that goes. What a stack or a register
// still shows of one that was freed may keep another in its place: so a few may be
// missing, of those that are tried at once, and no more may be called.
static bool called(int n)
{
    for (int i = 0; i < 30 && calls < n; i++) {
        forget();
        gn_gc();
        for (int k = 0; k < 100 && calls < n; k++)
            gn_yield();
    }
    if (calls != n)
        printf("# %d of %d were called\n", calls, n);
    bool good = calls <= n + late && calls + 3 + n / 100 >= n;

    late += n - calls;
    return good;
}

static void count(void *arg)
{
    (void)arg;
    calls++;
}

static void save(void *p)
{
    struct thing *t = p;

    wrong += t->mark != MARK || (t->next != NULL && t->next->mark != MARK);
    saved = t;
    calls++;
}

// ---- finalizers ----

static NOINLINE void drop_finalizable(int n)
{
    for (int i = 0; i < n; i++) {
        struct thing *t = thing_new();

        t->next = thing_new();
        if (gn_set_finalizer(t, save) != 0)
            abort();
    }
}

static void count_circle(void *p)
{
    (void)p;
    calls++;
}

static NOINLINE void drop_circles(int n)
{
    for (int i = 0; i < n; i++) {
        struct thing *a = thing_new(), *b = thing_new();

        a->next = b;
        b->next = a;
        if (gn_set_finalizer(a, count_circle) != 0 ||
            gn_set_finalizer(b, count_circle) != 0)
            abort();
    }
}

enum { FIRST = 1, SECOND };

static _Atomic int firsts, seconds;

static void chained(void *p)
{
    struct thing *t = p;

    if (t->pad[0] == FIRST) {
        wrong += t->next->pad[1] != 0; // the second was finalized before
        t->pad[1] = 1;
        firsts++;
    } else {
        t->pad[1] = 1;
        seconds++;
    }
    calls++;
}

static NOINLINE void drop_chains(int n)
{
    for (int i = 0; i < n; i++) {
        struct thing *a = thing_new(), *b = thing_new();

        a->next = b;
        a->pad[0] = FIRST;
        b->pad[0] = SECOND;
        if (gn_set_finalizer(a, chained) != 0 ||
            gn_set_finalizer(b, chained) != 0)
            abort();
    }
}

static void test_finalizers(void)
{
    calls = 0;
    drop_finalizable(20);
    ok(called(20) && wrong == 0, "finalizers get their object whole");
    ok(saved->mark == MARK && saved->next->mark == MARK,
       "which is kept while somebody knows it");
    gn_gc();
    ok(saved->mark == MARK && saved->next->mark == MARK, "and later");
    saved = NULL;
    calls = 0;
    drop_finalizable(1000);
    ok(called(1000) && wrong == 0, "a thousand (TestFinalizerType)");
    saved = NULL;
    calls = 0;
    drop_chains(20);
    ok(called(40) && wrong == 0, "of two in a chain the first comes first");
    ok(firsts + 3 >= 20 && seconds + 3 >= 20, "and the second, too");
    calls = 0;
    drop_circles(20);
    for (int i = 0; i < 5; i++) {
        forget();
        gn_gc();
        gn_yield();
    }
    ok(calls <= late, "in a circle none");
    late -= calls;
}

static void set_twice(void *t)
{
    (void)gn_set_finalizer(t, save);
    (void)gn_set_finalizer(t, save);
}

static void set_inside(void *t)
{
    (void)gn_set_finalizer((char *)t + 8, save);
}

static void set_foreign(void *t)
{
    (void)gn_set_finalizer(t, save);
}

static void cleanup_self(void *t)
{
    (void)gn_add_cleanup(t, count, (char *)t + 8, NULL);
}

static void test_misuse(void)
{
    struct thing *t = thing_new();
    int local;

    ok(panics(set_twice, t, "runtime.SetFinalizer: finalizer already set"),
       "a second finalizer");
    ok(panics(
           set_inside, t,
           "runtime.SetFinalizer: pointer not at beginning of allocated block"),
       "of the inside of an object");
    ok(panics(set_foreign, &local,
              "gn_set_finalizer: not a pointer to a collected object"),
       "of no object");
    ok(panics(cleanup_self, t,
              "runtime.AddCleanup: ptr is within arg, cleanup will never run"),
       "a cleanup that keeps its object");
    IS(gn_set_finalizer(t, NULL), 0, "a finalizer is taken away");
    IS(gn_set_finalizer(t, NULL), 0, "also where there is none");
    gn_free(t);
}

// ---- cleanups ----

static NOINLINE void drop_cleaned(int n, int each)
{
    for (int i = 0; i < n; i++) {
        struct thing *t = thing_new();

        for (int k = 0; k < each; k++) {
            // An interior pointer will do (TestCleanupInteriorPointer).
            if (gn_add_cleanup(&t->pad[1], count, NULL, NULL) != 0)
                abort();
        }
    }
}

static NOINLINE struct gn_cleanup drop_stopped(void)
{
    struct thing *t = thing_new();
    struct gn_cleanup c, other;

    if (gn_add_cleanup(t, count, NULL, &c) != 0 ||
        gn_add_cleanup(t, count, NULL, &other) != 0)
        abort();
    ok(gn_cleanup_stop(c), "a cleanup is stopped (TestCleanupStop)");
    ok(!gn_cleanup_stop(c), "once");
    return other;
}

static _Atomic int cleaned_first;

static void finalize_both(void *p)
{
    struct thing *t = p;

    *(_Atomic int *)t->pad[0] = 1;
    calls++;
}

static void clean_both(void *arg)
{
    cleaned_first += *(_Atomic int *)arg == 0;
    calls++;
}

static NOINLINE void drop_both(int n)
{
    static _Atomic int finalized[64];

    for (int i = 0; i < n; i++) {
        struct thing *t = thing_new();

        t->pad[0] = (uintptr_t)&finalized[i];
        if (gn_set_finalizer(t, finalize_both) != 0 ||
            gn_add_cleanup(t, clean_both, &finalized[i], NULL) != 0)
            abort();
    }
}

static void check_arg(void *arg)
{
    wrong += ((struct thing *)arg)->mark != MARK;
    calls++;
}

static NOINLINE void drop_with_arg(int n)
{
    for (int i = 0; i < n; i++) {
        if (gn_add_cleanup(thing_new(), check_arg, thing_new(), NULL) != 0)
            abort();
    }
}

static void test_cleanups(void)
{
    calls = 0;
    drop_cleaned(20, 1);
    ok(called(20), "cleanups (TestCleanup)");
    calls = 0;
    drop_cleaned(100, 3);
    (void)called(300);
    ok(calls + 9 >= 300, "several of each object (TestCleanupMultiple)");
    calls = 0;
    struct gn_cleanup other = drop_stopped();

    ok(called(1), "the other one is called, mostly");
    ok(calls == 0 || !gn_cleanup_stop(other), "and can't be stopped any more");
    calls = wrong = 0;
    drop_with_arg(20);
    ok(called(20) && wrong == 0, "what they are given was kept");
    calls = 0;
    drop_both(20);
    ok(called(40) && cleaned_first == 0,
       "with a finalizer, that comes first (TestCleanupAfterFinalizer)");
    calls = 0;
    struct thing *t = thing_new();

    if (gn_add_cleanup(t, count, NULL, NULL) != 0 ||
        gn_set_finalizer(t, save) != 0)
        abort();
    gn_free(t);
    for (int i = 0; i < 100 && calls == 0; i++)
        gn_yield();
    IS(calls, 1, "gn_free calls cleanups, and no finalizer");
}

// ---- weak pointers ----

enum { WEAKS = 20 };

static NOINLINE void drop_weak(struct gn_weak *w)
{
    for (int i = 0; i < WEAKS; i++) {
        if (gn_weak_make(&thing_new()->pad[0], &w[i]) != 0)
            abort();
    }
}

static struct gn_weak final_weak[WEAKS];

static void look_weak(void *p)
{
    struct thing *t = p;

    wrong += gn_weak_get(final_weak[t->pad[0]]) != NULL || t->mark != MARK;
    calls++;
}

static NOINLINE void drop_weak_finalizable(void)
{
    for (unsigned i = 0; i < WEAKS; i++) {
        struct thing *t = thing_new();

        t->pad[0] = i;
        if (gn_weak_make(t, &final_weak[i]) != 0 ||
            gn_set_finalizer(t, look_weak) != 0)
            abort();
    }
}

static bool become_nil(const struct gn_weak *w)
{
    int n = 0;

    for (int i = 0; i < 10 && n < WEAKS; i++) {
        forget();
        gn_gc();
        n = 0;
        for (int k = 0; k < WEAKS; k++)
            n += gn_weak_get(w[k]) == NULL;
    }
    return n + 3 >= WEAKS;
}

static void test_weak(void)
{
    struct gn_weak w, v, none = {NULL, 0};
    struct thing *t = thing_new();

    IS(gn_weak_make(t, &w), 0, "a weak pointer is made");
    IS(gn_weak_make(t, &v), 0, "and another");
    ok(memcmp(&w, &v, sizeof w) == 0, "they are equal (TestPointerEquality)");
    ok(gn_weak_get(w) == t, "it leads to the object (TestPointer)");
    gn_gc();
    ok(gn_weak_get(w) == t && t->mark == MARK, "also after a collection");
    gn_keep_alive(t);
    struct gn_weak dropped[WEAKS];

    drop_weak(dropped);
    ok(become_nil(dropped), "nil when nobody else knows the object");
    ok(gn_weak_get(none) == NULL && gn_weak_make(NULL, &v) == 0 &&
           gn_weak_get(v) == NULL,
       "one of nothing");
    t = thing_new();
    IS(gn_weak_make(t, &w), 0, "one of an object");
    gn_free(t);
    ok(gn_weak_get(w) == NULL, "that is freed is nil");
    calls = wrong = 0;
    drop_weak_finalizable();
    ok(called(WEAKS) && wrong == 0,
       "nil when the finalizer runs (TestPointerFinalizer)");
}

// ---- many at once ----

enum { WORKERS = 8, STEPS = 400 };

static _Atomic uint64_t made, finalized, cleaned, alive;

static void finalize_one(void *p)
{
    wrong += ((struct thing *)p)->mark != MARK;
    ((struct thing *)p)->mark = 0;
    finalized++;
}

static void clean_one(void *arg)
{
    (void)arg;
    cleaned++;
}

static void work(void *arg)
{
    struct gn_wg *wg = arg;
    struct gn_weak w[16] = {{NULL, 0}};
    struct thing *keep[16] = {NULL};

    for (int i = 0; i < STEPS; i++) {
        int k = i % 16;
        struct thing *t = gn_weak_get(w[k]);

        // Whoever gets it gets it whole.
        wrong += t != NULL && t->mark != MARK;
        wrong += keep[k] != NULL && t != keep[k];
        alive += t != NULL;
        t = thing_new();
        t->next = thing_new();
        made++;
        if (gn_weak_make(t, &w[k]) != 0 ||
            gn_add_cleanup(t, clean_one, NULL, NULL) != 0 ||
            (i % 3 == 0 && gn_set_finalizer(t, finalize_one) != 0))
            abort();
        keep[k] = i % 5 == 0 ? t : NULL;
        if (i % 7 == 0)
            gn_yield();
    }
    gn_wg_done(wg);
}

static _Atomic bool stop;

static void collect(void *arg)
{
    while (!stop)
        gn_gc();
    gn_wg_done(arg);
}

static void test_many(void)
{
    struct gn_wg wg = {0}, gc = {0};

    wrong = 0;
    gn_wg_add(&gc, 1);
    go(collect, &gc);
    gn_wg_add(&wg, WORKERS);
    for (int i = 0; i < WORKERS; i++)
        go(work, &wg);
    gn_wg_wait(&wg);
    stop = true;
    gn_wg_wait(&gc);
    for (int i = 0; i < 50 && cleaned < made; i++) {
        forget();
        gn_gc();
        for (int k = 0; k < 200; k++)
            gn_yield();
    }
    IS(wrong, 0, "with goroutines and collections at once");
    // What a stack that was used before still shows may stay.
    ok(cleaned + made / 100 + 16 >= made, "nearly all cleanups were called");
    printf("# %lu objects, %lu finalized, %lu cleaned, %lu found alive\n",
           (unsigned long)made, (unsigned long)finalized,
           (unsigned long)cleaned, (unsigned long)alive);
}

int main(void)
{
    test_finalizers();
    test_misuse();
    test_cleanups();
    test_weak();
    test_many();
    return tap_end();
}
