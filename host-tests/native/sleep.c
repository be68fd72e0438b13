// Who sleeps or waits in a process with goroutines: from its first moment on, for ages,
// and on a thread that the program has made for itself, which has no goroutine to park.

#include "host-tests/guest/tap.h"

#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

// ---- from the first moment on ----

static struct gn_wg gate;

static void wait_at_gate(void *arg)
{
    (void)arg;
    gn_wg_wait(&gate);
}

// The cheap clock that says since when may be behind the start of the process.
static void an_early_wait_is_as_long_as_it_is(void)
{
    enum { MS = 20, NS_PER_MS = 1000000 };
    struct gn_go_info list[2];
    size_t n;

    gn_wg_add(&gate, 1);
    if (gn_go(wait_at_gate, NULL) != 0)
        abort();
    do {
        gn_yield();
        n = gn_go_list(list, 2);
    } while (n < 2 || list[1].waits_ns == 0);
    usleep(MS * 1000);
    gn_go_list(list, 2);
    ok(list[1].waits_ns >= MS * NS_PER_MS, "a wait is as long as it is");
    gn_wg_done(&gate);
}

// ---- for ages ----

static struct gn_wg begun;
static _Atomic unsigned woken;

static void sleep_for_ages(void *seconds)
{
    struct timespec t = {.tv_sec = *(const time_t *)seconds};

    gn_wg_done(&begun);
    nanosleep(&t, NULL);
    woken++;
}

// In nanoseconds these are more than 64 bits hold: in 64 bits they are 0, a little,
// and nearly all there is.
static void ages_are_not_over_soon(void)
{
    static const time_t ages[] = {(time_t)1 << 62, 18446744074, INT64_MAX};
    enum { AGES = sizeof ages / sizeof ages[0], YIELDS = 1000 };

    gn_wg_add(&begun, AGES);
    for (unsigned i = 0; i < AGES; i++) {
        if (gn_go(sleep_for_ages, (void *)&ages[i]) != 0)
            abort();
    }
    gn_wg_wait(&begun);
    for (unsigned i = 0; i < YIELDS; i++)
        gn_yield();
    IS(woken, 0, "who sleeps for ages is not woken");
}

// ---- threads ----

static void *sleep_a_little(void *arg)
{
    struct timespec t = {.tv_nsec = 1000}, wrong = {.tv_nsec = 1000000000};

    (void)arg;
    usleep(1);
    return (void *)(intptr_t)(nanosleep(&t, NULL) == 0 &&
                              nanosleep(&wrong, NULL) == -1 && errno == EINVAL);
}

static void threads_sleep_too(void)
{
    pthread_t t;
    void *right;

    if (pthread_create(&t, NULL, sleep_a_little, NULL) != 0 ||
        pthread_join(t, &right) != 0)
        abort();
    ok(right != NULL, "a thread of the program sleeps");
}

int main(void)
{
    an_early_wait_is_as_long_as_it_is();
    ages_are_not_over_soon();
    threads_sleep_too();
    return tap_end();
}
