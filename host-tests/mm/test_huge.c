// sources: $(mm)
// 1 GiB pages: made of what is there, cut to 2 MiB and 4 KiB where that is needed,
// given back whole. RAM is a file with holes: what nobody touches costs nothing.

#include "host-tests/support.h"

#include <errno.h>

#include "host-tests/mm/known.h"
#include "host-tests/mm/mm_fixture.h"
#include "mm/fail.h"
#include "mm/frame_impl.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

enum { RECORDED = 50 }; // points of failure that there were

#define RAM   (UINT64_C(5) * GIB)
#define HUGE  (2 * MIB)
#define RW    (PROT_R | PROT_W)
#define PAGES (GIB / PAGE_SIZE)

static int start(void **state)
{
    (void)state;
    if (mm_fixture(RAM) != NULL)
        return 1;
    frames_start();
    pt_max_level = 3; // the direct map is the host's own
    return 0;
}

static int stop(void **state)
{
    (void)state;
    pt_max_level = 2;
    host_stop();
    return 0;
}

static volatile uint64_t *word(uintptr_t va)
{
    return (volatile uint64_t *)va;
}

static int level_at(uintptr_t va)
{
    int level = 0;
    pte_t *e = pt_find(va, &level);

    return e != NULL && pt_has_frame(pt_get(e)) ? level : 0;
}

// A few pages of all kinds of places have contents.
static const uint64_t places[] = {0, 1, 511, 512, 5000, 131071, 131072, 262143};

static void fill(uintptr_t va)
{
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        *word(va + places[i] * PAGE_SIZE) = i + 1;
}

static void is_filled(uintptr_t va)
{
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        assert_int_equal(*word(va + places[i] * PAGE_SIZE), i + 1);
    assert_int_equal(*word(va + 100 * PAGE_SIZE), 0);
    assert_int_equal(*word(va + 200000 * PAGE_SIZE), 0);
}

static uintptr_t map(size_t bytes)
{
    uintptr_t va = 0;

    assert_int_equal(vm_map(&va, bytes, RW, 0, "test"), 0);
    assert_int_equal(bytes < GIB ? 0 : va % GIB, 0);
    return va;
}

static uintptr_t map_huge(void)
{
    uintptr_t va = map(GIB);

    fill(va);
    assert_int_equal(vm_promote(va, GIB), 512);
    assert_int_equal(level_at(va), 3);
    return va;
}

static void unmap(uintptr_t va, size_t bytes)
{
    assert_int_equal(vm_unmap(va, bytes), 0);
}

// Those that there are, in the statistics.
static void are_large(uint64_t mib2, uint64_t gib1)
{
    assert_int_equal(mm_events().large[0], mib2);
    assert_int_equal(mm_events().large[1], gib1);
}

static uint64_t before;

static uint64_t free_now(void)
{
    frame_cache_flush();
    return frames_known();
}

// Nothing is lost, and the gibibyte can be had in one piece again.
static void is_all_back(void)
{
    uint64_t now = free_now();
    paddr_t p = frame_alloc(18, FRAME_DIRTY);

    mm_check();
    assert_int_equal(host_tlb_stale(), 0);
    assert_true(p.raw != 0);
    frame_free(p, 18);
    assert_int_equal(mm_commit().committed, 0);
    are_large(0, 0);
    assert_int_equal(now, before);
}

static int remember(void **state)
{
    (void)state;
    before = free_now();
    return 0;
}

// ---- making one ----

static void whole_aligned_gibibytes_become_one_page(void **state)
{
    uintptr_t va = map(GIB + 4 * HUGE);
    struct mm_look l;

    (void)state;
    fill(va);
    *word(va + GIB) = 77;
    // Some of it is large already.
    assert_int_equal(vm_promote(va + 5000 * PAGE_SIZE, 2 * HUGE), 1);
    assert_int_equal(vm_promote(va + HUGE, GIB - HUGE), 511);
    assert_int_equal(level_at(va + HUGE), 2);
    assert_int_equal(level_at(va), 1);
    assert_int_equal(vm_promote(va, GIB + 4 * HUGE), 516);
    assert_int_equal(level_at(va), 3);
    assert_int_equal(level_at(va + GIB - 1), 3);
    assert_int_equal(level_at(va + GIB), 2);
    are_large(4, 1);
    is_filled(va);
    assert_int_equal(*word(va + GIB), 77);
    assert_int_equal(vm_promote(va, GIB), 512); // it is
    assert_int_equal(vm_promote(va + HUGE, 3 * HUGE), 3);
    spin_lock(&mm_lock);
    mm_look(va + 5000 * PAGE_SIZE, &l);
    spin_unlock(&mm_lock);
    assert_int_equal(l.level, 3);
    assert_int_equal(l.users, 1);
    assert_int_equal(l.frame % 512, 5000 % 512);
    assert_int_equal(mm_count_resident(va, va + GIB), PAGES);
    mm_check();
    unmap(va, GIB + 4 * HUGE);
    is_all_back();
}

static void without_a_block_or_a_promise_pages_are_smaller(void **state)
{
    uintptr_t va = map(GIB);
    paddr_t block[8];
    size_t n = 0;

    (void)state;
    fill(va);
    while ((block[n] = frame_alloc(18, FRAME_DIRTY)).raw != 0)
        n++;
    assert_in_range(n, 1, 7);
    assert_true(vm_promote(va, GIB) > 100);
    assert_int_equal(level_at(va), 2);
    while (n > 0)
        frame_free(block[--n], 18);
    unmap(va, GIB);
    // The frames that are taken beside those in use are nobody's promise.
    va = map(GIB);
    fill(va);
    uint64_t rest = mm_commit().limit - mm_commit().committed;

    assert_true(mm_charge(rest - 1000));
    assert_int_equal(vm_promote(va, GIB), 512); // one at a time
    assert_int_equal(level_at(va), 2);
    unmap(va, GIB);
    va = map(2 * HUGE);
    rest = mm_commit().limit - mm_commit().committed;
    assert_true(mm_charge(rest - 511));
    assert_int_equal(vm_promote(va, 2 * HUGE), 0);
    unmap(va, 2 * HUGE);
    mm_uncharge(mm_commit().committed);
    is_all_back();
}

static void a_machine_without_them_has_none(void **state)
{
    uintptr_t va = map(GIB);

    (void)state;
    pt_max_level = 2;
    assert_int_equal(vm_promote(va, HUGE), 1);
    assert_int_equal(level_at(va), 2);
    pt_max_level = 3;
    unmap(va, GIB);
    is_all_back();
}

// ---- cutting it ----

static void a_part_is_protected_by_splitting_twice(void **state)
{
    uintptr_t va = map_huge();
    const uintptr_t page = va + 5000 * PAGE_SIZE;

    (void)state;
    assert_int_equal(vm_protect(page, PAGE_SIZE, PROT_R), 0);
    assert_int_equal(level_at(page), 1);
    assert_int_equal(level_at(page - PAGE_SIZE), 1);
    assert_int_equal(level_at(page + HUGE), 2);
    assert_int_equal(level_at(va), 2);
    are_large(511, 0);
    assert_false(pte_prot(pt_get(pt_find(page, &(int){0}))) & PROT_W);
    is_filled(va);
    assert_int_equal(vm_protect(page, PAGE_SIZE, RW), 0);
    fill(va);
    // At the border of 2 MiB one split is enough.
    assert_int_equal(vm_promote(va, GIB), 512);
    assert_int_equal(vm_protect(va + HUGE, HUGE, PROT_R), 0);
    assert_int_equal(level_at(va + HUGE), 2);
    is_filled(va);
    unmap(va, GIB);
    is_all_back();
}

static void parts_are_given_back(void **state)
{
    uintptr_t va = map_huge();
    uint64_t now = free_now();

    (void)state;
    unmap(va + GIB / 2 + PAGE_SIZE, PAGE_SIZE);
    assert_int_equal(free_now(), now + 1);
    assert_int_equal(vm_decommit(va + 300 * HUGE, 10 * HUGE, false), 0);
    assert_int_equal(free_now(), now + 1 + 10 * 512);
    assert_int_equal(vm_decommit(va + 5001 * PAGE_SIZE, 3 * PAGE_SIZE, true),
                     0);
    is_filled(va);
    unmap(va, GIB);
    is_all_back();
}

static void without_rights_it_is_kept_and_cut(void **state)
{
    uintptr_t va = map_huge();

    (void)state;
    assert_int_equal(vm_protect(va, GIB, 0), 0);
    assert_int_equal(level_at(va), 3);
    assert_int_equal(vm_promote(va, GIB), 512);
    unmap(va + 150000 * PAGE_SIZE, 10 * PAGE_SIZE);
    assert_int_equal(vm_protect(va, 150000 * PAGE_SIZE, RW), 0);
    assert_int_equal(
        vm_protect(va + 150010 * PAGE_SIZE, (PAGES - 150010) * PAGE_SIZE, RW),
        0);
    is_filled(va);
    unmap(va, GIB);
    is_all_back();
}

static void it_moves_whole_or_in_pieces(void **state)
{
    const uintptr_t shift[] = {GIB, 3 * HUGE, 5 * PAGE_SIZE};
    const int level[] = {3, 2, 1};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(shift); i++) {
        uintptr_t va = map_huge(), to = va + UINT64_C(4) * GIB + shift[i];

        assert_int_equal(vm_move(va, GIB, GIB, &to), 0);
        is_filled(to);
        assert_int_equal(level_at(to + 5000 * PAGE_SIZE), level[i]);
        assert_int_equal(level_at(va), 0);
        fill(to);
        // A part of it, and less than it was.
        va = 0;
        assert_int_equal(
            vm_move(to + HUGE, GIB - HUGE, GIB - 3 * HUGE + PAGE_SIZE, &va), 0);
        assert_int_equal(*word(va + (5000 - 512) * PAGE_SIZE), 5);
        unmap(va, GIB - 3 * HUGE + PAGE_SIZE);
        unmap(to, GIB);
        is_all_back();
    }
}

static void what_is_shared_is_small(void **state)
{
    uintptr_t va = map_huge(), b = 0;

    (void)state;
    assert_int_equal(vm_clone(va + HUGE, 10 * HUGE, &b), 0);
    assert_int_equal(level_at(va + 5000 * PAGE_SIZE), 1);
    assert_int_equal(level_at(va + 20 * HUGE), 2);
    *word(va + 5000 * PAGE_SIZE) = 99;
    assert_int_equal(*word(b + (5000 - 512) * PAGE_SIZE), 5);
    *word(va + 5000 * PAGE_SIZE) = 5;
    assert_int_equal(vm_promote(va, GIB), 502); // those are shared
    unmap(b, 10 * HUGE);
    fill(va);
    is_filled(va);
    b = 0;
    assert_int_equal(
        vm_alias(va + GIB - HUGE - PAGE_SIZE, 2 * PAGE_SIZE, RW, &b), 0);
    assert_int_equal(vm_promote(va, GIB), 500); // one ring
    unmap(b, 2 * PAGE_SIZE);
    is_filled(va);
    unmap(va, GIB);
    is_all_back();
}

// ---- dirty bits ----

static uint64_t reported, first_reported;

static void note(uintptr_t page, void *arg)
{
    (void)arg;
    if (reported++ == 0)
        first_reported = page;
}

static void collect(int client, uintptr_t va, uint64_t expected)
{
    reported = 0;
    // All regions that it was cut into.
    for (uintptr_t at = va; at < va + GIB; at = region_find(at)->end)
        assert_true(dirty_collect(client, at, note, NULL) >= 0);
    assert_int_equal(reported, expected);
}

static void it_is_dirty_as_a_whole(void **state)
{
    uintptr_t va = map(GIB), to = 0;
    int client = dirty_client_new();

    (void)state;
    fill(va);
    assert_int_equal(dirty_watch(client, va), 0);
    collect(client, va, 0);
    *word(va + 131072 * PAGE_SIZE) = 7;
    // Promotion: the OR.
    assert_int_equal(vm_promote(va, GIB), 512);
    collect(client, va, PAGES);
    assert_int_equal(first_reported, va);
    collect(client, va, 0);
    *word(va + PAGE_SIZE) = 2;
    assert_int_equal(vm_move(va, GIB, GIB, &to), 0);
    va = to;
    assert_int_equal(level_at(va), 3);
    collect(client, va, PAGES);
    *word(va + PAGE_SIZE) = 3;
    // Split: to all.
    assert_int_equal(vm_protect(va + HUGE, PAGE_SIZE, RW), 0);
    assert_int_equal(level_at(va + HUGE), 1);
    collect(client, va, PAGES);
    collect(client, va, 0);
    // From here on, those that are small are told apart.
    *word(va + PAGE_SIZE) = 2;
    *word(va + GIB - 8) = 2;
    collect(client, va, 1024);
    // What is discarded was stored to as well.
    *word(va + GIB / 2) = 2;
    assert_int_equal(vm_decommit(va, GIB, false), 0);
    collect(client, va, 512);
    dirty_client_free(client);
    unmap(va, GIB);
    is_all_back();
}

// ---- failures ----

// Of memory that was small. Wherever it ends, what was made stays and the rest is
// as it was; the next time it begins there. Requests between the first and the last
// are taken at random: all pieces so far are copied again each time.
static void promotion_of_small_pages_can_fail(void **state)
{
    enum { FIRST = 8, STRIDE = 16 };
    unsigned points = 0;

    (void)state;
    for (unsigned nth = 1; nth <= FIRST; nth++) {
        uintptr_t va = map(GIB);

        fill(va);
        mm_fail_at(nth, false);
        assert_int_equal(vm_promote(va, GIB), 512);
        assert_true(mm_has_failed());
        mm_check();
        is_filled(va);
        unmap(va, GIB);
        is_all_back();
        points++;
    }
    uintptr_t va = map(GIB);
    uint64_t promised = mm_commit().committed;
    bool failed = true;

    fill(va);
    for (uint64_t nth = 1; failed; nth += 1 + support_below(STRIDE)) {
        mm_fail_at(nth, true);
        long n = vm_promote(va, GIB);

        failed = mm_has_failed();
        mm_fail_at(0, false);
        assert_in_range(n, nth < 2 ? 0 : min_u64(nth - 2, 512), 512);
        mm_check();
        assert_int_equal(mm_commit().committed, promised);
        is_filled(va);
        points += failed;
    }
    assert_int_equal(level_at(va), 3);
    unmap(va, GIB);
    is_all_back();
    printf("# note: promotion of small pages to 1 GiB: %u points failed\n",
           points);
    assert_true(points >= FIRST + 512 / STRIDE);
}

// ---- each request of a promotion ----

// As many requests as there are pieces of 2 MiB, and one for the block. A failed
// promotion of pieces that are large already leaves them so: nothing has to be set
// up again, and what the next one copies is what came before its failure. It asks
// for nothing after that: so for once or from then on is the same, which is tried
// for the first, the last and some others.
enum { ENDS = 4, OTHERS = 8 };

// The requests of a promotion that works. Leaves 512 pages of 2 MiB.
static uint64_t count_requests(uintptr_t va)
{
    const uint64_t many = UINT64_C(1) << 32;

    pt_max_level = 2;
    assert_int_equal(vm_promote(va, GIB), 512);
    pt_max_level = 3;
    mm_fail_at(many, false);
    assert_int_equal(vm_promote(va, GIB), 512);
    uint64_t left = atomic_load(&mm_fail_in) / 2;

    mm_fail_at(0, false);
    are_large(0, 1);
    assert_int_equal(vm_protect(va, HUGE, PROT_R), 0);
    assert_int_equal(vm_protect(va, HUGE, RW), 0);
    are_large(512, 0);
    return many - left;
}

static void fail_promotion(uintptr_t va, uint64_t nth, bool on)
{
    uint64_t known = free_now(), promised = mm_commit().committed;

    mm_fail_at(nth, on);
    long n = vm_promote(va, GIB);
    bool failed = mm_has_failed();

    mm_fail_at(0, false);
    if (!failed || n != 512)
        fail_msg("request %lu%s: %s, %ld are large", (unsigned long)nth,
                 on ? "+" : "", failed ? "failed" : "none", n);
    are_large(512, 0);
    mm_check();
    assert_int_equal(host_tlb_stale(), 0);
    assert_int_equal(free_now(), known);
    assert_int_equal(mm_commit().committed, promised);
    is_filled(va);
}

static void each_request_of_a_promotion_can_fail(void **state)
{
    uintptr_t va = map(GIB);
    unsigned points = 0;

    (void)state;
    fill(va);
    uint64_t requests = count_requests(va);

    assert_int_equal(requests, 1 + 512);
    // In order: old blocks of 1 GiB are free again when the next one is taken.
    for (uint64_t nth = 1; nth <= requests; nth++) {
        fail_promotion(va, nth, false);
        points++;
        if (nth <= ENDS || nth > requests - ENDS ||
            support_below(requests) < OTHERS) {
            fail_promotion(va, nth, true);
            points++;
        }
    }
    printf(
        "# note: promotion of 1 GiB: %u points failed, each of %lu requests\n",
        points, (unsigned long)requests);
    assert_true(points >= requests + 2 * ENDS);
    assert_int_equal(vm_promote(va, GIB), 512);
    are_large(0, 1);
    is_filled(va);
    unmap(va, GIB);
    is_all_back();
}

static uintptr_t second; // what a call has made elsewhere, of so many bytes
static size_t second_bytes;

static int protect_a_page(uintptr_t va)
{
    return vm_protect(va + 5 * PAGE_SIZE, PAGE_SIZE, PROT_R);
}

static int unmap_pages(uintptr_t va)
{
    return vm_unmap(va + 600 * PAGE_SIZE, 1000 * PAGE_SIZE);
}

static int discard_pages(uintptr_t va)
{
    return vm_decommit(va + 600 * PAGE_SIZE, 1000 * PAGE_SIZE, false);
}

static int unmap_large(uintptr_t va)
{
    return vm_unmap(va + 4 * HUGE, 3 * HUGE);
}

static int move_a_part(uintptr_t va)
{
    second = 0;
    second_bytes = 3 * HUGE;
    return vm_move(va + 4 * HUGE, 3 * HUGE, 3 * HUGE, &second);
}

static int clone_a_part(uintptr_t va)
{
    second = 0;
    second_bytes = 3 * HUGE;
    return vm_clone(va + 4 * HUGE, 3 * HUGE, &second);
}

static int alias_pages(uintptr_t va)
{
    second = 0;
    second_bytes = 2 * PAGE_SIZE;
    return vm_alias(va + GIB - HUGE - PAGE_SIZE, 2 * PAGE_SIZE, RW, &second);
}

// What is in the way of large pages is made small first, then large again: none
// but those needs a frame, and with none for them it stays as it is.
static int cut_and_promote(uintptr_t va)
{
    int err = vm_protect(va + 5 * PAGE_SIZE, PAGE_SIZE, PROT_R);

    if (err == 0)
        err = vm_protect(va + 5 * PAGE_SIZE, PAGE_SIZE, RW);
    if (err == 0 && vm_promote(va, 4 * HUGE) < 3)
        fail_msg("those of 2 MiB have gone");
    return err;
}

// The nth request fails in a call on a page of 1 GiB. Returns false when it makes
// fewer.
static bool fail_at(int (*call)(uintptr_t va), uint64_t nth, bool on)
{
    uintptr_t va = map_huge();

    second_bytes = 0;
    mm_fail_at(nth, on);
    int err = call(va);
    bool failed = mm_has_failed();

    mm_fail_at(0, false);
    mm_check();
    assert_int_equal(host_tlb_stale(), 0);
    if (err != 0) {
        assert_int_equal(err, -ENOMEM);
        assert_true(failed);
        is_filled(va);
        assert_int_equal(call(va), 0);
    }
    // None of these pages are in what goes or moves.
    assert_int_equal(*word(va), 1);
    assert_int_equal(*word(va + 5000 * PAGE_SIZE), 5);
    if (second_bytes > 0)
        unmap(second, second_bytes);
    unmap(va, GIB); // holes are fine
    is_all_back();
    return failed;
}

static void each_request_of_a_call_fails_in_turn(void **state)
{
    static int (*const calls[])(uintptr_t va) = {
        protect_a_page, unmap_pages,  discard_pages, unmap_large,
        move_a_part,    clone_a_part, alias_pages,   cut_and_promote};
    unsigned points = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        for (int on = 0; on <= 1; on++) {
            uint64_t nth = 1;

            while (fail_at(calls[i], nth, on))
                nth++;
            points += (unsigned)nth - 1;
        }
    }
    printf("# note: %u points failed\n", points);
    assert_true(points >= RECORDED);
}

// ---- random steps ----

enum { STEPS = 150, EXTRA = 1024 };

static uint64_t value[PAGES + EXTRA]; // the contents of each page

static void compare(uintptr_t va, size_t npages)
{
    for (size_t i = 0; i < npages; i++) {
        if ((value[i] != 0 || support_below(64) == 0) &&
            *word(va + i * PAGE_SIZE) != value[i])
            fail_msg("page %zu: %lu, not %lu", i,
                     (unsigned long)*word(va + i * PAGE_SIZE),
                     (unsigned long)value[i]);
    }
}

// A range of pages, of one of three sizes.
static size_t some(size_t npages, size_t *first)
{
    const size_t most[] = {3, 2000, npages};
    size_t n = 1 + support_below(most[support_below(3)]);

    *first = support_below(npages - n + 1);
    return n;
}

static uintptr_t random_step(uintptr_t va, size_t npages, unsigned *made)
{
    size_t first, n = some(npages, &first);
    uintptr_t at = va + first * PAGE_SIZE, to = 0;

    switch (support_below(8)) {
    case 0:
        assert_true(vm_promote(va, npages * PAGE_SIZE) >= 0);
        *made += level_at(align_up(va, GIB)) == 3;
        break;
    case 1:
        assert_int_equal(vm_protect(at, n * PAGE_SIZE, PROT_R), 0);
        assert_int_equal(vm_protect(at, n * PAGE_SIZE, RW), 0);
        break;
    case 2:
        n = n < 3000 ? n : 3000;
        assert_int_equal(vm_decommit(at, n * PAGE_SIZE, false), 0);
        memset(value + first, 0, n * sizeof value[0]);
        break;
    case 3: // a little below a multiple of 1 GiB: the next one still fits
        to = align_up(va, GIB) + UINT64_C(4) * GIB;
        to -= support_below(3) * (support_below(2) ? HUGE : PAGE_SIZE);
        to = to < ARCH_REGION_BASE + UINT64_C(50) * GIB ? to : 0;
        if (vm_move(va, npages * PAGE_SIZE, npages * PAGE_SIZE, &to) == 0)
            va = to;
        break;
    case 4:
        n = n < 3000 ? n : 3000;
        assert_int_equal(vm_clone(at, n * PAGE_SIZE, &to), 0);
        *word(to) = 12345;
        unmap(to, n * PAGE_SIZE);
        // Until a page is stored to nobody knows that it is not shared.
        for (size_t i = first; i < first + n; i++)
            *word(va + i * PAGE_SIZE) = value[i];
        break;
    case 5:
        n = n < 3000 ? n : 3000;
        assert_int_equal(vm_alias(at, n * PAGE_SIZE, RW, &to), 0);
        *word(to) = value[first] = support_random();
        unmap(to, n * PAGE_SIZE);
        break;
    default:
        for (int i = 0; i < 20; i++) {
            size_t page = support_below(npages);

            *word(va + page * PAGE_SIZE) = value[page] = support_random();
        }
        break;
    }
    return va;
}

static void random_steps_agree_with_a_model(void **state)
{
    size_t npages = PAGES + EXTRA;
    uintptr_t va = map(npages * PAGE_SIZE);
    unsigned made = 0;

    (void)state;
    for (int i = 0; i < STEPS; i++) {
        va = random_step(va, npages, &made);
        if (host_tlb_stale() != 0)
            fail_msg("step %d: a stale translation", i);
        if (i % 10 == 0) {
            mm_check();
            compare(va, npages);
        }
    }
    compare(va, npages);
    printf("# %u times a page of 1 GiB was made\n", made);
    assert_true(made > 1);
    unmap(va, npages * PAGE_SIZE);
    mm_check();
    assert_int_equal(free_now(), before);
    are_large(0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(whole_aligned_gibibytes_become_one_page,
                               remember),
        cmocka_unit_test(a_machine_without_them_has_none),
        cmocka_unit_test(a_part_is_protected_by_splitting_twice),
        cmocka_unit_test(parts_are_given_back),
        cmocka_unit_test(without_rights_it_is_kept_and_cut),
        cmocka_unit_test(it_moves_whole_or_in_pieces),
        cmocka_unit_test(what_is_shared_is_small),
        cmocka_unit_test(it_is_dirty_as_a_whole),
        cmocka_unit_test(promotion_of_small_pages_can_fail),
        cmocka_unit_test(each_request_of_a_promotion_can_fail),
        cmocka_unit_test(each_request_of_a_call_fails_in_turn),
        cmocka_unit_test(without_a_block_or_a_promise_pages_are_smaller),
        cmocka_unit_test(random_steps_agree_with_a_model),
    };

    return cmocka_run_group_tests_name("huge", tests, start, stop);
}
