// sources: $(mm)
// All of mm on several CPUs at once, each a thread: random operations on memory
// of one's own, and what others do to memory that is shared. Built with ASan and
// UBSan as the rest, and once more with TSan (host/threads-tsan).
//
// Rounds are counted, never timed. What the threads tell each other goes through
// atomics; what they store in shared memory is relaxed, as plain stores are: a
// store with an order is made by TSan's run-time with a lock of its own held, and
// the handler of the fault would wait for that [seen, clang 14].

#include "host-tests/support.h"

#include <stdatomic.h>

#include "host-tests/mm/mm_fixture.h"
#include "mm/mm_impl.h"
#include "mm/vm_impl.h"

enum { RAM = 96 * MIB, CPUS = 4, TABLE = 512 };

#define RW (PROT_R | PROT_W)

static void must(bool good, const char *what)
{
    if (!good) {
        fprintf(stderr, "CPU %u: %s\n", arch_cpu_id(), what);
        abort();
    }
}

// ---- all CPUs at once ----

static void (*_Atomic job)(unsigned cpu);
static _Atomic unsigned job_number, done;

// What CPUs 1, 2 ... do for ever: the next job, when there is one.
static void cpu_main(void)
{
    for (unsigned last = 0;;) {
        while (atomic_load(&job_number) == last)
            arch_relax();
        last = atomic_load(&job_number);
        if (atomic_load(&job) == NULL)
            break;
        atomic_load (&job)(arch_cpu_id());
        atomic_fetch_add(&done, 1);
    }
    atomic_fetch_add(&done, 1);
}

static void run_all(void (*fn)(unsigned cpu))
{
    atomic_store(&job, fn);
    atomic_store(&done, 0);
    atomic_fetch_add(&job_number, 1);
    if (fn != NULL)
        fn(0);
    while (atomic_load(&done) != CPUS - 1)
        arch_relax();
}

static int start(void **state)
{
    (void)state;
    if (mm_fixture(RAM) != NULL)
        return 1;
    host_start_cpus(CPUS, cpu_main);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    run_all(NULL);
    host_stop();
    return 0;
}

// ---- memory ----

static uintptr_t map(size_t pages, unsigned flags)
{
    uintptr_t va = 0;

    must(vm_map(&va, pages * PAGE_SIZE, RW, flags, "test") == 0, "map");
    return va;
}

static void unmap(uintptr_t va, size_t pages)
{
    must(vm_unmap(va, pages * PAGE_SIZE) == 0, "unmap");
}

static void put(uintptr_t va, uint64_t v)
{
    atomic_store_explicit((_Atomic uint64_t *)va, v, memory_order_relaxed);
}

static uint64_t get(uintptr_t va)
{
    return atomic_load_explicit((_Atomic uint64_t *)va, memory_order_relaxed);
}

// ---- random operations on one's own memory ----

enum { SLOTS = 5, SLOT_PAGES = 20, STEPS = 1000 };

struct slot {
    uintptr_t va;
    size_t n;
    uint64_t tag; // in every page
};

static uint32_t below(uint64_t *rnd, uint32_t n)
{
    *rnd = *rnd * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(*rnd >> 33) % n;
}

static void check_slot(const struct slot *s)
{
    for (size_t i = 0; i < s->n; i++)
        must(get(s->va + i * PAGE_SIZE) == s->tag + i, "foreign contents");
}

static void tag_slot(struct slot *s, uint64_t tag)
{
    s->tag = tag;
    for (size_t i = 0; i < s->n; i++)
        put(s->va + i * PAGE_SIZE, tag + i);
}

static void see_page(uintptr_t page, void *arg)
{
    (void)page;
    ++*(size_t *)arg;
}

static void watch_slot(struct slot *s, uint64_t tag)
{
    int client = dirty_client_new();
    size_t n = 0;

    if (client < 0)
        return; // all are taken
    must(dirty_watch(client, s->va) == 0, "watch");
    tag_slot(s, tag);
    must(dirty_collect(client, s->va, see_page, &n) == (long)s->n && n == s->n,
         "a store was not noted");
    dirty_client_free(client);
}

static void clone_slot(struct slot *s, uint64_t tag)
{
    struct slot copy = *s;

    must(vm_clone(s->va, s->n * PAGE_SIZE, &copy.va) == 0, "clone");
    tag_slot(s, tag);
    check_slot(&copy);
    tag_slot(&copy, tag + 7);
    check_slot(s);
    unmap(copy.va, copy.n);
}

static void alias_slot(struct slot *s, uint64_t tag)
{
    struct slot view = *s;

    view.va = 0;
    must(vm_alias(s->va, s->n * PAGE_SIZE, RW, &view.va) == 0, "alias");
    tag_slot(&view, tag);
    s->tag = tag;
    check_slot(s);
    unmap(s->va, s->n);
    *s = view;
    check_slot(s);
}

static void promote_table(uint64_t tag)
{
    uintptr_t va = map(TABLE, 0);
    struct slot s = {va, 3, 0};

    tag_slot(&s, tag);
    must(vm_promote(va, TABLE * PAGE_SIZE) >= 0, "promote");
    check_slot(&s);
    unmap(va + TABLE / 2 * PAGE_SIZE, 1);
    check_slot(&s);
    unmap(va, TABLE);
}

static void step(struct slot *s, uint64_t *rnd, uint64_t tag)
{
    size_t bytes = s->n * PAGE_SIZE;
    uintptr_t to = 0;

    if (s->va == 0) {
        s->n = 1 + below(rnd, SLOT_PAGES);
        s->va = map(s->n, below(rnd, 2) ? VM_SPARSE : 0);
        for (size_t i = 0; i < s->n; i++)
            must(get(s->va + i * PAGE_SIZE) == 0, "fresh memory is not zero");
        tag_slot(s, tag);
        return;
    }
    check_slot(s);
    switch (below(rnd, 9)) {
    case 0:
        unmap(s->va, s->n);
        s->va = 0;
        break;
    case 1:
        must(vm_move(s->va, bytes, bytes, &to) == 0, "move");
        s->va = to;
        check_slot(s);
        break;
    case 2:
        clone_slot(s, tag);
        break;
    case 3:
        alias_slot(s, tag);
        break;
    case 4:
        must(vm_protect(s->va, bytes, PROT_R) == 0, "protect");
        check_slot(s);
        must(vm_protect(s->va, bytes, RW) == 0, "protect");
        tag_slot(s, tag);
        break;
    case 5:
        must(vm_decommit(s->va, bytes, false) == 0, "decommit");
        must(get(s->va) == 0, "discarded memory is not zero");
        tag_slot(s, tag);
        break;
    case 6:
        watch_slot(s, tag);
        break;
    case 7:
        if (below(rnd, 8) == 0)
            promote_table(tag);
        break;
    default:
        (void)mm_free_frames();
        (void)frame_zero_ahead();
        (void)mm_pressure();
        break;
    }
}

static void random_steps(unsigned cpu)
{
    struct slot slots[SLOTS] = {0};
    uint64_t rnd = cpu * 77 + 1;

    for (unsigned i = 0; i < STEPS; i++)
        step(&slots[below(&rnd, SLOTS)], &rnd,
             ((uint64_t)cpu << 48) + ((uint64_t)(i + 1) << 8));
    for (unsigned k = 0; k < SLOTS; k++) {
        if (slots[k].va != 0)
            unmap(slots[k].va, slots[k].n);
    }
}

static void everybodys_memory_keeps_its_contents(void **state)
{
    (void)state;
    run_all(random_steps);
    mm_check();
    assert_int_equal(host_tlb_stale(), 0);
    assert_int_equal(mm_commit().committed, 0);
}

// ---- clones are of one moment ----

enum { SHARED_PAGES = 64, CLONES = 40 };

static uintptr_t shared;
static _Atomic bool stop_storing;

// Stores a in the first page of its pair, then b in the second: at any moment
// b <= a <= b + 1.
static void store_pairs(unsigned cpu)
{
    uintptr_t a = shared + cpu * PAGE_SIZE;
    uintptr_t b = shared + (SHARED_PAGES - 1 - cpu) * PAGE_SIZE;

    for (uint64_t i = 1; !atomic_load(&stop_storing); i++) {
        put(a, i);
        __asm__ volatile("" ::: "memory"); // the CPU keeps their order
        put(b, i);
    }
}

static void check_clone(uintptr_t copy)
{
    for (unsigned c = 1; c < CPUS; c++) {
        uint64_t a = get(copy + c * PAGE_SIZE);
        uint64_t b = get(copy + (SHARED_PAGES - 1 - c) * PAGE_SIZE);

        must(b <= a && a <= b + 1, "a clone of two moments");
    }
}

static void clone_while_others_store(unsigned cpu)
{
    if (cpu != 0) {
        store_pairs(cpu);
        return;
    }
    for (unsigned i = 0; i < CLONES; i++) {
        uintptr_t copy = 0;

        must(vm_clone(shared, SHARED_PAGES * PAGE_SIZE, &copy) == 0, "clone");
        check_clone(copy);
        put(copy, i);
        unmap(copy, SHARED_PAGES);
    }
    atomic_store(&stop_storing, true);
}

static void clones_are_of_one_moment(void **state)
{
    (void)state;
    shared = map(SHARED_PAGES, 0);
    atomic_store(&stop_storing, false);
    run_all(clone_while_others_store);
    unmap(shared, SHARED_PAGES);
    mm_check();
    assert_int_equal(host_tlb_stale(), 0);
}

// ---- dirty bits, while others store through a second view ----

static uintptr_t view;
static _Atomic uint64_t last_stored[SHARED_PAGES];
static uint64_t seen[SHARED_PAGES]; // [CPU 0]

static void note(uintptr_t page, void *arg)
{
    size_t i = (page - shared) / PAGE_SIZE;

    (void)arg;
    seen[i] = get(page);
}

static void store_and_collect(unsigned cpu)
{
    static int client;

    if (cpu != 0) {
        for (uint64_t i = 1; !atomic_load(&stop_storing); i++) {
            size_t page = i * 7 % (SHARED_PAGES / CPUS) * CPUS + cpu;

            put((i % 2 ? shared : view) + page * PAGE_SIZE, i);
            atomic_store(&last_stored[page], i);
        }
        return;
    }
    client = dirty_client_new();
    must(client >= 0 && dirty_watch(client, shared) == 0, "watch");
    for (unsigned i = 0; i < CLONES; i++)
        must(dirty_collect(client, shared, note, NULL) >= 0, "collect");
    atomic_store(&stop_storing, true);
}

static void no_store_is_missed(void **state)
{
    int client = 0; // the only one there is

    (void)state;
    shared = map(SHARED_PAGES, 0);
    view = 0;
    assert_int_equal(vm_alias(shared, SHARED_PAGES * PAGE_SIZE, RW, &view), 0);
    atomic_store(&stop_storing, false);
    run_all(store_and_collect);
    assert_true(dirty_collect(client, shared, note, NULL) >= 0);
    for (size_t i = 0; i < SHARED_PAGES; i++)
        assert_int_equal(seen[i], atomic_load(&last_stored[i]));
    assert_int_equal(dirty_collect(client, shared, note, NULL), 0);
    dirty_client_free(client);
    unmap(shared, SHARED_PAGES);
    unmap(view, SHARED_PAGES);
    mm_check();
    assert_int_equal(host_tlb_stale(), 0);
}

// ---- protect reaches every CPU ----

static bool (*real_fault)(uintptr_t va, unsigned access, uintptr_t rsp);
static _Atomic bool is_protected;
static _Atomic unsigned caught;

// Stores that are forbidden wait in their fault.
static bool waiting_fault(uintptr_t va, unsigned access, uintptr_t rsp)
{
    if (va < shared || va >= shared + PAGE_SIZE || access != PROT_W)
        return real_fault(va, access, rsp);
    atomic_fetch_add(&caught, 1);
    while (atomic_load(&is_protected))
        arch_relax();
    return true;
}

static void protect_while_others_store(unsigned cpu)
{
    if (cpu != 0) {
        for (uint64_t i = 1; !atomic_load(&stop_storing); i++)
            put(shared + cpu * 64, i);
        return;
    }
    for (unsigned i = 0; i < CLONES; i++) {
        uint64_t before[CPUS];

        atomic_store(&is_protected, true);
        must(vm_protect(shared, PAGE_SIZE, PROT_R) == 0, "protect");
        for (unsigned c = 1; c < CPUS; c++)
            before[c] = get(shared + c * 64);
        for (unsigned k = 0; k < 20; k++)
            arch_relax();
        for (unsigned c = 1; c < CPUS; c++)
            must(get(shared + c * 64) == before[c], "a store after protect");
        must(vm_protect(shared, PAGE_SIZE, RW) == 0, "protect");
        atomic_store(&is_protected, false);
        for (unsigned k = 0; k < 20; k++)
            arch_relax();
    }
    atomic_store(&stop_storing, true);
}

static void protect_reaches_every_cpu(void **state)
{
    (void)state;
    shared = map(1, 0);
    put(shared, 1);
    real_fault = arch_hooks.fault;
    arch_hooks.fault = waiting_fault;
    atomic_store(&stop_storing, false);
    run_all(protect_while_others_store);
    arch_hooks.fault = real_fault;
    assert_true(atomic_load(&caught) > 0);
    unmap(shared, 1);
}

// ---- the same page first touched, and first stored to, by all at once ----

enum { TOUCHES = 200 };

static _Atomic uintptr_t touched;
static _Atomic unsigned arrived;

static void wait_for_all(unsigned round)
{
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) < round * CPUS)
        arch_relax();
}

static void touch_together(unsigned cpu)
{
    for (unsigned i = 0; i < TOUCHES; i++) {
        if (cpu == 0)
            atomic_store(&touched, map(2, i % 2 ? VM_SPARSE : 0));
        wait_for_all(3 * i + 1);
        uintptr_t va = atomic_load(&touched);

        if (i % 4 == 1)
            (void)get(va); // the zero frame, first
        atomic_fetch_add_explicit((_Atomic uint64_t *)va, cpu + 1,
                                  memory_order_relaxed);
        wait_for_all(3 * i + 2);
        must(get(va) == CPUS * (CPUS + 1) / 2, "a store was lost");
        wait_for_all(3 * i + 3);
        if (cpu == 0)
            unmap(va, 2);
    }
}

static void no_first_store_is_lost(void **state)
{
    (void)state;
    run_all(touch_together);
    mm_check();
    assert_int_equal(host_tlb_stale(), 0);
}

// ---- the last frames, wherever they are ----

enum { LAST_ROUNDS = 300, LAST = 40 };

static paddr_t blocks[RAM / PAGE_SIZE];
static unsigned orders[RAM / PAGE_SIZE], nblocks;

// Nothing is left in the buddy allocator.
static void drain(void)
{
    nblocks = 0;
    for (int k = FRAME_MAX_ORDER; k >= 0; k--) {
        for (paddr_t p; (p = frame_alloc((unsigned)k, FRAME_DIRTY)).raw != 0;) {
            blocks[nblocks] = p;
            orders[nblocks++] = (unsigned)k;
        }
    }
}

static void take_some(paddr_t *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        p[i] = frame_cache_take(FRAME_DIRTY);
        must(p[i].raw != 0, "a frame that is free is not found");
    }
}

static void give_some(paddr_t *p, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        frame_put(p[i]);
}

// The last frames are in the caches of the CPUs. All but one take some, and there
// are enough for them; the last has them go back to the buddy allocator.
static void take_the_last(unsigned cpu)
{
    paddr_t p[LAST];

    preempt_disable();
    for (unsigned i = 0; i < LAST_ROUNDS; i++) {
        take_some(p, LAST);
        give_some(p, LAST);
        wait_for_all(5 * i + 1);
        if (cpu == 0)
            drain();
        wait_for_all(5 * i + 2);
        unsigned share = (unsigned)frame_cache_stats().cached / CPUS;

        must(share > 0, "there are some");
        share = share < LAST ? share : LAST;
        wait_for_all(5 * i + 3);
        if (cpu == 0)
            frame_cache_flush();
        else
            take_some(p, share);
        wait_for_all(5 * i + 4);
        if (cpu != 0)
            give_some(p, share);
        while (cpu == 0 && nblocks-- > 0)
            frame_free(blocks[nblocks], orders[nblocks]);
        wait_for_all(5 * i + 5);
    }
    preempt_enable();
}

static void the_last_frames_are_found(void **state)
{
    (void)state;
    atomic_store(&arrived, 0);
    run_all(take_the_last);
    mm_check();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybodys_memory_keeps_its_contents),
        cmocka_unit_test(clones_are_of_one_moment),
        cmocka_unit_test(no_store_is_missed),
        cmocka_unit_test(protect_reaches_every_cpu),
        cmocka_unit_test(no_first_store_is_lost),
        cmocka_unit_test(the_last_frames_are_found),
    };

    return cmocka_run_group_tests_name("threads", tests, start, stop);
}
