// sources: $(mm)
// Operations on ranges: named behaviours, and random steps against a model that
// knows memory objects and views of them, with every page's contents compared.

#include "host-tests/support.h"

#include <errno.h>

#include "host-tests/mm/known.h"
#include "host-tests/mm/mm_map.h"
#include "host-tests/mm/model.h"
#include "mm/dirty.h"
#include "mm/fcache.h"
#include "mm/vm.h"

enum { RAM = 96 * MIB };

static int start(void **state)
{
    (void)state;
    if (mm_fixture(RAM) != NULL)
        return 1;
    frames_start();
    return 0;
}
MM_STOP

// Frames that no page has: page tables come and go with the pages.
static uint64_t pages_free(void)
{
    return mm_free_frames() + pt_tables();
}

static uint64_t get(uintptr_t va)
{
    return *(volatile uint64_t *)va;
}

static void put(uintptr_t va, uint64_t v)
{
    *(volatile uint64_t *)va = v;
}

// Whole tables of 512 tables change hands where 1 GiB agrees.
static void a_move_by_gibibytes_relinks_at_that_level(void **state)
{
    uintptr_t a = ARCH_REGION_BASE + 8 * (uintptr_t)GIB,
              to = a + 4 * (uintptr_t)GIB;
    size_t bytes = GIB + 4 * MIB + 3 * PAGE_SIZE, last = bytes - PAGE_SIZE;
    uint64_t before = frames_known();

    (void)state;
    assert_int_equal(vm_map(&a, bytes, RW, VM_FIXED | VM_NORESERVE, "test"), 0);
    put(a, 1);
    put(a + 700 * MIB, 2);
    put(a + GIB + 3 * MIB, 3);
    put(a + last, 4);
    uint64_t tables = pt_tables();

    assert_int_equal(vm_move(a, bytes, bytes, &to), 0);
    assert_int_equal(pt_tables(), tables);
    assert_int_equal(get(to), 1);
    assert_int_equal(get(to + 700 * MIB), 2);
    assert_int_equal(get(to + GIB + 3 * MIB), 3);
    assert_int_equal(get(to + last), 4);
    assert_int_equal(get(to + 100 * MIB), 0);
    mm_check();
    a = to;
    to += GIB + 2 * MIB; // agrees by 2 MiB only, and overlaps nothing
    assert_int_equal(vm_move(a, bytes, bytes, &to), -EEXIST);
    to = a + 6 * (uintptr_t)GIB + 2 * MIB;
    assert_int_equal(vm_move(a, bytes, bytes, &to), 0);
    assert_int_equal(get(to + GIB + 3 * MIB), 3);
    assert_int_equal(get(to + last), 4);
    mm_check();
    assert_int_equal(vm_unmap(to, bytes), 0);
    assert_int_equal(frames_known(), before);
}

static void mapped_memory_is_zero_and_is_given_back(void **state)
{
    uint64_t before = frames_known();
    uintptr_t a = map(700, 0);

    (void)state;
    for (size_t i = 0; i < 700; i++) {
        assert_int_equal(get(a + i * PAGE_SIZE), 0);
        put(a + i * PAGE_SIZE, i);
    }
    mm_check();
    unmap(a, 700);
    mm_check();
    assert_int_equal(frames_known(), before);
    // Nothing that is kept is more the second time.
    before = pages_free();
    a = map(700, 0);
    put(a, 1);
    unmap(a, 700);
    assert_int_equal(pages_free(), before);
}

static void an_alias_shows_the_same_memory(void **state)
{
    uintptr_t a = map(8, 0), b = 0, c = 0;

    (void)state;
    put(a, 11);
    assert_int_equal(vm_alias(a, 8 * PAGE_SIZE, RW, &b), 0);
    assert_int_equal(vm_alias(b + PAGE_SIZE, 4 * PAGE_SIZE, PROT_R, &c), 0);
    assert_int_equal(get(b), 11);
    put(b + PAGE_SIZE, 22);
    assert_int_equal(get(a + PAGE_SIZE), 22);
    assert_int_equal(get(c), 22);
    // Untouched until now: the alias first.
    put(b + 7 * PAGE_SIZE, 77);
    assert_int_equal(get(a + 7 * PAGE_SIZE), 77);
    assert_false(mm_fault(c, PROT_W, 0));
    assert_int_equal(mm_last_fault(), FAULT_DENIED);
    // The memory lives as long as one of its views.
    unmap(a, 8);
    assert_int_equal(get(b + PAGE_SIZE), 22);
    unmap(b, 8);
    assert_int_equal(get(c), 22);
    unmap(c, 4);
    mm_check();
}

static void a_clone_is_of_one_moment(void **state)
{
    uintptr_t a = map(16, 0), c = 0;
    uint64_t before;

    (void)state;
    for (size_t i = 0; i < 8; i++)
        put(a + i * PAGE_SIZE, i + 1);
    before = frames_known();
    assert_int_equal(vm_clone(a, 16 * PAGE_SIZE, &c), 0);
    assert_int_equal(frames_known(), before); // tables only
    put(a, 100);
    put(c + PAGE_SIZE, 200);
    put(a + 9 * PAGE_SIZE, 9);
    assert_int_equal(get(c), 1);
    assert_int_equal(get(a + PAGE_SIZE), 2);
    assert_int_equal(get(c + 9 * PAGE_SIZE), 0);
    for (size_t i = 2; i < 8; i++) {
        assert_int_equal(get(a + i * PAGE_SIZE), i + 1);
        assert_int_equal(get(c + i * PAGE_SIZE), i + 1);
    }
    unmap(a, 16);
    put(c + 3 * PAGE_SIZE, 33); // the only user now: no copy
    assert_int_equal(get(c + 4 * PAGE_SIZE), 5);
    unmap(c, 16);
    mm_check();
}

static void a_clone_of_an_alias_leaves_both_views_together(void **state)
{
    uintptr_t a = map(4, 0), b = 0, c = 0;

    (void)state;
    put(a, 1);
    assert_int_equal(vm_alias(a, 4 * PAGE_SIZE, RW, &b), 0);
    assert_int_equal(get(b), 1);
    assert_int_equal(vm_clone(a, 4 * PAGE_SIZE, &c), 0);
    put(b, 2);
    assert_int_equal(get(a), 2);
    assert_int_equal(get(c), 1);
    put(a, 3);
    assert_int_equal(get(b), 3);
    assert_int_equal(get(c), 1);
    unmap(a, 4);
    unmap(b, 4);
    assert_int_equal(get(c), 1);
    unmap(c, 4);
    mm_check();
}

static void a_move_copies_no_byte(void **state)
{
    uintptr_t a = map(1030, 0), to = 0;
    uint64_t before;

    (void)state;
    for (size_t i = 0; i < 1030; i += 3)
        put(a + i * PAGE_SIZE, i);
    before = frames_known();
    assert_int_equal(vm_move(a, 1030 * PAGE_SIZE, 1100 * PAGE_SIZE, &to), 0);
    assert_int_equal(frames_known(), before);
    assert_null(region_find(a));
    for (size_t i = 0; i < 1100; i++)
        assert_int_equal(get(to + i * PAGE_SIZE),
                         i < 1030 && i % 3 == 0 ? i : 0);
    // And to a place that no large page fits, shrinking.
    uintptr_t odd = ARCH_REGION_BASE + 12345 * (uintptr_t)PAGE_SIZE;

    assert_int_equal(vm_move(to, 1100 * PAGE_SIZE, 100 * PAGE_SIZE, &odd), 0);
    assert_int_equal(odd, ARCH_REGION_BASE + 12345 * (uintptr_t)PAGE_SIZE);
    for (size_t i = 0; i < 100; i++)
        assert_int_equal(get(odd + i * PAGE_SIZE), i % 3 == 0 ? i : 0);
    mm_check();
    unmap(odd, 100);
    mm_check();
}

static void rights_come_and_go(void **state)
{
    uintptr_t a = map(6, 0);

    (void)state;
    put(a + 2 * PAGE_SIZE, 5);
    assert_int_equal(vm_protect(a + 2 * PAGE_SIZE, 2 * PAGE_SIZE, PROT_R), 0);
    assert_int_equal(get(a + 2 * PAGE_SIZE), 5);
    assert_false(mm_fault(a + 2 * PAGE_SIZE, PROT_W, 0));
    assert_true(mm_fault(a + 4 * PAGE_SIZE, PROT_W, 0));
    assert_int_equal(vm_protect(a, 6 * PAGE_SIZE, 0), 0);
    assert_false(mm_fault(a + 2 * PAGE_SIZE, PROT_R, 0));
    assert_int_equal(vm_protect(a, 6 * PAGE_SIZE, RW), 0);
    assert_int_equal(get(a + 2 * PAGE_SIZE), 5);
    put(a + 2 * PAGE_SIZE, 6);
    unmap(a, 6);
    mm_check();
}

static void a_reservation_costs_nothing_until_it_has_rights(void **state)
{
    uintptr_t a = 0;

    (void)state;
    assert_int_equal(vm_map(&a, UINT64_C(8) << 30, 0, 0, "reserve"), 0);
    assert_false(mm_fault(a, PROT_R, 0));
    assert_int_equal(vm_protect(a, UINT64_C(8) << 30, RW), -ENOMEM);
    assert_int_equal(vm_protect(a, 4 * PAGE_SIZE, RW), 0);
    put(a, 1);
    assert_int_equal(vm_decommit(a, 4 * PAGE_SIZE, false), 0);
    assert_int_equal(get(a), 0);
    assert_int_equal(vm_decommit(a, 4 * PAGE_SIZE, true), 0);
    assert_false(mm_fault(a, PROT_R, 0));
    assert_int_equal(vm_unmap(a, UINT64_C(8) << 30), 0);
    mm_check();
}

static void reads_of_sparse_memory_take_no_frame(void **state)
{
    uintptr_t a = map(4096, VM_SPARSE), c = 0;
    uint64_t before;

    (void)state;
    for (size_t i = 0; i < 4096; i += 512)
        assert_int_equal(get(a + i * PAGE_SIZE), 0);
    before = pages_free();
    for (size_t i = 1; i < 4096; i += 512)
        assert_int_equal(get(a + i * PAGE_SIZE), 0);
    assert_int_equal(pages_free(), before);
    put(a, 1);
    assert_int_equal(pages_free(), before - 1);
    assert_int_equal(vm_alias(a, 4096 * PAGE_SIZE, RW, &c), 0);
    put(c + 512 * PAGE_SIZE, 2);
    assert_int_equal(get(a + 512 * PAGE_SIZE), 2);
    unmap(a, 4096);
    unmap(c, 4096);
    mm_check();
}

// Pages that show the zero frame have no frame to give back, but translations.
static void discarded_zero_pages_are_forgotten(void **state)
{
    uintptr_t a = map(4, VM_SPARSE), b = 0;

    (void)state;
    put(a + 3 * PAGE_SIZE, 1); // so that the table stays
    assert_int_equal(get(a), 0);
    assert_int_equal(vm_decommit(a, 3 * PAGE_SIZE, false), 0);
    assert_int_equal(vm_alias(a, 3 * PAGE_SIZE, RW, &b), 0);
    put(b, 7);
    assert_int_equal(get(a), 7);
    unmap(a, 4);
    unmap(b, 3);
}

static void promoted_memory_keeps_its_contents(void **state)
{
    uintptr_t a = map(2048, 0), to = 0, c = 0;
    int level;

    (void)state;
    for (size_t i = 0; i < 2048; i += 5)
        put(a + i * PAGE_SIZE, i);
    assert_int_equal(a % (2 * MIB), 0);
    assert_int_equal(vm_promote(a, 2048 * PAGE_SIZE), 4);
    assert_non_null(pt_find(a, &level));
    assert_int_equal(level, 2);
    mm_check();
    for (size_t i = 0; i < 2048; i++)
        assert_int_equal(get(a + i * PAGE_SIZE), i % 5 == 0 ? i : 0);
    // Cut, moved, cloned: large pages become small where they must.
    unmap(a + 10 * PAGE_SIZE, 1);
    mm_check();
    assert_int_equal(vm_clone(a + 512 * PAGE_SIZE, 512 * PAGE_SIZE, &c), 0);
    put(a + 515 * PAGE_SIZE, 1);
    assert_int_equal(get(c + 3 * PAGE_SIZE), 515);
    unmap(a + 1023 * PAGE_SIZE, 1);
    assert_int_equal(
        vm_move(a + 1024 * PAGE_SIZE, 1024 * PAGE_SIZE, 1024 * PAGE_SIZE, &to),
        0);
    assert_int_equal(get(to + 6 * PAGE_SIZE), 1030);
    unmap(to, 1024);
    unmap(a, 1024);
    unmap(c, 512);
    mm_check();
}

static unsigned npages_dirty;
static uintptr_t last_dirty;

static void dirty_page(uintptr_t page, void *arg)
{
    (void)arg;
    npages_dirty++;
    last_dirty = page;
}

static long collect(int client, uintptr_t va)
{
    npages_dirty = 0;
    long n = dirty_collect(client, va, dirty_page, NULL);

    assert_int_equal(n, npages_dirty);
    return n;
}

static void each_client_sees_what_was_stored_since_it_asked(void **state)
{
    uintptr_t a = map(600, 0), b = 0, c = 0, to = 0;
    int x = dirty_client_new(), y = dirty_client_new();

    (void)state;
    put(a, 1);
    assert_int_equal(dirty_watch(x, a), 0);
    assert_int_equal(dirty_watch(x, a), -EEXIST);
    assert_int_equal(collect(x, a), 0);
    put(a + 3 * PAGE_SIZE, 1);
    assert_int_equal(dirty_watch(y, a), 0);
    put(a + 500 * PAGE_SIZE, 1);
    assert_int_equal(collect(y, a), 1);
    assert_int_equal(last_dirty, a + 500 * PAGE_SIZE);
    assert_int_equal(collect(x, a), 2);
    assert_int_equal(collect(x, a), 0);
    put(a + 3 * PAGE_SIZE, 2); // D was cleared and shot down: it is set again
    assert_int_equal(collect(x, a), 1);
    // Through an alias, a clone's break, and a move.
    assert_int_equal(vm_alias(a, 600 * PAGE_SIZE, RW, &b), 0);
    put(b + 7 * PAGE_SIZE, 1);
    assert_int_equal(collect(x, a), 1);
    assert_int_equal(last_dirty, a + 7 * PAGE_SIZE);
    unmap(b, 600);
    put(a + 9 * PAGE_SIZE, 1);
    assert_int_equal(vm_clone(a, 600 * PAGE_SIZE, &c), 0);
    put(a + 7 * PAGE_SIZE, 2);
    assert_int_equal(collect(x, a), 2);
    put(a + 11 * PAGE_SIZE, 2);
    assert_int_equal(vm_move(a, 600 * PAGE_SIZE, 700 * PAGE_SIZE, &to), 0);
    put(to + 650 * PAGE_SIZE, 2);
    assert_int_equal(collect(x, to), 2);
    assert_int_equal(last_dirty, to + 650 * PAGE_SIZE);
    assert_int_equal(collect(y, to), 5); // pages 3, 7, 9, 11, 650
    dirty_client_free(x);
    assert_int_equal(dirty_collect(x, to, dirty_page, NULL), -EINVAL);
    dirty_client_free(y);
    unmap(to, 700);
    unmap(c, 600);
    mm_check();
}

static void bad_ranges_are_refused(void **state)
{
    uintptr_t a = map(4, 0), to = 0, at = a;

    (void)state;
    assert_int_equal(vm_unmap(a + 1, PAGE_SIZE), -EINVAL);
    assert_int_equal(vm_unmap(a, 0), -EINVAL);
    assert_int_equal(vm_unmap(a, 100), -EINVAL);
    assert_int_equal(vm_unmap(UINTPTR_MAX - 4095, 2 * PAGE_SIZE), -EINVAL);
    assert_int_equal(vm_map(&at, PAGE_SIZE, RW, VM_FIXED, "x"), -EEXIST);
    assert_int_equal(vm_protect(a, 5 * PAGE_SIZE, PROT_R), -ENOMEM);
    assert_int_equal(vm_clone(a, 5 * PAGE_SIZE, &to), -ENOMEM);
    assert_int_equal(vm_alias(a - PAGE_SIZE, PAGE_SIZE, RW, &to), -ENOMEM);
    at = 0;
    assert_int_equal(vm_map(&at, UINT64_C(1) << 45, RW, 0, "x"), -ENOMEM);
    assert_int_equal(vm_map(&at, 2 * RAM, RW, 0, "x"), -ENOMEM);
    assert_int_equal(vm_unmap(a, 4 * PAGE_SIZE), 0);
    assert_int_equal(vm_unmap(a, 4 * PAGE_SIZE), 0); // a hole is fine
}

// ---- random steps against a model ----

// MODEL_STEPS in the environment says how many; a tenth is as good for counting
// branches (tools/coverage).
enum { STEPS = 100000 };

static bool model_store_faults(uintptr_t va)
{
    return !mm_fault(va, PROT_W, 0) && mm_last_fault() == FAULT_DENIED;
}

static void no_translation_is_stale(void)
{
    assert_int_equal(host_tlb_stale(), 0);
}

static void random_steps_agree_with_a_model(void **state)
{
    enum { CHECK_EVERY = 50 };
    const char *wanted = getenv("MODEL_STEPS");
    unsigned steps = wanted != NULL ? (unsigned)atoi(wanted) : STEPS;
    char *memory = malloc(model_bytes(MODEL_MOST));
    struct model_counts counts = {0};
    static struct model m;

    (void)state;
    assert_non_null(memory);
    uint64_t before = frames_known(), promised = mm_commit().committed;

    model_init(&m, memory, MODEL_MOST, support_random());
    for (unsigned i = 0; i < steps; i++) {
        model_step(&m, no_translation_is_stale);
        if (i % CHECK_EVERY == 0) {
            mm_check();
            model_compare_all(&m);
        }
    }
    model_end(&m);
    mm_check();
    model_add_counts(&counts, &m);
    model_check_counts(&counts, steps);
    assert_int_equal(frames_known(), before);
    assert_int_equal(mm_commit().committed, promised);
    free(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_move_by_gibibytes_relinks_at_that_level),
        cmocka_unit_test(mapped_memory_is_zero_and_is_given_back),
        cmocka_unit_test(an_alias_shows_the_same_memory),
        cmocka_unit_test(a_clone_is_of_one_moment),
        cmocka_unit_test(a_clone_of_an_alias_leaves_both_views_together),
        cmocka_unit_test(a_move_copies_no_byte),
        cmocka_unit_test(rights_come_and_go),
        cmocka_unit_test(a_reservation_costs_nothing_until_it_has_rights),
        cmocka_unit_test(reads_of_sparse_memory_take_no_frame),
        cmocka_unit_test(discarded_zero_pages_are_forgotten),
        cmocka_unit_test(promoted_memory_keeps_its_contents),
        cmocka_unit_test(each_client_sees_what_was_stored_since_it_asked),
        cmocka_unit_test(bad_ranges_are_refused),
        cmocka_unit_test(random_steps_agree_with_a_model),
    };

    return cmocka_run_group_tests_name("vm", tests, start, stop);
}
