// sources: $(mm) arch/option.c
// Promises, pressure, and those who give frames back; caches of frames, those
// cleared in advance, reserves. The thread acts as one CPU after the other.

#include "host-tests/support.h"

#include <errno.h>

#include "arch/option.h"
#include "host-tests/mm/mm_fixture.h"
#include "mm/fail.h"
#include "mm/frame_impl.h"

enum { RAM = 64 * MIB, NFRAMES = RAM / PAGE_SIZE, LIMIT = 48 * MIB };

static const char *parse(const char *text)
{
    static struct option_words words;
    static char line[100], err[200];

    snprintf(line, sizeof line, "%s", text);
    return option_parse(line, &words, err, sizeof err);
}

static int start(void **state)
{
    (void)state;
    if (parse("mm.limit=48M") != NULL)
        return 1;
    return mm_fixture(RAM) != NULL;
}

MM_STOP

static void on_cpu(unsigned cpu)
{
    host_cpu.id = cpu;
}

// ---- options ----

static void a_limit_is_the_most_that_is_promised(void **state)
{
    (void)state;
    assert_int_equal(mm_commit().limit, LIMIT / PAGE_SIZE);
    assert_true(mm_commit().usable > LIMIT / PAGE_SIZE);
    assert_true(mm_charge(LIMIT / PAGE_SIZE));
    assert_false(mm_charge(1));
    mm_uncharge(LIMIT / PAGE_SIZE);
}

static void the_request_that_fails_is_an_option(void **state)
{
    (void)state;
    assert_null(parse("mm.fail=2"));
    paddr_t a = frame_cache_take(FRAME_ZERO), b = frame_cache_take(FRAME_ZERO),
            c = frame_cache_take(FRAME_ZERO);

    assert_true(a.raw != 0 && b.raw == 0 && c.raw != 0);
    assert_true(mm_has_failed());
    assert_null(parse("mm.fail=1+"));
    assert_int_equal(frame_cache_take(FRAME_ZERO).raw, 0);
    assert_int_equal(frame_alloc(3, FRAME_ZERO).raw, 0);
    assert_int_equal(frame_alloc(0, FRAME_DIRTY).raw, 0);
    assert_true(mm_has_failed());
    assert_null(parse("mm.fail=12"));
    assert_false(mm_has_failed());
    assert_null(parse("mm.fail=0"));
    assert_non_null(parse("mm.fail=x"));
    assert_non_null(parse("mm.fail=1+1"));
    assert_non_null(parse("mm.fail=+"));
    assert_non_null(parse("mm.fail=18446744073709551617"));
    assert_non_null(parse("mm.fail=-1"));
    mm_fail_at(0, false);
    frame_put(a);
    frame_put(c);
}

// ---- pressure ----

static paddr_t taken[NFRAMES];
static size_t ntaken;

// Frames that nobody has are n now, or as near as it gets.
static void leave_beside_caches(uint64_t n)
{
    while (ntaken > 0 && frames_free_now() < n)
        frame_free(taken[--ntaken], 0);
    while (frames_free_now() > n)
        taken[ntaken++] = frame_alloc(0, FRAME_DIRTY);
    assert_int_equal(frames_free_now(), n);
}

static void leave(uint64_t n)
{
    frame_cache_flush();
    leave_beside_caches(n);
}

static void give_all(void)
{
    while (ntaken > 0)
        frame_free(taken[--ntaken], 0);
    frame_cache_flush();
}

static void pressure_rises_as_frames_go(void **state)
{
    uint64_t usable = mm_commit().usable;

    (void)state;
    assert_int_equal(mm_pressure(), MM_PLENTY);
    assert_false(mm_frames_scarce());
    leave(usable / 8);
    assert_int_equal(mm_pressure(), MM_PLENTY);
    leave(usable / 8 - 1);
    assert_int_equal(mm_pressure(), MM_LOW);
    leave(usable / 16 - 1);
    assert_int_equal(mm_pressure(), MM_HIGH);
    assert_false(mm_frames_scarce());
    assert_false(mm_pressure_pending());
    leave(usable / 64 - 1);
    assert_int_equal(mm_pressure(), MM_CRITICAL);
    assert_true(mm_frames_scarce());
    assert_true(mm_pressure_pending());
    give_all();
    mm_relieve();
    assert_false(mm_pressure_pending());
}

static uint64_t asked[3];
static enum mm_pressure asked_level;

static uint64_t give(unsigned who, uint64_t npages, enum mm_pressure level)
{
    uint64_t n = min_u64(min_u64(npages, 10), ntaken);

    asked[who] = npages;
    asked_level = level;
    for (uint64_t i = 0; i < n; i++)
        frame_free(taken[--ntaken], 0);
    return n;
}

static uint64_t first_gives(uint64_t npages, enum mm_pressure level)
{
    return give(0, npages, level);
}

static uint64_t second_gives(uint64_t npages, enum mm_pressure level)
{
    return give(1, npages, level);
}

static void reclaimers_are_asked_until_there_is_enough(void **state)
{
    static struct mm_reclaimer first = {.reclaim = first_gives},
                               second = {.reclaim = second_gives};
    (void)state;
    mm_reclaimer_add(&first);
    mm_reclaimer_add(&second);
    leave(30);
    assert_int_equal(mm_reclaim(14), 14);
    assert_int_equal(asked[1], 14); // the last one added first
    assert_int_equal(asked[0], 4);
    assert_int_equal(asked_level, MM_CRITICAL);
    asked[0] = 0;
    assert_int_equal(mm_reclaim(5), 5);
    assert_int_equal(asked[0], 0);
    assert_int_equal(mm_reclaim(100), 20);
    // From a shortage that somebody met to the next turn of the scheduler.
    assert_false(mm_pressure_pending());
    mm_relieve(); // nothing to do
    assert_true(mm_frames_scarce());
    asked[1] = 0;
    mm_relieve();
    assert_true(asked[1] >= 64);
    give_all();
}

// Promises that somebody holds, and gives up when asked.
static uint64_t held, wanted;

static uint64_t gives_up(uint64_t npages, enum mm_pressure level)
{
    uint64_t n = min_u64(npages, held);

    (void)level;
    wanted = npages;
    held -= n;
    mm_uncharge(n);
    return n;
}

static void hold_all(void)
{
    uint64_t rest = mm_commit().limit - mm_commit().committed;

    assert_true(mm_charge(rest));
    held += rest;
    wanted = 0;
}

// What was given up is what was missing, and the next call finds nothing again.
static void had_to_ask(uint64_t npages)
{
    assert_int_equal(wanted, npages);
    hold_all();
}

static void calls_ask_for_what_they_cannot_promise(void **state)
{
    static struct mm_reclaimer holder = {.reclaim = gives_up};
    uint64_t before = mm_commit().committed, cost = mm_mapping_cost(4 * MIB);
    uint64_t limit = mm_commit().limit;
    uintptr_t a = 0, b = 0, c = 0, d = 0;

    (void)state;
    // Descriptors are promised for themselves.
    assert_int_equal(vm_map(&a, PAGE_SIZE, PROT_R, 0, "test"), 0);
    assert_int_equal(vm_unmap(a, PAGE_SIZE), 0);
    a = 0;
    limit = mm_commit().limit;
    mm_reclaimer_add(&holder);
    hold_all();
    assert_int_equal(vm_map(&a, 4 * MIB, PROT_R | PROT_W, 0, "test"), 0);
    had_to_ask(cost);
    assert_int_equal(vm_map(&b, 4 * MIB, 0, 0, "test"), 0);
    assert_int_equal(vm_alias(b, 4 * MIB, PROT_R, &c), 0);
    had_to_ask(cost);
    assert_int_equal(vm_protect(b, MIB, PROT_R), 0);
    had_to_ask(mm_mapping_cost(MIB));
    assert_int_equal(vm_clone(a, 4 * MIB, &d), 0);
    had_to_ask(cost);
    assert_int_equal(vm_unmap(d, 4 * MIB), 0);
    hold_all();
    d = 0;
    assert_int_equal(vm_move(a, 4 * MIB, 6 * MIB, &d), 0);
    had_to_ask(mm_mapping_cost(6 * MIB) - 4 * MIB / PAGE_SIZE);
    // A part of it is there, and nobody has the rest; nobody is asked for what
    // there never is.
    a = 0;
    mm_uncharge(held);
    held = 0;
    assert_true(mm_charge(limit - mm_commit().committed - 10));
    wanted = 0;
    assert_int_equal(vm_map(&a, 4 * MIB, PROT_R, 0, "test"), -ENOMEM);
    assert_int_equal(wanted, cost - 10);
    wanted = 0;
    assert_int_equal(vm_map(&a, limit * PAGE_SIZE, PROT_R, 0, "test"), -ENOMEM);
    assert_int_equal(wanted, 0);
    assert_int_equal(vm_unmap(b, 4 * MIB), 0);
    assert_int_equal(vm_unmap(c, 4 * MIB), 0);
    assert_int_equal(vm_unmap(d, 6 * MIB), 0);
    mm_uncharge(mm_commit().committed - before);
    mm_check();
}

static void
stores_in_order_get_no_more_than_they_need_when_few_are_left(void **state)
{
    uint64_t all = frames_free_now();
    uintptr_t a = 0;

    (void)state;
    assert_int_equal(vm_map(&a, 64 * PAGE_SIZE, PROT_R | PROT_W, 0, "test"), 0);
    *(volatile char *)a = 1;
    leave(mm_commit().usable / 64 - 1);
    *(volatile char *)(a + PAGE_SIZE) = 1;
    *(volatile char *)(a + 2 * PAGE_SIZE) = 1;
    assert_false(mm_readable(a + 3 * PAGE_SIZE, 1));
    leave(all - 10);
    *(volatile char *)(a + 3 * PAGE_SIZE) = 1;
    assert_true(mm_readable(a + 4 * PAGE_SIZE, 1));
    assert_int_equal(vm_unmap(a, 64 * PAGE_SIZE), 0);
    give_all();
}

// ---- caches ----

static void the_last_frames_come_from_other_cpus(void **state)
{
    uint64_t all = mm_free_frames();

    (void)state;
    on_cpu(1);
    paddr_t a = frame_cache_take(FRAME_DIRTY); // and a batch for its cache

    frame_put(a);
    assert_true(frame_cache_stats().cached > 0);
    on_cpu(2);
    paddr_t b = frame_cache_take(FRAME_ZERO);

    frame_put(b);
    on_cpu(0);
    leave_beside_caches(0);
    uint64_t cached = frame_cache_stats().cached;

    for (uint64_t i = 0; i < cached; i++) {
        paddr_t p = frame_cache_take(FRAME_ZERO);

        assert_true(p.raw != 0);
        taken[ntaken++] = p;
    }
    assert_int_equal(frame_cache_take(FRAME_ZERO).raw, 0);
    assert_int_equal(mm_free_frames(), 0);
    // A CPU that has no cache yet can't get one, but can give a frame.
    on_cpu(3);
    assert_int_equal(frame_cache_take(FRAME_DIRTY).raw, 0);
    assert_true(frame_reserve_low());
    frame_reserve_refill();
    frame_cache_flush();
    assert_int_equal(frame_cache_take_for_stack().raw, 0);
    frame_put(taken[--ntaken]);
    assert_int_equal(frames_free_now(), 1);
    on_cpu(0);
    give_all();
    assert_int_equal(mm_free_frames(), all - 2); // the caches themselves
    frame_check();
}

static void a_full_cache_gives_a_batch_back(void **state)
{
    enum { MANY = 200 };
    paddr_t p[MANY];
    uint64_t before = mm_free_frames();

    (void)state;
    for (int i = 0; i < MANY; i++)
        p[i] = frame_cache_take(FRAME_DIRTY);
    assert_int_equal(mm_free_frames(), before - MANY);
    for (int i = 0; i < MANY; i++)
        frame_put(p[i]);
    assert_int_equal(mm_free_frames(), before);
    assert_in_range(frame_cache_stats().cached, 32, 64);
    frame_cache_flush();
    assert_int_equal(frame_cache_stats().cached, 0);
    frame_check();
}

static void idle_cpus_clear_frames_up_to_a_bound(void **state)
{
    uint64_t before = mm_free_frames(), n = 0;
    struct frame_cache_stats s;
    paddr_t p;

    (void)state;
    while (frame_zero_ahead())
        n++;
    s = frame_cache_stats();
    // Each holds one back from the others while it clears it, no more.
    assert_true(n > 0 && s.zeroed == n);
    assert_int_equal(mm_free_frames(), before);
    p = frame_cache_take(FRAME_ZERO);
    assert_int_equal(frame_cache_stats().zeroed, s.zeroed - 1);
    assert_int_equal(frame_cache_stats().from_zeroed, s.from_zeroed + 1);
    for (size_t i = 0; i < PAGE_SIZE; i++)
        assert_int_equal(((char *)arch_direct(p))[i], 0);
    frame_put(p);
    // The last ones go to whoever needs one, cleared or not.
    while (frames_free_now() > 0)
        taken[ntaken++] = frame_alloc(0, FRAME_DIRTY);
    while ((p = frame_cache_take(FRAME_DIRTY)).raw != 0)
        taken[ntaken++] = p;
    assert_int_equal(frame_cache_stats().zeroed, 0);
    assert_false(frame_zero_ahead());
    give_all();
    uint64_t bound = frame_zeroed_max;

    frame_zeroed_max = 0;
    assert_false(frame_zero_ahead());
    frame_zeroed_max = bound;
    assert_true(frame_zero_ahead());
    frame_cache_flush();
    assert_int_equal(frame_cache_stats().zeroed, 0);
    assert_int_equal(mm_free_frames(), before);
    frame_check();
}

// ---- the reserve ----

static void a_stack_grows_from_the_reserve_until_it_is_empty(void **state)
{
    unsigned n = 0;

    (void)state;
    assert_true(frame_reserve_low());
    frame_reserve_refill();
    assert_false(frame_reserve_low());
    frame_reserve_refill();
    paddr_t p = frame_cache_take_for_stack();

    assert_false(frame_reserve_low()); // it is the last resort
    frame_put(p);
    mm_relieve();
    leave(0);
    preempt_clear_pending();
    assert_int_equal(frame_cache_take(FRAME_ZERO).raw, 0);
    while ((p = frame_cache_take_for_stack()).raw != 0) {
        assert_true(host_cpu.pending); // filled again at the next chance
        for (size_t i = 0; i < PAGE_SIZE; i += 512)
            assert_int_equal(((char *)arch_direct(p))[i], 0);
        taken[ntaken++] = p;
        n++;
    }
    preempt_clear_pending();
    assert_int_equal(n, 12);
    assert_true(mm_pressure_pending());
    assert_true(frame_reserve_low());
    give_all();
    mm_relieve();
}

static void a_page_of_a_stack_may_take_the_reserve(void **state)
{
    uintptr_t va = ARCH_REGION_BASE + 5 * (uintptr_t)GIB;

    (void)state;
    frame_reserve_refill();
    leave(0);
    spin_lock(&mm_lock);
    assert_false(region_map_page(va, PROT_R | PROT_W, false));
    assert_true(region_map_page(va, PROT_R | PROT_W, true));
    assert_true(region_map_page(va, PROT_R | PROT_W, true)); // is there
    assert_true(region_map_page(va, PROT_R | PROT_W, false));
    spin_unlock(&mm_lock);
    preempt_clear_pending();
    give_all();
    vm_drop_range(va, va + PAGE_SIZE);
    assert_false(mm_readable(va, 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_limit_is_the_most_that_is_promised),
        cmocka_unit_test(the_request_that_fails_is_an_option),
        cmocka_unit_test(pressure_rises_as_frames_go),
        cmocka_unit_test(reclaimers_are_asked_until_there_is_enough),
        cmocka_unit_test(calls_ask_for_what_they_cannot_promise),
        cmocka_unit_test(
            stores_in_order_get_no_more_than_they_need_when_few_are_left),
        cmocka_unit_test(the_last_frames_come_from_other_cpus),
        cmocka_unit_test(a_full_cache_gives_a_batch_back),
        cmocka_unit_test(idle_cpus_clear_frames_up_to_a_bound),
        cmocka_unit_test(a_stack_grows_from_the_reserve_until_it_is_empty),
        cmocka_unit_test(a_page_of_a_stack_may_take_the_reserve),
    };

    return cmocka_run_group_tests_name("commit", tests, start, stop);
}
