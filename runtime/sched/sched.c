// The scheduler: a loop per CPU on its system stack.
//
// A switch always goes goroutine -> loop -> goroutine. Whatever must happen
// after a goroutine has left its stack (unlocking what makes it findable,
// freeing it) is done by the loop, so there is no moment at which two CPUs use
// one stack. The no-preempt count is 1 in the loop and at every switch (R6).
//
//   g_create --g_ready--> READY --loop--> RUNNING --g_park--> PARKED
//                           ^----- g_yield ---+        |
//                           ^----------- g_ready ------+
//
// Locks: each queue has its own spinlock. Wake lists are lock-free stacks that
// interrupts push on (release) and the loop takes whole (acquire).

#include "runtime/sched/sched.h"

#include <string.h>

#include "mm/mm.h"
#include "runtime/libc/libc.h"
#include "runtime/sched/g_impl.h"
#include "runtime/stack/stack.h"

// Per-CPU scheduler state.
struct p {
    struct arch_ctx loop;   // [own CPU] where the loop stands
    struct spinlock lock;   // protects head, tail
    _Atomic bool ticked;    // the timer went off
    struct g *head, *tail;  // [lock] run queue
    struct g *_Atomic wake; // pushed by interrupts of this CPU (R8)
    struct g *sleepers;     // [own loop] by wake_ns
    void (*after)(void *);  // [own CPU] run by the loop after a switch
    void *after_arg;        // [own CPU]
};

static struct p *ps;                              // [c] by CPU, a page
static struct sched_timer *timers[ARCH_MAX_CPUS]; // [own CPU] few, in no order
_Static_assert(sizeof(struct p) * ARCH_MAX_CPUS <= PAGE_SIZE, "a page");
static struct g_tls_image tls = {.align = 16};
static _Atomic uint64_t next_id = 1; // relaxed: only uniqueness matters

static void on_pending(void);
static void on_tick(void);

// Valid while no-preempt is above zero (R10).
static struct p *this_p(void)
{
    return &ps[arch_cpu_id()];
}

static struct sched_timer **this_timers(void)
{
    return &timers[arch_cpu_id()];
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
    static const char *const names[] = {"free", "parked", "ready", "running"};

    return names[g->state];
}

void sched_init(const struct g_tls_image *image)
{
    ps = mm_boot_page();
    tls = *image;
    if (tls.align < 16)
        tls.align = 16;
    arch_hooks.tick = on_tick;
    arch_hooks.pending = on_pending;
}

// ---- queues ----

static void push(struct p *p, struct g *g)
{
    g->next = NULL;
    g->state = G_READY;
    spin_lock(&p->lock);
    if (p->head == NULL)
        p->head = g;
    else
        p->tail->next = g;
    p->tail = g;
    spin_unlock(&p->lock);
}

static struct g *pop(struct p *p)
{
    spin_lock(&p->lock);
    struct g *g = p->head;

    if (g != NULL)
        p->head = g->next;
    spin_unlock(&p->lock);
    return g;
}

void g_ready(struct g *g)
{
    unsigned cpu = (unsigned)g->cpu;

    preempt_disable();
    push(&ps[cpu], g);
    if (cpu != arch_cpu_id())
        arch_kick(cpu);
    preempt_enable();
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

static void drain_wake_list(struct p *p)
{
    struct g *g =
        atomic_exchange_explicit(&p->wake, NULL, memory_order_acquire);

    while (g != NULL) {
        struct g *next = g->next;

        g_ready(g);
        g = next;
    }
}

// ---- time ----

// The timer goes off when the first sleeper or timer is due.
static void set_timer(struct p *p, uint64_t not_before)
{
    uint64_t at = p->sleepers != NULL ? p->sleepers->wake_ns : UINT64_MAX;

    for (struct sched_timer *t = *this_timers(); t != NULL; t = t->next)
        at = t->at < at ? t->at : at;
    if (at != UINT64_MAX)
        arch_timer_set(at > not_before ? at : not_before);
}

void sched_timer_set(struct sched_timer *t, uint64_t mono_ns)
{
    preempt_disable();
    t->at = mono_ns;
    t->next = *this_timers();
    *this_timers() = t;
    set_timer(this_p(), 0);
    preempt_enable();
}

static void run_timers(uint64_t now)
{
    struct sched_timer **at = this_timers(), *t;

    while ((t = *at) != NULL) {
        if (t->at <= now) {
            *at = t->next;
            uint64_t again = t->fn(now);

            if (again != UINT64_MAX)
                sched_timer_set(t, again); // comes first: not seen again here
            if (*at == t)
                at = &t->next;
        } else {
            at = &t->next;
        }
    }
}

static void (*pending_work)(void); // [c] after boot

void sched_on_pending(void (*fn)(void))
{
    pending_work = fn;
}

// no-preempt became zero with something pending: runs on whatever stack.
static void on_pending(void)
{
    enum { PAUSE_NS = 200000 }; // between two calls of a busy CPU's timers

    struct p *p = this_p();

    drain_wake_list(p);
    if (frame_reserve_low())
        frame_reserve_refill();
    if (pending_work != NULL)
        pending_work();
    if (p->ticked && *this_timers() != NULL) {
        uint64_t now = arch_mono_ns();

        run_timers(now);
        set_timer(p, now + PAUSE_NS);
    }
}

static void on_tick(void)
{
    this_p()->ticked = true;
    preempt_set_pending();
}

// ---- sleeping ----

static void add_sleeper(void *arg)
{
    struct g *g = arg;
    struct g **at = &this_p()->sleepers;

    while (*at != NULL && (*at)->wake_ns <= g->wake_ns)
        at = &(*at)->next;
    g->next = *at;
    *at = g;
}

void g_sleep_until(uint64_t mono_ns)
{
    struct g *g = g_current();

    g->wake_ns = mono_ns;
    g_park(add_sleeper, g);
}

static void serve_time(struct p *p)
{
    uint64_t now;

    if (p->sleepers == NULL && *this_timers() == NULL)
        return;
    now = arch_mono_ns();
    run_timers(now);
    while (p->sleepers != NULL && p->sleepers->wake_ns <= now) {
        struct g *g = p->sleepers;

        p->sleepers = g->next;
        push(p, g);
    }
    p->ticked = false;
    set_timer(p, 0);
}

// ---- the loop ----

static bool work_arrived(void)
{
    struct p *p = this_p();

    // Interrupts are off: what another CPU pushes from now on comes with a
    // doorbell that ends the halt.
    return *(struct g *volatile *)&p->head != NULL ||
           atomic_load_explicit(&p->wake, memory_order_relaxed) != NULL ||
           p->ticked;
}

static void run(struct p *p, struct g *g)
{
    g->state = G_RUNNING;
    arch_set_current(g);
    arch_set_tls(g->tcb);
    arch_ctx_enter(&p->loop, &g->ctx);
    arch_set_current(NULL);
    if (p->after != NULL) {
        void (*after)(void *) = p->after;

        p->after = NULL;
        after(p->after_arg);
    }
}

// What an idle CPU does for the others, a little at a time. Returns false when
// there is nothing.
static bool housekeeping(void)
{
    if (frame_reserve_low())
        frame_reserve_refill();
    if (mm_pressure_pending()) {
        mm_relieve();
        return true;
    }
    return frame_zero_ahead();
}

void sched_run(void)
{
    struct p *p = this_p();

    frame_reserve_refill();

    arch_irq_enable();
    for (;;) {
        preempt_clear_pending();
        drain_wake_list(p);
        if (pending_work != NULL)
            pending_work();
        serve_time(p);
        struct g *g = pop(p);

        if (g != NULL)
            run(p, g);
        else if (!housekeeping())
            arch_idle(work_arrived);
    }
}

void g_park(void (*unlock)(void *), void *arg)
{
    struct g *g = g_current();

    preempt_disable();
    struct p *p = this_p();

    p->after = unlock;
    p->after_arg = arg;
    g->state = G_PARKED;
    arch_ctx_switch(&g->ctx, &p->loop);
    preempt_enable(); // maybe on another CPU
}

static void ready_again(void *g)
{
    g_ready(g);
}

void g_yield(void)
{
    g_park(ready_again, g_current());
}

static void bury(void *arg)
{
    struct g *g = arg;

    arch_ctx_free(&g->ctx);
    stack_free(g);
}

void g_exit(void)
{
    struct g *g = g_current();

    libc_thread_exit(g->reent);
    preempt_disable();
    struct p *p = this_p();

    p->after = bury;
    p->after_arg = g;
    arch_ctx_switch(&g->ctx, &p->loop);
    __builtin_unreachable();
}

// ---- making one ----

// Top of a slot, from the top down: the C library's state, the TCB (what %fs
// points at, R9), the TLS image, then the stack.
struct tcb {
    void *self; // 0x00, the ABI reads it
    char pad[0x68];
    uintptr_t limit; // 0x70, for code built with -fsplit-stack
    void *start_arg; // 0x78
    void (*start_fn)(void *);
};

_Static_assert(offsetof(struct tcb, limit) == 0x70, "ABI of split stacks");

static void first(void *arg)
{
    struct tcb *t = arg;

    preempt_enable(); // from the scheduler's 1
    t->start_fn(t->start_arg);
    g_exit();
}

struct g *g_create(void (*fn)(void *), void *arg, const char *name, int cpu)
{
    const struct g_tls_image *image = &tls;
    size_t libc = align_up(libc_thread_size(), 64);
    size_t align = image->align > 64 ? image->align : 64;
    size_t top = libc + align_up(sizeof(struct tcb), align);
    struct g *g = stack_alloc(top + align_up(image->size, align) + 1024);

    if (g == NULL)
        return NULL;
    // The TLS block ends where the TCB begins (variant II of the ELF TLS ABI).
    uintptr_t end = stack_top(g);
    struct tcb *t = (void *)align_down(end - top, align);
    char *block = (char *)t - align_up(image->size, image->align);

    memset(block, 0, end - (uintptr_t)block);
    if (image->file_size > 0)
        memcpy(block, image->start, image->file_size);
    t->self = t;
    t->limit = end - STACK_LIMIT_BYTES;
    t->start_fn = fn;
    t->start_arg = arg;
    g->tcb = t;
    g->reent = libc_thread_new((void *)(end - libc));
    g->name = name;
    g->id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
    g->cpu = cpu == G_ANY_CPU ? (int)arch_cpu_id() : cpu;
    arch_ctx_init(&g->ctx, (void *)align_down((uintptr_t)block, 64), first, t);
    return g;
}
