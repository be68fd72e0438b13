// All goroutines: what they wait for, how long, and where.
//
// Takes no lock and stops nobody: a report shows what it finds. A goroutine that
// goes on meanwhile gives a backtrace that ends early, not a fault: only memory
// that is mapped is read.

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
    uintptr_t pc, fp;
    uint64_t minutes = (arch_mono_ns() - g->since) / NS_PER_MINUTE;

    fmt_err("\ngoroutine %lu [%s", (unsigned long)g->id, g_state_name(g));
    if (g->state == G_PARKED && g->since != 0 && minutes > 0)
        fmt_err(", %lu minutes", (unsigned long)minutes);
    fmt_err("]: %s\n", g->name);
    if (g->state != G_RUNNING && arch_ctx_where(&g->ctx, mm_readable, &pc, &fp))
        backtrace_print(pc, 0, fp);
}

void dump_goroutines(const struct g *but)
{
    struct g *g;
    unsigned n = 0;

    for (size_t i = 0; (g = stack_nth(i)) != NULL; i++) {
        if (g == but || g->state == G_FREE || g->id == 0)
            continue;
        if (n++ < MOST)
            print_one(g);
    }
    if (n > MOST)
        fmt_err("\n... and %u goroutines more\n", n - MOST);
}

static uint64_t dump_again(uint64_t now)
{
    fmt_err("\n%lu goroutines, %lu s after boot:\n", (unsigned long)g_count(),
            (unsigned long)(now / NS_PER_S));
    dump_goroutines(NULL);
    return now + every_s * NS_PER_S;
}

void dump_init(void)
{
    static struct sched_timer timer = {.fn = dump_again};

    if (every_s > 0)
        sched_timer_set(&timer, arch_mono_ns() + every_s * NS_PER_S);
}
