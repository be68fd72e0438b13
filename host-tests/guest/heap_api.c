// <gneiss/heap.h>, call by call.

#include <gneiss/cpu.h>
#include <gneiss/heap.h>
#include <gneiss/mem.h> // programs may use both

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "host-tests/guest/tap.h"

enum { MANY = 20000, KIB = 1024, MIB = 1024 * KIB };

static struct {
    char *p;
    size_t n;
    enum gn_heap_kind kind;
} obj[MANY];

static bool is_zero(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

static uint64_t rng = 1;

static unsigned below(unsigned n)
{
    rng = rng * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)((rng >> 33) % n);
}

static size_t some_size(void)
{
    unsigned r = below(100);

    return r < 30   ? below(16) + 1
           : r < 90 ? below(1000) + 1
           : r < 99 ? below(32768) + 1
                    : below(200000) + 1;
}

static void test_kinds(void)
{
    bool zero = true, aligned = true, usable = true;

    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < MANY / 4; i++) {
            size_t n = some_size();
            enum gn_heap_kind kind = (enum gn_heap_kind)below(3);
            char *p = gn_alloc(n, kind, 0);
            size_t align = n > 24 || kind == GN_MANUAL ? 16
                           : n > 16                    ? 8
                           : kind == GN_SCAN           ? 16
                           : n % 8 == 0                ? 8
                           : n % 4 == 0                ? 4
                                                       : 2;

            if (p == NULL) {
                ok(false, "gn_alloc(%zu)", n);
                return;
            }
            zero &= is_zero(p, n);
            aligned &= (uintptr_t)p % align == 0 || n == 1;
            usable &= gn_usable_size(p) >= n;
            memset(p, 0x5a, n);
            obj[i].p = p;
            obj[i].n = n;
        }
        bool kept = true;

        for (unsigned i = 0; i < MANY / 4; i++) {
            for (size_t k = 0; k < obj[i].n; k++)
                kept &= obj[i].p[k] == 0x5a;
            // Any of the calls that free takes it.
            if (i % 3 == 0)
                free(obj[i].p);
            else if (i % 3 == 1)
                gn_free(obj[i].p);
            else
                gn_free_sized(obj[i].p, obj[i].n);
        }
        ok(kept, "objects of all kinds keep what is in them");
        gn_heap_check();
    }
    ok(zero, "they read as zero, used memory too");
    ok(aligned, "they are aligned");
    ok(usable, "they have room for what was asked");
}

static void test_arguments(void)
{
    void *p;

    errno = 0;
    ok(gn_alloc(10, (enum gn_heap_kind)7, 0) == NULL && errno == EINVAL,
       "an unknown kind is EINVAL");
    errno = 0;
    ok(gn_alloc(10, GN_SCAN, 64) == NULL && errno == EINVAL,
       "an unknown flag is EINVAL");
    errno = 0;
    volatile size_t odd = 24, none = 0; // clang 14 dies of a constant one

    ok(gn_alloc_aligned(10, odd, GN_SCAN, 0) == NULL && errno == EINVAL,
       "an alignment that is no power of two is EINVAL");
    errno = 0;
    ok(gn_alloc_aligned(10, none, GN_SCAN, 0) == NULL && errno == EINVAL,
       "an alignment of 0 is EINVAL");
    errno = 0;
    volatile size_t huge = SIZE_MAX;

    ok(gn_alloc(huge, GN_MANUAL, 0) == NULL && errno == ENOMEM,
       "what cannot be is ENOMEM");
    errno = 0;
    ok(gn_alloc(huge, GN_MANUAL, GN_PAST_END) == NULL && errno == ENOMEM,
       "one byte more, too");
    for (size_t align = 1; align <= 4 * MIB; align *= 2) {
        for (unsigned kind = 0; kind < 3; kind++) {
            p = gn_alloc_aligned(100, align, (enum gn_heap_kind)kind, 0);
            if (p == NULL || (uintptr_t)p % align != 0 || !is_zero(p, 100))
                ok(false, "aligned to %zu", align);
            gn_free(p);
        }
    }
    p = gn_alloc(0, GN_NOSCAN, 0);
    ok(p != NULL && gn_usable_size(p) >= 1, "0 bytes are one");
    gn_free(p);
    p = gn_alloc(16, GN_SCAN, GN_PAST_END);
    ok(gn_usable_size(p) >= 17, "a pointer past the end has a place");
    gn_free(p);
    gn_free(NULL);
    gn_free_sized(NULL, 0);
    ok(gn_usable_size(NULL) == 0, "NULL is allowed where free allows it");
}

static unsigned large_pages_of(const char *p, size_t n)
{
    unsigned count = 0;
    struct gn_where w;

    for (size_t i = 0; i < n; i += 2 * MIB) {
        gn_where(p + i, &w);
        count += w.page_bytes >= 2 * MIB;
    }
    return count;
}

static void test_large_pages(void)
{
    enum { N = 9 * MIB };
    struct gn_mem_stats before, after;

    gn_heap_trim();
    gn_mem_stats(&before);
    for (int round = 0; round < 3; round++) {
        char *p = gn_alloc(N, GN_NOSCAN, GN_LARGE_PAGES), *q;

        if (!ok(p != NULL && (uintptr_t)p % (2 * MIB) == 0 &&
                    large_pages_of(p, N) >= 3 && is_zero(p, N),
                "9 MiB by large pages, which read as zero"))
            return;
        memset(p, round + 1, N);
        q = malloc(100000); // what lies behind can't grow
        p = gn_realloc(p, 2 * N);
        bool kept = p != NULL;

        for (size_t i = 0; kept && i < N; i += 512)
            kept = p[i] == round + 1;
        p = gn_realloc(p, 5 * MIB);
        for (size_t i = 0; kept && i < 5 * MIB; i += 512)
            kept = p[i] == round + 1;
        ok(kept, "they keep their bytes when they grow and shrink");
        gn_free(p);
        gn_free(q);
        gn_heap_check();
    }
    gn_heap_trim();
    gn_mem_stats(&after);
    ok(after.frames_free + 64 >= before.frames_free, "and go back as a whole");
    errno = 0;
    ok(gn_alloc(N, GN_SCAN, GN_LARGE_PAGES) == NULL && errno == EINVAL,
       "not for memory with pointers");
}

static void test_realloc(void)
{
    for (unsigned kind = 0; kind < 3; kind++) {
        size_t n = 4;
        char *p = gn_alloc(n, (enum gn_heap_kind)kind, 0);
        bool kept = true;

        memset(p, 7, n);
        for (; n < 4 * MIB; n = n * 3 / 2 + 1) {
            p = gn_realloc(p, n * 3 / 2 + 1);
            for (size_t i = 0; i < n && i < 4096; i++)
                kept &= p[i] == 7;
            memset(p, 7, n * 3 / 2 + 1);
        }
        for (; n > 4; n /= 2) {
            p = gn_realloc(p, n / 2);
            for (size_t i = 0; i < n / 2 && i < 4096; i++)
                kept &= p[i] == 7;
        }
        ok(kept, "gn_realloc keeps the bytes of kind %u", kind);
        gn_free(p);
    }
    gn_heap_check();
}

// What newlib's own code calls.
static void test_reent_forms(void)
{
    char *p = _malloc_r(_REENT, 100);
    char *q = _calloc_r(_REENT, 10, 10), *r = _memalign_r(_REENT, 256, 10);

    if (!ok(p != NULL && q != NULL && r != NULL, "newlib's forms allocate"))
        return;
    memset(p, 7, 100);
    p = _realloc_r(_REENT, p, 5000);
    ok(p != NULL && p[0] == 7 && p[99] == 7 && is_zero(q, 100) &&
           (uintptr_t)r % 256 == 0,
       "as those without _r do");
    ok(_malloc_usable_size_r(_REENT, p) >= 5000, "they know sizes");
    _free_r(_REENT, p);
    _free_r(_REENT, q);
    _free_r(_REENT, r);
    volatile size_t huge = SIZE_MAX;

    errno = 0;
    ok(_calloc_r(_REENT, huge, 3) == NULL && errno == ENOMEM,
       "and refuse what cannot be");
}

static void test_tiny(void)
{
    char *a = gn_alloc(3, GN_NOSCAN, 0), *p[64];
    unsigned together = 0;

    // What is before is of other sizes: the block begins anew somewhere here.
    for (int i = 0; i < 64; i++) {
        p[i] = gn_alloc(4, GN_NOSCAN, 0);
        memset(p[i], i, 4);
        together += i > 0 && p[i] == p[i - 1] + 4;
    }
    ok(together >= 40,
       "four objects of 4 bytes share a block: %u of 63 follow "
       "one another",
       together);
    bool kept = true;

    for (int i = 0; i < 64; i++)
        kept &= p[i][0] == i && p[i][3] == i;
    ok(kept, "and keep their bytes");
    struct gn_heap_stats before, after;

    gn_heap_stats(&before);
    for (int i = 0; i < 64; i++)
        gn_free(p[i]);
    gn_free(a);
    gn_heap_stats(&after);
    IS(before.heap_objects - after.heap_objects, 65, "each counts as one");
    ok(before.alloc - after.alloc >= 16 * 16, "their blocks are free again");
    gn_heap_check();
}

struct count {
    uint64_t objects, bytes, mine;
};

static bool count_object(void *p, size_t n, enum gn_heap_kind kind, void *arg)
{
    struct count *c = arg;

    (void)p, (void)kind;
    c->objects++;
    c->bytes += n;
    return true;
}

static bool find_mine(void *p, size_t n, enum gn_heap_kind kind, void *arg)
{
    struct count *c = arg;

    for (unsigned i = 0; i < 200; i++)
        c->mine += obj[i].p == p && n >= obj[i].n && kind == obj[i].kind;
    return true;
}

static bool stop_at_once(void *p, size_t n, enum gn_heap_kind kind, void *arg)
{
    (void)p, (void)n, (void)kind;
    ++*(int *)arg;
    return false;
}

static bool add_up_span(const struct gn_span *s, void *arg)
{
    struct count *c = arg;
    unsigned allocated = 0, free = 0;

    for (int w = 0; w < 8; w++) {
        allocated += (unsigned)__builtin_popcountll(s->allocated_bits[w]);
        free += (unsigned)__builtin_popcountll(s->free_bits[w]);
        if (s->allocated_bits[w] & s->free_bits[w])
            c->mine++; // wrong
    }
    if (allocated != s->allocated || free != s->free ||
        allocated + free > s->objects || s->bytes % 8192 != 0)
        c->mine++;
    c->bytes += s->bytes;
    return true;
}

static void test_figures(void)
{
    static struct gn_class_stats rows[100];
    struct gn_heap_stats before, st;
    struct count walk = {0}, found = {0}, spans = {0};

    gn_heap_stats(&before);
    for (unsigned i = 0; i < 200; i++) {
        obj[i].n = i < 190 ? some_size() % 3000 + 16 : 100000 + i;
        obj[i].kind = (enum gn_heap_kind)(i % 3);
        obj[i].p = gn_alloc(obj[i].n, obj[i].kind, 0);
    }
    gn_heap_stats(&st);
    IS(st.heap_objects - before.heap_objects, 200, "200 objects more");
    IS(st.mallocs - before.mallocs, 200, "200 allocations more");
    IS(st.frees, before.frees, "nothing was freed");
    IS(st.large_objects - before.large_objects, 10, "10 of them large");
    IS(st.mallocs - st.frees, st.heap_objects, "mallocs - frees are objects");
    ok(st.alloc - before.alloc == st.total_alloc - before.total_alloc &&
           st.alloc > before.alloc,
       "what was allocated is there");
    ok(st.heap_inuse >= st.alloc &&
           st.heap_sys == st.heap_inuse + st.heap_idle &&
           st.heap_released <= st.heap_idle && st.promised <= st.heap_sys,
       "the sums are right");
    gn_heap_walk(count_object, &walk);
    IS(walk.objects, st.heap_objects, "the walk sees every object");
    gn_heap_walk(find_mine, &found);
    IS(found.mine, 200, "and ours, with size and kind");
    int calls = 0;

    ok(!gn_heap_walk(stop_at_once, &calls) && calls == 1,
       "it ends when it is told to");
    gn_heap_spans(add_up_span, &spans);
    IS(spans.mine, 0, "spans: bits and counts agree");
    IS(spans.bytes, st.heap_inuse, "and all of them are what is in use");
    size_t n = gn_heap_classes(rows, 100);
    uint64_t objects = 0, mallocs = 0, frees = 0, cached = 0, inuse = 0;

    for (size_t i = 0; i < n; i++) {
        objects += rows[i].objects;
        mallocs += rows[i].mallocs;
        frees += rows[i].frees;
        cached += rows[i].cached * rows[i].size;
        inuse += rows[i].spans * rows[i].span_bytes;
    }
    ok(n > 60 && gn_heap_classes(rows, 1) == n, "%zu classes", n);
    IS(objects, st.heap_objects - st.large_objects, "their objects add up");
    IS(cached, st.cached, "what is cached, too");
    ok(inuse <= st.heap_inuse && mallocs - frees == objects,
       "and spans, mallocs, frees");
    for (unsigned i = 0; i < 200; i++)
        gn_free(obj[i].p);
    gn_heap_stats(&st);
    IS(st.heap_objects, before.heap_objects, "all are gone");
    IS(st.frees - before.frees, 200, "200 frees");
}

// What the heap needs for itself, of a heap of 64-byte objects.
static void test_metadata(void)
{
    enum { N = 120000 }; // 7.7 MB
    void **p = malloc(N * sizeof *p);
    struct gn_heap_stats before, after;
    unsigned n = 0;

    gn_heap_stats(&before);
    while (p != NULL && n < N && (p[n] = malloc(64)) != NULL)
        n++;
    gn_heap_stats(&after);
    uint64_t meta =
        after.mspan_inuse - before.mspan_inuse + after.gc_sys - before.gc_sys;
    uint64_t bytes = after.heap_inuse - before.heap_inuse;

    ok(n == N && meta * 50 <= bytes,
       "at most 2 %% for the heap itself: %llu bytes for %llu",
       (unsigned long long)meta, (unsigned long long)bytes);
    while (n > 0)
        free(p[--n]);
    free(p);
}

static uint64_t oom_bytes;
static void *reserve;

static bool give_reserve(size_t n, void *arg)
{
    void *p = reserve;

    oom_bytes = n;
    ++*(int *)arg;
    reserve = NULL;
    gn_free(p);
    return p != NULL;
}

static void test_limit(void)
{
    struct gn_heap_stats st;
    int calls = 0;
    void *volatile p[64]; // or the compiler does without
    unsigned n = 0;

    gn_heap_trim();
    gn_heap_stats(&st);
    IS(gn_heap_limit(st.promised + 8 * MIB), UINT64_MAX, "there was no limit");
    errno = 0;
    while (n < 64 && (p[n] = malloc(MIB)) != NULL)
        n++;
    ok(n >= 6 && n <= 8 && errno == ENOMEM, "8 MiB more: %u objects of 1 MiB",
       n);
    p[63] = malloc(9 * MIB);
    ok(p[63] == NULL, "and no larger one");
    while (n > 0)
        free(p[--n]);
    p[0] = malloc(6 * MIB);
    ok(p[0] != NULL, "what is freed is there for other sizes");
    reserve = p[0];
    gn_on_oom(give_reserve, &calls);
    p[1] = malloc(4 * MIB);
    ok(p[1] != NULL && calls == 1 && oom_bytes == 4 * MIB,
       "the call-back makes room");
    p[2] = gn_alloc(5 * MIB, GN_NOSCAN, 0);
    ok(p[2] == NULL && calls == 2, "when it gives up there is none");
    gn_on_oom(NULL, NULL);
    free(p[1]);
    ok(gn_heap_limit(UINT64_MAX) != UINT64_MAX, "the limit is lifted");
    p[0] = malloc(16 * MIB);
    ok(p[0] != NULL, "and 16 MiB can be had");
    free(p[0]);
}

static uint64_t objects_of(uint32_t size)
{
    static struct gn_class_stats rows[128];
    size_t n = gn_heap_classes(rows, 128);

    for (size_t i = 0; i < n; i++)
        if (rows[i].size == size)
            return rows[i].objects;
    return 0;
}

// What another CPU has freed is free, though its owner does not know of it yet.
static void free_there(void *p)
{
    free(*(void **)p);
    __atomic_store_n((void **)p, NULL, __ATOMIC_RELEASE);
}

static void test_freed_elsewhere(void)
{
    uint64_t had = objects_of(2048);
    void *p = malloc(2000);

    if (gn_cpu_count() == 1 || p == NULL) {
        free(p);
        return;
    }
    int err = gn_cpu_start(1, free_there, &p);

    while (err == 0 && __atomic_load_n(&p, __ATOMIC_ACQUIRE) != NULL)
        usleep(1000);
    ok(err == 0 && objects_of(2048) == had,
       "an object that another CPU has freed is not counted");
}

static void test_keep(void)
{
    struct gn_heap_stats st;

    gn_heap_keep(0, 0);
    gn_heap_trim();
    gn_heap_stats(&st);
    uint64_t least = st.promised;

    gn_heap_keep(4 * MIB, 0);
    char *volatile p = malloc(8 * MIB);

    memset(p, 1, 8 * MIB);
    free(p);
    gn_heap_stats(&st);
    ok(st.promised > least && st.promised <= least + 5 * MIB,
       "gn_heap_keep: %llu KiB are kept",
       (unsigned long long)(st.promised - least) / KIB);
    ok(gn_heap_trim() >= 2 * MIB, "gn_heap_trim gives them back");
    // A period of an hour has begun when a shorter one is asked for. Nothing is due
    // from before by then.
    usleep(200000);
    gn_heap_keep(0, 3600000);
    p = malloc(8 * MIB);
    memset(p, 1, 8 * MIB);
    free(p);
    gn_heap_keep(0, 1);
    for (int i = 0; i < 300; i++) {
        gn_heap_stats(&st);
        if (st.promised <= least + MIB)
            break;
        usleep(100000);
    }
    ok(st.promised <= least + MIB, "a shorter delay counts");
    gn_heap_keep(UINT64_MAX, 100);
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    if (argc > 1)
        rng = (uint64_t)atoll(argv[1]);
    printf("# seed %llu\n", (unsigned long long)rng);
    test_kinds();
    test_arguments();
    test_realloc();
    test_large_pages();
    test_reent_forms();
    test_tiny();
    test_figures();
    test_metadata();
    test_limit();
    test_freed_elsewhere();
    test_keep();
    gn_heap_check();
    return tap_end();
}
