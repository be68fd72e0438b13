// sources: $(heap)
// White bits and sweeping (runtime/heap/collect.h), against a model: this test is the
// marker, so it knows what is dead. Objects are made, freed by their own CPU and by
// others, and left to the sweeper, before, while and after it is marked.

#include "host-tests/support.h"

#include <stdlib.h>

#include "host-tests/runtime/heap/heap_fixture.h"
#include "runtime/heap/collect.h"

enum {
    RAM = 64 * MIB,
    CPUS = 3,
    MOST = 4000,
    CYCLES = 12,
    STEPS = 3000,
};

struct object {
    uint8_t *p; // NULL: none
    size_t n;
    enum heap_kind kind;
    uint8_t mark;
    bool old; // there when the marking began
};

static struct object objects[MOST];
static uint64_t seed;

static uint64_t below(uint64_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (seed >> 33) % n;
}

static void be(unsigned cpu)
{
    host_this_cpu()->id = cpu;
    if (cache_of_cpu(cpu) == NULL)
        heap_cpu_init();
    else
        arch_set_local(cache_of_cpu(cpu));
}

static uintptr_t base_of(const struct object *o)
{
    struct heap_place at;

    MUST(heap_place_of((uintptr_t)o->p, &at) && at.allocated);
    return at.object;
}

static size_t size_now(void)
{
    switch (below(8)) {
    case 0:
        return 1 + below(15); // tiny, without pointers
    case 1:
        return 1 + below(3000);
    case 2:
        return 1 + below(32768);
    case 3:
        return below(8) == 0 ? 32769 + below(300000) : 24;
    default:
        return 16 + below(400);
    }
}

static void check(const struct object *o)
{
    for (size_t i = 0; i < o->n; i += 1 + o->n / 7)
        MUST(o->p[i] == o->mark);
    MUST(o->p[o->n - 1] == o->mark);
}

static void make(struct object *o)
{
    o->n = size_now();
    o->kind = (enum heap_kind)below(HEAP_KINDS);
    o->mark = (uint8_t)below(256);
    o->old = false;
    o->p = heap_alloc(o->n, o->kind, 1, true);
    MUST(o->p != NULL);
    if (o->kind == HEAP_SCAN) { // R16: clear to its end, whatever it was before
        for (size_t i = 0; i < heap_usable(o->p); i++)
            MUST(o->p[i] == 0);
    }
    // Tiny ones may come into a block that was there before.
    if (o->kind != HEAP_MANUAL && (o->kind == HEAP_SCAN || o->n > 15))
        MUST(!collect_is_white(base_of(o)));
    memset(o->p, o->mark, o->n);
}

static void drop(struct object *o)
{
    uintptr_t base = base_of(o);
    const struct span *s = span_of(base);
    // Else its bit stays until the owner knows (R17), or others share the block.
    bool at_once = o->kind != HEAP_MANUAL && s->class != HEAP_CLASS_TINY &&
                   (s->class == 0 || s->owner == arch_cpu_id() + 1);

    check(o);
    heap_free(o->p);
    MUST(!at_once || !collect_is_white(base));
    o->p = NULL;
}

static void step(bool frees)
{
    struct object *o = &objects[below(MOST)];

    be((unsigned)below(CPUS));
    if (o->p == NULL)
        make(o);
    else if (frees)
        drop(o);
    else
        check(o);
}

// What is reached: all others' blocks too, if one of several in it is.
static void mark(bool *keep)
{
    for (size_t i = 0; i < MOST; i++) {
        struct object *o = &objects[i];

        if (o->p == NULL)
            continue;
        keep[i] = !o->old || o->kind == HEAP_MANUAL || below(3) == 0;
        if (keep[i] && o->kind != HEAP_MANUAL)
            collect_unwhiten(base_of(o));
    }
    collect_keep_tiny();
}

static void check_white(bool old)
{
    uint64_t end = heap_page_of(pages_end()) * HEAP_PAGE / 1024;

    // Where no allocated object of a collected kind begins nothing is white.
    for (uint64_t w = ARCH_HEAP_BASE / 1024; w < ARCH_HEAP_BASE / 1024 + end;
         w++) {
        uint64_t white = COLLECT_WHITE_BITS[w];

        MUST((white & ~PAGES_ALLOC_BITS[w]) == 0);
        MUST(old || white == 0);
    }
}

static void cycle(void)
{
    static bool keep[MOST];
    uint64_t end;

    for (unsigned i = 0; i < STEPS; i++)
        step(below(2) == 0);
    collect_hold();
    end = heap_page_of(pages_end());
    for (uint64_t p = 0; p < end; p += 64) {
        collect_whiten(p, min_u64(64, end - p));
        step(true);
    }
    check_white(true);
    for (size_t i = 0; i < MOST; i++)
        objects[i].old =
            objects[i].p != NULL && (objects[i].kind == HEAP_MANUAL ||
                                     collect_is_white(base_of(&objects[i])));
    for (unsigned i = 0; i < STEPS / 4; i++)
        step(true);
    mark(keep);
    collect_end_marking();
    MUST(!collect_sweep());
    for (size_t i = 0; i < MOST; i++) {
        // Of blocks that are shared nobody knows here who else is in them.
        if (objects[i].p != NULL && !keep[i] &&
            collect_is_white(base_of(&objects[i])))
            objects[i].p = NULL;
    }
    collect_begin_sweep();
    for (bool more = true; more;) {
        be((unsigned)below(CPUS));
        more = collect_sweep();
        for (unsigned i = 0; i < 20; i++)
            step(below(2) == 0);
    }
    MUST(collect_is_swept());
    collect_release();
    check_white(false);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        be(cpu);
        heap_check();
    }
}

static void many_cycles(void)
{
    uint64_t freed;

    heap_machine(RAM);
    seed = 12345;
    for (unsigned i = 0; i < CYCLES; i++)
        cycle();
    freed = collect_freed;
    MUST(freed > CYCLES * MOST / 16);
    // And with nobody left all of it comes back.
    for (size_t i = 0; i < MOST; i++)
        objects[i].p = NULL;
    be(0);
    collect_hold();
    collect_whiten(0, heap_page_of(pages_end()));
    collect_keep_tiny();
    collect_end_marking();
    collect_begin_sweep();
    while (collect_sweep())
        ;
    collect_release();
    MUST(collect_freed > freed);
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        be(cpu);
        heap_trim();
    }
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        be(cpu);
        heap_trim();
        heap_check();
    }
}

// Pages of a large object that is freed go at once, unless somebody scans it.
static void large_objects(void)
{
    heap_machine(RAM);
    void *p = heap_alloc(MIB, HEAP_SCAN, 1, true);
    void *q = heap_alloc(MIB, HEAP_SCAN, 1, true);
    struct span *s = span_of((uintptr_t)p), *t = span_of((uintptr_t)q);
    uint64_t page = s->page, other = t->page;

    collect_hold();
    MUST(collect_scans(5, s) && collect_is_scanned(s) &&
         !collect_is_scanned(t));
    heap_free(p);
    heap_free(q);
    MUST(!pages_is_free(page) && pages_is_free(other));
    collect_scans_none(5);
    MUST(!collect_scans(5, s) && !collect_is_scanned(s));
    collect_release();
    MUST(pages_is_free(page));
    heap_check();
}

static unsigned wishes;

static void want(void)
{
    wishes++;
}

static void *given_back;

static void freed(void *p)
{
    given_back = p;
}

static bool cannot(void)
{
    return false;
}

static void hooks(void)
{
    heap_machine(RAM);
    collector = (struct collector){NULL, want, NULL, freed, cannot};
    collect_at = collect_handed_out + 100000;
    for (unsigned i = 0; i < 10; i++)
        MUST(heap_alloc(HEAP_SMALL_MAX, HEAP_MANUAL, 1, false) != NULL);
    MUST(wishes == 0);
    for (unsigned i = 0; i < 10 && wishes == 0; i++)
        MUST(heap_alloc(HEAP_SMALL_MAX, HEAP_NOSCAN, 1, false) != NULL);
    MUST(wishes > 0);
    void *p = heap_alloc(64, HEAP_SCAN, 1, true);

    heap_free(p);
    MUST(given_back != p); // there is nothing it has to hear of
    collect_specials = 1;
    p = heap_alloc(64, HEAP_SCAN, 1, true);
    heap_free(p);
    MUST(given_back == p);
    heap_free(heap_alloc(64, HEAP_MANUAL, 1, true));
    MUST(given_back == p);
    MUST(heap_alloc(4 * RAM, HEAP_SCAN, 1, true) == NULL);
}

// With gc.check no block of malloc shows what was in its place.
static void checked(void)
{
    heap_machine(RAM);
    collect_checks = true;
    for (unsigned i = 0; i < 200; i++) {
        size_t n = i % 10 == 9 ? 100000 : 100 + i * 37;
        uint8_t *p = heap_alloc(n, HEAP_MANUAL, 1, false);

        for (size_t k = 0; i < 100 && k < heap_usable(p); k++)
            MUST(p[k] == 0);
        memset(p, 0xaa, heap_usable(p));
        if (i % 3 != 0)
            continue;
        heap_free(p);
        heap_trim();
    }
    uint8_t *p = heap_alloc(100000, HEAP_SCAN, 1, true);

    memset(p, 0xaa, 100000);
    p = heap_realloc(p, 300000);
    for (size_t k = align_up(100000, HEAP_PAGE); k < 300000; k++)
        MUST(p[k] == 0);
}

static void test_cycles(void **state)
{
    (void)state;
    heap_alone(many_cycles);
}

static void test_large(void **state)
{
    (void)state;
    heap_alone(large_objects);
}

static void test_hooks(void **state)
{
    (void)state;
    heap_alone(hooks);
}

static void test_checked(void **state)
{
    (void)state;
    heap_alone(checked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cycles),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_hooks),
        cmocka_unit_test(test_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
