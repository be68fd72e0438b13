// sources: $(mm) $(patsubst %,runtime/sync/%.c,cond mutex rwmutex sema wg)
// What waits for each other on several CPUs at once, each a thread that is a goroutine:
// what is protected is stored plainly. Built with ASan and UBSan as the rest, and once
// more with TSan (host/threads-tsan): what one does before an unlock is seen after the
// lock of another, and no two have it at the same time.
//
// Turns are counted, never timed.

#include "host-tests/support.h"

#include <semaphore.h>
#include <stdatomic.h>
#include <string.h>

#include "host-tests/mm/mm_fixture.h"
#include "runtime/panic/panic.h"
#include "runtime/debug/debug.h"
#include "runtime/sched/sched.h"
#include "runtime/sync/sync.h"

enum { RAM = 16 * MIB, CPUS = 4, TURNS = 5000 };

// ---- a scheduler: parked is who waits for a semaphore of Linux ----

struct g {
    sem_t woken;
};

static struct g gs[CPUS];
bool gn_one_cpu_;

struct g *g_current(void)
{
    return &gs[arch_cpu_id()];
}

void g_park(const char *why, void (*unlock)(void *), void *arg)
{
    struct g *g = g_current();

    (void)why;
    preempt_disable();
    unlock(arg);
    preempt_enable();
    while (sem_wait(&g->woken) != 0)
        ;
}

void g_ready(struct g *g)
{
    sem_post(&g->woken);
}

void g_yield(void)
{
    preempt_disable();
    arch_relax();
    preempt_enable();
}

bool sched_may_spin(void)
{
    return true;
}

void panic_go(const char *text)
{
    panic("%s", text);
}

void panic_status(int status, const char *what)
{
    panic("%d: %s", status, what);
}

// ---- what each CPU does ----

static struct gn_mutex mutex;
static struct gn_rwmutex rw;
static struct gn_sem sem = GN_SEM(3);
static struct gn_mutex ring_mutex;
static struct gn_cond room, values;
static struct gn_wg start_all, all[TURNS / 100];

// Plain, all of them.
static uint64_t by_mutex, by_try, by_rw[2], by_sem, by_wg[CPUS];
static unsigned ring[8], ring_n;
static uint64_t ring_sum;
static _Atomic uint64_t wrong, tried;

static void with_mutex(uint64_t turn)
{
    if (turn % 3 != 0) {
        gn_mutex_lock(&mutex);
        by_mutex++;
        gn_mutex_unlock(&mutex);
    } else if (gn_mutex_try_lock(&mutex)) {
        by_try++;
        gn_mutex_unlock(&mutex);
        atomic_fetch_add_explicit(&tried, 1, memory_order_relaxed);
    }
}

static bool rlock(uint64_t turn)
{
    if (turn % 8 == 3)
        return gn_rwmutex_try_rlock(&rw);
    gn_rwmutex_rlock(&rw);
    return true;
}

static void with_rwmutex(uint64_t turn, unsigned cpu)
{
    if (turn % 4 == cpu) {
        if (turn % 8 < 4)
            gn_rwmutex_lock(&rw);
        else if (!gn_rwmutex_try_lock(&rw))
            return;
        by_rw[0]++;
        by_rw[1]++;
        gn_rwmutex_unlock(&rw);
    } else if (rlock(turn)) {
        if (by_rw[0] != by_rw[1])
            atomic_fetch_add(&wrong, 1);
        gn_rwmutex_runlock(&rw);
    }
}

static void with_semaphore(uint64_t turn)
{
    if (turn % 4 == 0) {
        gn_sem_acquire(&sem, 3);
        by_sem++;
        gn_sem_release(&sem, 3);
    } else if (turn % 4 == 1) {
        if (gn_sem_try_acquire(&sem, 1))
            gn_sem_release(&sem, 1);
    } else {
        gn_sem_acquire(&sem, 2);
        volatile uint64_t seen = by_sem;

        (void)seen;
        gn_sem_release(&sem, 2);
    }
}

static void put(unsigned v)
{
    gn_mutex_lock(&ring_mutex);
    while (ring_n == ARRAY_LEN(ring))
        gn_cond_wait(&room, &ring_mutex);
    ring[ring_n++] = v;
    gn_cond_signal(&values);
    gn_mutex_unlock(&ring_mutex);
}

static void get(void)
{
    gn_mutex_lock(&ring_mutex);
    while (ring_n == 0)
        gn_cond_wait(&values, &ring_mutex);
    ring_sum += ring[--ring_n];
    gn_mutex_unlock(&ring_mutex);
    gn_cond_broadcast(&room); // without the mutex: that is allowed
}

// Each has its turn, then all look at what all have done.
static void with_group(unsigned cpu, uint64_t round)
{
    by_wg[cpu] = round;
    gn_wg_done(&all[round]);
    gn_wg_wait(&all[round]);
    for (unsigned i = 0; i < CPUS; i++) {
        if (by_wg[i] != round)
            atomic_fetch_add(&wrong, 1);
    }
}

static void work(unsigned cpu)
{
    for (uint64_t turn = 0; turn < TURNS; turn++) {
        with_mutex(turn);
        with_rwmutex(turn, cpu);
        with_semaphore(turn + cpu);
        if (cpu % 2 == 0)
            put(1);
        else
            get();
        // Twice: nobody changes by_wg before all have looked.
        if (turn % 200 == 199) {
            with_group(cpu, turn / 200 * 2);
            gn_wg_done(&all[turn / 200 * 2 + 1]);
            gn_wg_wait(&all[turn / 200 * 2 + 1]);
        }
    }
}

static struct gn_wg ended;

static void cpu_main(void)
{
    gn_wg_wait(&start_all);
    work(arch_cpu_id());
    gn_wg_done(&ended);
}

static int start(void **state)
{
    (void)state;
    return mm_fixture(RAM) != NULL;
}

MM_STOP

static void each_sees_what_was_done_before(void **state)
{
    (void)state;
    for (unsigned i = 0; i < CPUS; i++)
        assert_int_equal(sem_init(&gs[i].woken, 0, 0), 0);
    gn_wg_add(&start_all, 1);
    gn_wg_add(&ended, CPUS - 1);
    for (unsigned i = 0; i < ARRAY_LEN(all); i++)
        gn_wg_add(&all[i], CPUS);
    host_start_cpus(CPUS, cpu_main);
    gn_wg_done(&start_all);
    work(0);
    gn_wg_wait(&ended);
    assert_int_equal(by_mutex, CPUS * (TURNS - (TURNS + 2) / 3));
    assert_int_equal(by_try, tried);
    assert_int_equal(by_rw[0], by_rw[1]);
    assert_int_equal(by_sem, CPUS * TURNS / 4);
    assert_int_equal(ring_sum, CPUS / 2 * TURNS);
    assert_int_equal(wrong, 0);
    assert_int_equal(mutex.state_, 0);
    assert_int_equal(ring_mutex.state_, 0);
    assert_null(room.last_);
    assert_int_equal(rw.readers_, 0);
    assert_int_equal(sem.used_, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_sees_what_was_done_before)};

    return cmocka_run_group_tests(tests, start, stop);
}
