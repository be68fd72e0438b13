// sources: $(heap) host-tests/runtime/heap/blocks.c
// The whole heap on one CPU against a model: random calls of every kind, each
// block signed over all its bytes, none in two places.

#include "host-tests/support.h"

#include <errno.h>

#include <gneiss/heap.h>

#include "host-tests/runtime/heap/blocks.h"
#include "host-tests/runtime/heap/heap_fixture.h"
#include "runtime/heap/cache.h"

enum { SLOTS = 1500 };

static struct block blocks[SLOTS];

// One random call. `may_fail`: memory is short on purpose. Returns false if it
// failed.
static bool step(uint64_t *rnd, size_t most, bool may_fail)
{
    struct block *b = &blocks[block_random(rnd) % SLOTS];
    struct block_request r = block_some(block_random(rnd), most);
    uint64_t how = block_random(rnd) % 16, seed = block_random(rnd);
    bool done = true;

    if (b->p == NULL)
        done = block_new(b, r, seed);
    else if (how < 4)
        done = block_resize(b, r.n, seed);
    else if (how < 5) // as a buffer that grows
        done = block_resize(b, b->n + b->n / 4, seed);
    else
        block_free(b);
    MUST(done || may_fail);
    return done;
}

static void assert_stats(void)
{
    struct block_totals t = block_totals();
    struct gn_heap_stats s;

    gn_heap_stats(&s);
    MUST(s.heap_inuse + s.heap_idle == s.heap_sys);
    MUST(s.heap_inuse <= s.promised && s.promised <= s.heap_sys);
    MUST(s.promised + s.heap_released == s.heap_sys);
    // Small objects without pointers share blocks of 16 bytes.
    MUST(s.alloc >= t.bytes && s.alloc <= t.bytes + 16 * t.number);
    MUST(s.heap_objects <= t.number);
    MUST(s.mallocs - s.frees == s.heap_objects);
    MUST(s.total_alloc >= s.alloc && s.heap_inuse >= s.alloc);
}

static void run(uint64_t seed, unsigned steps, size_t most, bool may_fail)
{
    uint64_t rnd = seed;
    unsigned failed = 0;

    for (unsigned i = 0; i < steps; i++) {
        failed += !step(&rnd, most, may_fail);
        if (i % 256 == 0) {
            gn_heap_check();
            assert_stats();
        }
        if (i % 5000 == 4999)
            heap_trim();
    }
    MUST(failed > 0 || !may_fail);
}

static void free_everything(void)
{
    for (size_t i = 0; i < SLOTS; i++)
        block_free(&blocks[i]);
    MUST(block_totals().number == 0 && block_totals().bytes == 0);
    gn_heap_check();
    heap_trim();
    gn_heap_check();
    MUST(pages_stats.free == pages_stats.total && pages_stats.promised == 0);
    MUST(host_tlb_stale() == 0);
}

// The same twice: what the heap keeps for its own structures, it has by then.
static void twice(unsigned steps, size_t most, bool may_fail)
{
    uint64_t seed = support_random() | 1;

    run(seed, steps, most, may_fail);
    free_everything();
    struct heap_accounts before = heap_accounts();

    run(seed, steps, most, may_fail);
    free_everything();
    struct heap_accounts after = heap_accounts();

    MUST(after.frames == before.frames);
    MUST(after.committed == before.committed);
}

static void plenty(void)
{
    heap_machine(256 * MIB);
    twice(16000, SIZE_MAX, false);
}

static void every_block_keeps_its_bytes_and_comes_back(void **s)
{
    (void)s;
    heap_alone(plenty);
}

static void short_of_memory(void)
{
    heap_machine(10 * MIB);
    twice(12000, SIZE_MAX, true);
}

static void running_out_loses_nothing(void **s)
{
    (void)s;
    heap_alone(short_of_memory);
}

// ---- one thing at a time ----

// Sizes around every class, of every kind; and each alignment.
static void every_size(void)
{
    struct block b[HEAP_KINDS];

    heap_machine(64 * MIB);
    for (unsigned c = 1; c < HEAP_CLASSES; c++) {
        for (unsigned off = 0; off < 3; off++) {
            size_t n = heap_classes[c].size + off - 1;

            for (unsigned k = 0; k < HEAP_KINDS; k++) {
                struct block_request r = {n, 16, k, off == 0};

                MUST(block_new(&b[k], r, n));
            }
            for (unsigned k = 0; k < HEAP_KINDS; k++)
                block_free(&b[k]);
        }
    }
    gn_heap_check();
}

static void every_class_has_its_sizes(void **s)
{
    (void)s;
    heap_alone(every_size);
}

static void aligned(void)
{
    static const size_t sizes[] = {0,    1,     17,    100,   1000,
                                   3000, 10000, 32768, 32769, 100000};
    static struct block b[22][ARRAY_LEN(sizes)];

    heap_machine(256 * MIB);
    for (unsigned k = 0; k < HEAP_KINDS; k++) {
        for (unsigned a = 0; a < ARRAY_LEN(b); a++) {
            for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
                struct block_request r = {sizes[i], (size_t)1 << a, k, i % 2};

                MUST(block_new(&b[a][i], r, sizes[i] + a));
            }
            gn_heap_check();
        }
        for (unsigned a = 0; a < ARRAY_LEN(b); a++) {
            for (size_t i = 0; i < ARRAY_LEN(sizes); i++)
                block_free(&b[a][i]);
        }
    }
    gn_heap_check();
    heap_trim();
    MUST(pages_stats.free == pages_stats.total);
}

static void every_alignment_is_kept(void **s)
{
    (void)s;
    heap_alone(aligned);
}

static void absurd(void)
{
    heap_machine(32 * MIB);
    MUST(heap_alloc(ARCH_HEAP_SIZE / 2 + 1, HEAP_MANUAL, 16, false) == NULL);
    MUST(heap_alloc(SIZE_MAX, HEAP_NOSCAN, 16, true) == NULL);
    MUST(heap_alloc(SIZE_MAX, HEAP_SCAN, 1 << 20, true) == NULL);
    MUST(heap_alloc(1, HEAP_SCAN, ARCH_HEAP_SIZE / 2, true) == NULL);
    MUST(heap_alloc(1, HEAP_SCAN, ARCH_HEAP_SIZE / 4, true) == NULL);
    MUST(heap_alloc(ARCH_HEAP_SIZE / 2, HEAP_SCAN, 16, true) == NULL);
    for (unsigned i = 0; i < 17; i++) {
        errno = 0;
        MUST(heap_malloc(SIZE_MAX - i) == NULL && errno == ENOMEM);
        void *p = heap_malloc(i * 3000);

        MUST(p != NULL && heap_realloc(p, SIZE_MAX - i) == NULL);
        MUST(heap_realloc(p, ARCH_HEAP_SIZE / 2) == NULL);
        heap_free(p);
    }
    heap_free(NULL);
    void *p = heap_realloc(NULL, 100);

    p = heap_realloc(p, 0);
    MUST(p != NULL);
    heap_free(p);
    gn_heap_check();
}

static void absurd_requests_are_refused(void **s)
{
    (void)s;
    heap_alone(absurd);
}

// The memory that free small objects hold is found before a call fails, whichever
// call it is.
static void from_caches(void)
{
    enum { N = 20000, SIZE = 512 };
    static void *p[N];
    heap_machine(24 * MIB);
    for (unsigned how = 0; how < 4; how++) {
        size_t n = 0;

        while (n < N && (p[n] = heap_malloc(SIZE)) != NULL)
            n++;
        for (size_t i = 0; i < n; i++)
            heap_free(p[i]);
        // All but what the stack of one class and the empty spans kept hold.
        size_t most = n * SIZE * 4 / 5;
        void *q = how == 0   ? heap_malloc(most)
                  : how == 1 ? heap_alloc(most, HEAP_NOSCAN, 4096, true)
                  : how == 2 ? heap_alloc(most, HEAP_NOSCAN, 65536, true)
                             : heap_realloc(heap_malloc(40000), most);

        MUST(q != NULL);
        gn_heap_check();
        heap_free(q);
        heap_trim();
    }
}

static void caches_are_emptied_before_a_call_fails(void **s)
{
    (void)s;
    heap_alone(from_caches);
}

// What was never handed out is not cleared, everything else is: of each class, from
// a stack and from a span.
static void fresh_once(void)
{
    static char *p[40];

    heap_machine(64 * MIB);
    for (unsigned c = HEAP_CLASS_TINY + 1; c <= HEAP_CLASSES; c++) {
        size_t n = c < HEAP_CLASSES ? heap_classes[c].size : 100000;
        unsigned nfresh = 0;
        bool fresh;

        for (size_t i = 0; i < ARRAY_LEN(p); i++) {
            fresh = false;
            p[i] = cache_alloc(n, HEAP_NOSCAN, 16, &fresh);
            MUST(p[i] != NULL);
            nfresh += fresh;
            for (size_t k = 0; fresh && k < n; k += 8)
                MUST(*(uint64_t *)(p[i] + k) == 0);
            memset(p[i], 1, n);
        }
        // But long spans, for which a page cache had too little left.
        MUST(nfresh >= ARRAY_LEN(p) - 4);
        for (size_t i = 0; i < ARRAY_LEN(p); i++)
            heap_free(p[i]);
        char *q = cache_alloc(n, HEAP_NOSCAN, 16, &fresh);

        MUST(q != NULL);
        for (size_t k = 0; fresh && k < n; k += 8)
            MUST(*(uint64_t *)(q + k) == 0);
        heap_free(q);
        heap_trim(); // pages without frames read as zero again
    }
}

// A stack that was filled with fresh objects and then flushed: what is freed into
// it must not be taken for them, however many there are.
static void flushed(void)
{
    enum {
        N = 228,
        SIZE = 64
    }; // a span of 128, which stays ours, and some more
    char *p[N];

    heap_machine(64 * MIB);
    for (unsigned i = 0; i < N; i++) {
        p[i] = heap_malloc(SIZE);
        MUST(p[i] != NULL);
        memset(p[i], 1, SIZE);
    }
    heap_trim();
    for (unsigned i = 0; i < 100; i++) {
        heap_free(p[i]);
        p[i] = heap_alloc(SIZE, HEAP_MANUAL, 16, true);
        MUST(p[i] != NULL && p[i][0] == 0);
        MUST(memcmp(p[i], p[i] + 1, SIZE - 1) == 0);
        memset(p[i], 1, SIZE);
    }
}

static void nothing_is_cleared_twice_and_all_once(void **s)
{
    (void)s;
    heap_alone(fresh_once);
    heap_alone(flushed);
}

// A large object grows and shrinks where it lies if it can; else its pages move.
static void resize_large(void)
{
    struct block b, c;
    struct block_request r = {100000, 16, HEAP_MANUAL, false};

    heap_machine(64 * MIB);
    MUST(block_new(&b, r, 1));
    void *was = b.p;

    MUST(block_resize(&b, 3000000, 2) && b.p == was);
    MUST(block_resize(&b, 70000, 3) && b.p == was);
    MUST(block_new(&c, r, 4)); // in its way
    uint64_t frames = mm_free_frames();

    MUST(block_resize(&b, 2000000, 5) && b.p != was);
    MUST(frames - mm_free_frames() < 2000000 / PAGE_SIZE + 40);
    block_check(&c);
    MUST(block_resize(&b, 20000, 6));  // to a small one
    MUST(block_resize(&b, 200000, 7)); // and back
    MUST(block_resize(&b, 150000, 8));
    MUST(block_resize(&b, 149000, 9));
    block_free(&b);
    block_free(&c);
    gn_heap_check();
}

static void large_objects_change_their_size(void **s)
{
    (void)s;
    heap_alone(resize_large);
}

// What trimming gives back is what it says.
static void trimmed(void)
{
    static struct block b[400];
    uint64_t frames;

    heap_machine(64 * MIB);
    for (size_t i = 0; i < ARRAY_LEN(b); i++) {
        struct block_request r = {i * 50, 16, HEAP_MANUAL, false};

        MUST(block_new(&b[i], r, i));
    }
    for (size_t i = 0; i < ARRAY_LEN(b); i++)
        block_free(&b[i]);
    uint64_t promised = pages_stats.promised;

    frames = mm_free_frames();
    MUST(heap_trim() == promised * HEAP_PAGE_FRAMES);
    MUST(mm_free_frames() > frames);
    MUST(mm_free_frames() - frames <= promised * HEAP_PAGE_FRAMES);
    MUST(heap_trim() == 0);
}

static void trimming_gives_all_back(void **s)
{
    (void)s;
    heap_alone(trimmed);
}

// Spans whose CPU gave them up while objects were in them.
static void of_nobody(void)
{
    static void *p[3000];

    heap_machine(64 * MIB);
    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        p[i] = heap_malloc(i % 2000);
    heap_trim();
    for (size_t i = 0; i < ARRAY_LEN(p); i += 2)
        heap_free(p[i]);
    gn_heap_check();
    for (size_t i = 1; i < ARRAY_LEN(p); i += 2)
        heap_free(p[i]);
    // What is left are spans that were full: they are still this CPU's.
    for (uintptr_t va = ARCH_HEAP_BASE; va < pages_end(); va += HEAP_PAGE)
        MUST(span_of(va) == NULL || span_of(va)->owner == 1);
    gn_heap_check();
}

static void what_nobody_owns_goes_with_its_last_object(void **s)
{
    (void)s;
    heap_alone(of_nobody);
}

// Heap pages of spans.
static uint64_t pages_of_spans(void)
{
    uint64_t n = 0;

    for (uintptr_t va = ARCH_HEAP_BASE; va < pages_end(); va += HEAP_PAGE)
        n += span_of(va) != NULL;
    return n;
}

// A CPU keeps 1/256 of memory in empty spans, 512 KiB at most. Objects of this size
// lie in no stack: the spans of freed ones are empty.
static void keeps_empty(uint64_t ram, uint64_t most)
{
    static void *p[500];
    const struct cache *c;

    heap_machine(ram);
    c = arch_local();
    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        MUST((p[i] = heap_malloc(HEAP_CACHE_MAX + 1)) != NULL);
    uint64_t had = pages_of_spans();

    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        heap_free(p[i]);
        MUST(c->empty_pages <= most);
    }
    MUST(had > 4 * most);
    MUST(pages_of_spans() == c->empty_pages);
    MUST(c->empty_pages > most - 8); // a span fits no more
    gn_heap_check();
}

static void little_memory(void)
{
    keeps_empty(48 * MIB, 24);
}

static void much_memory(void)
{
    keeps_empty(512 * MIB, 64);
}

static void few_empty_spans_are_kept(void **s)
{
    (void)s;
    heap_alone(little_memory);
    heap_alone(much_memory);
}

// Pressure has the heap give back what it holds for nothing.
static void pressed(void)
{
    void *p[100];

    heap_machine(64 * MIB);
    for (unsigned i = 0; i < ARRAY_LEN(p); i++)
        p[i] = heap_malloc(2000);
    for (unsigned i = 0; i < ARRAY_LEN(p); i++)
        heap_free(p[i]);
    MUST(mm_reclaim(1) > 0);
    MUST(pages_stats.promised == 0);
    gn_heap_check();
}

static void pressure_gets_idle_pages(void **s)
{
    (void)s;
    heap_alone(pressed);
}

// A CPU leaves its no-preempt section when it is asked to, whichever way out of
// malloc and free it takes.
static unsigned switched;

static bool count_switch(void)
{
    switched++;
    return false;
}

static void asked_to_leave(void)
{
    void *p[300];

    heap_machine(32 * MIB);
    arch_hooks.pending = count_switch;
    for (unsigned i = 0; i < ARRAY_LEN(p); i++) {
        preempt_set_pending();
        p[i] = heap_malloc(i * 40);
        MUST(p[i] != NULL && switched == i + 1 && preempt_count() == 0);
    }
    for (unsigned i = 0; i < ARRAY_LEN(p); i++) {
        preempt_set_pending();
        heap_free(p[i]);
        MUST(switched == i + 301 && preempt_count() == 0);
    }
    arch_hooks.pending = NULL;
}

static void no_call_keeps_the_cpu(void **s)
{
    (void)s;
    heap_alone(asked_to_leave);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_keeps_its_bytes_and_comes_back),
        cmocka_unit_test(running_out_loses_nothing),
        cmocka_unit_test(every_class_has_its_sizes),
        cmocka_unit_test(every_alignment_is_kept),
        cmocka_unit_test(absurd_requests_are_refused),
        cmocka_unit_test(caches_are_emptied_before_a_call_fails),
        cmocka_unit_test(nothing_is_cleared_twice_and_all_once),
        cmocka_unit_test(large_objects_change_their_size),
        cmocka_unit_test(trimming_gives_all_back),
        cmocka_unit_test(what_nobody_owns_goes_with_its_last_object),
        cmocka_unit_test(few_empty_spans_are_kept),
        cmocka_unit_test(pressure_gets_idle_pages),
        cmocka_unit_test(no_call_keeps_the_cpu),
    };

    return cmocka_run_group_tests_name("heap", tests, NULL, NULL);
}
