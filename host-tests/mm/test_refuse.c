// sources: $(mm)
// What the operations on ranges refuse, and with which error; what they leave
// alone; where they put things.

#include "host-tests/support.h"

#include <errno.h>

#include "host-tests/mm/mm_fixture.h"
#include "mm/fail.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

enum { RAM = 96 * MIB, TABLE = 512 };

#define RW   (PROT_R | PROT_W)
#define HUGE ((size_t)TABLE * PAGE_SIZE)

MM_START(RAM)
MM_STOP

static uintptr_t map(size_t pages, unsigned prot, unsigned flags)
{
    uintptr_t va = 0;

    assert_int_equal(vm_map(&va, pages * PAGE_SIZE, prot, flags, "test"), 0);
    return va;
}

static void unmap(uintptr_t va, size_t pages)
{
    assert_int_equal(vm_unmap(va, pages * PAGE_SIZE), 0);
}

static void put(uintptr_t va, uint64_t v)
{
    *(volatile uint64_t *)va = v;
}

static uint64_t get(uintptr_t va)
{
    return *(volatile uint64_t *)va;
}

// ---- ranges ----

static void refused_everywhere(uintptr_t va, size_t bytes)
{
    uintptr_t at = va, to = 0, wish = va;

    assert_int_equal(vm_unmap(va, bytes), -EINVAL);
    assert_int_equal(vm_protect(va, bytes, RW), -EINVAL);
    assert_int_equal(vm_decommit(va, bytes, false), -EINVAL);
    assert_int_equal(vm_move(va, bytes, PAGE_SIZE, &to), -EINVAL);
    assert_int_equal(vm_alias(va, bytes, RW, &to), -EINVAL);
    assert_int_equal(vm_clone(va, bytes, &to), -EINVAL);
    assert_int_equal(vm_promote(va, bytes), -EINVAL);
    assert_int_equal(vm_map(&at, bytes, RW, 0, "test"), -EINVAL);
    to = map(1, RW, 0);
    assert_int_equal(vm_move(to, PAGE_SIZE, bytes, &wish), -EINVAL);
    unmap(to, 1);
}

static void ranges_that_are_none_are_refused_by_every_call(void **state)
{
    uintptr_t a = ARCH_REGION_BASE + GIB;

    (void)state;
    refused_everywhere(a, 0);
    refused_everywhere(a + 1, PAGE_SIZE);
    refused_everywhere(a, PAGE_SIZE + 8);
    refused_everywhere(UINTPTR_MAX - PAGE_SIZE + 1, 2 * PAGE_SIZE);
    refused_everywhere(ARCH_REGION_BASE - PAGE_SIZE, PAGE_SIZE);
    refused_everywhere(ARCH_REGION_END - PAGE_SIZE, 2 * PAGE_SIZE);
    mm_check();
}

static void holes_are_refused_where_they_matter(void **state)
{
    uintptr_t a = map(6, RW, 0), to = 0;

    (void)state;
    unmap(a + 2 * PAGE_SIZE, 1);
    assert_int_equal(vm_protect(a, 6 * PAGE_SIZE, PROT_R), -ENOMEM);
    assert_int_equal(vm_decommit(a, 6 * PAGE_SIZE, false), -ENOMEM);
    assert_int_equal(vm_decommit(a, 7 * PAGE_SIZE, true), -ENOMEM);
    assert_int_equal(vm_move(a, 6 * PAGE_SIZE, PAGE_SIZE, &to), -ENOMEM);
    assert_int_equal(vm_alias(a, 6 * PAGE_SIZE, RW, &to), -ENOMEM);
    assert_int_equal(vm_alias(a + 2 * PAGE_SIZE, PAGE_SIZE, RW, &to), -ENOMEM);
    assert_int_equal(vm_clone(a, 6 * PAGE_SIZE, &to), -ENOMEM);
    assert_int_equal(vm_clone(a + 2 * PAGE_SIZE, PAGE_SIZE, &to), -ENOMEM);
    assert_int_equal(to, 0);
    // Several regions without a hole can be cut, but not moved as one.
    assert_int_equal(vm_protect(a, PAGE_SIZE, PROT_R), 0);
    assert_int_equal(vm_move(a, 2 * PAGE_SIZE, 2 * PAGE_SIZE, &to), -EINVAL);
    unmap(a, 6);
    mm_check();
}

static void a_place_that_is_taken_is_refused(void **state)
{
    uintptr_t a = map(2, RW, 0), b = map(2, RW, 0), to = b;

    (void)state;
    assert_int_equal(vm_move(a, 2 * PAGE_SIZE, 2 * PAGE_SIZE, &to), -EEXIST);
    to = b - PAGE_SIZE;
    assert_int_equal(vm_move(a, PAGE_SIZE, 2 * PAGE_SIZE, &to), -EEXIST);
    to = b + 2 * PAGE_SIZE;
    assert_int_equal(vm_map(&to, PAGE_SIZE, RW, VM_FIXED, "test"), 0);
    unmap(to, 1);
    unmap(a, 2);
    unmap(b, 2);
}

static void nothing_that_is_the_runtimes_can_be_changed(void **state)
{
    static struct region r;
    uintptr_t a = ARCH_REGION_BASE + 2 * (uintptr_t)GIB, to = 0;

    (void)state;
    r = (struct region){.start = a,
                        .end = a + 2 * HUGE,
                        .ops = &region_anon_ops,
                        .prot = RW,
                        .flags = REGION_FIXED,
                        .name = "runtime"};
    assert_int_equal(region_add(&r), 0);
    assert_int_equal(region_add(&r), -EEXIST);
    put(a, 1);
    assert_int_equal(vm_unmap(a, PAGE_SIZE), -EPERM);
    assert_int_equal(vm_unmap(a - PAGE_SIZE, 2 * PAGE_SIZE), -EPERM);
    assert_int_equal(vm_protect(a, PAGE_SIZE, PROT_R), -EPERM);
    assert_int_equal(vm_decommit(a, PAGE_SIZE, false), -EPERM);
    assert_int_equal(vm_move(a, PAGE_SIZE, PAGE_SIZE, &to), -EPERM);
    assert_int_equal(vm_alias(a, PAGE_SIZE, RW, &to), -EPERM);
    assert_int_equal(vm_clone(a, PAGE_SIZE, &to), -EPERM);
    assert_int_equal(vm_promote(a, 2 * HUGE), 0);
    assert_int_equal(get(a), 1);
    region_remove(&r);
    mm_check();
}

static enum fault_result no_fault(struct region *r, uintptr_t va,
                                  unsigned access, uintptr_t rsp)
{
    (void)r, (void)va, (void)access, (void)rsp;
    return FAULT_GUARD;
}

static const struct region_ops other_ops = {no_fault, NULL};

static void memory_of_another_kind_is_not_shared(void **state)
{
    static struct region r;
    uintptr_t a = ARCH_REGION_BASE + 2 * (uintptr_t)GIB, to = 0;
    int client = dirty_client_new();

    (void)state;
    r = (struct region){.start = a,
                        .end = a + 2 * HUGE,
                        .ops = &other_ops,
                        .flags = REGION_DEVICE,
                        .name = "other"};
    assert_int_equal(region_add(&r), 0);
    assert_int_equal(vm_alias(a, PAGE_SIZE, RW, &to), -EPERM);
    assert_int_equal(vm_clone(a, PAGE_SIZE, &to), -EPERM);
    assert_int_equal(vm_promote(a, 2 * HUGE), 0);
    assert_int_equal(dirty_watch(client, a), -EINVAL);
    assert_false(mm_fault(a, PROT_R, 0));
    assert_int_equal(mm_last_fault(), FAULT_GUARD);
    region_remove(&r);
    dirty_client_free(client);
}

// Nothing touches it: it need not be there.
static void frames_of_a_device_are_nobodys(void **state)
{
    uintptr_t a = 0, to = 0;
    paddr_t device = paddr(3 * (uint64_t)GIB);
    uint64_t before = mm_free_frames() + pt_tables();
    struct mm_look l;

    (void)state;
    assert_int_equal(vm_map_device(&a, paddr(0x200000), PAGE_SIZE, RW, "ram"),
                     -EPERM);
    assert_int_equal(vm_map_device(&a, paddr(1), PAGE_SIZE, RW, "odd"),
                     -EINVAL);
    assert_int_equal(vm_map_device(&a, device, 3 * PAGE_SIZE, RW, "device"), 0);
    spin_lock(&mm_lock);
    mm_look(a + PAGE_SIZE, &l);
    spin_unlock(&mm_lock);
    assert_true(l.mapped && l.users == 0);
    assert_int_equal(l.frame, 3 * (uint64_t)GIB / PAGE_SIZE + 1);
    assert_true(mm_fault(a, PROT_W, 0));
    assert_int_equal(vm_move(a, 3 * PAGE_SIZE, 3 * PAGE_SIZE, &to), 0);
    assert_int_equal(vm_protect(to, PAGE_SIZE, PROT_R), 0);
    assert_false(mm_fault(to, PROT_W, 0));
    assert_int_equal(vm_decommit(to, PAGE_SIZE, false), -EPERM);
    // Memory before it is as it was, too.
    a = to - PAGE_SIZE;
    assert_int_equal(vm_map(&a, PAGE_SIZE, RW, VM_FIXED, "beside"), 0);
    put(a, 1);
    assert_int_equal(vm_decommit(a, 2 * PAGE_SIZE, true), -EPERM);
    assert_int_equal(get(a), 1);
    mm_check();
    unmap(a, 4);
    assert_int_equal(mm_free_frames() + pt_tables(), before);
}

static void a_region_grows_up_to_the_next(void **state)
{
    static struct region r;
    uintptr_t a = ARCH_REGION_BASE + 2 * (uintptr_t)GIB;
    uintptr_t next = a + 10 * PAGE_SIZE;

    (void)state;
    assert_int_equal(vm_map(&next, PAGE_SIZE, RW, VM_FIXED, "next"), 0);
    r = (struct region){.start = a,
                        .end = a + PAGE_SIZE,
                        .ops = &region_anon_ops,
                        .prot = RW,
                        .name = "grows"};
    assert_int_equal(region_add(&r), 0);
    assert_int_equal(region_resize(&r, next), 0);
    assert_int_equal(region_resize(&r, next + PAGE_SIZE), -EEXIST);
    put(next - PAGE_SIZE, 1);
    unmap(next, 1);
    assert_int_equal(region_resize(&r, next + PAGE_SIZE), 0);
    region_remove(&r);
}

// ---- promises ----

static void what_cannot_be_promised_is_refused(void **state)
{
    size_t most = mm_commit().limit;
    uintptr_t a = map(2, RW, 0), to = 0, half;

    (void)state;
    put(a, 1);
    half = map(most / 5 * 3, RW, 0);
    assert_int_equal(vm_clone(half, most / 5 * 3 * PAGE_SIZE, &to), -ENOMEM);
    assert_int_equal(vm_move(a, 2 * PAGE_SIZE, most / 2 * PAGE_SIZE, &to),
                     -ENOMEM);
    assert_int_equal(get(a), 1);
    to = map(most / 2, 0, 0);
    uintptr_t alias = 0;

    assert_int_equal(vm_alias(to, most / 2 * PAGE_SIZE, RW, &alias), -ENOMEM);
    assert_int_equal(vm_protect(to, most / 2 * PAGE_SIZE, RW), -ENOMEM);
    unmap(to, most / 2);
    unmap(half, most / 5 * 3);
    unmap(a, 2);
    assert_int_equal(mm_commit().committed, 0);
    mm_check();
}

static void memory_without_a_promise_is_promised_to_nobody(void **state)
{
    size_t n = 2 * RAM / PAGE_SIZE;
    uintptr_t a = map(n, RW, VM_NORESERVE), b = 0, c = 0;
    uint64_t tables = pt_tables();

    (void)state;
    assert_int_equal(mm_commit().committed, 0);
    put(a, 1);
    assert_int_equal(vm_alias(a, n * PAGE_SIZE, RW, &b), 0);
    assert_int_equal(vm_clone(a, n * PAGE_SIZE, &c), 0);
    assert_int_equal(get(b), 1);
    assert_int_equal(get(c), 1);
    tables = pt_tables() - tables;
    assert_int_equal(vm_protect(a, n * PAGE_SIZE, 0), 0);
    assert_int_equal(vm_protect(a, n * PAGE_SIZE, RW), 0);
    assert_int_equal(vm_promote(a, n * PAGE_SIZE), 0);
    // But the page that was touched counts, and the tables at three places.
    assert_int_equal(mm_commit().committed, 1 + tables);
    unmap(a, n);
    unmap(b, n);
    unmap(c, n);
    assert_int_equal(mm_commit().committed, 0);
    // What was only reserved without a promise gets none with its rights.
    a = map(n, 0, VM_NORESERVE);
    assert_int_equal(vm_protect(a, n * PAGE_SIZE, RW), 0);
    assert_int_equal(mm_commit().committed, 0);
    unmap(a, n);
    mm_check();
}

// It takes what is promised to nobody, and no more: what others promised is there
// when they touch it. Tables are counted as well.
static void memory_without_a_promise_takes_nobodys_frames(void **state)
{
    const size_t half = RAM / PAGE_SIZE / 2, n = GIB / PAGE_SIZE;
    uintptr_t promised = map(half, RW, 0), a = map(n, RW, VM_NORESERVE),
              copy = 0, to = 0;
    uint64_t before = mm_commit().committed, touched = 0;

    (void)state;
    // A third of it, in tables of its own, moved to others, and shared.
    for (size_t i = 0; i < n; i += n / 64)
        put(a + i * PAGE_SIZE, ++touched);
    assert_int_equal(vm_move(a, n * PAGE_SIZE, (n - 1) * PAGE_SIZE, &to), 0);
    assert_int_equal(vm_clone(to, (n - 1) * PAGE_SIZE, &copy), 0);
    for (size_t i = 0; i < n - 1; i += n / 64)
        put(copy + i * PAGE_SIZE, 1);
    assert_true(mm_commit().committed - before >= 4 * touched);
    for (size_t i = 0; mm_fault(to + i * PAGE_SIZE, PROT_W, 0); i++)
        assert_true(i < half);
    assert_int_equal(mm_last_fault(), FAULT_OOM);
    assert_true(mm_commit().committed <= mm_commit().limit);
    for (size_t i = 0; i < half; i++) {
        if (!mm_fault(promised + i * PAGE_SIZE, PROT_W, 0))
            fail_msg("no frame for page %lu of %lu", i, half);
    }
    unmap(to, n - 1);
    assert_int_equal(get(copy + PAGE_SIZE), 0);
    unmap(copy, n - 1);
    assert_int_equal(mm_commit().committed, before);
    unmap(promised, half);
    assert_int_equal(mm_commit().committed, 0);
    mm_check();
}

// ---- large pages ----

static void only_whole_private_memory_gets_large_pages(void **state)
{
    uintptr_t a = map(3 * TABLE, RW, 0), b = 0;

    (void)state;
    // No whole one in the range, a hole, a reservation, something shared.
    assert_int_equal(vm_promote(a + PAGE_SIZE, HUGE), 0);
    assert_int_equal(vm_promote(a + PAGE_SIZE, 2 * HUGE), 1);
    assert_int_equal(vm_promote(a, 3 * HUGE), 3);
    assert_int_equal(vm_promote(a, 3 * HUGE), 3); // they are
    unmap(a + HUGE + PAGE_SIZE, 1);
    assert_int_equal(vm_promote(a, 3 * HUGE), 2);
    unmap(a, 3 * TABLE);
    assert_int_equal(vm_promote(a, 3 * HUGE), 0);
    a = map(3 * TABLE, 0, 0);
    assert_int_equal(vm_promote(a, 3 * HUGE), 0);
    unmap(a, 3 * TABLE);
    a = map(3 * TABLE, RW, 0);
    put(a, 1);
    assert_int_equal(vm_alias(a, HUGE, RW, &b), 0);
    assert_int_equal(vm_promote(a, 3 * HUGE), 0); // one ring
    unmap(b, TABLE);
    assert_int_equal(vm_clone(a + HUGE, 2 * PAGE_SIZE, &b), 0);
    assert_int_equal(vm_promote(a, 3 * HUGE), 3); // nothing was shared
    unmap(b, 2);
    unmap(a, 3 * TABLE);
    mm_check();
}

static void shared_frames_stay_small(void **state)
{
    uintptr_t a = map(TABLE, RW, 0), b = 0;

    (void)state;
    put(a + 7 * PAGE_SIZE, 7);
    assert_int_equal(vm_clone(a, HUGE, &b), 0);
    assert_int_equal(vm_promote(a, HUGE), 0);
    // They are not any more, and the memory can be stored to at once.
    unmap(b, TABLE);
    assert_int_equal(vm_promote(a, HUGE), 1);
    assert_int_equal(get(a + 7 * PAGE_SIZE), 7);
    put(a + 8 * PAGE_SIZE, 8);
    assert_int_equal(get(a + 7 * PAGE_SIZE), 7);
    unmap(a, TABLE);
    // The frame of zeros is everybody's, but there is nothing to share in it.
    a = map(TABLE, RW, VM_SPARSE);
    assert_int_equal(get(a + 7 * PAGE_SIZE), 0);
    put(a + 9 * PAGE_SIZE, 9);
    assert_int_equal(vm_promote(a, HUGE), 1);
    put(a + 7 * PAGE_SIZE, 7);
    assert_int_equal(get(a + 8 * PAGE_SIZE), 0);
    assert_int_equal(get(a + 9 * PAGE_SIZE), 9);
    unmap(a, TABLE);
    b = map(1, RW, VM_SPARSE);
    assert_int_equal(get(b), 0);
    unmap(b, 1);
    mm_check();
}

// Where all is promised, and no frame is to be had, it says what there is.
static void promotion_takes_nobodys_frames(void **state)
{
    uintptr_t a = map(2 * TABLE, RW, 0);

    (void)state;
    put(a, 1);
    assert_int_equal(vm_promote(a, HUGE), 1);
    put(a + HUGE, 1);
    struct mm_commit now = mm_commit();

    assert_true(mm_charge(now.limit - now.committed));
    mm_fail_at(1, true);
    assert_int_equal(vm_promote(a, 2 * HUGE), 1);
    mm_fail_at(0, false);
    mm_uncharge(now.limit - now.committed);
    assert_int_equal(vm_promote(a, 2 * HUGE), 2);
    unmap(a, 2 * TABLE);
}

// What has no rights now is cut and shared like all memory.
static void large_pages_without_rights_are_split(void **state)
{
    for (int how = 0; how < 4; how++) {
        uintptr_t a = map(TABLE, RW, 0), b = 0;

        (void)state;
        for (size_t i = 0; i < TABLE; i++)
            put(a + i * PAGE_SIZE, i + 1);
        assert_int_equal(vm_promote(a, HUGE), 1);
        assert_int_equal(vm_protect(a, HUGE, 0), 0);
        if (how == 0)
            unmap(a, TABLE / 2);
        else if (how == 1)
            assert_int_equal(vm_decommit(a, HUGE / 2, false), 0);
        else if (how == 2)
            assert_int_equal(vm_alias(a, HUGE, RW, &b), 0);
        else
            assert_int_equal(vm_clone(a, HUGE, &b), 0);
        assert_int_equal(
            vm_protect(a + HUGE / 2, HUGE / 2, how == 3 ? PROT_R : RW), 0);
        for (size_t i = TABLE / 2; i < TABLE; i++)
            assert_int_equal(get(a + i * PAGE_SIZE), i + 1);
        if (how == 2)
            assert_int_equal(get(b), 1);
        unmap(a, TABLE);
        if (how == 3)
            assert_int_equal(vm_protect(b, HUGE, RW), 0);
        for (size_t i = 0; b != 0 && i < TABLE; i++)
            assert_int_equal(get(b + i * PAGE_SIZE), i + 1);
        if (b != 0)
            unmap(b, TABLE);
        mm_check();
    }
}

static void without_large_blocks_pages_stay_small(void **state)
{
    static paddr_t all[RAM / PAGE_SIZE];
    uintptr_t a = map(TABLE, RW, 0);
    size_t n = 0;

    (void)state;
    for (size_t i = 0; i < TABLE; i++)
        put(a + i * PAGE_SIZE, i);
    while ((all[n] = frame_alloc(9, FRAME_DIRTY)).raw != 0)
        n++;
    assert_int_equal(vm_promote(a, HUGE), 0);
    while (n > 0)
        frame_free(all[--n], 9);
    assert_int_equal(vm_promote(a, HUGE), 1);
    // Without rights the frame is kept; with them it is found again, large.
    assert_int_equal(vm_protect(a, HUGE, 0), 0);
    assert_false(mm_readable(a, 1));
    assert_int_equal(vm_protect(a, HUGE, PROT_R), 0);
    assert_int_equal(get(a + 5 * PAGE_SIZE), 5);
    assert_int_equal(vm_protect(a, HUGE, RW), 0);
    put(a + 5 * PAGE_SIZE, 6);
    unmap(a, TABLE);
    mm_check();
}

// ---- places ----

static void mappings_go_round_when_the_end_is_reached(void **state)
{
    size_t half = (ARCH_REGION_END - ARCH_REGION_BASE) / 2;
    size_t most = half / 8 * 3 / PAGE_SIZE;
    uintptr_t a = map(most, 0, 0), b = map(most, 0, 0), c, d = 0;

    (void)state;
    assert_true(b > a);
    unmap(a, most);
    c = map(most, 0, 0); // no room behind b
    assert_true(c < b);
    assert_int_equal(vm_map(&d, half, 0, 0, "test"), -ENOMEM);
    assert_int_equal(vm_map(&d, 8 * (size_t)GIB, 0, 0, "test"), -ENOMEM);
    unmap(b, most);
    unmap(c, most);
    // Behind each mapping a page stays free; large ones are aligned.
    a = map(1, RW, 0);
    b = map(1, RW, 0);
    assert_int_equal(b, a + 2 * PAGE_SIZE);
    c = map(TABLE, RW, 0);
    assert_int_equal(c % HUGE, 0);
    // A wish is met, if it can be.
    d = ARCH_REGION_END - PAGE_SIZE;
    assert_int_equal(vm_map(&d, PAGE_SIZE, RW, 0, "test"), 0);
    assert_int_equal(d, ARCH_REGION_END - PAGE_SIZE);
    put(d, 1);
    unmap(d, 1);
    d = b;
    assert_int_equal(vm_map(&d, PAGE_SIZE, RW, 0, "test"), 0);
    assert_true(d != b);
    unmap(a, 1);
    unmap(b, 1);
    unmap(c, TABLE);
    unmap(d, 1);
}

static void a_full_area_says_so(void **state)
{
    size_t half = (ARCH_REGION_END - ARCH_REGION_BASE) / 2;
    uintptr_t all = ARCH_REGION_BASE, to = 0, a;

    (void)state;
    a = ARCH_REGION_BASE + half;
    assert_int_equal(vm_map(&a, PAGE_SIZE, RW, VM_FIXED, "test"), 0);
    put(a, 5);
    all = a + PAGE_SIZE;
    assert_int_equal(vm_map(&all, half - PAGE_SIZE, 0, VM_FIXED, "the rest"),
                     0);
    assert_int_equal(vm_map(&to, PAGE_SIZE, RW, 0, "test"), -ENOMEM);
    assert_int_equal(vm_alias(a, PAGE_SIZE, RW, &to), -ENOMEM);
    assert_int_equal(vm_clone(a, PAGE_SIZE, &to), -ENOMEM);
    assert_int_equal(vm_move(a, PAGE_SIZE, PAGE_SIZE, &to), -ENOMEM);
    assert_int_equal(get(a), 5);
    assert_int_equal(vm_unmap(a, half), 0);
    mm_check();
}

// ---- who watches ----

static void see(uintptr_t page, void *arg)
{
    (void)page;
    ++*(unsigned *)arg;
}

static void watchers_are_known_by_number(void **state)
{
    int c[DIRTY_CLIENTS];
    unsigned n = 0;
    uintptr_t a = map(1, RW, 0);

    (void)state;
    for (int i = 0; i < DIRTY_CLIENTS; i++) {
        c[i] = dirty_client_new();
        assert_in_range(c[i], 0, DIRTY_CLIENTS - 1);
    }
    assert_int_equal(dirty_client_new(), -ENOSPC);
    dirty_client_free(c[3]);
    assert_int_equal(dirty_watch(c[3], a), -EINVAL);
    assert_int_equal(dirty_watch(-1, a), -EINVAL);
    assert_int_equal(dirty_watch(DIRTY_CLIENTS, a), -EINVAL);
    assert_int_equal(dirty_client_new(), c[3]);
    assert_int_equal(dirty_watch(c[3], a + PAGE_SIZE), -EINVAL);
    assert_int_equal(dirty_collect(c[3], a, see, &n), -EINVAL);
    assert_int_equal(dirty_collect(c[3], a + PAGE_SIZE, see, &n), -EINVAL);
    assert_int_equal(dirty_watch(c[3], a), 0);
    assert_int_equal(dirty_watch(c[4], a), 0);
    assert_int_equal(dirty_collect(c[3], a, see, &n), 0);
    for (int i = 0; i < DIRTY_CLIENTS; i++)
        dirty_client_free(c[i]);
    unmap(a, 1);
}

static void a_page_written_from_outside_is_marked(void **state)
{
    enum { MANY = 40000 }; // a bitmap of more than a frame
    uintptr_t a = map(MANY, RW, VM_NORESERVE), alias = 0;
    int c = dirty_client_new();
    unsigned n = 0;

    (void)state;
    assert_int_equal(dirty_watch(c, a), 0);
    assert_int_equal(vm_alias(a + 10 * PAGE_SIZE, 5 * PAGE_SIZE, RW, &alias),
                     0);
    dirty_mark(a + 39999 * (uintptr_t)PAGE_SIZE + 77);
    dirty_mark(alias + 3 * PAGE_SIZE);
    dirty_mark(alias - PAGE_SIZE); // nothing lies there
    put(a + 100 * PAGE_SIZE, 1);
    put(a + 14 * PAGE_SIZE, 1); // through both of them
    put(alias + 4 * PAGE_SIZE, 1);
    assert_int_equal(dirty_collect(c, a, see, &n), 4);
    // Cut between what is dirty; each part keeps its own.
    put(a + 5 * PAGE_SIZE, 1);
    put(a + 20000 * (uintptr_t)PAGE_SIZE, 1);
    put(a + 20001 * (uintptr_t)PAGE_SIZE, 1);
    dirty_mark(a + 30000 * (uintptr_t)PAGE_SIZE);
    unmap(a + 1000 * PAGE_SIZE, 10);
    assert_int_equal(dirty_collect(c, a, see, &n), 1);
    assert_int_equal(dirty_collect(c, a + 1010 * (uintptr_t)PAGE_SIZE, see, &n),
                     3);
    unmap(a, MANY);
    assert_int_equal(dirty_collect(c, a, see, &n), -EINVAL);
    unmap(alias, 5);
    dirty_client_free(c);
    mm_check();
}

static void a_large_page_is_dirty_as_a_whole(void **state)
{
    uintptr_t a = map(2 * TABLE, RW, 0);
    int c = dirty_client_new();
    unsigned n = 0;

    (void)state;
    assert_int_equal(vm_promote(a, 2 * HUGE), 2);
    assert_int_equal(dirty_watch(c, a), 0);
    put(a + 3 * PAGE_SIZE, 1);
    assert_int_equal(dirty_collect(c, a, see, &n), TABLE);
    assert_int_equal(dirty_collect(c, a, see, &n), 0);
    // Cut inside: the part of the page that is left ends with the region.
    put(a + 3 * PAGE_SIZE, 2);
    unmap(a + 100 * PAGE_SIZE, TABLE);
    assert_int_equal(dirty_collect(c, a, see, &n), 100);
    unmap(a, 2 * TABLE);
    dirty_client_free(c);
    mm_check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranges_that_are_none_are_refused_by_every_call),
        cmocka_unit_test(holes_are_refused_where_they_matter),
        cmocka_unit_test(a_place_that_is_taken_is_refused),
        cmocka_unit_test(nothing_that_is_the_runtimes_can_be_changed),
        cmocka_unit_test(memory_of_another_kind_is_not_shared),
        cmocka_unit_test(frames_of_a_device_are_nobodys),
        cmocka_unit_test(a_region_grows_up_to_the_next),
        cmocka_unit_test(what_cannot_be_promised_is_refused),
        cmocka_unit_test(memory_without_a_promise_is_promised_to_nobody),
        cmocka_unit_test(memory_without_a_promise_takes_nobodys_frames),
        cmocka_unit_test(only_whole_private_memory_gets_large_pages),
        cmocka_unit_test(shared_frames_stay_small),
        cmocka_unit_test(promotion_takes_nobodys_frames),
        cmocka_unit_test(large_pages_without_rights_are_split),
        cmocka_unit_test(without_large_blocks_pages_stay_small),
        cmocka_unit_test(mappings_go_round_when_the_end_is_reached),
        cmocka_unit_test(a_full_area_says_so),
        cmocka_unit_test(watchers_are_known_by_number),
        cmocka_unit_test(a_page_written_from_outside_is_marked),
        cmocka_unit_test(a_large_page_is_dirty_as_a_whole),
    };

    return cmocka_run_group_tests_name("refuse", tests, start, stop);
}
