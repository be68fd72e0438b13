// sources: $(mm) runtime/sched/queue.c
// Run queues on several CPUs at once, each a thread: whatever is put in comes out
// once, whoever takes it. Built with ASan and UBSan as the rest, and once more with
// TSan (host/threads-tsan): what one CPU stores to a goroutine before it puts it is
// seen by who takes it.
//
// Turns are counted, never timed.

#include "host-tests/support.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "host-tests/mm/mm_fixture.h"
#include "runtime/sched/g_impl.h"
#include "runtime/sched/queue.h"

enum { RAM = 16 * MIB, CPUS = 4, MANY = 700, TURNS = 30000 };

static struct runq queue[CPUS];
static struct g gs[MANY]; // since counts the turns of each, stored plainly
static _Atomic uint64_t turns, wrong;
static _Atomic unsigned done;
static _Atomic bool go;

// One from anywhere, as the scheduler looks; a turn's number says in which order.
static struct g *take(unsigned cpu, uint64_t turn, uint64_t *rng)
{
    struct g *g = NULL;
    bool inherit;

    if (turn % 61 == 0)
        g = globq_get(&queue[cpu], CPUS, 1);
    if (g == NULL)
        g = runq_get(&queue[cpu], &inherit);
    if (g == NULL)
        g = globq_get(&queue[cpu], CPUS, UINT32_MAX);
    for (unsigned i = 0; g == NULL && i < CPUS; i++) {
        *rng = *rng * 6364136223846793005 + 1442695040888963407;
        unsigned from = (unsigned)(*rng >> 33) % CPUS;

        if (from != cpu)
            g = runq_steal(&queue[cpu], &queue[from], i == CPUS - 1);
    }
    return g;
}

static void work(unsigned cpu)
{
    uint64_t rng = cpu + 1;

    // All relaxed here: nothing but the queues orders what two CPUs do.
    for (uint64_t turn = 1;
         atomic_load_explicit(&turns, memory_order_relaxed) < TURNS; turn++) {
        struct g *g = take(cpu, turn, &rng);

        if (g == NULL) {
            arch_relax();
            continue;
        }
        // Nobody else has it.
        uint8_t was = atomic_exchange_explicit(&g->state, G_RUNNING,
                                               memory_order_relaxed);

        if (was != G_READY)
            atomic_fetch_add(&wrong, 1);
        g->since++;
        atomic_fetch_add_explicit(&turns, 1, memory_order_relaxed);
        atomic_store_explicit(&g->state, G_READY, memory_order_relaxed);
        rng = rng * 6364136223846793005 + 1442695040888963407;
        switch (rng >> 60) {
        case 0:
            globq_put(g, g, 1);
            break;
        case 1:
        case 2:
            runq_put(&queue[cpu], g, true);
            break;
        default:
            runq_put(&queue[cpu], g, false);
        }
    }
}

static void cpu_main(void)
{
    while (!atomic_load(&go))
        arch_relax();
    work(arch_cpu_id());
    atomic_fetch_add(&done, 1);
}

static int start(void **state)
{
    (void)state;
    return mm_fixture(RAM) != NULL;
}

MM_STOP

static void what_is_put_in_comes_out_once(void **state)
{
    uint64_t sum = 0, left = 0, rng = 9;
    struct g *g;

    (void)state;
    host_start_cpus(CPUS, cpu_main);
    preempt_disable();
    for (unsigned i = 0; i < MANY; i++) {
        gs[i].state = G_READY;
        runq_put(&queue[0], &gs[i], false); // more than a ring holds
    }
    atomic_store(&go, true);
    work(0);
    while (atomic_load(&done) != CPUS - 1)
        arch_relax();
    // All are somewhere, each in one place.
    for (unsigned cpu = 0; cpu < CPUS; cpu++) {
        bool inherit;

        while ((g = runq_get(&queue[cpu], &inherit)) != NULL)
            left += atomic_exchange(&g->state, G_PARKED) == G_READY;
        assert_false(runq_has(&queue[cpu]));
    }
    while ((g = take(0, 1, &rng)) != NULL)
        left += atomic_exchange(&g->state, G_PARKED) == G_READY;
    assert_int_equal(left, MANY);
    assert_false(globq_has());
    for (unsigned i = 0; i < MANY; i++)
        sum += gs[i].since;
    assert_int_equal(sum, turns);
    assert_int_equal(wrong, 0);
    preempt_enable();
}

// The order of one CPU alone: first of all, then as they came; every 61st time the
// common list.
static void the_order_is_as_documented(void **state)
{
    static struct runq q;
    bool inherit;

    (void)state;
    preempt_disable();
    assert_false(runq_has(&q));
    assert_null(runq_get(&q, &inherit));
    runq_put(&q, &gs[0], false);
    runq_put(&q, &gs[1], false);
    runq_put(&q, &gs[2], true);
    runq_put(&q, &gs[3], true); // gs[2] goes to the end
    assert_ptr_equal(runq_get(&q, &inherit), &gs[3]);
    assert_true(inherit);
    assert_ptr_equal(runq_get(&q, &inherit), &gs[0]);
    assert_false(inherit);
    assert_ptr_equal(runq_get(&q, &inherit), &gs[1]);
    assert_ptr_equal(runq_get(&q, &inherit), &gs[2]);
    assert_null(runq_get(&q, &inherit));
    preempt_enable();
}

static void half_is_stolen_and_the_next_at_last(void **state)
{
    static struct runq q, thief;
    bool inherit;
    unsigned n = 0;

    (void)state;
    preempt_disable();
    for (unsigned i = 0; i < 9; i++)
        runq_put(&q, &gs[i], false);
    runq_put(&q, &gs[9], true);
    // 5 of 9: one at once, 4 in the queue.
    assert_ptr_equal(runq_steal(&thief, &q, false), &gs[4]);
    while (runq_get(&thief, &inherit) != NULL)
        n++;
    assert_int_equal(n, 4);
    while (runq_steal(&thief, &q, false) != NULL) {
        while (runq_get(&thief, &inherit) != NULL)
            ;
    }
    assert_true(runq_has(&q));
    assert_ptr_equal(runq_steal(&thief, &q, true), &gs[9]);
    assert_false(runq_has(&q));
    preempt_enable();
}

static void a_full_ring_spills_in_order(void **state)
{
    static struct runq q;
    bool inherit;

    (void)state;
    preempt_disable();
    for (unsigned i = 0; i < RUNQ_SIZE + 1; i++)
        runq_put(&q, &gs[i], false);
    assert_true(globq_has());
    assert_ptr_equal(runq_get(&q, &inherit), &gs[RUNQ_SIZE / 4]);
    for (unsigned i = RUNQ_SIZE / 4 + 1; i < RUNQ_SIZE; i++)
        assert_ptr_equal(runq_get(&q, &inherit), &gs[i]);
    assert_null(runq_get(&q, &inherit));
    // A fair share of one of two CPUs, and at most what is asked for.
    assert_ptr_equal(globq_get(&q, 2, 3), &gs[0]);
    assert_ptr_equal(runq_get(&q, &inherit), &gs[1]);
    assert_ptr_equal(runq_get(&q, &inherit), &gs[2]);
    assert_null(runq_get(&q, &inherit));
    unsigned n = 0;

    while (globq_get(&q, 1, 1) != NULL)
        n++;
    assert_int_equal(n, RUNQ_SIZE / 4 + 1 - 3);
    preempt_enable();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_order_is_as_documented),
        cmocka_unit_test(half_is_stolen_and_the_next_at_last),
        cmocka_unit_test(a_full_ring_spills_in_order),
        cmocka_unit_test(what_is_put_in_comes_out_once),
    };

    return cmocka_run_group_tests_name("run queues", tests, start, stop);
}
