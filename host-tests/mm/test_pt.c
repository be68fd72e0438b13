// sources: $(mm)
// Page tables: mapping, large pages, unmapping, and that a translation which
// was not shot down stays, as on the hardware.

#include "host-tests/support.h"

#include <errno.h>

#include "host-tests/mm/mm_fixture.h"
#include "mm/fcache.h"

enum { RAM = 64 * MIB };

static uintptr_t base;

static int start(void **state)
{
    (void)state;
    const char *wrong = mm_fixture(RAM);

    base = ARCH_REGION_BASE + (UINT64_C(1) << 34);
    return wrong != NULL;
}

MM_STOP

// Clears entries, flushes, frees the frames if asked to.
static void clear(uintptr_t va, size_t npages, bool free_frames)
{
    for (size_t i = 0; i < npages; i++) {
        int level;
        pte_t *e = pt_find(va + i * PAGE_SIZE, &level);
        pte_t old = e != NULL ? pt_set(e, 0) : 0;

        arch_tlb_shootdown(va + i * PAGE_SIZE, 1);
        if (free_frames && pte_present(old))
            frame_free(pte_paddr(old), 0);
    }
}

static void a_mapped_page_shows_its_frame(void **state)
{
    paddr_t p = frame_alloc(0, FRAME_ZERO);
    volatile uint32_t *at = (uint32_t *)base;
    int level;

    (void)state;
    assert_int_equal(pt_map(base, p, PAGE_SIZE, PROT_R | PROT_W, 1), 0);
    *at = 0x12345678;
    assert_int_equal(*(uint32_t *)arch_direct(p), 0x12345678);
    pte_t *e = pt_find(base, &level);

    assert_int_equal(level, 1);
    assert_true(*e & PTE_DIRTY); // the walker sets it as a CPU does
    clear(base, 1, true);
    assert_false(pte_present(pt_get(e)));
}

static void a_clean_page_becomes_dirty_by_a_store_only(void **state)
{
    paddr_t p = frame_alloc(0, FRAME_ZERO);
    int level;

    (void)state;
    assert_int_equal(pt_map(base, p, PAGE_SIZE, PROT_R | PROT_W, 1), 0);
    assert_int_equal(*(volatile char *)base, 0);
    assert_false(*pt_find(base, &level) & PTE_DIRTY);
    *(volatile char *)base = 1;
    assert_true(*pt_find(base, &level) & PTE_DIRTY);
    clear(base, 1, true);
}

static void a_stale_translation_stays_until_flushed(void **state)
{
    paddr_t a = frame_alloc(0, FRAME_ZERO), b = frame_alloc(0, FRAME_ZERO);
    int level;

    (void)state;
    *(char *)arch_direct(a) = 'a';
    *(char *)arch_direct(b) = 'b';
    assert_int_equal(pt_map(base, a, PAGE_SIZE, PROT_R, 1), 0);
    assert_int_equal(*(volatile char *)base, 'a');
    // Break without make, and without a shootdown: what a bug would do.
    pt_set(pt_find(base, &level), pte_make_leaf(b, PROT_R, 1));
    assert_int_equal(*(volatile char *)base, 'a');
    arch_tlb_shootdown(base, 1);
    assert_int_equal(*(volatile char *)base, 'b');
    clear(base, 1, true);
    frame_free(a, 0);
}

static void largest_pages_that_fit_are_used(void **state)
{
    uintptr_t va = align_up(base, 2 * MIB);
    paddr_t p = frame_alloc(10, FRAME_DIRTY); // 4 MiB
    int level;

    (void)state;
    // 4 KiB, then 2 MiB when both sides are aligned, then 4 KiB.
    assert_int_equal(pt_map(va - PAGE_SIZE + 2 * MIB,
                            paddr(p.raw + 2 * MIB - PAGE_SIZE),
                            2 * MIB + PAGE_SIZE, PROT_R, 3),
                     0);
    assert_non_null(pt_find(va - PAGE_SIZE + 2 * MIB, &level));
    assert_int_equal(level, 1);
    assert_non_null(pt_find(va + 2 * MIB, &level));
    assert_int_equal(level, 2);
    pt_set(pt_find(va + 2 * MIB, &level), 0);
    arch_tlb_shootdown(0, 0);
    clear(va - PAGE_SIZE + 2 * MIB, 1, false);
    frame_free(p, 10);
}

static void empty_tables_are_given_back(void **state)
{
    uint64_t before = pt_tables();
    static struct pt_garbage g;
    paddr_t p = frame_alloc(0, FRAME_DIRTY);
    uintptr_t far = base + (UINT64_C(1) << 33);

    (void)state;
    assert_int_equal(pt_map(far, p, PAGE_SIZE, PROT_R, 1), 0);
    assert_int_equal(pt_map(far + 2 * MIB, p, PAGE_SIZE, PROT_R, 1), 0);
    assert_true(pt_tables() >= before + 2);
    pt_check();
    clear(far, 1, false);
    pt_prune(far, far + GIB, &g);
    assert_int_equal(g.n, 1);
    clear(far + 2 * MIB, 1, false);
    pt_prune(far, far + GIB, &g);
    arch_tlb_shootdown(0, 0);
    pt_free_garbage(&g);
    assert_true(pt_tables() <= before);
    pt_check();
    frame_free(p, 0);
}

static void split_and_relink_keep_what_is_mapped(void **state)
{
    uintptr_t va = align_up(base, 2 * MIB) + GIB, to = va + 64 * (uintptr_t)MIB;
    paddr_t p = frame_alloc(9, FRAME_ZERO);
    int level;

    (void)state;
    assert_int_equal(pt_map(va, p, 2 * MIB, PROT_R | PROT_W, 2), 0);
    *(volatile char *)(va + 5 * PAGE_SIZE) = 7;
    assert_int_equal(pt_split(va), 0);
    arch_tlb_shootdown(va, 512);
    assert_non_null(pt_find(va + 5 * PAGE_SIZE, &level));
    assert_int_equal(level, 1);
    // One D bit for 2 MiB becomes one for each page.
    assert_true(pt_get(pt_find(va + 9 * PAGE_SIZE, &level)) & PTE_DIRTY);
    assert_int_equal(*(volatile char *)(va + 5 * PAGE_SIZE), 7);
    pt_check();
    assert_true(pt_make_parent(to, 2));
    assert_int_equal(pt_relink(va, to, 1, 2), 1);
    assert_null(pt_run(va, va + 2 * MIB).e); // nothing is left behind
    arch_tlb_shootdown(0, 0);
    assert_int_equal(*(volatile char *)(to + 5 * PAGE_SIZE), 7);
    pt_check();
    clear(to, 512, false);
    frame_free(p, 9);
}

static void more_tables_than_a_batch_holds_take_two(void **state)
{
    enum { TABLES = 100 };
    uint64_t before = pt_tables();
    static struct pt_garbage g;
    paddr_t p = frame_alloc(0, FRAME_DIRTY);
    uintptr_t far = base + (UINT64_C(1) << 33) + GIB - 50 * 2 * MIB;

    (void)state;
    // Over the edge of a table of tables, each with one page.
    for (uintptr_t i = 0; i < TABLES; i++)
        assert_int_equal(pt_map(far + i * 2 * MIB, p, PAGE_SIZE, PROT_R, 1), 0);
    assert_true(pt_tables() >= before + TABLES);
    for (uintptr_t i = 0; i < TABLES; i++)
        clear(far + i * 2 * MIB, 1, false);
    pt_prune(far, far + TABLES * 2 * MIB, &g);
    assert_int_equal(g.n, ARRAY_LEN(g.tables));
    pt_prune(far, far + TABLES * 2 * MIB, &g); // nothing, it is full
    assert_int_equal(g.n, ARRAY_LEN(g.tables));
    pt_free_garbage(&g);
    pt_prune(far, far + TABLES * 2 * MIB, &g);
    assert_true(g.n > 0);
    pt_free_garbage(&g);
    assert_true(pt_tables() <= before);
    pt_check();
    // The last table of the address space, where no mapping ever was.
    pt_prune(UINTPTR_MAX - 2 * MIB + 1, UINTPTR_MAX, &g);
    assert_int_equal(g.n, 0);
    frame_free(p, 0);
}

static void the_largest_page_splits_twice(void **state)
{
    uintptr_t va = base + 16 * (uintptr_t)GIB;
    uint64_t before = pt_tables();
    int level;

    (void)state;
    // Nothing touches it: it need not be memory.
    pt_max_level = 3;
    assert_int_equal(pt_map(va, paddr(GIB), GIB, PROT_R | PROT_W, 3), 0);
    pt_max_level = 2;
    assert_non_null(pt_find(va + 77 * PAGE_SIZE, &level));
    assert_int_equal(level, 3);

    assert_int_equal(pt_split(va + 5 * PAGE_SIZE), 0);
    pte_t *e = pt_find(va + 6 * MIB, &level);

    assert_int_equal(level, 2);
    assert_int_equal(pte_paddr(*e).raw, GIB + 6 * MIB);
    assert_int_equal(pt_split(va + 6 * MIB), 0);
    e = pt_find(va + 6 * MIB + 3 * PAGE_SIZE, &level);
    assert_int_equal(level, 1);
    assert_int_equal(pte_paddr(*e).raw, GIB + 6 * MIB + 3 * PAGE_SIZE);
    assert_int_equal(pte_prot(*e), PROT_R | PROT_W);
    pt_check();
    // Away with the whole of it, tables on all levels.
    pt_drop_top(pte_index(va, PT_LEVELS));
    assert_null(pt_find(va, &level));
    assert_true(pt_tables() < before);
    pt_drop_top(pte_index(va, PT_LEVELS)); // nothing is there
    pt_check();
}

static void no_frame_for_a_table_is_an_error_value(void **state)
{
    static paddr_t all[RAM / PAGE_SIZE];
    size_t n = 0;

    (void)state;
    frame_cache_flush();
    while ((all[n] = frame_alloc(0, FRAME_DIRTY)).raw != 0)
        n++;
    uintptr_t far = ARCH_REGION_BASE + (UINT64_C(1) << 35) + GIB;

    assert_int_equal(pt_map(far, all[0], PAGE_SIZE, PROT_R, 1), -ENOMEM);
    while (n > 0)
        frame_free(all[--n], 0);
    frame_check();
}

static void pte_keeps_what_it_is_made_of(void **state)
{
    (void)state;
    for (unsigned prot = 0; prot < 8; prot++) {
        pte_t e = pte_make_leaf(paddr(0x12345000), prot | PROT_R, 1);

        assert_true(pte_present(e));
        assert_int_equal(pte_paddr(e).raw, 0x12345000);
        assert_int_equal(pte_prot(e), prot | PROT_R);
    }
    assert_true(va_is_canonical(0x00007fffffffffff));
    assert_false(va_is_canonical(0x0000800000000000));
    assert_true(va_is_canonical(0xffff800000000000));
    assert_int_equal(pte_index(0xffffffff80000000, 4), 511);
    assert_int_equal(pte_index(0xffffffff80000000, 3), 510);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_mapped_page_shows_its_frame),
        cmocka_unit_test(a_clean_page_becomes_dirty_by_a_store_only),
        cmocka_unit_test(a_stale_translation_stays_until_flushed),
        cmocka_unit_test(largest_pages_that_fit_are_used),
        cmocka_unit_test(empty_tables_are_given_back),
        cmocka_unit_test(split_and_relink_keep_what_is_mapped),
        cmocka_unit_test(more_tables_than_a_batch_holds_take_two),
        cmocka_unit_test(no_frame_for_a_table_is_an_error_value),
        cmocka_unit_test(pte_keeps_what_it_is_made_of),
        cmocka_unit_test(the_largest_page_splits_twice), // the last
    };

    return cmocka_run_group_tests_name("pt", tests, start, stop);
}
