// sources: $(mm)
// What mm says about an address in a report.

#include "host-tests/support.h"

#include "host-tests/mm/mm_fixture.h"
#include "mm/vm.h"

enum { RAM = 64 * MIB };

MM_START(RAM)
MM_STOP

static void says(uintptr_t va, const char *text)
{
    char buf[100];
    const char *is = mm_describe(va, buf, sizeof buf);

    if (strcmp(is, text) != 0)
        fail_msg("0x%lx: \"%s\", not \"%s\"", va, is, text);
}

static void each_area_has_words(void **state)
{
    (void)state;
    says(0, "the nil page");
    says(PAGE_SIZE - 1, "the nil page");
    says(PAGE_SIZE, "the low 4 GiB, never mapped");
    says(UINT32_MAX, "the low 4 GiB, never mapped");
    says(UINT64_C(1) << 32, "no region");
    says(UINT64_C(1) << 47, "not a canonical address");
    says(ARCH_DIRECT_BASE, "the direct map of physical memory");
    says(ARCH_DIRECT_BASE + ARCH_DIRECT_SIZE - 1,
         "the direct map of physical memory");
    says(ARCH_META_BASE, "the frame array");
    says(ARCH_SLOTS_BASE, "the stack slot array");
    says(ARCH_MMIO_BASE, "device registers and CPU stacks");
    says(UINTPTR_MAX, "no region");
}

static void a_near_miss_is_blamed_on_the_region_below(void **state)
{
    uintptr_t a = ARCH_REGION_BASE + GIB;

    (void)state;
    assert_int_equal(vm_map(&a, 2 * PAGE_SIZE, PROT_R, VM_FIXED, "a table"), 0);
    says(a + 5, "a table");
    says(a + 2 * PAGE_SIZE + 9, "no region, 9 bytes past the end of a table");
    says(a + 2 * PAGE_SIZE + GIB, "no region");
    says(a - 1, "no region");
    assert_int_equal(vm_unmap(a, 2 * PAGE_SIZE), 0);
}

// A region of another layer, with words of its own or none.
static const struct region_ops mute_ops = {NULL, NULL};

static void a_region_without_words_is_an_area(void **state)
{
    struct region r = {.start = ARCH_MMIO_BASE,
                       .end = ARCH_MMIO_BASE + PAGE_SIZE,
                       .ops = &mute_ops,
                       .name = "mute"};

    (void)state;
    assert_int_equal(region_add(&r), 0);
    says(ARCH_MMIO_BASE, "device registers and CPU stacks");
    region_remove(&r);
}

static void readable_is_what_is_mapped_now(void **state)
{
    uintptr_t a = 0;

    (void)state;
    assert_int_equal(vm_map(&a, 3 * PAGE_SIZE, PROT_R | PROT_W, 0, "test"), 0);
    assert_false(mm_readable(a, 1));
    *(volatile char *)a = 1;
    assert_true(mm_readable(a, PAGE_SIZE));
    assert_false(mm_readable(a, PAGE_SIZE + 1));
    *(volatile char *)(a + PAGE_SIZE) = 1;
    assert_true(mm_readable(a + 10, PAGE_SIZE));
    assert_true(mm_readable(a, 0));
    assert_false(mm_readable(UINT64_C(1) << 47, 1));
    assert_int_equal(vm_unmap(a, 3 * PAGE_SIZE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_area_has_words),
        cmocka_unit_test(a_near_miss_is_blamed_on_the_region_below),
        cmocka_unit_test(a_region_without_words_is_an_area),
        cmocka_unit_test(readable_is_what_is_mapped_now),
    };

    return cmocka_run_group_tests_name("describe", tests, start, stop);
}
