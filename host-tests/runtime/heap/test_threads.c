// sources: $(heap) host-tests/runtime/heap/blocks.c
// The heap on several CPUs at once, each a thread: blocks are freed and resized
// where they were not made (R17). Built with ASan and UBSan as the rest, and once
// more with TSan (host/threads-tsan).
//
// Rounds are counted, never timed. The blocks' bytes are stored plainly: who gets
// a block from another CPU, or memory that another has freed, must be ordered
// after its stores by the heap alone, and TSan looks whether it is.

#include "host-tests/support.h"

#include <stdatomic.h>

#include "host-tests/runtime/heap/blocks.h"
#include "host-tests/runtime/heap/heap_fixture.h"

enum { RAM = 64 * MIB, CPUS = 4 };

// ---- all CPUs at once ----

static void (*_Atomic job)(unsigned cpu);
static _Atomic unsigned job_number, done;

// What CPUs 1, 2 ... do for ever: the next job, when there is one.
static void cpu_main(void)
{
    heap_cpu_init();
    preempt_enable();
    for (unsigned last = 0;;) {
        while (atomic_load(&job_number) == last)
            arch_relax();
        last = atomic_load(&job_number);
        void (*fn)(unsigned) = atomic_load(&job);

        if (fn != NULL)
            fn(arch_cpu_id());
        atomic_fetch_add(&done, 1);
        if (fn == NULL)
            break;
    }
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

static uint64_t seed; // of a test, the same for all CPUs

static int start(void **state)
{
    (void)state;
    heap_machine(RAM);
    host_start_cpus(CPUS, cpu_main);
    seed = support_random();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    run_all(NULL);
    host_stop();
    return 0;
}

static uint64_t seed_of(unsigned cpu)
{
    return (seed ^ cpu * UINT64_C(0x9e3779b97f4a7c15)) | 1;
}

// What every CPU holds goes back; then nothing is left.
static void trim(unsigned cpu)
{
    (void)cpu;
    heap_trim();
}

static void assert_nothing_left(void)
{
    assert_int_equal(block_totals().number, 0);
    heap_check();
    run_all(trim);
    heap_trim(); // a span that two left at once goes now
    heap_check();
    assert_int_equal(pages_stats.free, pages_stats.total);
    assert_int_equal(pages_stats.promised, 0);
    assert_int_equal(host_tlb_stale(), 0);
}

// ---- a table of blocks that all work on ----

enum { SLOTS = 500, STEPS = 6000 };

static struct slot {
    _Atomic bool busy;
    struct block block; // whose CPU sets busy
} slots[SLOTS];

static void one_step(struct block *b, uint64_t *rnd)
{
    struct block_request r = block_some(block_random(rnd), 200000);
    uint64_t how = block_random(rnd) % 16;

    if (b->p == NULL)
        (void)block_new(b, r, block_random(rnd));
    else if (how < 4)
        (void)block_resize(b, r.n, block_random(rnd));
    else
        block_free(b);
}

static void churn(unsigned cpu)
{
    uint64_t rnd = seed_of(cpu);

    for (unsigned i = 0; i < STEPS; i++) {
        struct slot *s = &slots[block_random(&rnd) % SLOTS];

        if (!atomic_exchange_explicit(&s->busy, true, memory_order_acquire)) {
            one_step(&s->block, &rnd);
            atomic_store_explicit(&s->busy, false, memory_order_release);
        }
        if (i % 600 == 200 + cpu)
            heap_trim();
        if (i % 60 == cpu * 15)
            heap_check();
    }
}

static void free_slots(unsigned cpu)
{
    for (size_t i = cpu; i < SLOTS; i += CPUS)
        block_free(&slots[i].block);
}

static void blocks_of_all_keep_their_bytes(void **s)
{
    (void)s;
    run_all(churn);
    heap_check();
    run_all(free_slots);
    assert_nothing_left();
}

// ---- producers and consumers: each CPU frees what the one before made ----

enum { RING = 64, PASSED = 4000 };

static struct ring {
    _Atomic unsigned in, out;
    struct block blocks[RING];
} rings[CPUS];

static bool produce(struct ring *r, uint64_t *rnd, size_t most)
{
    unsigned in = atomic_load_explicit(&r->in, memory_order_relaxed);

    if (in - atomic_load_explicit(&r->out, memory_order_acquire) == RING)
        return false;
    struct block_request q = block_some(block_random(rnd), most);

    MUST(block_new(&r->blocks[in % RING], q, block_random(rnd)));
    atomic_store_explicit(&r->in, in + 1, memory_order_release);
    return true;
}

static bool consume(struct ring *r)
{
    unsigned out = atomic_load_explicit(&r->out, memory_order_relaxed);

    if (atomic_load_explicit(&r->in, memory_order_acquire) == out)
        return false;
    block_free(&r->blocks[out % RING]);
    atomic_store_explicit(&r->out, out + 1, memory_order_release);
    return true;
}

static void pass_on(unsigned cpu)
{
    uint64_t rnd = seed_of(cpu);
    struct ring *to = &rings[cpu], *from = &rings[(cpu + 1) % CPUS];

    for (unsigned made = 0, freed = 0; made < PASSED || freed < PASSED;) {
        bool some = made < PASSED && produce(to, &rnd, 3000);

        made += some;
        while (freed < PASSED && consume(from)) {
            freed++;
            some = true;
        }
        if (!some)
            arch_relax();
    }
}

static void what_is_made_here_is_freed_there(void **s)
{
    (void)s;
    run_all(pass_on);
    assert_nothing_left();
}

// One makes, all others free; and the memory comes back to who makes: it does not
// grow with what is passed.
static void one_makes(unsigned cpu)
{
    uint64_t rnd = seed_of(0);

    if (cpu == 0) {
        for (unsigned n = 0; n < (CPUS - 1) * PASSED;) {
            bool some = false;

            for (unsigned c = 1; c < CPUS; c++) {
                if (n < (CPUS - 1) * PASSED && rings[c].in < PASSED &&
                    produce(&rings[c], &rnd, 800)) {
                    n++;
                    some = true;
                }
            }
            if (!some)
                arch_relax();
        }
        return;
    }
    for (unsigned freed = 0; freed < PASSED;) {
        if (consume(&rings[cpu]))
            freed++;
        else
            arch_relax();
    }
}

static void what_others_free_is_used_again(void **s)
{
    (void)s;
    for (unsigned c = 0; c < CPUS; c++)
        rings[c].in = rings[c].out = 0;
    run_all(one_makes);
    // All 12,000 would be 10 MiB and more; 192 live at a time.
    assert_true(pages_stats.promised * HEAP_PAGE < 5 * MIB);
    assert_nothing_left();
}

// ---- spans that change hands while others free into them ----

enum { ROUNDS = 60, MANY = 600 };

static struct block many[CPUS][MANY];
static _Atomic unsigned arrived;

static void wait_for_all(unsigned round)
{
    atomic_fetch_add(&arrived, 1);
    while (atomic_load(&arrived) < round * CPUS)
        arch_relax();
}

// The owners give their spans up just as all others free what is in them.
static void give_up(unsigned cpu)
{
    for (unsigned r = 0; r < ROUNDS; r++) {
        size_t n = 16 + (seed + r) % 40 * 16;

        for (size_t i = 0; i < MANY; i++) {
            struct block_request q = {n, 16, HEAP_MANUAL, false};

            MUST(block_new(&many[cpu][i], q, i));
        }
        wait_for_all(2 * r + 1);
        for (size_t i = 0; i < MANY; i++) {
            if (i % 200 == cpu * 50)
                heap_trim();
            // Of each CPU's blocks a quarter, every CPU another one.
            if (i % CPUS == cpu) {
                for (unsigned c = 0; c < CPUS; c++)
                    block_free(&many[c][i]);
            }
        }
        wait_for_all(2 * r + 2);
    }
}

static void spans_may_be_given_up_at_any_moment(void **s)
{
    (void)s;
    run_all(give_up);
    assert_nothing_left();
}

// ---- crimes ----

static void *crime;

static void free_twice(unsigned cpu)
{
    if (cpu != 1)
        return;
    heap_free(crime);
    assert_panics("freed already", heap_free(crime));
}

static void a_second_free_from_elsewhere_is_found(void **s)
{
    (void)s;
    crime = heap_malloc(100);
    run_all(free_twice);
    // One was good. It is found by who owns the span too, freed by both.
    void *p = heap_malloc(100);

    heap_free(p);
    assert_nothing_left();
}

static void free_there(unsigned cpu)
{
    if (cpu == 1)
        heap_free(crime);
}

// The owner frees what another has freed and the owner does not know of yet. The
// bits tell when it takes over what came; the span stays damaged, so this is last.
static void a_second_free_by_the_owner_is_found(void **s)
{
    (void)s;
    crime = heap_malloc(100);
    run_all(free_there);
    heap_free(crime);
    assert_panics("freed twice, on two CPUs", heap_trim());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_all_keep_their_bytes),
        cmocka_unit_test(what_is_made_here_is_freed_there),
        cmocka_unit_test(what_others_free_is_used_again),
        cmocka_unit_test(spans_may_be_given_up_at_any_moment),
        cmocka_unit_test(a_second_free_from_elsewhere_is_found),
        cmocka_unit_test(a_second_free_by_the_owner_is_found),
    };

    return cmocka_run_group_tests_name("heap threads", tests, start, stop);
}
