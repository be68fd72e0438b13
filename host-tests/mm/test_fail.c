// sources: $(mm)
// Every request for a frame failed in turn, once and from then on, in every
// call of mm: the call says -ENOMEM (a fault FAULT_OOM) and has changed nothing,
// or does without; tried again it does what it does without a failure; and
// nothing is lost.
//
// A case prepares memory, at addresses that are the same each time, and makes
// one call. What is compared is each page of each region (seen.h).

#include "host-tests/support.h"

#include <errno.h>

#include "host-tests/mm/descriptors.h"
#include "host-tests/mm/mm_fixture.h"
#include "host-tests/mm/seen.h"
#include "mm/fail.h"
#include "mm/fcache.h"
#include "mm/mm_impl.h"

enum {
    RAM = 96 * MIB,
    TABLE = 512,    // pages below one table
    RECORDED = 284, // points that there were when this was written
};

#define RW (PROT_R | PROT_W)

static char doing[100]; // which request of which case fails

// ---- what is there when nothing is mapped ----

struct accounts {
    uint64_t frames; // free; those that hold descriptors count as free
    uint64_t tables, committed;
};

static struct accounts accounts(void)
{
    struct accounts a;

    a.frames = mm_free_frames() +
               descriptors_take() / (PAGE_SIZE / sizeof(struct region));
    descriptors_give();
    a.tables = pt_tables();
    a.committed = mm_commit().committed;
    return a;
}

// ---- the calls ----

static uintptr_t base; // of what a case maps
static uintptr_t made; // by the call
static int watcher = -1;

static uintptr_t at(size_t page)
{
    return base + page * PAGE_SIZE;
}

static void put(uintptr_t va, uint64_t v)
{
    *(volatile uint64_t *)va = v;
}

static uint64_t get(uintptr_t va)
{
    return *(volatile uint64_t *)va;
}

static uintptr_t map_at(size_t page, size_t npages, unsigned prot,
                        unsigned flags)
{
    uintptr_t va = at(page);

    assert_int_equal(
        vm_map(&va, npages * PAGE_SIZE, prot, flags | VM_FIXED, "test"), 0);
    return va;
}

static void fill(size_t page, size_t npages, size_t step)
{
    for (size_t i = 0; i < npages; i += step)
        put(at(page + i), page + i + 1);
}

static uintptr_t alias_at(size_t to, size_t page, size_t npages)
{
    uintptr_t va = at(to);

    assert_int_equal(vm_alias(at(page), npages * PAGE_SIZE, RW, &va), 0);
    assert_int_equal(va, at(to));
    return va;
}

static uintptr_t clone(size_t page, size_t npages)
{
    uintptr_t va = 0;

    assert_int_equal(vm_clone(at(page), npages * PAGE_SIZE, &va), 0);
    return va;
}

static void watch(size_t page)
{
    watcher = dirty_client_new();
    assert_true(watcher >= 0);
    assert_int_equal(dirty_watch(watcher, at(page)), 0);
}

static void nothing(void)
{
}

static long call_map(void)
{
    uintptr_t va = at(0);

    return vm_map(&va, 9 * PAGE_SIZE, RW, VM_FIXED | VM_SPARSE, "test");
}

static long call_map_anywhere(void)
{
    made = 0;
    return vm_map(&made, 3 * TABLE * PAGE_SIZE, RW, 0, "test");
}

static long call_reserve(void)
{
    uintptr_t va = at(0);

    return vm_map(&va, 9 * PAGE_SIZE, 0, VM_FIXED | VM_NORESERVE, "test");
}

// Where no RAM is, and across two tables.
static long call_map_device(void)
{
    uintptr_t va = at(TABLE - 2);

    return vm_map_device(&va, paddr(0xfec00000), 4 * PAGE_SIZE, RW, "device");
}

static void filled_16(void)
{
    map_at(0, 16, RW, 0);
    fill(0, 16, 1);
}

static long call_unmap(void)
{
    return vm_unmap(at(0), 16 * PAGE_SIZE);
}

static long call_unmap_middle(void)
{
    return vm_unmap(at(4), 8 * PAGE_SIZE);
}

// Three mappings, each with an alias in a table of its own that has no entry
// yet: all pages have to be handed over, and each time it can fail.
static void three_and_aliases(void)
{
    for (size_t i = 0; i < 3; i++) {
        map_at(20 * i, 16, RW, 0);
        fill(20 * i, 16, 1);
        alias_at(4 * TABLE * (i + 1), 20 * i, 16);
    }
}

static long call_unmap_three(void)
{
    return vm_unmap(at(0), 60 * PAGE_SIZE);
}

static void promoted(void)
{
    map_at(0, 2 * TABLE, RW, 0);
    fill(0, 2 * TABLE, 7);
    assert_int_equal(vm_promote(at(0), 2 * TABLE * PAGE_SIZE), 2);
}

static long call_unmap_of_large(void)
{
    return vm_unmap(at(10), TABLE * PAGE_SIZE);
}

static void watched_16(void)
{
    filled_16();
    watch(0);
    put(at(5), 55);
}

static long call_protect(void)
{
    return vm_protect(at(0), 16 * PAGE_SIZE, PROT_R);
}

static long call_protect_middle(void)
{
    return vm_protect(at(4), 8 * PAGE_SIZE, 0);
}

static void reserved(void)
{
    map_at(0, 2000, 0, 0);
}

static long call_commit(void)
{
    return vm_protect(at(600), 700 * PAGE_SIZE, RW);
}

static long call_discard(void)
{
    return vm_decommit(at(4), 8 * PAGE_SIZE, false);
}

static long call_decommit(void)
{
    return vm_decommit(at(4), 8 * PAGE_SIZE, true);
}

static void aliased_16(void)
{
    filled_16();
    alias_at(3 * TABLE, 0, 16);
    (void)get(at(3 * TABLE + 5));
}

static long call_decommit_all(void)
{
    return vm_decommit(at(0), 16 * PAGE_SIZE, true);
}

static long call_decommit_large(void)
{
    return vm_decommit(at(TABLE + 4), 8 * PAGE_SIZE, false);
}

static void three_tables(void)
{
    map_at(0, 3 * TABLE, RW, 0);
    fill(0, 3 * TABLE, 5);
}

static void unpromised_tables(void)
{
    map_at(0, 3 * TABLE, RW, VM_NORESERVE);
    fill(0, 3 * TABLE, 5);
}

static long move_to(uintptr_t to, size_t npages, size_t new_npages)
{
    return vm_move(at(0), npages * PAGE_SIZE, new_npages * PAGE_SIZE, &to);
}

static long call_move_relinked(void)
{
    return move_to(at(0) + 4 * (uintptr_t)GIB, 3 * TABLE, 3 * TABLE);
}

static long call_move_by_pages(void)
{
    return move_to(at(3) + 4 * (uintptr_t)GIB, 3 * TABLE, 3 * TABLE);
}

static long call_move_and_grow(void)
{
    return move_to(at(0) + 4 * (uintptr_t)GIB, 16, 2500);
}

static long call_move_and_shrink(void)
{
    return move_to(at(700) + 4 * (uintptr_t)GIB, 3 * TABLE, TABLE + 9);
}

static long call_move_of_part(void)
{
    uintptr_t to = at(9 * TABLE);

    return vm_move(at(4), 8 * PAGE_SIZE, 6 * PAGE_SIZE, &to);
}

static long call_move_tables_of_large(void)
{
    return move_to(at(0) + 4 * (uintptr_t)GIB, 2 * TABLE, 2 * TABLE);
}

static long call_move_large(void)
{
    return move_to(at(3) + 4 * (uintptr_t)GIB, 2 * TABLE, 2 * TABLE);
}

static void shared_16(void)
{
    filled_16();
    alias_at(4 * TABLE, 0, 16);
}

static long call_move_shared(void)
{
    return move_to(at(7 * TABLE), 16, 24);
}

static long call_move_shared_and_shrink(void)
{
    return move_to(at(7 * TABLE), 16, 3);
}

static void watched_to_grow(void)
{
    watched_16();
}

static long call_move_watched(void)
{
    return move_to(at(7 * TABLE), 16, 2500);
}

static long call_alias(void)
{
    uintptr_t to = at(4 * TABLE);

    return vm_alias(at(4), 8 * PAGE_SIZE, PROT_R, &to);
}

static void sparse_16(void)
{
    map_at(0, 16, RW, VM_SPARSE);
    for (size_t i = 0; i < 16; i++)
        (void)get(at(i));
    put(at(3), 3);
}

static long call_alias_all(void)
{
    uintptr_t to = at(4 * TABLE);

    return vm_alias(at(0), 16 * PAGE_SIZE, RW, &to);
}

static long call_alias_large(void)
{
    uintptr_t to = at(4 * TABLE);

    return vm_alias(at(0), 2 * TABLE * PAGE_SIZE, RW, &to);
}

static long call_clone(void)
{
    return vm_clone(at(0), 16 * PAGE_SIZE, &made);
}

static long call_clone_three_tables(void)
{
    return vm_clone(at(0), 3 * TABLE * PAGE_SIZE, &made);
}

static long call_clone_large(void)
{
    return vm_clone(at(0), 2 * TABLE * PAGE_SIZE, &made);
}

static void cloned_16(void)
{
    filled_16();
    made = clone(0, 16);
    put(made, 100);
    put(at(1), 200);
}

static long call_clone_of_clone(void)
{
    uintptr_t second = 0;

    return vm_clone(made, 16 * PAGE_SIZE, &second);
}

static long call_promote(void)
{
    return vm_promote(at(0), 3 * TABLE * PAGE_SIZE) < 0 ? -ENOMEM : 0;
}

static void untouched(void)
{
    map_at(0, 3 * TABLE, RW, 0);
}

static void unpromised_untouched(void)
{
    map_at(0, 3 * TABLE, RW, VM_NORESERVE);
}

// ---- faults ----

static long fault(uintptr_t va, unsigned access)
{
    if (mm_fault(va, access, 0))
        return 0;
    assert_int_equal(mm_last_fault(), FAULT_OOM);
    return -ENOMEM;
}

static long call_first_store(void)
{
    return fault(at(0), PROT_W);
}

static long call_first_load(void)
{
    return fault(at(0), PROT_R);
}

static void sparse_untouched(void)
{
    map_at(0, 16, RW, VM_SPARSE);
}

static void sparse_loaded(void)
{
    sparse_untouched();
    (void)get(at(0));
}

static void in_order(void)
{
    map_at(TABLE - 4, 64, RW, 0);
    put(at(TABLE - 4), 1);
}

// The window is 2 pages, then 4, 8: into the next table.
static long call_stores_in_order(void)
{
    long err = 0;

    for (size_t page = TABLE - 3; err == 0 && page < TABLE + 20; page++) {
        if (frame_at(at(page)).raw == 0)
            err = fault(at(page), PROT_W);
    }
    return err;
}

static long call_store_to_cow(void)
{
    return fault(at(3), PROT_W);
}

static long call_store_to_clone(void)
{
    return fault(made + 3 * PAGE_SIZE, PROT_W);
}

static void cloned_ring(void)
{
    aliased_16();
    made = clone(0, 16);
}

static long call_load_through_alias(void)
{
    return fault(at(4 * TABLE), PROT_R);
}

// ---- dirty bits ----

static long call_watch(void)
{
    return dirty_watch(watcher, at(0));
}

static void client_and_filled(void)
{
    filled_16();
    watcher = dirty_client_new();
}

static void see_page(uintptr_t page, void *arg)
{
    (void)page;
    ++*(unsigned *)arg;
}

static long call_collect(void)
{
    unsigned n = 0;

    assert_int_equal(dirty_collect(watcher, at(0), see_page, &n), 1);
    assert_int_equal(n, 1);
    return 0;
}

// ---- regions of the layers above ----

static struct region own;

static void own_region(void)
{
    own = (struct region){.start = at(0),
                          .end = at(3 * TABLE),
                          .ops = &region_anon_ops,
                          .name = "own",
                          .prot = RW};
    assert_int_equal(region_add(&own), 0);
    put(at(0), 1);
}

static void own_watched(void)
{
    own_region();
    watch(0);
    put(at(1), 1);
}

static long call_resize(void)
{
    return region_resize(&own, at(3000));
}

static long call_shrink(void)
{
    return region_resize(&own, at(1));
}

static long call_map_page(void)
{
    spin_lock(&mm_lock);
    bool mapped = region_map_page(at(2 * TABLE), RW, false);

    spin_unlock(&mm_lock);
    return mapped ? 0 : -ENOMEM;
}

static void own_filled(void)
{
    own_region();
    fill(0, TABLE + 3, 1);
}

static long call_region_discard(void)
{
    region_discard(at(1), at(TABLE + 1));
    return 0;
}

static long call_move_pages(void)
{
    return region_move_pages(&own, at(0), at(TABLE + 37),
                             (TABLE + 3) * PAGE_SIZE);
}

// Large pages are an offer: with no frame for one, all is as it was.
static long call_region_promote(void)
{
    region_promote(at(0), at(3 * TABLE));
    return 0;
}

enum { NAILED = 4 };

static uintptr_t nailed;

// In two tables that nobody else needs. What is mapped when a frame is missing
// stays, and is counted.
static long call_map_nailed(void)
{
    nailed = at(6 * TABLE - NAILED / 2);
    return region_map_nailed(nailed, NAILED * PAGE_SIZE) ? 0 : -ENOMEM;
}

static void forget_nailed(void)
{
    if (nailed != 0)
        mm_uncharge(region_discard(nailed, nailed + NAILED * PAGE_SIZE));
    nailed = 0;
}

static const struct fail_case {
    const char *name;
    void (*prepare)(void);
    long (*call)(void);
} cases[] = {
    {"map", nothing, call_map},
    {"map anywhere", nothing, call_map_anywhere},
    {"reserve", nothing, call_reserve},
    {"unmap", filled_16, call_unmap},
    {"unmap a part", filled_16, call_unmap_middle},
    {"unmap a part that is watched", watched_16, call_unmap_middle},
    {"unmap three mappings with aliases", three_and_aliases, call_unmap_three},
    {"unmap parts of large pages", promoted, call_unmap_of_large},
    {"protect", filled_16, call_protect},
    {"protect a part", filled_16, call_protect_middle},
    {"protect a part that is watched", watched_16, call_protect_middle},
    {"protect a part of large pages", promoted, call_protect_middle},
    {"protect an alias", aliased_16, call_protect_middle},
    {"commit", reserved, call_commit},
    {"discard", filled_16, call_discard},
    {"discard in large pages", promoted, call_decommit_large},
    {"decommit", filled_16, call_decommit},
    {"decommit what is watched", watched_16, call_decommit},
    {"decommit aliased memory", aliased_16, call_decommit_all},
    {"move tables", three_tables, call_move_relinked},
    {"move tables of large pages", promoted, call_move_tables_of_large},
    {"move pages", three_tables, call_move_by_pages},
    {"move and grow", filled_16, call_move_and_grow},
    {"move and shrink", three_tables, call_move_and_shrink},
    {"move tables without a promise", unpromised_tables, call_move_relinked},
    {"move pages without a promise", unpromised_tables, call_move_by_pages},
    {"clone without a promise", unpromised_tables, call_clone_three_tables},
    {"move a part", filled_16, call_move_of_part},
    {"move large pages apart", promoted, call_move_large},
    {"move shared memory and grow", shared_16, call_move_shared},
    {"move shared memory and shrink", shared_16, call_move_shared_and_shrink},
    {"move what is watched and grow", watched_to_grow, call_move_watched},
    {"alias", filled_16, call_alias},
    {"alias sparse memory", sparse_16, call_alias_all},
    {"alias large pages", promoted, call_alias_large},
    {"alias a reservation", reserved, call_alias_all},
    {"clone", filled_16, call_clone},
    {"clone tables", three_tables, call_clone_three_tables},
    {"clone large pages", promoted, call_clone_large},
    {"clone a clone", cloned_16, call_clone_of_clone},
    {"clone an alias", aliased_16, call_clone},
    {"clone sparse memory", sparse_16, call_clone},
    {"promote", three_tables, call_promote},
    {"promote untouched memory", untouched, call_promote},
    {"promote what is watched", watched_16, call_promote},
    {"first store", untouched, call_first_store},
    {"first store without a promise", unpromised_untouched, call_first_store},
    {"first load", untouched, call_first_load},
    {"first load of sparse memory", sparse_untouched, call_first_load},
    {"first store after a load of sparse memory", sparse_loaded,
     call_first_store},
    {"stores in order", in_order, call_stores_in_order},
    {"store to the original of a clone", cloned_16, call_store_to_cow},
    {"store to a clone", cloned_16, call_store_to_clone},
    {"store to the alias of a cloned mapping", cloned_ring, call_store_to_cow},
    {"load through an alias", shared_16, call_load_through_alias},
    {"watch", client_and_filled, call_watch},
    {"collect", watched_16, call_collect},
    {"resize a watched region", own_watched, call_resize},
    {"shrink a region", own_watched, call_shrink},
    {"map a page", own_region, call_map_page},
    {"map device registers", nothing, call_map_device},
    {"discard in a region", own_filled, call_region_discard},
    {"move pages in a region", own_filled, call_move_pages},
    {"promote in a region", own_filled, call_region_promote},
    {"map nailed memory", own_region, call_map_nailed},
};

static void end_case(void)
{
    if (watcher >= 0)
        dirty_client_free(watcher);
    watcher = -1;
    forget_nailed(); // first: the tables above are its neighbour's
    if (own.start != 0)
        region_remove(&own);
    own.start = 0;
    // One by one: tables that were left elsewhere are missed in the end.
    for (struct region *r; (r = region_first_above(0)) != NULL;)
        assert_int_equal(vm_unmap(r->start, r->end - r->start), 0);
}

// The call without a failure: what it makes, and the accounts after it.
static void plain_run(const struct fail_case *c, struct seen *result)
{
    c->prepare();
    descriptors_take();
    snprintf(doing, sizeof doing, "%s", c->name);
    long err = c->call();

    if (err != 0)
        fail_msg("%s: %ld", doing, err);
    descriptors_give();
    mm_check();
    look(result);
    end_case();
}

// The nth request fails. Returns false when the call makes fewer.
static bool fail_at(const struct fail_case *c, uint64_t nth, bool on,
                    const struct seen *result)
{
    static struct seen before, after;
    struct accounts empty = accounts();

    snprintf(doing, sizeof doing, "%s, request %lu%s", c->name, nth,
             on ? "+" : "");
    c->prepare();
    frame_reserve_refill();
    look(&before);
    descriptors_take();
    mm_fail_at(nth, on);
    long err = c->call();
    bool failed = mm_has_failed();

    mm_fail_at(0, false);
    mm_check();
    assert_int_equal(host_tlb_stale(), 0);
    look(&after);
    if (err != 0) {
        if (err != -ENOMEM || !failed)
            fail_msg("%s: returned %ld", doing, err);
        assert_same(doing, &after, &before, true, "after a failure");
    }
    if (err != 0 && !on) {
        assert_int_equal(c->call(), 0);
        mm_check();
        look(&after);
    }
    descriptors_give();
    if (err == 0 || !on)
        assert_same(doing, &after, result, false, "in the end");
    end_case();
    mm_check();
    frame_reserve_refill();
    struct accounts end = accounts();

    if (end.committed != empty.committed || end.tables != empty.tables ||
        end.frames != empty.frames)
        fail_msg("%s: committed %lu, were %lu; tables %lu, were %lu; frames "
                 "%lu, were %lu",
                 doing, end.committed, empty.committed, end.tables,
                 empty.tables, end.frames, empty.frames);
    return failed;
}

// The first time that a CPU gives memory back it needs a frame to do so: the
// last resort is the reserve. Must be the first test.
static void giving_back_works_when_no_frame_is_left(void **state)
{
    (void)state;
    base = ARCH_REGION_BASE + GIB;
    frame_reserve_refill();
    uint64_t reserved_before = frame_cache_stats().reserved;

    filled_16();
    mm_fail_at(1, true);
    assert_int_equal(call_unmap(), 0);
    mm_fail_at(0, false);
    assert_int_equal(frame_cache_stats().reserved, reserved_before - 1);
    frame_reserve_refill();
    mm_check();
}

static void every_request_fails_in_turn(void **state)
{
    static struct seen result;
    unsigned points = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned n = 0;

        plain_run(&cases[i], &result);
        for (int on = 0; on <= 1; on++) {
            uint64_t nth = 1;

            while (fail_at(&cases[i], nth, on, &result))
                nth++;
            n += (unsigned)nth - 1;
        }
        fprintf(stderr, "%-44s %u points\n", cases[i].name, n);
        points += n;
    }
    printf("# note: %u points failed\n", points);
    assert_true(points >= RECORDED);
}

static void the_start_says_what_is_missing(void **state)
{
    (void)state;
    mm_fail_at(1, false);
    assert_panics("no frame left during start-up", (void)mm_boot_page());
    mm_fail_at(1, true);
    assert_panics("no frame left during start-up",
                  mm_map_nailed(ARCH_MMIO_BASE, paddr(PAGE_SIZE), 1, RW));
    mm_fail_at(0, false);
}

MM_START(RAM)
MM_STOP

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(giving_back_works_when_no_frame_is_left),
        cmocka_unit_test(every_request_fails_in_turn),
        cmocka_unit_test(the_start_says_what_is_missing),
    };

    return cmocka_run_group_tests_name("fail", tests, start, stop);
}
