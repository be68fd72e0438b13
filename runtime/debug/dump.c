// All goroutines: what they wait for, how long, and where.
//
// Asked for by a key or by the clock, a goroutine made for that stops the world and
// prints, so that those that run are seen where they stand. In a panic, when there
// is no memory for it, or when it is asked again because the world does not stop,
// nobody is stopped and no lock is taken: a goroutine that goes on meanwhile gives a
// backtrace that ends early, not a fault, since only mapped memory is read.

#include "arch/fmt.h"
#include "arch/option.h"
#include "mm/mm.h"
#include "runtime/debug/debug.h"
#include "runtime/sched/g_impl.h"
#include "runtime/stack/stack.h"

enum { MOST = 100 }; // goroutines that are shown

#define NS_PER_S      UINT64_C(1000000000)
#define NS_PER_MINUTE (60 * NS_PER_S)

static uint64_t every_s;
OPTION_UINT(opt_dump, "sched.dump", every_s, 0, 1000000,
            "print all goroutines every N seconds (0: never)");

static void print_one(const struct g *g)
{
    struct backtrace_place b;
    uint64_t minutes = g_waits_ns(g) / NS_PER_MINUTE;

    fmt_err("\ngoroutine %lu [%s", (unsigned long)g->id, g_state_name(g));
    if (minutes > 0)
        fmt_err(", %lu minutes", (unsigned long)minutes);
    fmt_err("]: %s\n", g->name);
    if (g->state != G_RUNNING && backtrace_where(&g->ctx, &b))
        backtrace_print(b.pc, b.ret, b.fp);
}

void dump_goroutines(const struct g *but)
{
    struct g *g;
    unsigned n = 0;

    for (size_t i = 0; (g = stack_nth(i)) != NULL; i++) {
        if (g == but || g->state == G_FREE || g->id == 0 || g->hidden)
            continue;
        if (n++ < MOST)
            print_one(g);
    }
    if (n > MOST)
        fmt_err("\n... and %u goroutines more\n", n - MOST);
}

static _Atomic bool wanted; // by an interrupt
static _Atomic bool busy;   // one is on its way

// but: who prints, or NULL.
static void print_all(void *but)
{
    fmt_err("\n%lu goroutines, %lu s after boot:\n",
            (unsigned long)(g_count() - (but != NULL)),
            (unsigned long)(arch_mono_ns() / NS_PER_S));
    dump_goroutines(but);
}

static void stop_and_print(void *arg)
{
    (void)arg;
    (void)sched_stop_world(print_all, g_current());
    atomic_store(&busy, false);
}

static void dump(void)
{
    bool again = atomic_exchange(&busy, true);
    struct g *g =
        again ? NULL : g_create(stop_and_print, NULL, "dump", G_ANY_CPU);

    if (g != NULL) {
        g_ready(g);
        return;
    }
    print_all(NULL);
    if (!again)
        atomic_store(&busy, false);
}

// In interrupt context.
static void on_key(void)
{
    atomic_store(&wanted, true);
    preempt_set_pending();
}

void dump_serve(void)
{
    if (atomic_load_explicit(&wanted, memory_order_relaxed) &&
        atomic_exchange(&wanted, false))
        dump();
}

static uint64_t dump_again(uint64_t now)
{
    dump();
    return now + every_s * NS_PER_S;
}

void dump_init(void)
{
    static struct sched_timer timer = {.fn = dump_again, .wakes_nobody = true};

    arch_console_on_key(on_key);
    if (every_s > 0)
        sched_timer_set(&timer, arch_mono_ns() + every_s * NS_PER_S);
}
