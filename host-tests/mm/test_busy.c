// sources: $(mm)
// One moment of an operation while another goes on: pages that are busy, regions
// that are frozen, rings of many views. The other CPU's part is played by hand.

#include "host-tests/support.h"

#include "host-tests/mm/mm_map.h"
#include "mm/fail.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

enum { RAM = 64 * MIB, VIEWS = 11 };

MM_START(RAM)
MM_STOP

static void put(uintptr_t va, uint64_t v)
{
    *(volatile uint64_t *)va = v;
}

static uint64_t get(uintptr_t va)
{
    return *(volatile uint64_t *)va;
}

static uintptr_t map_and_fill(size_t pages)
{
    uintptr_t a = map(pages, 0);

    for (size_t i = 0; i < pages; i++)
        put(a + i * PAGE_SIZE, i);
    return a;
}

static pte_t *entry(uintptr_t va)
{
    int level;

    return pt_find(va, &level);
}

// ---- busy pages ----

static uintptr_t busy_va;
static pte_t busy_was;
static unsigned waited;

// Another CPU replaces the frame of va, from now until end_busy().
static void begin_busy(uintptr_t va)
{
    busy_va = va;
    busy_was = pt_set(entry(va), PTE_BUSY);
    mm_nbusy++;
    waited = 0;
    arch_tlb_shootdown(va, 1);
}

static void end_busy(void)
{
    if (busy_va == 0)
        return;
    pt_set(entry(busy_va), busy_was);
    mm_nbusy--;
    busy_va = 0;
}

// Who waits gives the lock up; the other CPU gets on after a few turns.
static void other_cpu(void)
{
    assert_false(spin_held(&mm_lock));
    if (++waited == 3)
        end_busy();
}

static void a_fault_on_a_busy_page_just_comes_again(void **state)
{
    uintptr_t a = map(4, 0), alias = 0;

    (void)state;
    put(a, 1);
    assert_int_equal(vm_alias(a, 4 * PAGE_SIZE, RW, &alias), 0);
    begin_busy(a);
    assert_true(mm_fault(a, PROT_W, 0));
    assert_int_equal(pt_get(entry(a)), PTE_BUSY); // nobody else touches it
    assert_true(mm_fault(alias, PROT_R, 0));
    assert_true(entry(alias) == NULL || pt_get(entry(alias)) == 0);
    end_busy();
    assert_int_equal(get(alias), 1);
    unmap(a, 4);
    unmap(alias, 4);
}

static void operations_wait_for_busy_pages(void **state)
{
    uintptr_t a = map(1200, 0), to = 0;

    (void)state;
    put(a, 1);
    put(a + 900 * PAGE_SIZE, 2);
    put(a + 1100 * PAGE_SIZE, 3);
    host_relax_hook = other_cpu;
    begin_busy(a + 900 * PAGE_SIZE);
    assert_int_equal(vm_protect(a, 1200 * PAGE_SIZE, PROT_R), 0);
    assert_int_equal(waited, 3);
    assert_int_equal(get(a + 900 * PAGE_SIZE), 2);
    assert_false(mm_fault(a + 900 * PAGE_SIZE, PROT_W, 0));
    assert_int_equal(vm_protect(a, 1200 * PAGE_SIZE, RW), 0);
    begin_busy(a + 900 * PAGE_SIZE);
    assert_int_equal(vm_move(a, 1200 * PAGE_SIZE, 1200 * PAGE_SIZE, &to), 0);
    assert_true(waited >= 3); // and after each table, for others' sake
    assert_int_equal(get(to + 900 * PAGE_SIZE), 2);
    begin_busy(to + 900 * PAGE_SIZE);
    assert_int_equal(vm_clone(to, 1200 * PAGE_SIZE, &a), 0);
    assert_true(waited >= 3); // and once in a while for others' sake
    assert_int_equal(get(a + 900 * PAGE_SIZE), 2);
    begin_busy(to + 900 * PAGE_SIZE);
    assert_int_equal(vm_decommit(to, 1000 * PAGE_SIZE, false), 0);
    assert_int_equal(waited, 3);
    assert_int_equal(get(to + 900 * PAGE_SIZE), 0);
    assert_int_equal(get(to + 1100 * PAGE_SIZE), 3);
    begin_busy(to + 1100 * PAGE_SIZE);
    unmap(to, 1200);
    assert_int_equal(waited, 3);
    assert_null(region_find(to));
    host_relax_hook = NULL;
    unmap(a, 1200);
    mm_check();
}

// Of memory with two views: the one that is copied has no entry for the page
// that another CPU replaces in the other.
static void a_copy_waits_for_pages_that_are_busy_in_another_view(void **state)
{
    uintptr_t a = map(4, 0), b = 0, copy = 0;

    (void)state;
    put(a + PAGE_SIZE, 7);
    assert_int_equal(vm_alias(a, 4 * PAGE_SIZE, RW, &b), 0);
    host_relax_hook = other_cpu;
    begin_busy(a + PAGE_SIZE);
    assert_int_equal(vm_clone(b, 4 * PAGE_SIZE, &copy), 0);
    end_busy();
    host_relax_hook = NULL;
    assert_int_equal(get(copy + PAGE_SIZE), 7);
    unmap(a, 4);
    unmap(b, 4);
    unmap(copy, 4);
    mm_check();
}

// A stack slot or a heap arena that goes has no region any more; the page that
// is busy there is waited for all the same.
static void dropped_pages_are_waited_for(void **state)
{
    uintptr_t a = map(4, 0);
    uint64_t before = mm_free_frames();

    (void)state;
    put(a, 1);
    host_relax_hook = other_cpu;
    begin_busy(a);
    preempt_disable();
    vm_drop_range(a, a + 4 * PAGE_SIZE);
    preempt_enable();
    assert_int_equal(waited, 3);
    host_relax_hook = NULL;
    assert_true(mm_free_frames() >= before);
    assert_int_equal(get(a), 0);
    unmap(a, 4);
}

// ---- frozen regions ----

static void nothing_appears_in_a_frozen_region(void **state)
{
    uintptr_t a = map(4, VM_SPARSE), copy = 0;

    (void)state;
    put(a, 1);
    assert_int_equal(vm_clone(a, 4 * PAGE_SIZE, &copy), 0);
    spin_lock(&mm_lock);
    vm_freeze(region_find(a));
    spin_unlock(&mm_lock);
    // A first touch and a copy-on-write break come again later.
    assert_true(mm_fault(a + PAGE_SIZE, PROT_W, 0));
    assert_false(pt_has_frame(pt_get(entry(a + PAGE_SIZE))));
    assert_true(mm_fault(a, PROT_W, 0));
    assert_true(pt_get(entry(a)) & PTE_COW);
    assert_int_equal(get(a), 1);
    spin_lock(&mm_lock);
    vm_thaw(region_find(a));
    spin_unlock(&mm_lock);
    put(a, 2);
    assert_int_equal(get(copy), 1);
    unmap(a, 4);
    unmap(copy, 4);
}

static unsigned guesses;

// Another CPU stores to where a copy is being made.
static void guess(void)
{
    struct region *r = region_first_above(0);

    while (strcmp(r->name, "a snapshot") != 0)
        r = region_first_above(r->end);
    for (size_t i = 0; i < 1200; i += 599)
        assert_true(mm_fault(r->start + i * PAGE_SIZE, PROT_W, 0));
    guesses++;
}

// What appeared there would be lost when the copy's page comes.
static void nothing_appears_in_a_copy_that_is_being_made(void **state)
{
    enum { N = 1200 };
    uintptr_t a = map_and_fill(N), copy = 0;
    uint64_t before = mm_free_frames();

    (void)state;
    host_relax_hook = guess;
    assert_int_equal(vm_clone(a, N * PAGE_SIZE, &copy), 0);
    host_relax_hook = NULL;
    assert_true(guesses > 0);
    mm_check();
    assert_int_equal(get(copy + 1198 * PAGE_SIZE), 1198);
    unmap(copy, N);
    assert_true(mm_free_frames() >= before);
    unmap(a, N);
}

// ---- faults ----

static void a_fault_that_was_served_meanwhile_is_served(void **state)
{
    uintptr_t a = map(2, 0);

    (void)state;
    put(a, 1);
    uint64_t before = mm_free_frames();

    assert_true(mm_fault(a, PROT_W, 0));
    assert_true(mm_fault(a, PROT_R, 0));
    assert_false(mm_fault(a, PROT_X, 0));
    assert_int_equal(mm_last_fault(), FAULT_DENIED);
    assert_int_equal(mm_free_frames(), before);
    unmap(a, 2);
}

static void a_fault_while_the_lock_is_held_is_no_fault_to_serve(void **state)
{
    uintptr_t a = map(1, 0);

    (void)state;
    spin_lock(&mm_lock);
    assert_false(mm_fault(a, PROT_R, 0));
    spin_unlock(&mm_lock);
    assert_true(mm_fault(a, PROT_R, 0));
    unmap(a, 1);
}

// ---- rings ----

static void a_store_in_a_large_ring_is_seen_by_all(void **state)
{
    uintptr_t view[VIEWS], copy = 0;

    (void)state;
    view[0] = map(3, 0);
    put(view[0] + PAGE_SIZE, 1);
    for (int i = 1; i < VIEWS; i++) {
        view[i] = 0;
        assert_int_equal(
            vm_alias(view[0], 3 * PAGE_SIZE, i == 3 ? 0 : RW, &view[i]), 0);
        if (i != 3)
            assert_int_equal(get(view[i] + PAGE_SIZE), 1);
    }
    assert_int_equal(vm_clone(view[4], 3 * PAGE_SIZE, &copy), 0);
    // More views than are shot down one by one.
    put(view[7] + PAGE_SIZE, 2);
    for (int i = 0; i < VIEWS; i++) {
        if (i != 3)
            assert_int_equal(get(view[i] + PAGE_SIZE), 2);
    }
    assert_int_equal(get(copy + PAGE_SIZE), 1);
    for (int i = 0; i < VIEWS; i++)
        unmap(view[i], 3);
    assert_int_equal(get(copy + PAGE_SIZE), 1);
    unmap(copy, 3);
    mm_check();
}

// Two views go at once: what only one of them has a frame for goes to the third,
// not to the other.
static void memory_goes_to_a_view_that_stays(void **state)
{
    uintptr_t a = map(8, 0), b = a + 4 * PAGE_SIZE, c = 0;

    (void)state;
    unmap(b, 4);
    assert_int_equal(vm_alias(a, 4 * PAGE_SIZE, RW, &c), 0);
    assert_int_equal(vm_alias(a, 4 * PAGE_SIZE, RW, &b), 0);
    assert_int_equal(b, a + 4 * PAGE_SIZE);
    put(a, 1);
    put(b + PAGE_SIZE, 2);
    put(a + 2 * PAGE_SIZE, 3);
    assert_int_equal(get(b + 2 * PAGE_SIZE), 3);
    unmap(a, 8);
    assert_int_equal(get(c), 1);
    assert_int_equal(get(c + PAGE_SIZE), 2);
    assert_int_equal(get(c + 2 * PAGE_SIZE), 3);
    assert_int_equal(get(c + 3 * PAGE_SIZE), 0);
    unmap(c, 4);
    assert_int_equal(mm_commit().committed, 0);
    mm_check();
}

// ---- promises ----

static uint64_t free_before, committed_before;
static unsigned looks;
static bool broken;

// What another CPU finds while an operation waits for a shootdown: each frame in
// use is still promised. Else it could promise, and touch, one that is not free.
static void look_at_promises(void)
{
    uint64_t used = free_before - mm_free_frames();

    looks++;
    broken |= mm_commit().committed - committed_before < used;
}

static void begin_looking(void)
{
    free_before = mm_free_frames();
    committed_before = mm_commit().committed;
    looks = 0;
    host_shootdown_hook = look_at_promises;
}

static void end_looking(const char *what)
{
    host_shootdown_hook = NULL;
    if (broken || looks == 0)
        fail_msg("%s: frames that are promised to others, or no look at all",
                 what);
    assert_int_equal(mm_commit().committed, committed_before);
    mm_check();
}

static void promises_come_back_after_the_frames(void **state)
{
    enum { N = 1500, LARGE = 8000 };
    uintptr_t a = map_and_fill(N), b = 0;

    (void)state;
    unmap(a, N); // tables of the top levels and descriptors stay
    begin_looking();
    unmap(map_and_fill(N), N);
    end_looking("unmap");

    begin_looking();
    a = map_and_fill(N);
    unmap(a + 100 * PAGE_SIZE, 1000);
    unmap(a, N);
    end_looking("unmap of a part");

    begin_looking();
    a = map_and_fill(N);
    assert_int_equal(vm_decommit(a, N * PAGE_SIZE, true), 0);
    unmap(a, N);
    end_looking("decommit");

    begin_looking();
    a = map_and_fill(N);
    b = a;
    assert_int_equal(vm_move(a, N * PAGE_SIZE, PAGE_SIZE, &b), 0);
    unmap(a, 1);
    end_looking("shrink");

    begin_looking();
    a = map_and_fill(N);
    b = 0;
    assert_int_equal(vm_move(a, N * PAGE_SIZE, PAGE_SIZE, &b), 0);
    unmap(b, 1);
    end_looking("move and shrink");

    // Page by page, with tables at both places.
    begin_looking();
    a = map_and_fill(LARGE);
    b = 0;
    assert_int_equal(vm_move(a + PAGE_SIZE, (LARGE - 1) * PAGE_SIZE,
                             (LARGE - 1) * PAGE_SIZE, &b),
                     0);
    unmap(a, 1);
    unmap(b, LARGE - 1);
    end_looking("move");

    begin_looking();
    a = map_and_fill(N);
    b = 0;
    assert_int_equal(vm_alias(a, N * PAGE_SIZE, RW, &b), 0);
    unmap(a, N);
    unmap(b, N);
    end_looking("unmap of an alias");

    // So does a device.
    begin_looking();
    for (unsigned nth = 1; nth < 5; nth++) {
        b = 0;
        mm_fail_at(nth, false);
        if (vm_map_device(&b, paddr(3 * (uint64_t)GIB), N * PAGE_SIZE, RW,
                          "device") == 0)
            unmap(b, N);
    }
    mm_fail_at(0, false);
    end_looking("device");

    // A clone that fails on its way gives back what it has of tables.
    begin_looking();
    a = map_and_fill(N);
    for (unsigned nth = 1; nth < 5; nth++) {
        mm_fail_at(nth, false);
        if (vm_clone(a, N * PAGE_SIZE, &b) == 0)
            unmap(b, N);
    }
    mm_fail_at(0, false);
    unmap(a, N);
    end_looking("clone");
}

// The memory is charged to one of its views. When that one goes, each page that
// another shows is promised still.
static void what_aliases_show_stays_promised(void **state)
{
    enum { N = 600 };
    uintptr_t a = map_and_fill(N), low = 0, high = 0, mid = 0;

    (void)state;
    unmap(a, N);
    begin_looking();
    a = map_and_fill(N);
    assert_int_equal(vm_alias(a, 100 * PAGE_SIZE, RW, &low), 0);
    assert_int_equal(vm_alias(a + 200 * PAGE_SIZE, 400 * PAGE_SIZE, RW, &high),
                     0);
    assert_int_equal(vm_alias(a + 250 * PAGE_SIZE, 50 * PAGE_SIZE, RW, &mid),
                     0);
    unmap(a, N);
    look_at_promises();
    assert_int_equal(get(high + 399 * PAGE_SIZE), N - 1);
    assert_int_equal(get(mid), 250);
    unmap(low, 100);
    look_at_promises();
    unmap(high, 400);
    look_at_promises();
    assert_int_equal(get(mid + 49 * PAGE_SIZE), 299);
    unmap(mid, 50);
    end_looking("aliases");

    // A part of the memory goes.
    begin_looking();
    a = map_and_fill(N);
    assert_int_equal(vm_alias(a, N * PAGE_SIZE, RW, &high), 0);
    unmap(a + 100 * PAGE_SIZE, 300);
    look_at_promises();
    assert_int_equal(vm_decommit(a, 100 * PAGE_SIZE, true), 0);
    look_at_promises();
    unmap(high, N);
    unmap(a, N);
    end_looking("parts of aliases");

    // It is moved without its end.
    begin_looking();
    a = map_and_fill(N);
    assert_int_equal(vm_alias(a, N * PAGE_SIZE, RW, &high), 0);
    low = 0;
    assert_int_equal(vm_move(a, N * PAGE_SIZE, 100 * PAGE_SIZE, &low), 0);
    look_at_promises();
    assert_int_equal(get(high + 399 * PAGE_SIZE), 399);
    unmap(low, 100);
    unmap(high, N);
    end_looking("moved without its end");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fault_on_a_busy_page_just_comes_again),
        cmocka_unit_test(operations_wait_for_busy_pages),
        cmocka_unit_test(a_copy_waits_for_pages_that_are_busy_in_another_view),
        cmocka_unit_test(dropped_pages_are_waited_for),
        cmocka_unit_test(nothing_appears_in_a_frozen_region),
        cmocka_unit_test(nothing_appears_in_a_copy_that_is_being_made),
        cmocka_unit_test(a_fault_that_was_served_meanwhile_is_served),
        cmocka_unit_test(a_fault_while_the_lock_is_held_is_no_fault_to_serve),
        cmocka_unit_test(a_store_in_a_large_ring_is_seen_by_all),
        cmocka_unit_test(memory_goes_to_a_view_that_stays),
        cmocka_unit_test(promises_come_back_after_the_frames),
        cmocka_unit_test(what_aliases_show_stays_promised),
    };

    return cmocka_run_group_tests_name("busy", tests, start, stop);
}
