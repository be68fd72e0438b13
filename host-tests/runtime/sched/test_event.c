// sources: runtime/sched/event.c $(host)
// No wake-up is lost between a wait and an interrupt, in whatever order the steps of
// the two fall: two threads, many times, the scheduler being what stands here.

#include "host-tests/support.h"

#include <pthread.h>
#include <sched.h>

#include "runtime/sched/event.h"
#include "runtime/sched/sched.h"

enum { ROUNDS = 300000 };

static char me; // stands for the one goroutine
static struct event event;
static _Atomic unsigned woken, happened, round_of_handler;

struct g *g_current(void)
{
    return (struct g *)&me;
}

void g_ready(struct g *g)
{
    assert_ptr_equal(g, &me);
    atomic_fetch_add(&woken, 1);
}

void sched_await_interrupt(int n)
{
    (void)n;
}

void g_ready_from_interrupt(struct g *g)
{
    g_ready(g);
}

static void pause_a_little(unsigned n)
{
    for (unsigned i = 0; i < n % 32; i++)
        arch_pause();
}

// Returns when it is woken; never, if the interrupt is over and did not do it.
void g_park(const char *why, void (*unlock)(void *), void *arg)
{
    unsigned before = atomic_load(&woken);

    assert_string_equal(why, "IO wait");
    unlock(arg);
    while (atomic_load(&woken) == before) {
        bool over = atomic_load(&happened) == atomic_load(&round_of_handler);

        if (over && atomic_load(&woken) == before)
            fail_msg("a wake-up was lost");
        sched_yield();
    }
}

static void *handler(void *arg)
{
    (void)arg;
    for (unsigned i = 1; i <= ROUNDS; i++) {
        while (atomic_load(&round_of_handler) != i)
            sched_yield();
        pause_a_little(i * 7);
        event_happened(&event);
        atomic_store(&happened, i);
    }
    return NULL;
}

static void no_wakeup_is_lost(void **state)
{
    pthread_t t;
    unsigned parked = 0;

    (void)state;
    assert_int_equal(pthread_create(&t, NULL, handler, NULL), 0);
    for (unsigned i = 1; i <= ROUNDS; i++) {
        unsigned before = atomic_load(&woken);

        atomic_store(&round_of_handler, i);
        pause_a_little(i * 5);
        event_wait(&event, "IO wait");
        parked += atomic_load(&woken) != before;
        while (atomic_load(&happened) != i)
            sched_yield();
        assert_null(atomic_load(&event.waiter));
        assert_false(atomic_load(&event.happened));
    }
    pthread_join(t, NULL);
    print_message("%u of %u waits parked\n", parked, ROUNDS);
}

static void what_was_before_counts(void **state)
{
    (void)state;
    event_happened(&event);
    event_happened(&event);
    event_wait(&event, "IO wait");
    assert_false(atomic_load(&event.happened));
    assert_int_equal(atomic_load(&woken), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_before_counts),
        cmocka_unit_test(no_wakeup_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
