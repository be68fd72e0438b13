// The scheduler: a loop per CPU on its system stack.
//
// A switch always goes goroutine -> loop -> goroutine. Whatever must happen
// after a goroutine has left its stack (unlocking what makes it findable,
// freeing it) is done by the loop, so there is no moment at which two CPUs use
// one stack. The no-preempt count is 1 in the loop and at every switch (R6).
//
//   g_create --g_ready--> READY --loop--> RUNNING --g_park--> PARKED
//                           ^----- g_yield, preempted -+     |
//                           ^----------- g_ready ------------+
//
// Who is made ready goes to the queue of the CPU that does so (queue.h), unless
// it is pinned. A CPU without work steals; one that finds nothing sets its bit in
// `idle`, looks once more, and halts. Who makes work sets it first and looks at
// `idle` after: so one of both sees the other (both sequentially consistent).
// One CPU at a time is woken to look for work, and wakes the next when it has
// found some.
//
// Locks: a list of pinned goroutines has its own spinlock. Wake lists are lock-free
// stacks that interrupts push on (release) and the loop takes whole (acquire).
//
// Source: Go, src/runtime/proc.go (schedule, findRunnable, wakep).

#include "runtime/sched/sched.h"

#include <gneiss/sync.h>

#include <string.h>

#include "mm/mm.h"
#include "runtime/debug/debug.h"
#include "runtime/libc/libc.h"
#include "runtime/sched/p.h"
#include "runtime/sched/timer.h"
#include "runtime/stack/stack.h"

enum {
    GLOBAL_EVERY = 61,         // picks: then the common list comes first
    STEAL_ROUNDS = 4,          // the last takes what would run next, too
    STEAL_WAIT = 100,          // pauses before that
    PENDING_PAUSE_NS = 200000, // between two looks at a busy CPU's timers
    FIRST_FRAMES = 1024,       // bytes of a stack that it begins with
};

static struct p *_Atomic ps[ARCH_MAX_CPUS]; // release: it is complete
static _Atomic uint64_t idle;               // by CPU, see above
static _Atomic unsigned spinning;           // CPUs woken to look for work
static _Atomic uint32_t rested;             // times a CPU has left `idle`
static struct g_tls_image tls = {.align = 16};
static _Atomic uint64_t next_id = 1; // relaxed: only uniqueness matters
static _Atomic size_t count;         // of goroutines; relaxed
static void (*pending_work)(void);   // [c] after boot
_Atomic uint32_t sched_epoch;        // relaxed: see runtime/gc/stacks.c

_Static_assert(sizeof(struct p) <= PAGE_SIZE, "a page");
_Static_assert(ARCH_MAX_CPUS <= 64, "bits of idle");

struct p *p_of_cpu(unsigned cpu)
{
    return atomic_load_explicit(&ps[cpu], memory_order_acquire);
}

struct p *this_p(void)
{
    return atomic_load_explicit(&ps[arch_cpu_id()], memory_order_relaxed);
}

struct g *g_current(void)
{
    return arch_current();
}

uint64_t g_id(const struct g *g)
{
    return g->id;
}

const char *g_name(const struct g *g)
{
    return g->name;
}

const char *g_state_name(const struct g *g)
{
    static const char *const names[] = {"free", "waiting", "runnable",
                                        "running"};

    // Once: it may go on meanwhile.
    unsigned state = g->state;
    const char *why = *(const char *const volatile *)&g->why;

    return state == G_PARKED && why != NULL ? why : names[state];
}

uint64_t g_waits_ns(const struct g *g)
{
    const char *why = *(const char *const volatile *)&g->why;
    uint64_t since = *(const volatile uint64_t *)&g->since, now;

    if (g->state != G_PARKED || why == NULL)
        return 0; // one that is new, or only yields
    now = arch_mono_ns();
    return now > since ? now - since : 1; // it has only just begun
}

// ---- making ready ----

COLD static void push_pinned(struct p *p, struct g *g)
{
    g->next = NULL;
    spin_lock(&p->lock);
    if (p->first == NULL)
        p->first = g;
    else
        p->last->next = g;
    p->last = g;
    spin_unlock(&p->lock);
}

static struct g *pop_pinned(struct p *p)
{
    if (*(struct g *volatile *)&p->first == NULL)
        return NULL;
    spin_lock(&p->lock);
    struct g *g = p->first;

    if (g != NULL)
        p->first = g->next;
    spin_unlock(&p->lock);
    return g;
}

// There is work that an idle CPU could do.
static void wake_one(void)
{
    uint64_t some = atomic_load(&idle);
    unsigned none = 0;

    if (some == 0 || atomic_load(&spinning) != 0 ||
        !atomic_compare_exchange_strong(&spinning, &none, 1))
        return;
    for (; some != 0; some = atomic_load(&idle)) {
        unsigned cpu = (unsigned)__builtin_ctzll(some);
        uint64_t bit = UINT64_C(1) << cpu;

        // Who clears the bit of another has woken it.
        if (atomic_fetch_and(&idle, ~bit) & bit) {
            arch_kick(cpu);
            return;
        }
    }
    atomic_fetch_sub(&spinning, 1);
}

static void make_ready(struct g *g, bool first)
{
    preempt_disable();
    struct p *p = this_p();

    g_set_state(g, G_READY);
    if (g->cpu == G_ANY_CPU) {
        // Behind those of the common list, if there are any: else they would wait for
        // who only yields (Go's Gosched always does so).
        if (!first && globq_has()) {
            g->next = NULL;
            globq_put(g, g, 1);
        } else {
            runq_put(&p->q, g, first);
        }
        if (arch_cpu_count() > 1) {
            atomic_thread_fence(memory_order_seq_cst); // before idle is read
            wake_one();
        }
    } else if (g->cpu == (int)arch_cpu_id()) {
        push_pinned(p, g);
    } else {
        push_pinned(p_of_cpu((unsigned)g->cpu), g);
        arch_kick((unsigned)g->cpu);
    }
    if (p->slice_end == UINT64_MAX && arch_current() != NULL)
        slice_watch(p);
    preempt_enable();
}

void g_ready(struct g *g)
{
    make_ready(g, true);
}

void sched_requeue(void *g)
{
    make_ready(g, false);
}

void g_ready_from_interrupt(struct g *g)
{
    struct p *p = this_p();
    struct g *old = atomic_load_explicit(&p->wake, memory_order_relaxed);

    do
        g->next = old;
    while (!atomic_compare_exchange_weak_explicit(
        &p->wake, &old, g, memory_order_release, memory_order_relaxed));
    preempt_set_pending();
}

COLD static void drain_wake_list(struct p *p)
{
    if (atomic_load_explicit(&p->wake, memory_order_relaxed) == NULL)
        return;
    struct g *g =
        atomic_exchange_explicit(&p->wake, NULL, memory_order_acquire);

    while (g != NULL) {
        struct g *next = g->next;

        g_ready(g);
        g = next;
    }
}

// ---- pending ----

void sched_on_pending(void (*fn)(void))
{
    pending_work = fn;
}

// no-preempt became zero with something pending: runs on whatever stack.
static bool on_pending(void)
{
    struct p *p = this_p();
    bool leave;

    drain_wake_list(p);
    if (frame_reserve_low())
        frame_reserve_refill();
    if (pending_work != NULL)
        pending_work();
    leave = time_serve(p, PENDING_PAUSE_NS);
    // A doorbell may have come for a goroutine that is pinned here.
    if (sched_has_work(p))
        slice_watch(p);
    return arch_current() != NULL && (leave || stop_wanted || suspend_wanted());
}

static void on_tick(void)
{
    this_p()->ticked = true;
    preempt_set_pending();
}

// A doorbell of another CPU.
static void on_kick(void)
{
    struct p *p = this_p();

    if (p == NULL)
        return;
    p->rung = true;
    if (*(struct g *volatile *)&p->first != NULL)
        preempt_set_pending();
}

// ---- the loop ----

bool sched_has_work(struct p *p)
{
    return runq_has(&p->q) || *(struct g *volatile *)&p->first != NULL ||
           globq_has();
}

COLD static bool work_arrived(void)
{
    struct p *p = this_p();
    uint64_t me = UINT64_C(1) << arch_cpu_id();

    // Interrupts are off: what another CPU does from now on comes with a doorbell
    // that ends the halt.
    return (atomic_load(&idle) & me) == 0 || stop_wanted || p->ticked ||
           p->rung || *(struct g *volatile *)&p->first != NULL ||
           atomic_load_explicit(&p->wake, memory_order_relaxed) != NULL;
}

COLD bool sched_others_idle(void)
{
    return (atomic_load(&idle) & ~(UINT64_C(1) << arch_cpu_id())) != 0 &&
           atomic_load(&spinning) == 0;
}

static unsigned random_below(struct p *p, unsigned n)
{
    p->random = p->random * 1664525 + 1013904223;
    return (unsigned)((uint64_t)p->random * n >> 32);
}

bool sched_may_spin(void)
{
    bool may = false;

    preempt_disable();
    struct p *p = this_p();

    for (unsigned cpu = 0; cpu < arch_cpu_count() && !may; cpu++) {
        struct p *other = p_of_cpu(cpu);

        may =
            other != p && other != NULL &&
            atomic_load_explicit(&other->running, memory_order_relaxed) != NULL;
    }
    may = may && !sched_has_work(p);
    preempt_enable();
    return may;
}

uint32_t sched_random_below(uint32_t n)
{
    preempt_disable();
    uint32_t r = random_below(this_p(), n);

    preempt_enable();
    return r;
}

COLD static struct g *steal(struct p *p)
{
    unsigned n = arch_cpu_count();

    if (n == 1)
        return NULL;
    for (unsigned round = 1; round <= STEAL_ROUNDS; round++) {
        unsigned from = random_below(p, n);

        for (unsigned i = 0; i < n; i++, from = from + 1 < n ? from + 1 : 0) {
            struct p *victim = p_of_cpu(from);

            if (victim == NULL || victim == p)
                continue;
            bool last = round == STEAL_ROUNDS;

            // Whom it has just made ready it may be about to wait for.
            for (unsigned k = 0; last && k < STEAL_WAIT && runq_has(&victim->q);
                 k++)
                arch_relax();
            struct g *g = runq_steal(&p->q, &victim->q, last);

            if (g != NULL)
                return g;
        }
    }
    return NULL;
}

static bool anybody_has_work(void)
{
    if (globq_has())
        return true;
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        if (p_of_cpu(cpu) != NULL && runq_has(&p_of_cpu(cpu)->q))
            return true;
    }
    return false;
}

// Whom to run next; NULL: there is nobody.
static struct g *pick(struct p *p)
{
    unsigned ncpus = arch_cpu_count();
    bool inherit = false;
    struct g *g = p->resume;

    if (g == NULL && p->picks % GLOBAL_EVERY == 0)
        g = globq_get(&p->q, ncpus, 1);
    if (g == NULL && p->picks % 2 == 0)
        g = pop_pinned(p);
    if (g == NULL)
        g = runq_get(&p->q, &inherit);
    if (g == NULL)
        g = globq_get(&p->q, ncpus, UINT32_MAX);
    if (g == NULL)
        g = pop_pinned(p);
    if (g == NULL)
        g = steal(p);
    if (g != NULL && !inherit)
        p->picks++;
    return g;
}

// But for one who runs next, come what may. Release: who sees it finds all that g has
// left.
static void not_running(struct p *p)
{
    atomic_store_explicit(&p->running, p->resume, memory_order_release);
}

static void run(struct p *p, struct g *g)
{
    if (p->spinning) {
        p->spinning = false;
        atomic_fetch_sub(&spinning, 1);
        if (sched_has_work(p))
            wake_one();
    }
    if (p->slice_end == UINT64_MAX && (slice_always() || sched_has_work(p)))
        slice_watch(p);
    atomic_store_explicit(&p->running, g, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst); // see suspend.c
    if (unlikely(atomic_load_explicit(&g->held, memory_order_relaxed)) &&
        suspend_instead(p, g)) {
        not_running(p);
        return;
    }
    p->resume = NULL;
    g_set_state(g, G_RUNNING);
    g->interrupted = false;
    arch_set_current(g);
    arch_set_tls(g->tcb);
    arch_ctx_enter(&p->loop, &g->ctx);
    arch_set_current(NULL);
    // R22: what it has loaded into registers since then nobody has seen.
    g->ran = atomic_load_explicit(&sched_epoch, memory_order_relaxed);
    if (g->area != NULL && !g->interrupted)
        preempt_forget(p, g);
    if (p->after != NULL) {
        void (*after)(void *) = p->after;

        p->after = NULL;
        after(p->after_arg);
    }
    not_running(p);
}

// What an idle CPU does for the others, a little at a time. Returns false when
// there is nothing.
COLD static bool housekeeping(void)
{
    if (frame_reserve_low())
        frame_reserve_refill();
    if (mm_pressure_pending()) {
        mm_relieve();
        return true;
    }
    return frame_zero_ahead();
}

static _Atomic int interruptible; // goroutines that an interrupt may wake

void sched_await_interrupt(int n)
{
    atomic_fetch_add(&interruptible, n);
}

// Nothing can be woken on p any more but by a goroutine.
static bool is_dead(struct p *p)
{
    for (struct sched_timer *t = p->calls; t != NULL; t = t->next) {
        if (!t->wakes_nobody)
            return false;
    }
    return !timers_wake(&p->timers) && p->wake == NULL &&
           *(struct g *volatile *)&p->first == NULL && !runq_has(&p->q);
}

// Writes what C's streams hold first, as a panic does.
COLD static void report_dead(void *arg)
{
    (void)arg;
    libc_flush();
    panic_deadlock();
}

// Has a goroutine say that it is a deadlock; or says it, if it is one again though that
// goroutine was there, or there is no memory for it. False: another CPU does.
COLD static bool end_dead(void)
{
    enum { NOT_YET, MAKES_IT, MADE };
    static _Atomic int state;
    int was = NOT_YET;

    if (atomic_compare_exchange_strong(&state, &was, MAKES_IT)) {
        struct g *g = g_create(report_dead, NULL, "", G_ANY_CPU);

        if (g != NULL) {
            g_ready(g);
            atomic_store(&state, MADE);
            return true;
        }
    } else if (was == MAKES_IT) {
        return false;
    }
    panic_deadlock();
}

// Nobody runs, and nothing is left that could change that: Go's checkdead. While all
// CPUs idle nothing is queued, and no timer set, but by interrupts for those that wait
// for them. So it is enough that no CPU has left `idle` while we look. Returns whether
// there is somebody to run now.
COLD static bool check_dead(void)
{
    uint32_t before = atomic_load(&rested);
    uint64_t there = 0;

    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++)
        there |= (uint64_t)(p_of_cpu(cpu) != NULL) << cpu;
    if (atomic_load(&idle) != there || atomic_load(&interruptible) != 0 ||
        globq_has() || stop_wanted)
        return false;
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        if (p_of_cpu(cpu) != NULL && !is_dead(p_of_cpu(cpu)))
            return false;
    }
    return atomic_load(&idle) == there && atomic_load(&rested) == before &&
           end_dead();
}

COLD static void rest(struct p *p)
{
    uint64_t me = UINT64_C(1) << arch_cpu_id();

    if (p->spinning) {
        p->spinning = false;
        atomic_fetch_sub(&spinning, 1);
    }
    // Who rings may have asked for what only pending_work sees: from here on it ends
    // the halt.
    p->rung = false;
    if (pending_work != NULL)
        pending_work();
    atomic_fetch_or(&idle, me);
    if (!anybody_has_work() && !check_dead())
        arch_idle(work_arrived);
    atomic_fetch_add(&rested, 1);
    // Cleared by another: we were woken to look for work, and are counted so.
    p->spinning = (atomic_fetch_and(&idle, ~me) & me) == 0;
}

COLD static struct p *new_p(void)
{
    struct p *p = mm_boot_page();

    spin_init(&p->lock, RANK_SCHED);
    time_init(p);
    preempt_init(p);
    mm_cpu_init();
    p->random = (uint32_t)arch_random();
    return p;
}

void sched_run(void)
{
    if (this_p() == NULL) {
        atomic_store_explicit(&ps[arch_cpu_id()], new_p(),
                              memory_order_release);
        spin_lock(&mm_lock);
        mm_commit_less(1); // R14: it was not there when the boot counted
        spin_unlock(&mm_lock);
    }
    struct p *p = this_p();

    frame_reserve_refill();
    arch_irq_enable();
    for (;;) {
        preempt_clear_pending();
        if (unlikely(stop_wanted))
            stop_wait(p);
        if (atomic_load_explicit(&p->wake, memory_order_relaxed) != NULL)
            drain_wake_list(p);
        if (pending_work != NULL)
            pending_work();
        if (p->ticked)
            (void)time_serve(p, 0);
        struct g *g = pick(p);

        if (g != NULL)
            run(p, g);
        else if (!housekeeping())
            rest(p);
    }
}

COLD void sched_await_others(void)
{
    for (unsigned cpu = 0; cpu < arch_cpu_count(); cpu++) {
        while (p_of_cpu(cpu) == NULL)
            arch_relax();
    }
    gn_one_cpu_ = arch_cpu_count() == 1;
}

// Top of a slot, from the top down: the C library's state, the TCB (what %fs
// points at, R9), the TLS image, then the stack.
struct tcb {
    void *self; // 0x00, the ABI reads it
    char pad[0x68];
    uintptr_t limit; // 0x70, for code built with -fsplit-stack
    void *start_arg; // 0x78
    void (*start_fn)(void *);
    void *locals; // see go.c
    void (*drop_locals)(void *);
    void *unwind; // see runtime/panic
    unsigned locks;
};

_Static_assert(offsetof(struct tcb, limit) == 0x70, "ABI of split stacks");

// What is above the first frame of a stack, in bytes.
static struct {
    size_t libc; // the C library's state, from the top
    size_t top;  // with the TCB, which is aligned so
    size_t align;
    size_t tls;     // of the TLS block below that
    size_t reserve; // to be mapped at first
} layout;           // [c]

COLD void sched_init(const struct g_tls_image *image)
{
    ps[arch_cpu_id()] = new_p();
    tls = *image;
    if (tls.align == 0)
        tls.align = 1;
    layout.align = tls.align > 64 ? tls.align : 64;
    layout.libc = align_up(libc_thread_size(), 64);
    layout.top = layout.libc + align_up(sizeof(struct tcb), layout.align);
    layout.tls = align_up(tls.size, tls.align);
    layout.reserve =
        layout.top + align_up(tls.size, layout.align) + FIRST_FRAMES;
    arch_hooks.tick = on_tick;
    arch_hooks.kick = on_kick;
    arch_hooks.pending = on_pending;
    arch_hooks.preempt = preempt_interrupted;
    arch_hooks.leave = preempt_here;
}

size_t g_count(void)
{
    return atomic_load_explicit(&count, memory_order_relaxed);
}

void g_hide(struct g *g)
{
    g->hidden = true;
    atomic_fetch_sub_explicit(&count, 1, memory_order_relaxed);
}

void *g_locals(void)
{
    return ((struct tcb *)g_current()->tcb)->locals;
}

void g_set_locals(void *locals, void (*drop)(void *))
{
    struct tcb *t = g_current()->tcb;

    t->locals = locals;
    t->drop_locals = drop;
}

static struct tcb *my_tcb(void)
{
    return g_current()->tcb;
}

void **g_unwind(void)
{
    return &my_tcb()->unwind;
}

unsigned g_locks(void)
{
    return my_tcb()->locks;
}

void g_add_locks(int n)
{
    my_tcb()->locks += (unsigned)n;
}

// ---- leaving ----

void g_park(const char *why, void (*unlock)(void *), void *arg)
{
    struct g *g = g_current();

    preempt_disable();
    struct p *p = this_p();

    p->after = unlock;
    p->after_arg = arg;
    g->why = why;
    if (why != NULL)
        g->since = arch_mono_coarse_ns();
    g_set_state(g, G_PARKED);
    arch_ctx_switch(&g->ctx, &p->loop);
    preempt_enable(); // maybe on another CPU
}

void g_yield(void)
{
    g_park(NULL, sched_requeue, g_current());
}

static void bury(void *arg)
{
    struct g *g = arg;

    arch_ctx_free(&g->ctx);
    stack_free(g);
    atomic_fetch_sub_explicit(&count, 1, memory_order_relaxed);
}

void g_exit(void)
{
    struct g *g = g_current();

    struct tcb *t = g->tcb;

    if (t->locals != NULL)
        t->drop_locals(t->locals);
    libc_thread_exit(g->reent);
    preempt_disable();
    struct p *p = this_p();

    p->after = bury;
    p->after_arg = g;
    arch_ctx_switch(&g->ctx, &p->loop);
    __builtin_unreachable();
}

// ---- making one ----

static void first(void *arg)
{
    struct tcb *t = arg;

    preempt_enable(); // from the scheduler's 1
    t->start_fn(t->start_arg);
    g_exit();
}

struct g *g_create(void (*fn)(void *), void *arg, const char *name, int cpu)
{
    return g_create_limited(fn, arg, name, cpu, 0);
}

struct g *g_create_limited(void (*fn)(void *), void *arg, const char *name,
                           int cpu, size_t limit)
{
    const struct g_tls_image *image = &tls;
    struct g *g = stack_alloc(layout.reserve, limit);

    if (g == NULL)
        return NULL;
    // The TLS block ends where the TCB begins (variant II of the ELF TLS ABI).
    uintptr_t end = stack_top(g);
    struct tcb *t = (void *)align_down(end - layout.top, layout.align);
    char *block = (char *)t - layout.tls;

    if (layout.tls > 0) {
        memset(block, 0, layout.tls);
        memcpy(block, image->start, image->file_size);
    }
    t->self = t;
    t->limit = stack_bottom(g);
    t->start_fn = fn;
    t->start_arg = arg;
    t->locals = NULL;
    t->unwind = NULL;
    t->locks = 0;
    g->tcb = t;
    g->reent = libc_thread_new((void *)(end - layout.libc));
    g->name = name;
    g->id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
    g->cpu = cpu;
    g->ran = atomic_load_explicit(&sched_epoch, memory_order_relaxed);
    atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    arch_ctx_init(&g->ctx, (void *)align_down((uintptr_t)block, 64), first, t);
    return g;
}
