// Taking the CPU from who runs: slices, and what is kept of an interrupted
// goroutine.
//
// Nothing is counted at a switch. While others wait, the timer goes off once a
// slice; if no goroutine was begun since the last time, who runs has had a slice
// at least, and goes to the end of the queue.
//
// Who leaves by a call keeps little: the rest is on its stack. Who is interrupted
// keeps all registers in an area, which is taken on first need and given back when
// it next leaves by a call. Without memory for one it goes on; but a stop of the
// world uses one that each CPU has for that, whose owner is the next to run.
//
// Source: Go's sysmon (retake) for slices, src/runtime/proc.go.

#include "arch/option.h"
#include "mm/mm.h"
#include "runtime/sched/p.h"

enum { NS_PER_MS = 1000000, STRESS_NS = 50000 };

static uint64_t slice_ms = 10;
static bool stress;
OPTION_UINT(opt_slice, "sched.slice", slice_ms, 1, 10000,
            "milliseconds that a goroutine runs while others wait (10)");

static const char *set_stress(const char *s)
{
    static const char name[] = "preempt";
    size_t i = 0;

    while (s[i] == name[i] && s[i] != '\0')
        i++;
    stress = i == sizeof name - 1 && s[i] == '\0';
    return stress ? NULL : "preempt: goroutines are preempted at random times";
}

OPTION_CALL(opt_stress, "stress", set_stress,
            "preempt: goroutines are preempted at random times");

struct full_area {
    struct full_area *next;
};

_Atomic uint64_t preempt_frames;

// ---- slices ----

void slice_watch(struct p *p)
{
    if (p->slice_end != UINT64_MAX)
        return;
    p->slice_end = arch_mono_ns() +
                   (stress ? arch_random() % STRESS_NS : slice_ms * NS_PER_MS);
    p->picks_then = p->picks;
    time_arm(p, 0);
}

uint64_t slice_ns(void)
{
    return slice_ms * NS_PER_MS;
}

bool slice_always(void)
{
    return stress;
}

bool slice_is_over(struct p *p, uint64_t now)
{
    if (now < p->slice_end)
        return false;
    bool work = sched_has_work(p);
    bool over = stress || (work && p->picks == p->picks_then);

    p->slice_end = UINT64_MAX;
    if (work)
        slice_watch(p);
    return over;
}

// ---- areas ----

// Cuts a block of frames into areas. They stay areas.
static void more_areas(struct p *p)
{
    size_t size = arch_full_size();
    unsigned order = 0;

    while ((size_t)PAGE_SIZE << order < size)
        order++;
    if (!mm_charge(UINT64_C(1) << order))
        return;
    paddr_t frames = frame_alloc(order, FRAME_ZERO);

    if (frames.raw == 0) {
        mm_uncharge(UINT64_C(1) << order);
        return;
    }
    atomic_fetch_add_explicit(&preempt_frames, UINT64_C(1) << order,
                              memory_order_relaxed);
    char *at = arch_direct(frames), *end = at + ((size_t)PAGE_SIZE << order);

    for (; at + size <= end; at += size) {
        struct full_area *a = (struct full_area *)at;

        a->next = p->areas;
        p->areas = a;
    }
}

static void *take_area(struct p *p)
{
    if (p->areas == NULL)
        more_areas(p);
    struct full_area *a = p->areas;

    if (a != NULL) {
        p->areas = a->next;
        a->next = NULL;
    }
    return a;
}

void preempt_init(struct p *p)
{
    size_t rest = align_up(sizeof *p, 64);

    p->slice_end = UINT64_MAX;
    // Behind p in its page, if there is room.
    p->stop_area =
        rest + arch_full_size() <= PAGE_SIZE ? (char *)p + rest : take_area(p);
    // The first ones where there is plenty: later their frame could lie in what
    // was about to become a large block.
    if (p->areas == NULL && frame_stats().total > 64 * MIB / PAGE_SIZE)
        more_areas(p);
    if (p->stop_area == NULL)
        panic("mm: no frame left during start-up: run with more MEM");
}

void preempt_forget(struct p *p, struct g *g)
{
    struct full_area *a = g->area;

    g->area = NULL;
    a->next = p->areas;
    p->areas = a;
}

// ---- interrupted ----

static void run_next(void *g)
{
    this_p()->resume = g;
}

void preempt_interrupted(const struct trap_frame *tf)
{
    struct g *g = g_current();
    struct p *p = this_p();
    void *area = g->area;

    p->after = sched_requeue;
    if (area == NULL)
        area = g->area = take_area(p);
    if (area == NULL && stop_wanted) {
        area = p->stop_area;
        p->after = run_next;
    }
    if (area == NULL)
        return;
    p->after_arg = g;
    g->interrupted = true;
    arch_ctx_interrupt(&g->ctx, area, tf);
    arch_ctx_leave(&p->loop);
}

void preempt_here(void)
{
    g_park(NULL, sched_requeue, g_current());
}
