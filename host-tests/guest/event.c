// A driver's interrupt wakes the goroutine that waits for it (event.h, R8): from any
// CPU, at any moment, before, while and after it parks.
//
// usage: event [ROUNDS]

#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

#include "arch/arch.h"
#include "runtime/sched/event.h"
#include "runtime/sched/sched.h"

// A device that counts: each interrupt has one thing more to fetch.
struct device {
    struct event event;
    _Atomic uint64_t there;
    uint64_t fetched, wakes, in_vain; // [driver]
    uint64_t wanted;
    struct gn_wg *done;
};

static void driver(void *arg)
{
    struct device *d = arg;

    while (d->fetched < d->wanted) {
        uint64_t there = atomic_load(&d->there);

        if (there == d->fetched) {
            event_wait(&d->event, "IO wait");
            d->wakes++;
            d->in_vain += atomic_load(&d->there) == d->fetched;
        }
        d->fetched = atomic_load(&d->there);
    }
    gn_wg_done(d->done);
}

static unsigned handler_cpu;

// In interrupt context of every other CPU: of one of them it is the device's.
static IRQ_FN void handler(void *arg)
{
    struct device *d = arg;

    if (arch_cpu_id() != handler_cpu)
        return;
    atomic_fetch_add(&d->there, 1);
    event_happened(&d->event);
}

// What an interrupt does, where there is only this CPU.
static void interrupt_here(struct device *d)
{
    preempt_disable();
    atomic_fetch_add(&d->there, 1);
    event_happened(&d->event);
    preempt_enable();
}

// Some work of random length: the interrupt comes anywhere in the driver's loop.
static void wait_a_while(void)
{
    uint64_t n = arch_random() % 400;

    for (volatile uint64_t i = 0; i < n; i++)
        ;
    if (n % 8 == 0)
        gn_yield();
}

static void nothing_is_lost(unsigned rounds, bool every_time)
{
    struct gn_wg done = {0};
    struct device d = {.wanted = rounds, .done = &done};
    unsigned ncpus = gn_cpu_count();

    gn_wg_add(&done, 1);
    if (gn_go(driver, &d) != 0)
        abort();
    for (unsigned i = 0; i < rounds; i++) {
        wait_a_while();
        if (ncpus == 1) {
            interrupt_here(&d);
        } else {
            preempt_disable(); // so that we know which are the others
            handler_cpu = (arch_cpu_id() + 1 + i % (ncpus - 1)) % ncpus;
            arch_call_others(handler, &d);
            preempt_enable();
        }
        // Each by itself: a wake-up that is lost is not made good by the next.
        while (every_time && *(volatile uint64_t *)&d.fetched <= i)
            gn_yield();
    }
    gn_wg_wait(&done);
    ok(d.fetched == rounds, "all is fetched, %lu wake-ups", (long)d.wakes);
    ok(d.in_vain <= d.wakes / 2 + 1, "%lu of them in vain", (long)d.in_vain);
}

static void what_was_before_counts(void)
{
    struct device d = {.wanted = 1};
    struct gn_wg done = {0};

    d.done = &done;
    for (unsigned i = 0; i < 3; i++)
        interrupt_here(&d);
    event_wait(&d.event, "IO wait");
    ok(true, "a wait for what has happened returns at once");
    ok(!atomic_load(&d.event.happened), "and three are one");
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 5000;

    what_was_before_counts();
    nothing_is_lost(rounds, true);
    nothing_is_lost(rounds, false);
    return tap_end();
}
