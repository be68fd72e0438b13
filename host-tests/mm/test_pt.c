// sources: $(mm)
// Page tables: mapping, large pages, unmapping, and that a translation which
// was not shot down stays, as on the hardware.

#include "host-tests/support.h"

#include <errno.h>

#include "host-tests/mm/mm_fixture.h"

enum { RAM = 64 * MIB };

static uintptr_t base;

static int start(void **state)
{
    (void)state;
    const char *wrong = mm_fixture(RAM);

    base = ARCH_REGION_BASE + (UINT64_C(1) << 34);
    return wrong != NULL;
}

static int stop(void **state)
{
    (void)state;
    host_stop();
    return 0;
}

static void free_one(paddr_t p)
{
    frame_free(p, 0);
}

static void keep(paddr_t p)
{
    (void)p;
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
    pt_unmap(base, 1, free_one);
    assert_false(pte_present(*e));
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
    pt_unmap(base, 1, free_one);
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
    *pt_find(base, &level) = pte_make_leaf(b, PROT_R, 1);
    assert_int_equal(*(volatile char *)base, 'a');
    arch_tlb_shootdown(base, 1);
    assert_int_equal(*(volatile char *)base, 'b');
    pt_unmap(base, 1, free_one);
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
    *pt_find(va + 2 * MIB, &level) = 0;
    arch_tlb_shootdown(0, 0);
    pt_unmap(va - PAGE_SIZE + 2 * MIB, 1, keep);
    frame_free(p, 10);
}

static unsigned dropped;

static void count(paddr_t p)
{
    dropped++;
    frame_free(p, 0);
}

static void unmap_skips_what_was_never_mapped(void **state)
{
    enum { PAGES = 3000, EVERY = 7 };

    (void)state;
    for (unsigned i = 0; i < PAGES; i += EVERY)
        assert_int_equal(pt_map(base + i * (uintptr_t)PAGE_SIZE,
                                frame_alloc(0, FRAME_DIRTY), PAGE_SIZE, PROT_R,
                                1),
                         0);
    uint64_t free_before = frame_stats().free;

    dropped = 0;
    // A terabyte is skipped table by table.
    pt_unmap(base, (UINT64_C(1) << 34) / PAGE_SIZE, count);
    assert_int_equal(dropped, (PAGES + EVERY - 1) / EVERY);
    assert_int_equal(frame_stats().free, free_before + dropped);
}

static void no_frame_for_a_table_is_an_error_value(void **state)
{
    static paddr_t all[RAM / PAGE_SIZE];
    size_t n = 0;

    (void)state;
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
        cmocka_unit_test(unmap_skips_what_was_never_mapped),
        cmocka_unit_test(no_frame_for_a_table_is_an_error_value),
        cmocka_unit_test(pte_keeps_what_it_is_made_of),
    };

    return cmocka_run_group_tests_name("pt", tests, start, stop);
}
