// Waiting for console input: the model of a driver that wakes a goroutine.
//
// The interrupt handler may only push a goroutine on the wake list (R8). The
// reader publishes itself after it has left its stack, and then looks whether
// the interrupt came before: `arrived` and `reader` are exchanged in opposite
// order on the two sides, so one of them sees the other.

#include "runtime/sched/input.h"

#include <stdatomic.h>

#include "runtime/sched/sched.h"

static struct g *_Atomic reader; // parked and findable by the interrupt
static _Atomic bool arrived;     // an interrupt came while none was
static _Atomic bool busy;        // a goroutine is in arch_console_read

static void on_input(void)
{
    struct g *g = atomic_exchange(&reader, NULL);

    if (g != NULL)
        g_ready_from_interrupt(g);
    else
        atomic_store(&arrived, true);
}

static void publish(void *g)
{
    atomic_store(&reader, (struct g *)g);
    if (atomic_exchange(&arrived, false)) {
        g = atomic_exchange(&reader, NULL);
        if (g != NULL)
            g_ready(g);
    }
}

void input_init(void)
{
    arch_console_on_input(on_input);
}

ssize_t input_read(void *p, size_t n)
{
    int got;

    // Readers take turns by yielding: more than one is rare, and the one that
    // waits for the console sleeps.
    while (atomic_exchange(&busy, true))
        g_sleep_until(arch_mono_ns() + 1000 * 1000);
    while ((got = arch_console_read(p, n)) == 0)
        g_park("IO wait", publish, g_current());
    atomic_store(&busy, false);
    return got < 0 ? 0 : got;
}
