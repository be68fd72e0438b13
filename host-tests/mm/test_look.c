// sources: $(mm)
// What mm says about an address, and counts.

#include "host-tests/support.h"

#include "host-tests/mm/mm_map.h"
#include "mm/look.h"
#include "mm/vm.h"

enum { RAM = 64 * MIB };

MM_START(RAM)
MM_STOP

static struct mm_look look(uintptr_t va)
{
    struct mm_look l;

    spin_lock(&mm_lock);
    mm_look(va, &l);
    spin_unlock(&mm_lock);
    return l;
}

static void store(uintptr_t va)
{
    *(volatile char *)va = 1;
}

static char load(uintptr_t va)
{
    return *(volatile char *)va;
}

static void a_page_is_described_before_and_after_its_first_store(void **state)
{
    uintptr_t a = map(3, 0);
    struct mm_look l = look(a + PAGE_SIZE + 5);

    (void)state;
    assert_true(l.in_region && !l.mapped && !l.kept && l.level == 0);
    assert_true(l.start == a && l.end == a + 3 * PAGE_SIZE);
    assert_string_equal(l.name, "test");
    assert_true(l.prot == RW && l.views == 1);
    store(a + PAGE_SIZE);
    l = look(a + PAGE_SIZE + 5);
    assert_true(l.mapped && l.level == 1 && l.rights == RW && l.dirty);
    assert_true(l.users == 1 && !l.cow && !l.zero_frame && l.frame != 0);
    assert_int_equal(vm_protect(a, 3 * PAGE_SIZE, 0), 0);
    l = look(a + PAGE_SIZE);
    assert_true(!l.mapped && l.kept && l.rights == 0 && l.frame != 0);
    unmap(a, 3);
}

static void shared_frames_count_their_users(void **state)
{
    uintptr_t a = map(2, 0), alias = 0, clone = 0;

    (void)state;
    store(a);
    assert_int_equal(vm_alias(a, 2 * PAGE_SIZE, PROT_R, &alias), 0);
    assert_int_equal(load(alias), 1);
    assert_true(look(a).users == 2 && look(alias).views == 2);
    assert_true(look(a).frame == look(alias).frame);
    assert_int_equal(vm_clone(a, 2 * PAGE_SIZE, &clone), 0);
    assert_true(look(a).cow && look(clone).cow && look(a).users == 3);
    unmap(a, 2);
    unmap(alias, 2);
    unmap(clone, 2);
}

static void gaps_have_ranges(void **state)
{
    uintptr_t a = map(1, 0), b = map(1, 0);
    struct mm_look l = look(a + PAGE_SIZE);

    (void)state;
    assert_true(b > a);
    assert_true(!l.in_region && l.start == a + PAGE_SIZE && l.end == b);
    l = look(ARCH_REGION_END);
    assert_true(!l.in_region && l.end == 0);
    l = look(UINT64_C(1) << 47);
    assert_true(!l.in_region && !l.mapped);
    unmap(a, 1);
    unmap(b, 1);
}

static void residents_are_pages_with_a_frame_of_their_own(void **state)
{
    uintptr_t a = map(4096, VM_SPARSE), huge = map(1024, 0);

    (void)state;
    assert_int_equal(load(a + 700 * PAGE_SIZE), 0);
    assert_true(look(a + 700 * PAGE_SIZE).zero_frame);
    assert_int_equal(look(a + 700 * PAGE_SIZE).users, 0);
    assert_int_equal(mm_count_resident(a, a + 4096 * PAGE_SIZE), 0);
    store(a);
    store(a + 1000 * PAGE_SIZE);
    assert_int_equal(mm_count_resident(a, a + 4096 * PAGE_SIZE), 2);
    assert_int_equal(mm_count_resident(a, a + PAGE_SIZE), 1);
    assert_int_equal(vm_promote(huge, 1024 * PAGE_SIZE), 2);
    assert_int_equal(look(huge + 5 * PAGE_SIZE).level, 2);
    assert_int_equal(look(huge + 5 * PAGE_SIZE).frame, look(huge).frame + 5);
    assert_int_equal(
        mm_count_resident(huge + PAGE_SIZE, huge + 600 * PAGE_SIZE), 599);
    // Nothing at all, over a large part of the address space.
    assert_int_equal(mm_count_resident(ARCH_REGION_END - GIB, ARCH_REGION_END),
                     0);
    unmap(a, 4096);
    unmap(huge, 1024);
}

static void reads_in_order_take_no_frame_of_sparse_memory(void **state)
{
    uintptr_t a = map(200, VM_SPARSE);

    (void)state;
    for (size_t i = 0; i < 200; i++)
        assert_int_equal(load(a + i * PAGE_SIZE), 0);
    assert_int_equal(mm_count_resident(a, a + 200 * PAGE_SIZE), 0);
    unmap(a, 200);
}

static void a_walk_ends_at_the_entry(void **state)
{
    struct mm_walk_step s[PT_LEVELS];
    uintptr_t a = map(1, 0);
    uintptr_t va = 0;

    (void)state;
    store(a);
    assert_int_equal(mm_walk(a, s), PT_LEVELS);
    for (int i = 0; i < PT_LEVELS; i++) {
        assert_true(s[i].present && s[i].level == PT_LEVELS - i);
        assert_true(s[i].leaf == (i == PT_LEVELS - 1));
        va = va << 9 | s[i].index;
    }
    assert_int_equal(va << PAGE_SHIFT, a);
    assert_int_equal(pte_paddr(s[3].entry).raw >> PAGE_SHIFT, look(a).frame);
    assert_int_equal(mm_walk(UINT64_C(1) << 47, s), 0);
    unmap(a, 1);
    unsigned n = mm_walk(a, s);

    assert_true(n > 0 && (!s[n - 1].present));
}

static void events_are_counted(void **state)
{
    struct mm_events before = mm_events(), after;
    uintptr_t a = map(1, 0), clone = 0, to = 0;

    (void)state;
    store(a);
    assert_int_equal(vm_clone(a, PAGE_SIZE, &clone), 0);
    store(clone);
    assert_int_equal(vm_move(a, PAGE_SIZE, PAGE_SIZE, &to), 0);
    after = mm_events();
    assert_int_equal(after.zero_fills - before.zero_fills, 1);
    assert_int_equal(after.cow_faults - before.cow_faults, 1);
    assert_int_equal(after.moves - before.moves, 1);
    assert_true(after.faults - before.faults >= 2);
    unmap(to, 1);
    unmap(clone, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_is_described_before_and_after_its_first_store),
        cmocka_unit_test(shared_frames_count_their_users),
        cmocka_unit_test(gaps_have_ranges),
        cmocka_unit_test(residents_are_pages_with_a_frame_of_their_own),
        cmocka_unit_test(reads_in_order_take_no_frame_of_sparse_memory),
        cmocka_unit_test(a_walk_ends_at_the_entry),
        cmocka_unit_test(events_are_counted),
    };

    return cmocka_run_group_tests_name("look", tests, start, stop);
}
