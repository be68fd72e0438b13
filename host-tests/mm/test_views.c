// sources: $(mm)
// What several views of one memory owe each other: a store through one is seen by
// who watches another (R15), whatever becomes of the view; what each can take is
// promised (R14); and no CPU is left with a frame that the others have replaced
// (R12).

#include "host-tests/support.h"

#include <errno.h>

#include "host-tests/mm/mm_map.h"
#include "mm/fcache.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

enum { RAM = 64 * MIB, PAGES = 16 };

MM_START(RAM)
MM_STOP

static uintptr_t alias(uintptr_t va, size_t pages)
{
    uintptr_t a = 0;

    assert_int_equal(vm_alias(va, pages * PAGE_SIZE, RW, &a), 0);
    return a;
}

static void put(uintptr_t va, uint64_t v)
{
    *(volatile uint64_t *)va = v;
}

static uint64_t get(uintptr_t va)
{
    return *(volatile uint64_t *)va;
}

// ---- dirty bits ----

static int watcher;
static uintptr_t seen[PAGES];
static size_t nseen;

static void see(uintptr_t page, void *arg)
{
    (void)arg;
    assert_true(nseen < PAGES);
    seen[nseen++] = page;
}

static long collect(uintptr_t va)
{
    nseen = 0;
    return dirty_collect(watcher, va, see, NULL);
}

// Memory with frames that is watched, and nothing of it is dirty.
static uintptr_t watched(void)
{
    uintptr_t a = map(PAGES, 0);

    for (size_t i = 0; i < PAGES; i++)
        put(a + i * PAGE_SIZE, i);
    watcher = dirty_client_new();
    assert_true(watcher >= 0);
    assert_int_equal(dirty_watch(watcher, a), 0);
    assert_int_equal(collect(a), 0);
    return a;
}

static void saw_one(uintptr_t va, uintptr_t page)
{
    assert_int_equal(collect(va), 1);
    assert_int_equal(seen[0], page);
    assert_int_equal(collect(va), 0);
}

static void end_watch(uintptr_t va)
{
    dirty_client_free(watcher);
    unmap(va, PAGES);
    mm_check();
    assert_int_equal(mm_commit().committed, 0);
}

static void a_store_through_a_view_that_went_is_seen(void **state)
{
    uintptr_t a = watched(), b = alias(a, PAGES);

    (void)state;
    put(b + 3 * PAGE_SIZE, 1);
    unmap(b, PAGES);
    saw_one(a, a + 3 * PAGE_SIZE);
    // Of a page that only the other view has an entry for.
    assert_int_equal(vm_decommit(a, PAGES * PAGE_SIZE, false), 0);
    collect(a);
    b = alias(a, PAGES);
    put(b + 4 * PAGE_SIZE, 1);
    unmap(b, PAGES);
    saw_one(a, a + 4 * PAGE_SIZE);
    assert_int_equal(get(a + 4 * PAGE_SIZE), 1);
    end_watch(a);
}

static void a_store_through_a_view_that_was_cut_off_is_seen(void **state)
{
    uintptr_t a = watched(), b = alias(a, PAGES), to = 0;

    (void)state;
    put(b + 9 * PAGE_SIZE, 1);
    assert_int_equal(vm_move(b, PAGES * PAGE_SIZE, 8 * PAGE_SIZE, &to), 0);
    saw_one(a, a + 9 * PAGE_SIZE);
    put(to + PAGE_SIZE, 1);
    assert_int_equal(vm_move(to, 8 * PAGE_SIZE, PAGE_SIZE, &to), 0);
    saw_one(a, a + PAGE_SIZE);
    unmap(to, 1);
    end_watch(a);
}

static void a_store_before_a_discard_is_seen_through_all_views(void **state)
{
    uintptr_t a = watched(), b = alias(a, PAGES);

    (void)state;
    put(b + 6 * PAGE_SIZE, 1);
    assert_int_equal(vm_decommit(b, PAGES * PAGE_SIZE, false), 0);
    saw_one(a, a + 6 * PAGE_SIZE);
    unmap(b, PAGES);
    end_watch(a);
}

// A frame of its own, without a store after it.
static void a_store_before_a_copy_is_seen_through_all_views(void **state)
{
    uintptr_t a = watched(), b = alias(a, PAGES), copy = 0;

    (void)state;
    put(b + 5 * PAGE_SIZE, 1);
    assert_int_equal(vm_clone(a, PAGES * PAGE_SIZE, &copy), 0);
    assert_true(mm_fault(a + 5 * PAGE_SIZE, PROT_W, 0));
    saw_one(a, a + 5 * PAGE_SIZE);
    unmap(copy, PAGES);
    unmap(b, PAGES);
    end_watch(a);
}

// A call on a part of it, done or refused, and all is one mapping again.
static void what_was_cut_for_a_moment_is_watched_as_one(void **state)
{
    uintptr_t a = watched(), part = a + 4 * PAGE_SIZE, other = map(1, 0);
    uint64_t committed = mm_commit().committed;

    (void)state;
    put(a + 14 * PAGE_SIZE, 1);
    put(a + PAGE_SIZE, 1);
    assert_int_equal(vm_decommit(part, 2 * PAGE_SIZE, false), 0);
    assert_int_equal(collect(a), 2);
    assert_int_equal(seen[0], a + PAGE_SIZE);
    assert_int_equal(seen[1], a + 14 * PAGE_SIZE);
    put(a + 9 * PAGE_SIZE, 1);
    assert_int_equal(vm_move(part, PAGE_SIZE, PAGE_SIZE, &other), -EEXIST);
    saw_one(a, a + 9 * PAGE_SIZE);
    // What was noted and not collected yet is kept by each part.
    put(a, 1);
    put(a + 15 * PAGE_SIZE, 1);
    assert_int_equal(vm_protect(part, PAGE_SIZE, PROT_R), 0);
    saw_one(a, a);
    assert_int_equal(vm_protect(part, PAGE_SIZE, RW), 0);
    saw_one(part, a + 15 * PAGE_SIZE);
    // Not if one part has a watcher of its own.
    int second = dirty_client_new();

    assert_int_equal(vm_protect(part, PAGE_SIZE, PROT_R), 0);
    assert_int_equal(dirty_watch(second, part), 0);
    assert_int_equal(vm_protect(part, PAGE_SIZE, RW), 0);
    put(a + 15 * PAGE_SIZE, 1);
    assert_int_equal(collect(part), 0);
    saw_one(a + 15 * PAGE_SIZE, a + 15 * PAGE_SIZE);
    dirty_client_free(second);
    assert_int_equal(vm_decommit(a, PAGES * PAGE_SIZE, false), 0);
    assert_int_equal(mm_commit().committed, committed);
    unmap(other, 1);
    end_watch(a);
}

static void what_was_cut_off_is_not_reported(void **state)
{
    uintptr_t a = watched(), to = 0;
    int other = dirty_client_new();

    (void)state;
    assert_int_equal(dirty_watch(other, a), 0);
    put(a + 2 * PAGE_SIZE, 1);
    put(a + 12 * PAGE_SIZE, 1);
    // The harvest of one is noted for the other.
    nseen = 0;
    assert_int_equal(dirty_collect(other, a, see, NULL), 2);
    assert_int_equal(vm_move(a, PAGES * PAGE_SIZE, 8 * PAGE_SIZE, &to), 0);
    saw_one(to, to + 2 * PAGE_SIZE);
    // Nor is what is another mapping now, or none.
    put(to + 1 * PAGE_SIZE, 1);
    put(to + 5 * PAGE_SIZE, 1);
    put(to + 7 * PAGE_SIZE, 1);
    nseen = 0;
    assert_int_equal(dirty_collect(other, to, see, NULL), 3);
    assert_int_equal(vm_unmap(to + 6 * PAGE_SIZE, 2 * PAGE_SIZE), 0);
    assert_int_equal(vm_protect(to + 4 * PAGE_SIZE, 2 * PAGE_SIZE, PROT_R), 0);
    saw_one(to, to + PAGE_SIZE);
    saw_one(to + 4 * PAGE_SIZE, to + 5 * PAGE_SIZE);
    dirty_client_free(other);
    dirty_client_free(watcher);
    unmap(to, 8);
    mm_check();
}

// The runtime's own regions get shorter at their end.
static void what_a_region_gave_back_is_not_reported(void **state)
{
    static struct region own;
    uintptr_t a = map(PAGES, 0);
    int other = dirty_client_new();

    (void)state;
    unmap(a, PAGES);
    own = (struct region){.ops = &region_anon_ops,
                          .name = "own",
                          .prot = RW,
                          .flags = REGION_FIXED,
                          .start = a,
                          .end = a + PAGES * PAGE_SIZE};
    assert_int_equal(region_add(&own), 0);
    watcher = dirty_client_new();
    assert_int_equal(dirty_watch(watcher, a), 0);
    assert_int_equal(dirty_watch(other, a), 0);
    put(a, 1);
    put(a + 9 * PAGE_SIZE, 1);
    nseen = 0;
    assert_int_equal(dirty_collect(other, a, see, NULL), 2);
    assert_int_equal(region_resize(&own, a + 8 * PAGE_SIZE), 0);
    saw_one(a, a);
    assert_int_equal(region_resize(&own, a + PAGES * PAGE_SIZE), 0);
    assert_int_equal(collect(a), 0);
    region_remove(&own);
    dirty_client_free(other);
    dirty_client_free(watcher);
    mm_check();
    assert_int_equal(mm_commit().committed, 0);
}

// ---- frames ----

static uintptr_t touched, other_view;
static unsigned early;

// While an operation waits for a shootdown, another CPU stores to the page and
// reads its other view: it may get no frame yet, the old one of the other view
// least of all. A third CPU can still see what was there before.
static void touch_meanwhile(void)
{
    struct mm_look l;

    assert_true(mm_fault(touched, PROT_W, 0));
    if (other_view != 0)
        assert_true(mm_fault(other_view, PROT_R, 0));
    spin_lock(&mm_lock);
    mm_look(touched, &l);
    spin_unlock(&mm_lock);
    early += l.mapped;
}

static void begin_touching(uintptr_t va, uintptr_t view)
{
    touched = va;
    other_view = view;
    early = 0;
    host_shootdown_hook = touch_meanwhile;
}

static void end_touching(void)
{
    host_shootdown_hook = NULL;
    assert_int_equal(early, 0);
}

static void nothing_appears_while_memory_is_discarded(void **state)
{
    uintptr_t a = map(PAGES, 0), b = 0;

    (void)state;
    put(a, 1);
    begin_touching(a, 0);
    assert_int_equal(vm_decommit(a, PAGES * PAGE_SIZE, false), 0);
    end_touching();
    assert_int_equal(get(a), 0);
    // Both views have a frame; in the end neither has it.
    b = alias(a, PAGES);
    for (size_t i = 0; i < PAGES; i++)
        put(a + i * PAGE_SIZE, get(b + i * PAGE_SIZE) + 1);
    begin_touching(a, b);
    assert_int_equal(vm_decommit(a, PAGES * PAGE_SIZE, false), 0);
    end_touching();
    for (size_t i = 0; i < PAGES; i++)
        assert_true(get(a + i * PAGE_SIZE) == 0 && get(b + i * PAGE_SIZE) == 0);
    unmap(a, PAGES);
    unmap(b, PAGES);
    mm_check();
}

// Two parts of one memory side by side, each a view of the other.
static void both_parts_of_a_ring_are_discarded(void **state)
{
    uintptr_t a = map(2 * PAGES, 0), b = a + PAGES * PAGE_SIZE;

    (void)state;
    unmap(b, PAGES);
    assert_int_equal(vm_alias(a, PAGES * PAGE_SIZE, RW, &b), 0);
    assert_int_equal(b, a + PAGES * PAGE_SIZE);
    for (size_t i = 0; i < PAGES; i++)
        put(a + i * PAGE_SIZE, get(b + i * PAGE_SIZE) + 1);
    begin_touching(a, b);
    assert_int_equal(vm_decommit(a, 2 * PAGES * PAGE_SIZE, false), 0);
    end_touching();
    assert_int_equal(get(a), 0);
    put(a, 7);
    assert_int_equal(get(b), 7);
    unmap(a, 2 * PAGES);
    mm_check();
}

static void nothing_appears_while_the_zero_frame_goes(void **state)
{
    uintptr_t a = map(PAGES, VM_SPARSE), b;

    (void)state;
    assert_int_equal(get(a), 0);
    begin_touching(a, 0);
    b = alias(a, PAGES);
    end_touching();
    put(a, 1);
    assert_int_equal(get(b), 1);
    unmap(a, PAGES);
    unmap(b, PAGES);
    mm_check();
}

static uint64_t free_at_first;

static void note_free(void)
{
    if (free_at_first == 0)
        free_at_first = mm_free_frames();
}

// Frames that are free when call() waits for its first shootdown, beyond those
// that were before.
static int64_t freed_early(int (*call)(uintptr_t va), uintptr_t va)
{
    uint64_t before = mm_free_frames();

    free_at_first = 0;
    host_shootdown_hook = note_free;
    assert_int_equal(call(va), 0);
    host_shootdown_hook = NULL;
    assert_true(free_at_first != 0);
    return (int64_t)(free_at_first - before);
}

static int unmap_all(uintptr_t va)
{
    return vm_unmap(va, PAGES * PAGE_SIZE);
}

static int discard_all(uintptr_t va)
{
    return vm_decommit(va, PAGES * PAGE_SIZE, false);
}

static int shrink(uintptr_t va)
{
    return vm_move(va, PAGES * PAGE_SIZE, PAGE_SIZE, &va);
}

static int load_store(uintptr_t va)
{
    put(va, get(va) + 1);
    return 0;
}

static void no_frame_is_free_before_it_is_forgotten(void **state)
{
    static int (*const calls[])(uintptr_t va) = {unmap_all, discard_all,
                                                 shrink};

    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(calls); i++) {
        uintptr_t a = map(PAGES, 0), copy = 0;

        for (size_t k = 0; k < PAGES; k++)
            put(a + k * PAGE_SIZE, k);
        assert_int_equal(freed_early(calls[i], a), 0);
        unmap(a, PAGES); // holes are fine
        // The copy of a page takes one, and gives none back.
        a = map(PAGES, 0);
        put(a, 1);
        assert_int_equal(vm_clone(a, PAGES * PAGE_SIZE, &copy), 0);
        assert_int_equal(freed_early(load_store, a), -1);
        unmap(copy, PAGES);
        unmap(a, PAGES);
    }
    mm_check();
}

static void each_right_that_goes_is_shot_down(void **state)
{
    static const unsigned prots[] = {0, PROT_R, RW, PROT_R | PROT_X};
    uintptr_t a = map(1, 0);

    (void)state;
    put(a, 1);
    for (unsigned i = 0; i < ARRAY_LEN(prots); i++) {
        for (unsigned k = 0; k < ARRAY_LEN(prots); k++) {
            assert_int_equal(vm_protect(a, PAGE_SIZE, prots[i]), 0);
            uint64_t before = mm_events().shootdowns;

            assert_int_equal(vm_protect(a, PAGE_SIZE, prots[k]), 0);
            assert_int_equal(mm_events().shootdowns - before,
                             (prots[i] & ~prots[k]) != 0);
        }
    }
    unmap(a, 1);
    mm_check();
}

// What another CPU stores just before it acknowledges is copied, too.
static uintptr_t stored_late;
static paddr_t late_frame;
static bool forgotten; // the table that the large page has replaced

static pte_t entry_of(uintptr_t va)
{
    int level;
    pte_t *e = pt_find(va, &level);

    return e != NULL ? pt_get(e) : 0;
}

static void store_late(void)
{
    int level;

    if (entry_of(stored_late) == PTE_BUSY)
        *(uint64_t *)arch_direct(late_frame) = 77;
    else if (pt_find(stored_late, &level) != NULL && level == 2)
        forgotten = true;
}

static void pages_are_forgotten_before_a_promotion_copies_them(void **state)
{
    uintptr_t a = map(2 * PT_ENTRIES, 0), large = align_up(a, VM_HUGE_BYTES);

    (void)state;
    stored_late = large + 5 * PAGE_SIZE;
    put(stored_late, 1);
    late_frame = pte_paddr(entry_of(stored_late));
    host_shootdown_hook = store_late;
    assert_int_equal(vm_promote(large, VM_HUGE_BYTES), 1);
    host_shootdown_hook = NULL;
    assert_int_equal(get(stored_late), 77);
    assert_true(forgotten);
    unmap(a, 2 * PT_ENTRIES);
    mm_check();
}

// The walkers of other CPUs may know a table that is not linked any more.
static uintptr_t table_at;
static uint64_t free_when_unlinked;

static void note_unlinked(void)
{
    int level;

    if (pt_find(table_at, &level) == NULL && free_when_unlinked == 0)
        free_when_unlinked = mm_free_frames();
}

static void a_table_without_pages_is_forgotten_before_it_is_free(void **state)
{
    uintptr_t a = map(4 * PT_ENTRIES, 0), from = align_up(a, VM_HUGE_BYTES);
    uintptr_t to = from + VM_HUGE_BYTES + PAGE_SIZE;

    (void)state;
    put(from, 1);
    table_at = from;
    free_when_unlinked = 0;
    host_shootdown_hook = note_unlinked;
    assert_int_equal(region_move_pages(region_find(a), from, to, PAGE_SIZE), 0);
    host_shootdown_hook = NULL;
    assert_true(free_when_unlinked != 0);
    assert_int_equal(mm_free_frames(), free_when_unlinked + 1);
    assert_int_equal(get(to), 1);
    unmap(a, 4 * PT_ENTRIES);
    mm_check();
}

// Who asks between a fault that replaced the frame, and the store that is tried
// again after it.
static void a_store_before_the_frame_was_replaced_is_seen(void **state)
{
    uintptr_t a = watched(), copy = 0;

    (void)state;
    assert_int_equal(vm_clone(a, PAGES * PAGE_SIZE, &copy), 0);
    collect(a);
    put(a + PAGE_SIZE, 5);
    unmap(copy, PAGES);
    copy = 0;
    assert_int_equal(vm_clone(a, PAGES * PAGE_SIZE, &copy), 0);
    assert_true(mm_fault(a + PAGE_SIZE, PROT_W, 0));
    saw_one(a, a + PAGE_SIZE);
    unmap(copy, PAGES);
    end_watch(a);
}

// ---- promises ----

// Promises all that is left, and touches it: each store must find its frame.
static void touch_the_rest(void)
{
    struct mm_commit now = mm_commit();
    uint64_t left = now.limit - now.committed, n = left;
    uintptr_t va = 0;

    while (vm_map(&va, n * PAGE_SIZE, RW, 0, "the rest") != 0)
        n--;
    assert_true(n > left * 9 / 10);
    for (uint64_t i = 0; i < n; i++) {
        if (!mm_fault(va + i * PAGE_SIZE, PROT_W, 0))
            fail_msg("no frame for page %lu of %lu", i, n);
    }
    unmap(va, n);
}

static void touch_pages(uintptr_t va, size_t n, size_t step)
{
    for (size_t i = 0; i < n; i += step)
        assert_true(mm_fault(va + i * PAGE_SIZE, PROT_W, 0));
}

static void tables_of_aliases_are_promised(void **state)
{
    enum { N = 4 * MIB / PAGE_SIZE, VIEWS = 40 };
    uintptr_t a = map(N, 0), views[VIEWS];

    (void)state;
    touch_pages(a, N, 1);
    for (unsigned i = 0; i < VIEWS; i++)
        views[i] = alias(a, N);
    for (unsigned i = 0; i < VIEWS; i++)
        touch_pages(views[i], N, PT_ENTRIES);
    touch_the_rest();
    // A view that is a reservation for a while is charged as before.
    assert_int_equal(vm_decommit(views[0], N * PAGE_SIZE, true), 0);
    mm_check();
    assert_int_equal(vm_protect(views[0], N * PAGE_SIZE, RW), 0);
    mm_check();
    for (unsigned i = 0; i < VIEWS; i++)
        unmap(views[i], N);
    unmap(a, N);
    mm_check();
    assert_int_equal(mm_commit().committed, 0);
}

// Two pages in tables of their own on each of three levels.
static void tables_are_promised_wherever_memory_lies(void **state)
{
    const uintptr_t base = ARCH_REGION_BASE + GIB - PAGE_SIZE;
    const uintptr_t n =
        (ARCH_REGION_END - ARCH_REGION_BASE) / (2 * (uintptr_t)GIB);

    (void)state;
    assert_true(n > 30);
    for (uintptr_t i = 0; i < n; i++) {
        uintptr_t va = base + i * (2 * (uintptr_t)GIB);

        assert_int_equal(vm_map(&va, 2 * PAGE_SIZE, RW, VM_FIXED, "edge"), 0);
    }
    for (uintptr_t i = 0; i < n; i++)
        touch_pages(base + i * (2 * (uintptr_t)GIB), 2, 1);
    touch_the_rest();
    for (uintptr_t i = 0; i < n; i++)
        unmap(base + i * (2 * (uintptr_t)GIB), 2);
    assert_int_equal(mm_commit().committed, 0);
}

// Single pages: each is charged with three tables that it shares with others.
static void bitmaps_are_not_taken_from_promises(void **state)
{
    enum { N = 200 };
    uintptr_t maps[N];
    int clients[DIRTY_CLIENTS];

    (void)state;
    for (unsigned k = 0; k < DIRTY_CLIENTS; k++)
        clients[k] = dirty_client_new();
    for (unsigned i = 0; i < N; i++) {
        maps[i] = map(1, 0);
        for (unsigned k = 0; k < DIRTY_CLIENTS; k++)
            assert_int_equal(dirty_watch(clients[k], maps[i]), 0);
        touch_pages(maps[i], 1, 1);
    }
    touch_the_rest();
    for (unsigned k = 0; k < DIRTY_CLIENTS; k++)
        dirty_client_free(clients[k]);
    for (unsigned i = 0; i < N; i++)
        unmap(maps[i], 1);
    mm_check();
    assert_int_equal(mm_commit().committed, 0);
}

static void descriptors_are_not_taken_from_promises(void **state)
{
    enum { N = 5000 };
    static uintptr_t maps[N];

    (void)state;
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(vm_map(&maps[i], PAGE_SIZE, 0, 0, "nothing"), 0);
    touch_the_rest();
    for (unsigned i = 0; i < N; i++)
        unmap(maps[i], 1);
    // They stay: it is as before for the next.
    touch_the_rest();
    mm_check();
}

static void parts_are_given_back_when_all_is_promised(void **state)
{
    uintptr_t a = map(3, 0), va = 0;
    uint64_t rest = mm_commit().limit - mm_commit().committed;
    struct region *drained = NULL, *r;

    (void)state;
    assert_true(mm_charge(rest));
    while ((r = region_new()) != NULL) { // no descriptor is left
        r->right = drained;
        drained = r;
    }
    assert_int_equal(vm_map(&va, PAGE_SIZE, 0, 0, "nothing"), -ENOMEM);
    assert_int_equal(vm_unmap(a + PAGE_SIZE, PAGE_SIZE), 0);
    mm_uncharge(rest);
    while ((r = drained) != NULL) {
        drained = r->right;
        region_free(r);
    }
    touch_the_rest();
    unmap(a, 3);
    mm_check();
    assert_int_equal(mm_commit().committed, 0);
}

// ---- for who keeps bits of its own ----

struct take {
    uintptr_t at, end;
    uintptr_t pages[8];
    size_t n, room;
    uint64_t present;
};

static void take_call(void *arg)
{
    struct take *t = arg;

    spin_lock(&mm_lock);
    t->n = dirty_take(&t->at, t->end, t->pages, t->room);
    spin_unlock(&mm_lock);
}

static size_t take(struct take *t)
{
    arch_on_system_stack(take_call, t);
    if (t->n > 0)
        dirty_shoot();
    return t->n;
}

static void test_take(void **state)
{
    uintptr_t a = watched();
    struct take t = {.at = a, .end = a + PAGES * PAGE_SIZE, .room = 2};

    (void)state;
    assert_int_equal(take(&t), 0);
    assert_int_equal(t.at, t.end);
    put(a, 1);
    put(a + 3 * PAGE_SIZE, 1);
    put(a + 15 * PAGE_SIZE, 1);
    t.at = a;
    // As many as there is room for, then the rest.
    assert_int_equal(take(&t), 2);
    assert_int_equal(t.pages[0], a);
    assert_int_equal(t.pages[1], a + 3 * PAGE_SIZE);
    assert_true(t.at > t.pages[1] && t.at <= a + 15 * PAGE_SIZE);
    assert_int_equal(take(&t), 1);
    assert_int_equal(t.pages[0], a + 15 * PAGE_SIZE);
    t.at = a;
    assert_int_equal(take(&t), 0);
    // A watcher hears of them nevertheless.
    assert_int_equal(collect(a), 3);
    dirty_client_free(watcher);
    unmap(a, PAGES);
    // Where nothing is mapped there is nothing.
    t.at = a;
    assert_int_equal(take(&t), 0);
    mm_check();
}

static void test_harvest(void **state)
{
    uintptr_t a = watched(), base;
    uint64_t word = 0, bits;

    (void)state;
    assert_int_equal(dirty_harvest(watcher, a), 0);
    assert_false(dirty_next(watcher, a, &word, &base, &bits));
    put(a + 2 * PAGE_SIZE, 1);
    put(a + 9 * PAGE_SIZE, 1);
    assert_int_equal(dirty_harvest(watcher, a), 0);
    put(a + 4 * PAGE_SIZE, 1);
    word = 0;
    assert_true(dirty_next(watcher, a, &word, &base, &bits));
    assert_int_equal(base, a);
    assert_int_equal(bits, 1 << 2 | 1 << 9);
    assert_false(dirty_next(watcher, a, &word, &base, &bits));
    // What came after the harvest is for the next one.
    assert_int_equal(collect(a), 1);
    dirty_client_free(watcher);
    assert_int_equal(dirty_harvest(watcher, a), -EINVAL);
    word = 0;
    assert_false(dirty_next(watcher, a, &word, &base, &bits));
    unmap(a, PAGES);
}

static void present_call(void *arg)
{
    struct take *t = arg;

    spin_lock(&mm_lock);
    t->present = dirty_present(t->at, t->room);
    spin_unlock(&mm_lock);
}

static void test_present(void **state)
{
    uintptr_t a = map(PAGES, 0);
    struct take t = {.at = a, .room = PAGES};

    (void)state;
    arch_on_system_stack(present_call, &t);
    assert_int_equal(t.present, 0);
    put(a + 1 * PAGE_SIZE, 1);
    put(a + 15 * PAGE_SIZE, 1);
    arch_on_system_stack(present_call, &t);
    assert_true(t.present >> 1 & 1);
    assert_true(t.present >> 15 & 1);
    assert_int_equal(t.present >> PAGES, 0);
    assert_int_equal(vm_decommit(a, PAGES * PAGE_SIZE, false), 0);
    arch_on_system_stack(present_call, &t);
    assert_int_equal(t.present, 0);
    unmap(a, PAGES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_take),
        cmocka_unit_test(test_harvest),
        cmocka_unit_test(test_present),
        cmocka_unit_test(a_store_through_a_view_that_went_is_seen),
        cmocka_unit_test(a_store_through_a_view_that_was_cut_off_is_seen),
        cmocka_unit_test(a_store_before_a_discard_is_seen_through_all_views),
        cmocka_unit_test(a_store_before_a_copy_is_seen_through_all_views),
        cmocka_unit_test(what_was_cut_for_a_moment_is_watched_as_one),
        cmocka_unit_test(what_was_cut_off_is_not_reported),
        cmocka_unit_test(what_a_region_gave_back_is_not_reported),
        cmocka_unit_test(nothing_appears_while_memory_is_discarded),
        cmocka_unit_test(both_parts_of_a_ring_are_discarded),
        cmocka_unit_test(nothing_appears_while_the_zero_frame_goes),
        cmocka_unit_test(no_frame_is_free_before_it_is_forgotten),
        cmocka_unit_test(each_right_that_goes_is_shot_down),
        cmocka_unit_test(pages_are_forgotten_before_a_promotion_copies_them),
        cmocka_unit_test(a_table_without_pages_is_forgotten_before_it_is_free),
        cmocka_unit_test(a_store_before_the_frame_was_replaced_is_seen),
        cmocka_unit_test(tables_of_aliases_are_promised),
        cmocka_unit_test(tables_are_promised_wherever_memory_lies),
        cmocka_unit_test(bitmaps_are_not_taken_from_promises),
        cmocka_unit_test(descriptors_are_not_taken_from_promises),
        cmocka_unit_test(parts_are_given_back_when_all_is_promised),
    };

    return cmocka_run_group_tests_name("views", tests, start, stop);
}
