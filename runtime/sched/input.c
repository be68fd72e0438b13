// Console input for goroutines, by the drivers' interface of event.h.

#include "runtime/sched/input.h"

#include "runtime/sched/event.h"
#include "runtime/sched/sched.h"

static struct event arrived;
static _Atomic bool busy; // a goroutine is in arch_console_read

static void on_input(void)
{
    event_happened(&arrived);
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
        event_wait(&arrived, "IO wait");
    atomic_store(&busy, false);
    return got < 0 ? 0 : got;
}
