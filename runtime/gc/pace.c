// See pace.h.
//
// All sizes are differences of collect_handed_out, the bytes of collected memory handed
// out since the start.
//
// Locks: what is written while the world is stopped is read anywhere; wait_lock protects
// the list of those that wait, whose records lie on their stacks.

#include "runtime/gc/pace.h"

#include <gneiss/gc.h>

#include "arch/option.h"
#include "mm/mm.h"
#include "runtime/gc/help.h"
#include "runtime/heap/memory.h"
#include "runtime/sched/sched.h"

enum {
    MIN_HEAP = 4 * MIB, // the least goal at 100 per cent
    MIN_SHARE = 16,     // but no more than this part of memory
    ASSIST = 32 * 1024, // bytes scanned by an assist
    PERCENT_MOST = 1000000,
};

static uint64_t percent_option = 100;
OPTION_UINT(opt_percent, "gc.percent", percent_option, 0, PERCENT_MOST,
            "per cent of live memory that is allocated between two collections "
            "(100)");

static _Atomic int percent = -2; // -2: as the option says, -1: none
static uint64_t live, goal;      // bytes
static uint64_t ended, began;    // collect_handed_out when the last one did
static uint64_t before;          // bytes of the heap when it began
static uint64_t runway;          // bytes before the goal
static _Atomic bool running;
static _Atomic uint64_t assist_from, assist_most; // of collect_handed_out

struct waiter {
    struct waiter *next;
    struct g *g;
};

static struct spinlock wait_lock;      // of goroutines
static struct waiter *_Atomic waiters; // [wait_lock] to change

static int percent_now(void)
{
    int p = atomic_load_explicit(&percent, memory_order_relaxed);

    return p == -2 ? (int)percent_option : p;
}

static uint64_t part(uint64_t n, int p)
{
    return n / 100 * (uint64_t)p;
}

// Bytes that can still be promised, idle pages of the heap among them.
static uint64_t memory_left(void)
{
    struct mm_commit c = mm_commit();
    uint64_t used = pages_stats.total - pages_stats.free;
    uint64_t idle =
        pages_stats.promised > used ? pages_stats.promised - used : 0;
    uint64_t more = c.limit > c.committed ? c.limit - c.committed : 0;

    more = more * PAGE_SIZE + idle * HEAP_PAGE;
    return pages_limit == UINT64_MAX || pages_limit < used
               ? more
               : min_u64(more, (pages_limit - used) * HEAP_PAGE);
}

static void set_trigger(void)
{
    int p = percent_now();

    if (p < 0) {
        goal = UINT64_MAX;
        atomic_store(&collect_at, UINT64_MAX);
        return;
    }
    uint64_t least = min_u64(MIN_HEAP, heap_memory_total() / MIN_SHARE);
    uint64_t room = part(live, p);

    if (live + room < part(least, p))
        room = part(least, p) - live;
    room = min_u64(room, memory_left() / 4 * 3);
    goal = live + room;
    // Never sooner than after a quarter of the room, nor later than seven eighths.
    uint64_t early = min_u64(max_u64(runway, room / 8), room / 4 * 3);

    atomic_store(&collect_at, ended + room - early);
}

void pace_init(void)
{
    set_trigger();
}

int gn_gc_percent(int p)
{
    int was = percent_now();

    atomic_store(&percent, p < 0 ? -1 : p < PERCENT_MOST ? p : PERCENT_MOST);
    set_trigger();
    return was;
}

uint64_t pace_begin(void)
{
    uint64_t now = atomic_load(&collect_handed_out), rest;
    uint64_t least = min_u64(MIN_HEAP, heap_memory_total() / MIN_SHARE) / 4;

    began = now;
    before = live + now - ended;
    rest = goal > before ? goal - before : 0;
    if (goal == UINT64_MAX)
        rest = before;
    rest = max_u64(rest, least);
    atomic_store(&assist_from, now + rest / 2);
    atomic_store(&assist_most, now + rest);
    atomic_store(&collect_at, UINT64_MAX);
    atomic_store(&running, true);
    return before;
}

void pace_end(uint64_t marked)
{
    ended = atomic_load(&collect_handed_out);
    uint64_t since = ended - began;

    atomic_store(&running, false);
    live = marked + since;
    // It follows a change half way.
    runway = (runway + since + since / 4) / 2;
    set_trigger();
}

void pace_report(struct gc_report *r)
{
    r->after = r->before + ended - began;
    r->live = live;
    r->goal = goal;
}

bool pace_is_late(void)
{
    return atomic_load_explicit(&waiters, memory_order_relaxed) != NULL;
}

// ---- assists ----

static void unlock(void *arg)
{
    (void)arg;
    spin_unlock(&wait_lock);
}

static void wait_for_end(void)
{
    struct waiter me = {.g = arch_current()};

    spin_lock(&wait_lock);
    if (!atomic_load(&running)) {
        spin_unlock(&wait_lock);
        return;
    }
    me.next = atomic_load(&waiters);
    atomic_store(&waiters, &me);
    g_park("GC assist wait", unlock, NULL);
}

void pace_let_go(void)
{
    spin_lock(&wait_lock);
    struct waiter *w = atomic_exchange(&waiters, NULL);

    spin_unlock(&wait_lock);
    while (w != NULL) {
        struct waiter *next = w->next;

        g_ready(w->g); // its record may be gone from here on
        w = next;
    }
}

void pace_assist(void)
{
    if (likely(!atomic_load_explicit(&running, memory_order_relaxed)))
        return;
    uint64_t now = atomic_load(&collect_handed_out);

    if (now < atomic_load(&assist_from))
        return;
    (void)help_mark(ASSIST);
    if (now >= atomic_load(&assist_most))
        wait_for_end();
}
