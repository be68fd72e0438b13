// sources: $(heap)
// <gneiss/heap.h>: arguments, figures against what the test has allocated, walks,
// the limit, the last resort; and when idle memory goes back.

#include "host-tests/support.h"

#include <errno.h>

#include <gneiss/heap.h>

#include "host-tests/runtime/heap/heap_fixture.h"

enum { OBJECTS = 700, CLASSES = HEAP_CLASSES };

// What the compiler would warn of if it knew.
static volatile size_t huge = SIZE_MAX, one = 1, sixteen = 16;

// ---- arguments ----

static void bad_arguments(void)
{
    static const struct {
        size_t n, align;
        int kind, flags, err;
    } bad[] = {
        {1, 0, GN_MANUAL, 0, EINVAL},
        {1, 24, GN_SCAN, 0, EINVAL},
        {1, SIZE_MAX / 2 + 1, GN_SCAN, 0, EINVAL},
        {1, 1, 3, 0, EINVAL},
        {1, 1, GN_NOSCAN, 8, EINVAL},
        {1, 1, GN_SCAN, GN_LARGE_PAGES, EINVAL},
        {SIZE_MAX, 1, GN_NOSCAN, GN_PAST_END, ENOMEM},
        {SIZE_MAX, 1, GN_NOSCAN, 0, ENOMEM},
    };

    heap_machine(32 * MIB);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        errno = 0;
        MUST(gn_alloc_aligned(bad[i].n, bad[i].align,
                              (enum gn_heap_kind)bad[i].kind,
                              bad[i].flags) == NULL);
        MUST(errno == bad[i].err);
    }
    gn_free(NULL);
    gn_free_sized(NULL, 10);
    MUST(gn_usable_size(NULL) == 0);
    char *p = gn_alloc(100, GN_SCAN, GN_UNCLEARED); // cleared in spite of it

    for (size_t i = 0; i < 100; i++)
        MUST(p[i] == 0);
    MUST_PANIC("smaller than the size given", gn_free_sized(p, 5000));
    gn_free_sized(p, 100);
    MUST_PANIC("not the beginning", gn_free_sized(p + sixteen, 100));
    p = gn_alloc(64, GN_NOSCAN, GN_PAST_END);
    MUST(gn_usable_size(p) > 64);
    p = gn_realloc(p, 0);
    MUST(gn_usable_size(p) >= 1);
    void *volatile same = p;

    errno = 0;
    MUST(gn_realloc(p, huge) == NULL && errno == ENOMEM);
    gn_free(same);
    gn_heap_check();
}

static void arguments_are_checked(void **s)
{
    (void)s;
    heap_alone(bad_arguments);
}

// Large pages, where there is room for them and where there is not.
static void large_pages(void)
{
    enum { BYTES = 5 * MIB };

    heap_machine(64 * MIB);
    for (int round = 0; round < 3; round++) {
        char *p = gn_alloc(BYTES, GN_NOSCAN, GN_LARGE_PAGES);

        MUST(p != NULL && (uintptr_t)p % (2 * MIB) == 0);
        for (size_t i = 0; i < BYTES; i += 64)
            MUST(p[i] == 0);
        memset(p, round + 1, BYTES);
        char *behind = gn_alloc(100000, GN_MANUAL, 0);

        p = gn_realloc(p, 3 * BYTES / 2); // moves, large pages with it
        MUST(p != NULL);
        p = gn_realloc(p, 3 * MIB);
        MUST(p != NULL);
        for (size_t i = 0; i < 3 * MIB; i += 64)
            MUST(p[i] == round + 1);
        gn_free(p);
        gn_free(behind);
        gn_heap_check();
    }
    // Too small for one, or none to be had: it does without.
    char *p = gn_alloc(MIB, GN_NOSCAN, GN_LARGE_PAGES), *all[16];
    unsigned n = 0;

    MUST(p != NULL);
    gn_free(p);
    while (n < 16 &&
           (all[n] = gn_alloc(BYTES, GN_NOSCAN, GN_LARGE_PAGES)) != NULL)
        n++;
    MUST(n >= 8 && n < 16);
    while (n > 0)
        gn_free(all[--n]);
    gn_heap_check();
}

static void large_objects_have_large_pages(void **s)
{
    (void)s;
    heap_alone(large_pages);
}

// Small objects that share a block, whole, half and twice freed.
static void shared_blocks(void)
{
    char *p[64];

    heap_machine(32 * MIB);
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        p[i] = gn_alloc(i % 9, GN_NOSCAN, 0);
        MUST(gn_usable_size(p[i]) >= (i % 9 > 0 ? i % 9 : 1));
    }
    for (size_t i = 0; i < ARRAY_LEN(p); i += 2)
        gn_free(p[i]);
    for (size_t i = 0; i < ARRAY_LEN(p); i += 2)
        MUST_PANIC("freed already", gn_free(p[i]));
    MUST_PANIC("free of", gn_free(p[1] + one));
    MUST_PANIC("malloc_usable_size of", (void)gn_usable_size(p[1] + 1));
    MUST_PANIC("malloc_usable_size of", (void)gn_usable_size(p[2]));
    for (size_t i = 1; i < ARRAY_LEN(p); i += 2)
        p[i] = gn_realloc(p[i], 40);
    for (size_t i = 1; i < ARRAY_LEN(p); i += 2)
        gn_free(p[i]);
    heap_trim();
    MUST(pages_stats.free == pages_stats.total);
    gn_heap_check();
}

static void small_objects_share_blocks(void **s)
{
    (void)s;
    heap_alone(shared_blocks);
}

// ---- figures and walks ----

static struct object {
    char *p;
    size_t usable;
    enum gn_heap_kind kind;
    bool seen;
} objects[OBJECTS];

static size_t seen, seen_bytes, stop_after;

static bool see_object(void *p, size_t n, enum gn_heap_kind kind, void *arg)
{
    MUST(arg == objects);
    for (size_t i = 0; i < OBJECTS; i++) {
        struct object *o = &objects[i];

        if (o->p != p)
            continue;
        MUST(!o->seen && n >= o->usable && kind == o->kind);
        o->seen = true;
        seen_bytes += n;
        return ++seen != stop_after;
    }
    MUST(false); // nobody's
    return false;
}

static bool see_span(const struct gn_span *s, void *arg)
{
    MUST(s->free <= s->objects && s->allocated <= s->objects);
    MUST(s->objects * s->object_size <= s->bytes);
    *(size_t *)arg += s->allocated;
    return ++seen != stop_after;
}

static void looked_at(void)
{
    static struct gn_class_stats rows[CLASSES + 3];
    struct gn_heap_stats s;
    size_t sum = 0, live = 0, in_spans = 0;
    uint64_t mallocs = 0, frees = 0;

    heap_machine(64 * MIB);
    for (size_t i = 0; i < OBJECTS; i++) {
        size_t n = i % 7 == 0 ? support_below(12) : support_below(3000);

        n = i % 50 == 1 ? 40000 + n : n;
        objects[i].kind = (enum gn_heap_kind)(i % 3);
        objects[i].p = gn_alloc(n, objects[i].kind, 0);
        MUST(objects[i].p != NULL);
        objects[i].usable = gn_usable_size(objects[i].p);
    }
    for (size_t i = 0; i < OBJECTS; i += 3) { // other objects take their place
        gn_free(objects[i].p);
        objects[i].p = gn_alloc(100, objects[i].kind, 0);
        objects[i].usable = gn_usable_size(objects[i].p);
    }
    MUST(gn_heap_walk(see_object, objects) && seen == OBJECTS);
    gn_heap_stats(&s);
    MUST(s.heap_objects <= OBJECTS && s.alloc >= seen_bytes);
    MUST(s.mallocs - s.frees == s.heap_objects);
    MUST(s.limit == UINT64_MAX && s.large_objects > 0);
    MUST(gn_heap_classes(rows, 0) == gn_heap_classes(rows, ARRAY_LEN(rows)));
    for (size_t i = 0; i < gn_heap_classes(rows, ARRAY_LEN(rows)); i++) {
        MUST(i == 0 || rows[i].size >= rows[i - 1].size);
        MUST(rows[i].mallocs - rows[i].frees == rows[i].objects);
        sum += rows[i].objects;
        mallocs += rows[i].mallocs;
        frees += rows[i].frees;
    }
    MUST(sum + s.large_objects == OBJECTS);
    MUST(mallocs - frees == sum);
    seen = 0;
    MUST(gn_heap_spans(see_span, &in_spans));
    MUST(in_spans >= s.large_objects && in_spans <= OBJECTS);
    seen = 0;
    stop_after = 1;
    MUST(!gn_heap_spans(see_span, &live) && seen == 1);
    for (size_t i = 0; i < OBJECTS; i++)
        objects[i].seen = false;
    for (stop_after = 1, seen = 0; stop_after < 30; stop_after += 7) {
        for (size_t i = 0; i < OBJECTS; i++)
            objects[i].seen = false;
        seen = 0;
        MUST(!gn_heap_walk(see_object, objects) && seen == stop_after);
    }
    for (size_t i = 0; i < OBJECTS; i++)
        gn_free(objects[i].p);
    gn_heap_trim();
    gn_heap_stats(&s);
    MUST(s.alloc == 0 && s.heap_objects == 0 && s.heap_inuse == 0);
    MUST(s.promised == 0 && s.heap_released == s.heap_sys);
    MUST(s.mallocs == s.frees && s.large_bytes == 0 && s.cached == 0);
}

// Each call frees the next object, too.
static void *pair[2];

static bool free_both(void *p, size_t n, enum gn_heap_kind kind, void *arg)
{
    (void)n, (void)kind;
    if (p == pair[0] || p == pair[1]) {
        ++*(int *)arg;
        gn_free(pair[0]);
        gn_free(pair[1]);
    }
    return true;
}

static void walked_and_freed(void)
{
    heap_machine(64 * MIB);
    for (size_t n = 1; n < 200000; n = n * 4) {
        int found = 0;

        pair[0] = gn_alloc(n, GN_NOSCAN, 0);
        pair[1] = gn_alloc(n, GN_NOSCAN, 0);
        MUST(gn_heap_walk(free_both, &found) && found == 1);
    }
    gn_heap_check();
}

static void a_walk_shows_nothing_that_it_has_freed(void **s)
{
    (void)s;
    heap_alone(walked_and_freed);
}

static void figures_and_walks_agree_with_what_there_is(void **s)
{
    (void)s;
    heap_alone(looked_at);
}

// ---- the limit, the last resort ----

static unsigned asked;
static void *ballast;

static bool give_ballast(size_t n, void *arg)
{
    MUST(n == 3 * MIB && arg == &asked);
    asked++;
    if (ballast == NULL)
        return false;
    gn_free(ballast);
    ballast = NULL;
    return true;
}

// Allocates what can't be had either.
static bool allocate_more(size_t n, void *arg)
{
    MUST(++*(unsigned *)arg < 3);
    MUST(gn_alloc(n, GN_MANUAL, 0) == NULL && errno == ENOMEM);
    gn_free(gn_alloc(100, GN_MANUAL, 0));
    return false;
}

static void limited(void)
{
    struct gn_heap_stats s;

    heap_machine(64 * MIB);
    MUST(gn_heap_limit(4 * MIB) == UINT64_MAX);
    gn_heap_stats(&s);
    MUST(s.limit == 4 * MIB);
    ballast = gn_alloc(2 * MIB, GN_MANUAL, 0);
    MUST(ballast != NULL);
    errno = 0;
    MUST(gn_alloc(3 * MIB, GN_MANUAL, 0) == NULL && errno == ENOMEM);
    gn_on_oom(give_ballast, &asked);
    void *p = gn_alloc(3 * MIB, GN_MANUAL, 0);

    MUST(p != NULL && asked == 1 && ballast == NULL);
    MUST(gn_alloc(3 * MIB, GN_MANUAL, 0) == NULL && asked == 2);
    // The call-back's own failures don't call it again; later ones do.
    unsigned depth = 0;

    gn_on_oom(allocate_more, &depth);
    MUST(gn_alloc(3 * MIB, GN_MANUAL, 0) == NULL && depth == 1);
    MUST(gn_alloc(3 * MIB, GN_MANUAL, 0) == NULL && depth == 2);
    // Small ones meet it too, and nothing is lost.
    size_t n = 0;

    gn_on_oom(NULL, NULL);
    while (gn_alloc(500, GN_SCAN, 0) != NULL)
        n++;
    MUST(n > MIB / 2 / 512 && n <= MIB / 512);
    // What failed is not counted, small as it may be.
    while (gn_alloc(8, GN_NOSCAN, 0) != NULL)
        ;
    gn_heap_stats(&s);
    n = s.mallocs;
    MUST(gn_alloc(15, GN_NOSCAN, 0) == NULL);
    gn_heap_stats(&s);
    MUST(s.mallocs == n && s.frees == 3);
    MUST(gn_heap_limit(UINT64_MAX) == 4 * MIB);
    MUST(gn_alloc(3 * MIB, GN_MANUAL, 0) != NULL);
    gn_heap_check();
}

static void the_limit_is_kept_and_the_program_asked(void **s)
{
    (void)s;
    heap_alone(limited);
}

// What the call-back frees lies in caches first.
struct link {
    struct link *next;
};

static struct link *links;

static bool free_links(size_t n, void *arg)
{
    bool some = links != NULL;

    (void)n;
    ++*(int *)arg;
    while (links != NULL) {
        struct link *next = links->next;

        gn_free(links);
        links = next;
    }
    return some;
}

static void freed_by_call(void)
{
    struct link *l;
    int calls = 0;

    heap_machine(64 * MIB);
    gn_heap_limit(4 * MIB);
    while ((l = gn_alloc(500, GN_MANUAL, 0)) != NULL) {
        l->next = links;
        links = l;
    }
    gn_on_oom(free_links, &calls);
    void *p = gn_alloc(4 * MIB - 64 * KIB, GN_MANUAL, 0);

    MUST(p != NULL && calls == 1);
    gn_free(p);
    gn_heap_check();
}

static void what_the_call_back_frees_can_be_had(void **s)
{
    (void)s;
    heap_alone(freed_by_call);
}

// Alignment costs addresses, no memory but tables for them: less than 1 %.
static void aligned(void)
{
    struct gn_heap_stats s;

    heap_machine(64 * MIB);
    void *p = gn_alloc_aligned(1, 32 * MIB, GN_MANUAL, 0);

    MUST(p != NULL && (uintptr_t)p % (32 * MIB) == 0);
    gn_heap_stats(&s);
    MUST(s.promised < MIB);
    void *q = gn_alloc_aligned(40 * MIB, 32 * MIB, GN_NOSCAN, 0);

    MUST(q != NULL && (uintptr_t)q % (32 * MIB) == 0);
    gn_heap_stats(&s);
    MUST(s.promised < 41 * MIB && s.gc_sys < 2 * MIB);
    // So more than there is memory is refused, and costs nothing.
    uint64_t had = s.heap_sys;

    for (size_t align = GIB; align <= ARCH_HEAP_SIZE / 4; align *= 2)
        MUST(gn_alloc_aligned(1, align, GN_MANUAL, 0) == NULL);
    gn_heap_stats(&s);
    MUST(s.heap_sys == had);
    gn_free(p);
    gn_free(q);
    gn_heap_check();
}

static void alignment_takes_no_memory(void **s)
{
    (void)s;
    heap_alone(aligned);
}

// What the limit refuses takes no tables either.
static void refused_by_limit(void)
{
    struct gn_heap_stats s;

    heap_machine(64 * MIB);
    gn_heap_limit(2 * MIB);
    void *p = gn_alloc(MIB, GN_MANUAL, 0);

    gn_heap_stats(&s);
    uint64_t had = s.heap_sys;

    MUST(gn_alloc(20 * MIB, GN_MANUAL, 0) == NULL);
    void *q = gn_realloc(p, 20 * MIB);

    MUST(q == NULL);
    gn_heap_stats(&s);
    MUST(s.heap_sys == had);
    gn_heap_check();
}

static void what_the_limit_refuses_costs_nothing(void **s)
{
    (void)s;
    heap_alone(refused_by_limit);
}

static void limited_by_option(void)
{
    MUST(heap_options("heap.limit=1M") == NULL);
    heap_machine(64 * MIB);
    MUST(gn_alloc(2 * MIB, GN_MANUAL, 0) == NULL);
    MUST(gn_alloc(MIB / 2, GN_MANUAL, 0) != NULL);
}

static void the_limit_is_a_boot_option_too(void **s)
{
    (void)s;
    heap_alone(limited_by_option);
}

// ---- idle memory goes back after a while ----

static uint64_t armed_for;

static void arm(uint64_t at)
{
    armed_for = at;
}

enum { HOUR_MS = 3600000 };

static void delayed(void)
{
    heap_machine(64 * MIB);
    pages_arm = arm;
    gn_heap_keep(MIB, HOUR_MS);
    void *p = gn_alloc(8 * MIB, GN_MANUAL, 0), *q;

    MUST(heap_tick(0) == UINT64_MAX); // nothing is due
    gn_free(p);
    MUST(armed_for > 0 && pages_stats.promised >= 8 * MIB / HEAP_PAGE);
    MUST(heap_tick(armed_for - 1) == armed_for);
    MUST(pages_stats.promised >= 8 * MIB / HEAP_PAGE);
    // Needed meanwhile: 5 MiB of it stay for another period.
    q = gn_alloc(5 * MIB, GN_MANUAL, 0);
    gn_free(q);
    uint64_t now = armed_for, next;

    while ((next = heap_tick(now)) == now)
        ;
    MUST(next > now && pages_stats.promised < 6 * MIB / HEAP_PAGE);
    MUST(pages_stats.promised >= 5 * MIB / HEAP_PAGE);
    now = next;
    while ((next = heap_tick(now)) == now)
        ;
    MUST(pages_stats.promised <= MIB / HEAP_PAGE + 64);
    while (next != UINT64_MAX)
        next = heap_tick(next);
    // At once, if so wished; nobody is told.
    gn_heap_keep(0, 0);
    MUST(pages_stats.promised == 0);
    gn_free(gn_alloc(8 * MIB, GN_MANUAL, 0));
    MUST(pages_stats.promised == 0);
    // Without a clock that calls, frees look at it.
    pages_arm = NULL;
    gn_heap_keep(0, HOUR_MS);
    p = gn_alloc(MIB, GN_MANUAL, 0);
    gn_free(gn_alloc(MIB, GN_MANUAL, 0));
    gn_free(p);
    MUST(pages_stats.promised > 0);
    gn_heap_check();
}

static void idle_memory_goes_back_when_it_was_not_needed(void **s)
{
    (void)s;
    heap_alone(delayed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(small_objects_share_blocks),
        cmocka_unit_test(figures_and_walks_agree_with_what_there_is),
        cmocka_unit_test(a_walk_shows_nothing_that_it_has_freed),
        cmocka_unit_test(the_limit_is_kept_and_the_program_asked),
        cmocka_unit_test(what_the_call_back_frees_can_be_had),
        cmocka_unit_test(the_limit_is_a_boot_option_too),
        cmocka_unit_test(alignment_takes_no_memory),
        cmocka_unit_test(what_the_limit_refuses_costs_nothing),
        cmocka_unit_test(large_objects_have_large_pages),
        cmocka_unit_test(idle_memory_goes_back_when_it_was_not_needed),
    };

    return cmocka_run_group_tests_name("heap api", tests, NULL, NULL);
}
