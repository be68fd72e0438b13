// sources: $(mm)
// Regions: the tree against a model, and demand-zero faults for real.

#include "host-tests/support.h"

#include <errno.h>

#include "host-tests/mm/mm_fixture.h"
#include "mm/fcache.h"

enum { RAM = 96 * MIB };

MM_START(RAM)
MM_STOP

// Frames that no page has: page tables come and go with the pages.
static uint64_t pages_free(void)
{
    return mm_free_frames() + pt_tables();
}

static struct region make(size_t first_page, size_t npages)
{
    return (struct region){
        .start = ARCH_REGION_BASE + first_page * PAGE_SIZE,
        .end = ARCH_REGION_BASE + (first_page + npages) * PAGE_SIZE,
        .ops = &region_anon_ops,
        .name = "test",
        .prot = PROT_R | PROT_W,
    };
}

static void tree_agrees_with_a_model(void **state)
{
    enum { PAGES = 2000, REGIONS = 200, STEPS = 40000 };
    static struct region pool[REGIONS];
    static bool in[REGIONS];
    static int owner[PAGES]; // region + 1

    (void)state;
    for (int step = 0; step < STEPS; step++) {
        size_t k = support_below(REGIONS);

        if (in[k]) {
            region_remove(&pool[k]);
            in[k] = false;
            for (size_t p = 0; p < PAGES; p++) {
                if (owner[p] == (int)k + 1)
                    owner[p] = 0;
            }
        } else {
            size_t first = support_below(PAGES - 30), n = 1 + support_below(30);
            bool clash = false;

            pool[k] = make(first, n);
            for (size_t p = first; p < first + n; p++)
                clash = clash || owner[p] != 0;
            assert_int_equal(region_add(&pool[k]), clash ? -EEXIST : 0);
            in[k] = !clash;
            for (size_t p = first; !clash && p < first + n; p++)
                owner[p] = (int)k + 1;
        }
        size_t at = support_below(PAGES);
        struct region *r = region_find(ARCH_REGION_BASE + at * PAGE_SIZE + 123);

        assert_ptr_equal(r, owner[at] ? &pool[owner[at] - 1] : NULL);
    }
    for (size_t k = 0; k < REGIONS; k++) {
        if (in[k])
            region_remove(&pool[k]);
    }
}

static void touched_memory_is_zero_and_comes_back(void **state)
{
    struct region r = make(0, 512);
    uint64_t before;

    (void)state;
    // Tables stay; make them first, so that the count below is of pages.
    assert_int_equal(region_add(&r), 0);
    *(volatile char *)r.start = 1;
    region_remove(&r);
    before = pages_free();
    assert_int_equal(region_add(&r), 0);
    for (uintptr_t a = r.start; a < r.end; a += PAGE_SIZE) {
        assert_int_equal(*(volatile char *)(a + 77), 0);
        *(volatile char *)(a + 77) = 1;
    }
    assert_int_equal(pages_free(), before - 512);
    region_remove(&r);
    assert_int_equal(pages_free(), before);
}

static void fault_around_doubles_in_order_only(void **state)
{
    struct region r = make(4096, 1024);
    uint64_t before;

    (void)state;
    assert_int_equal(region_add(&r), 0);
    *(volatile char *)r.start = 1; // tables and the first page
    before = pages_free();
    *(volatile char *)(r.start + 500 * PAGE_SIZE) = 1;
    assert_int_equal(pages_free(), before - 1);
    *(volatile char *)(r.start + 501 * PAGE_SIZE) = 1;
    assert_int_equal(pages_free(), before - 3);
    *(volatile char *)(r.start + 503 * PAGE_SIZE) = 1;
    assert_int_equal(pages_free(), before - 7);
    *(volatile char *)(r.start + 400 * PAGE_SIZE) = 1;
    assert_int_equal(pages_free(), before - 8);
    region_remove(&r);
}

static void shrinking_gives_back_the_rest(void **state)
{
    struct region r = make(8192, 256);

    (void)state;
    assert_int_equal(region_add(&r), 0);
    for (uintptr_t a = r.start; a < r.end; a += PAGE_SIZE)
        *(volatile char *)a = 1;
    uint64_t before = pages_free();

    assert_int_equal(region_resize(&r, r.start + 56 * PAGE_SIZE), 0);
    assert_int_equal(pages_free(), before + 200);
    assert_null(region_find(r.start + 56 * PAGE_SIZE));
    assert_int_equal(region_resize(&r, r.start + 57 * PAGE_SIZE), 0);
    assert_int_equal(*(volatile char *)(r.start + 56 * PAGE_SIZE), 0);
    assert_int_equal(*(volatile char *)(r.start + 55 * PAGE_SIZE), 1);
    region_remove(&r);
}

static void a_read_only_region_denies_stores(void **state)
{
    struct region r = make(16384, 1);

    (void)state;
    r.prot = PROT_R;
    assert_int_equal(region_add(&r), 0);
    assert_true(mm_fault(r.start, PROT_R, 0));
    assert_false(mm_fault(r.start, PROT_W, 0));
    assert_int_equal(mm_last_fault(), FAULT_DENIED);
    assert_false(mm_fault(r.end, PROT_R, 0));
    assert_int_equal(mm_last_fault(), FAULT_WILD);
    assert_false(mm_fault(UINT64_C(1) << 60, PROT_R, 0));
    region_remove(&r);
}

static void a_fault_without_frames_says_so(void **state)
{
    static paddr_t all[RAM / PAGE_SIZE];
    struct region r = make(20000, 1);
    size_t n = 0;

    (void)state;
    assert_int_equal(region_add(&r), 0);
    frame_cache_flush();
    while ((all[n] = frame_alloc(0, FRAME_DIRTY)).raw != 0)
        n++;
    assert_false(mm_fault(r.start, PROT_R, 0));
    assert_int_equal(mm_last_fault(), FAULT_OOM);
    while (n > 0)
        frame_free(all[--n], 0);
    assert_true(mm_fault(r.start, PROT_R, 0));
    region_remove(&r);
}

static void charging_stops_at_what_there_is(void **state)
{
    uint64_t total = mm_commit().limit;

    (void)state;
    assert_true(mm_charge(total / 2));
    assert_false(mm_charge(total));
    assert_false(mm_charge(UINT64_MAX));
    assert_true(mm_charge(total - total / 2));
    assert_false(mm_charge(1));
    mm_uncharge(total);
    assert_true(mm_charge(1));
    mm_uncharge(1);
}

static void the_tlb_may_be_emptied_at_any_time(void **state)
{
    // More pages than the software TLB holds: 65,530 mappings are the limit of
    // a process, and this must not depend on it.
    struct region r = make(40000, 17000);

    (void)state;
    assert_true(pages_free() > 17500);
    assert_int_equal(region_add(&r), 0);
    for (uintptr_t a = r.start; a < r.end; a += PAGE_SIZE)
        *(volatile uintptr_t *)a = a;
    for (uintptr_t a = r.start; a < r.end; a += PAGE_SIZE)
        assert_int_equal(*(volatile uintptr_t *)a, a);
    region_remove(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tree_agrees_with_a_model),
        cmocka_unit_test(touched_memory_is_zero_and_comes_back),
        cmocka_unit_test(fault_around_doubles_in_order_only),
        cmocka_unit_test(shrinking_gives_back_the_rest),
        cmocka_unit_test(a_read_only_region_denies_stores),
        cmocka_unit_test(a_fault_without_frames_says_so),
        cmocka_unit_test(charging_stops_at_what_there_is),
        cmocka_unit_test(the_tlb_may_be_emptied_at_any_time),
    };

    return cmocka_run_group_tests_name("region", tests, start, stop);
}
