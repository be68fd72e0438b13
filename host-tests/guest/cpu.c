// The machine's parts that several CPUs use at once: calls, shootdowns, locks,
// interrupts while stacks grow, the state that an interrupt must not touch.
//
// usage: cpu [quick]

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>

#include "arch/x86_64/cpu.h"
#include "mm/mm.h"
#include "mm/pt.h"
#include "runtime/sched/g_impl.h"

static unsigned ncpus;
static unsigned rounds = 2000;

// ---- calls ----

static _Atomic unsigned calls[ARCH_MAX_CPUS];

static IRQ_FN void count_call(void *arg)
{
    (void)arg;
    atomic_fetch_add(&calls[arch_cpu_id()], 1);
}

static void call_often(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
    for (unsigned i = 0; i < rounds / 10; i++)
        arch_call_others(count_call, NULL);
}

static void test_calls(void)
{
    bool right = true;

    for (unsigned i = 0; i < 100; i++)
        arch_call_others(count_call, NULL);
    for (unsigned i = 0; i < ncpus; i++)
        right = right && calls[i] == (i == arch_cpu_id() ? 0 : 100);
    ok(right, "a call reaches every other CPU, and not the caller");
    memset(calls, 0, sizeof calls);
    par_run(call_often, NULL);
    right = true;
    for (unsigned i = 0; i < ncpus; i++)
        right = right && calls[i] == rounds / 10 * (ncpus - 1);
    ok(right, "calls from all CPUs at once arrive, each once");
}

// ---- shootdowns ----
//
// Every CPU has a page that shows one of two frames. The owner writes the
// number of the round to the frame that is not shown, makes the page show it,
// shoots the old translation down and publishes the number: from then on
// nobody may read a smaller one.

static struct flip {
    _Atomic uint64_t *pte;
    uint64_t *frame[2]; // in the direct map
    _Atomic uint64_t published;
    volatile uint64_t *page;
} flips[ARCH_MAX_CPUS];

static _Atomic unsigned stale;

#define FLIP_BASE (ARCH_REGION_END - GIB)

static void map_flip(void *arg)
{
    struct flip *f = arg;
    uintptr_t va = FLIP_BASE + (uintptr_t)(f - flips) * PAGE_SIZE;
    int level;

    spin_lock(&mm_lock);
    for (int i = 0; i < 2; i++)
        f->frame[i] = arch_direct(frame_alloc(0, FRAME_ZERO));
    ASSERT(pt_map(va, arch_direct_to_paddr(f->frame[0]), PAGE_SIZE, PROT_R,
                  1) == 0);
    f->pte = (_Atomic uint64_t *)pt_find(va, &level);
    f->page = (volatile uint64_t *)va;
    spin_unlock(&mm_lock);
}

// Shoots down so many pages from this one on; 0: everything.
static void flip_shooting(struct flip *f, size_t npages)
{
    uint64_t n = f->published + 1;
    uint64_t *to = f->frame[n % 2];

    *(volatile uint64_t *)to = n;
    atomic_store(f->pte, pte_make_leaf(arch_direct_to_paddr(to), PROT_R, 1) &
                             (cpu_features.nx ? UINT64_MAX : ~PTE_NX));
    arch_tlb_shootdown((uintptr_t)f->page, npages);
    atomic_store_explicit(&f->published, n, memory_order_release);
}

static void flip(struct flip *f)
{
    flip_shooting(f, 1);
}

static void look_at(struct flip *f)
{
    uint64_t least = atomic_load_explicit(&f->published, memory_order_acquire);

    if (*f->page < least)
        atomic_fetch_add(&stale, 1);
}

static void look_at_all(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
    for (unsigned i = 0; i < ncpus; i++)
        look_at(&flips[i]);
}

// All that are expected have come; used again and again.
static void meet(_Atomic unsigned *barrier, unsigned expected)
{
    unsigned mine = atomic_fetch_add(barrier, 1) + 1;
    unsigned full = (mine + expected - 1) / expected * expected;

    while (atomic_load(barrier) < full)
        arch_pause();
}

// In step: after each flip every CPU looks, with a translation it has used.
static void flip_in_step(unsigned cpu, void *arg)
{
    for (unsigned i = 0; i < rounds / 20 + 10; i++) {
        flip(&flips[cpu]);
        meet(arg, ncpus);
        look_at_all(cpu, NULL);
        meet(arg, ncpus);
    }
}

static void flip_often(unsigned cpu, void *arg)
{
    if (arg != NULL)
        meet(arg, ncpus);
    for (unsigned i = 0; i < rounds; i++) {
        flip(&flips[cpu]);
        look_at_all(cpu, NULL);
    }
}

static void test_shootdown(void)
{
    for (unsigned i = 0; i < ncpus; i++)
        arch_on_system_stack(map_flip, &flips[i]);
    _Atomic unsigned barrier = 0;

    par_run(look_at_all, NULL);
    par_run(flip_often, &barrier);
    IS(stale, 0, "all CPUs flip pages at once: nobody reads an old frame");
    bool all = true;

    for (unsigned i = 0; i < ncpus; i++)
        all = all && flips[i].published == rounds && *flips[i].page == rounds;
    ok(all, "every round took place");
    par_run(flip_in_step, &barrier);
    IS(stale, 0, "all CPUs flip, then all look");
    if (ncpus == 1)
        return;
    // The last CPU looks, sleeps while the others flip, and looks again.
    for (int i = 0; i < 50; i++) {
        par_run_on(ncpus - 1, ncpus, look_at_all, NULL);
        for (int k = 0; k < 3; k++) {
            flip(&flips[0]);
            flip(&flips[ncpus - 1]);
        }
        par_run(look_at_all, NULL);
    }
    IS(stale, 0, "a CPU that was idle reads no old frame when it wakes");
    par_run_on(0, ncpus - 1, flip_often, NULL);
    par_run(look_at_all, NULL);
    IS(stale, 0, "flips from all CPUs but an idle one");
}

// ---- locks ----

static struct spinlock lock = SPINLOCK_INIT(RANK_SYNC);
static unsigned long guarded; // [lock], not atomic
static _Atomic unsigned inside, crowded;

static void lock_often(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
    for (unsigned i = 0; i < rounds * 5; i++) {
        spin_lock(&lock);
        if (atomic_fetch_add(&inside, 1) != 0 || !spin_held(&lock) ||
            preempt_count() != 1)
            atomic_fetch_add(&crowded, 1);
        guarded++;
        atomic_fetch_sub(&inside, 1);
        spin_unlock(&lock);
    }
}

// Each CPU shoots down while the others wait for its lock, all with interrupts
// off: only arch_relax can serve them (R7). Who gets the lock looks before any
// interrupt can come: what it read before it waited is gone by then.
static void lock_and_shoot(unsigned cpu, void *arg)
{
    (void)cpu;
    meet(arg, ncpus);
    for (unsigned i = 0; i < rounds; i++) {
        bool irqs = arch_irq_disable();

        look_at(&flips[0]);
        spin_lock(&lock);
        look_at(&flips[0]);
        flip(&flips[0]);
        guarded++;
        spin_unlock(&lock);
        arch_irq_restore(irqs);
    }
}

// The same, each with a lock and a page of its own: all shoot at each other at
// once, and look at each other's pages with interrupts off.
static void shoot_each_other(unsigned cpu, void *arg)
{
    static struct spinlock own[ARCH_MAX_CPUS];

    meet(arg, ncpus);
    for (unsigned i = 0; i < rounds; i++) {
        bool irqs = arch_irq_disable();

        look_at_all(cpu, NULL);
        spin_lock(&own[cpu]);
        flip_shooting(&flips[cpu], i % 4);
        spin_unlock(&own[cpu]);
        look_at_all(cpu, NULL);
        arch_irq_restore(irqs);
    }
}

// CPU 0 flips while all others have read the page and turned interrupts off.
// In every second round they serve nothing either: then the shootdown can't be
// over before they turn them on, and no old frame is read when it is. In the
// others they poll, and must not read the old frame although no interrupt came.
static _Atomic unsigned early;

static void forget_late(struct flip *f, _Atomic unsigned *barrier, bool poll)
{
    bool irqs = arch_irq_disable();
    uint64_t before = f->published;

    look_at(f);
    meet(barrier, ncpus);
    for (unsigned i = 0; !poll && i < 2000; i++)
        arch_pause();
    if (!poll) {
        early += f->published != before;
        arch_irq_restore(irqs);
    }
    while (f->published == before)
        arch_relax();
    look_at(f);
    arch_irq_restore(irqs);
}

static void shoot_at_the_deaf(unsigned cpu, void *arg)
{
    for (unsigned i = 0; i < rounds / 10; i++) {
        if (cpu != 0) {
            forget_late(&flips[0], arg, i % 2 != 0);
        } else {
            meet(arg, ncpus);
            flip(&flips[0]);
            look_at(&flips[0]);
        }
        meet(arg, ncpus);
    }
}

static void test_locks(void)
{
    par_run(lock_often, NULL);
    IS(guarded, (unsigned long)rounds * 5 * ncpus, "a lock excludes");
    IS(crowded, 0, "only one CPU is inside");
    _Atomic unsigned barrier = 0;

    guarded = 0;
    par_run(lock_and_shoot, &barrier);
    IS(guarded, (unsigned long)rounds * ncpus,
       "shootdowns with a lock held and interrupts off end");
    IS(stale, 0, "who waited for the lock reads no old frame");
    uint64_t flipped[ARCH_MAX_CPUS];
    bool all = true;

    for (unsigned i = 0; i < ncpus; i++)
        flipped[i] = flips[i].published;
    barrier = 0;
    par_run(shoot_each_other, &barrier);
    for (unsigned i = 0; i < ncpus; i++)
        all = all && flips[i].published == flipped[i] + rounds;
    ok(all, "so do those of CPUs that shoot at each other");
    IS(stale, 0, "and nobody reads an old frame before interrupts are on");
    barrier = 0;
    par_run(shoot_at_the_deaf, &barrier);
    IS(early, 0, "no shootdown is over before who hears nothing has heard it");
    IS(stale, 0, "nor is an old frame read then, or by who polls");
    IS(preempt_count(), 0, "the no-preempt count is balanced");
}

// ---- system stack ----

static int depth_seen;

static void deeper(void *arg)
{
    int left = *(int *)arg - 1;

    if (!arch_on_system() || preempt_count() == 0)
        depth_seen = -1000;
    depth_seen++;
    if (left > 0)
        arch_on_system_stack(deeper, &left);
}

static void test_system_stack(void)
{
    int n = 5;

    ok(!arch_on_system(), "a goroutine is not on the system stack");
    arch_on_system_stack(deeper, &n);
    IS(depth_seen, 5, "calls on the system stack nest");
    IS(preempt_count(), 0, "and leave the no-preempt count balanced");
    ok(arch_irqs_enabled(), "interrupts are on");
}

// ---- interrupts ----

// Sends this CPU an interrupt and waits for it; false after too long.
static bool ping_self(void)
{
    bool came = false;

    preempt_disable();
    struct cpu *c = this_cpu();
    uint64_t before = *(volatile uint64_t *)&c->nirqs;
    uint64_t start = arch_mono_ns();

    lapic_ipi(c->id, VEC_DOORBELL);
    while (!came && arch_mono_ns() - start < UINT64_C(20000000000))
        came = *(volatile uint64_t *)&c->nirqs != before;
    preempt_enable();
    return came;
}

static _Atomic unsigned lost, wrong;

// A call waits for all CPUs, which takes long where QEMU has fewer.
enum { MOST_LEVELS = 100, CALL_EVERY = 10 };

static unsigned stack_levels; // a multiple of CALL_EVERY

// One page a level: the interrupt arrives while the stack has just grown, is
// growing, or is about to.
static NOINLINE unsigned grow(unsigned levels, bool call)
{
    volatile unsigned char frame[4000];

    frame[0] = (unsigned char)levels;
    if (call && levels % CALL_EVERY == 0)
        arch_call_others(count_call, NULL);
    if (!call && !ping_self())
        atomic_fetch_add(&lost, 1);
    unsigned sum = levels == 0 ? 0 : grow(levels - 1, call);

    if (frame[0] != (unsigned char)levels)
        atomic_fetch_add(&wrong, 1);
    return sum + 1;
}

// An interrupt while nothing is mapped where it would be pushed: rsp is moved
// to the lowest mapped bytes of a fresh stack, where nothing but registers is
// used until it has come. Without a stack of its own for interrupts it would be
// taken from the controller, fault, and never arrive (R3).
static void at_the_edge(void *arg)
{
    volatile uint8_t *lapic = (volatile uint8_t *)ARCH_MMIO_BASE;
    const unsigned icr_low = 0x300, icr_high = 0x310, assert_ = 0x4000;
    struct cpu *c = this_cpu();
    uint64_t rsp = 0, tries = 400000000, before = c->nirqs;

    // a multiple of 16, as the processor aligns it anyway
    uint64_t edge = g_current()->low + 16;

    arch_irq_disable();
    *(volatile uint32_t *)(lapic + icr_high) = lapic_id() << 24;
    __asm__ volatile("movq %%rsp, %0\n\t"
                     "movq %4, %%rsp\n\t"
                     "movl %5, (%6)\n\t"
                     "sti\n"
                     "1: pause\n\t"
                     "cmpq %3, (%2)\n\t"
                     "jne 2f\n\t"
                     "decq %1\n\t"
                     "jnz 1b\n"
                     "2: movq %0, %%rsp"
                     : "+&r"(rsp), "+&r"(tries)
                     : "r"(&c->nirqs), "r"(before), "r"(edge),
                       "r"((uint32_t)(assert_ | VEC_DOORBELL)),
                       "r"(lapic + icr_low)
                     : "memory", "cc");
    if (tries == 0)
        atomic_fetch_add(&lost, 1);
    *(_Atomic bool *)arg = true;
}

static void go_to_the_edge(unsigned cpu, void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < 20; i++) {
        _Atomic bool done = false;
        struct g *g = g_create(at_the_edge, (void *)&done, "edge", (int)cpu);

        if (g == NULL)
            abort();
        g_ready(g);
        while (!done)
            g_yield();
    }
}

struct growth {
    bool call;
    unsigned levels;
    _Atomic bool done;
};

static void grow_once(void *arg)
{
    struct growth *w = arg;

    grow(w->levels, w->call);
    w->done = true;
}

// A fresh stack each time: all of it has to be mapped again.
static void grow_often(unsigned cpu, void *arg)
{
    for (unsigned i = 0; i < rounds / 100 + 1; i++) {
        struct growth w = {.call = arg != NULL, .levels = stack_levels};
        struct g *g = g_create(grow_once, &w, "grower", (int)cpu);

        if (g == NULL)
            abort();
        g_ready(g);
        while (!w.done)
            g_yield();
    }
}

static void test_interrupts_and_stacks(void)
{
    // Those that have ended still have theirs for a while.
    size_t each = room_for(MOST_LEVELS, 2 * ncpus);

    stack_levels = each > CALL_EVERY
                       ? (unsigned)(each / CALL_EVERY * CALL_EVERY)
                       : CALL_EVERY;
    printf("# stacks grow by %u pages\n", stack_levels);
    par_run(go_to_the_edge, NULL);
    IS(lost, 0, "an interrupt at the lower edge of a stack arrives");
    par_run(grow_often, NULL);
    IS(lost, 0, "no interrupt is lost while stacks grow");
    memset(calls, 0, sizeof calls);
    par_run(grow_often, (void *)1);
    bool right = true;

    for (unsigned i = 0; i < ncpus; i++)
        right = right && calls[i] == (rounds / 100 + 1) *
                                         (stack_levels / CALL_EVERY + 1) *
                                         (ncpus - 1);
    ok(right, "calls from growing stacks to growing stacks arrive, each once");
    IS(wrong, 0, "the stacks kept their contents");
}

// ---- the FPU ----

static _Atomic unsigned spoiled;

#define EACH_REGISTER(m)                                                       \
    m(0) m(1) m(2) m(3) m(4) m(5) m(6) m(7) m(8) m(9) m(10) m(11) m(12) m(13)  \
        m(14) m(15)
#define LOAD_X(n)  "movdqu " #n "*32(%0), %%xmm" #n "\n\t"
#define STORE_X(n) "movdqu %%xmm" #n ", " #n "*32(%1)\n\t"
#define LOAD_Y(n)  "vmovdqu " #n "*32(%0), %%ymm" #n "\n\t"
#define STORE_Y(n) "vmovdqu %%ymm" #n ", " #n "*32(%1)\n\t"
#define CLOBBERS                                                               \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",    \
        "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15",          \
        "memory", "cc"

// Fills the registers, lets interrupts come until nirqs has grown by some and
// faults happen on fresh pages meanwhile, and reads the registers again.
#define WAIT                                                                   \
    "1: movb $1, (%3)\n\t"                                                     \
    "addq $4096, %3\n\t"                                                       \
    "pause\n\t"                                                                \
    "decl %2\n\t"                                                              \
    "jnz 1b\n\t"

static void storm_victim(unsigned char *fresh, unsigned pages, bool avx)
{
    static const unsigned RC_DOWN_FTZ = 0xbf80; // MXCSR: not the default
    unsigned char in[16 * 32], out[16 * 32];
    unsigned mxcsr, old;

    for (unsigned i = 0; i < sizeof in; i++)
        in[i] = (unsigned char)(i * 7 + pages + arch_cpu_id());
    memset(out, 0, sizeof out);
    __asm__ volatile("stmxcsr %0" : "=m"(old));
    __asm__ volatile("ldmxcsr %0" ::"m"(RC_DOWN_FTZ));
    if (avx)
        __asm__ volatile(EACH_REGISTER(LOAD_Y)
                             WAIT EACH_REGISTER(STORE_Y) "vzeroupper"
                         : "+r"((const void *){in}), "+r"((void *){out}),
                           "+r"(pages), "+r"(fresh)::CLOBBERS);
    else
        __asm__ volatile(EACH_REGISTER(LOAD_X) WAIT EACH_REGISTER(STORE_X)
                         : "+r"((const void *){in}), "+r"((void *){out}),
                           "+r"(pages), "+r"(fresh)::CLOBBERS);
    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("ldmxcsr %0" ::"m"(old));
    for (unsigned i = 0; i < sizeof in; i++) {
        if ((avx || i % 32 < 16) && in[i] != out[i]) {
            atomic_fetch_add(&spoiled, 1);
            break;
        }
    }
    if (mxcsr != RC_DOWN_FTZ)
        atomic_fetch_add(&spoiled, 1);
}

enum { STORM_PAGES = 200 };

static _Atomic unsigned with_all, with_fewer, without; // rounds

// So many pages, or fewer where memory is little; NULL: not even two.
static unsigned char *fresh_pages(unsigned *pages)
{
    for (*pages = STORM_PAGES; *pages >= 2; *pages /= 2) {
        unsigned char *fresh = malloc(*pages * PAGE_SIZE);

        if (fresh != NULL)
            return fresh;
    }
    return NULL;
}

static void storm(unsigned cpu, void *arg)
{
    unsigned pages;

    (void)arg;
    for (unsigned i = 0; i < rounds / 100 + 1; i++) {
        if (cpu % 2 == 1) {
            for (int k = 0; k < 20; k++)
                arch_call_others(count_call, NULL);
            continue;
        }
        // Freed at once, so that the next round's pages are fresh again.
        unsigned char *fresh = fresh_pages(&pages);

        if (fresh == NULL) {
            without++;
            continue;
        }
        *(pages == STORM_PAGES ? &with_all : &with_fewer) += 1;
        preempt_disable();
        arch_timer_set(arch_mono_ns() + 10000);
        preempt_enable();
        storm_victim(fresh, pages - 1, cpu_features.avx && i % 2 == 0);
        free(fresh);
    }
}

static void test_fpu(void)
{
    par_run(storm, NULL);
    IS(spoiled, 0,
       "vector registers and MXCSR survive interrupts and page faults");
    ok(with_all + with_fewer > 0, "in fresh pages");
    printf("# %u rounds of %u pages, %u of fewer, %u without any\n", with_all,
           STORM_PAGES, with_fewer, without);
}

// Rounding is part of a goroutine's context.
static _Atomic unsigned rounding_wrong;

static void round_its_way(void *arg)
{
    struct growth *w = arg;
    uint32_t mode = w->levels; // bits 13 and 14 of MXCSR
    uint32_t csr = 0x1f80 | mode << 13, found;
    volatile double one = 1, three = 3, sum = 0;

    __asm__ volatile("ldmxcsr %0" ::"m"(csr));
    double expected = one / three;

    for (int i = 0; i < 500; i++) {
        g_yield();
        __asm__ volatile("stmxcsr %0" : "=m"(found));
        if ((found & 0x6000) != mode << 13 || one / three != expected)
            atomic_fetch_add(&rounding_wrong, 1);
        sum = sum + one / three;
    }
    if (sum < 166 || sum > 167)
        atomic_fetch_add(&rounding_wrong, 1);
    w->done = true;
}

static void test_rounding(void)
{
    struct growth w[4] = {
        {.levels = 0}, {.levels = 1}, {.levels = 2}, {.levels = 3}};

    for (int i = 0; i < 4; i++) {
        struct g *g = g_create(round_its_way, &w[i], "rounds", 0);

        if (g == NULL)
            abort();
        g_ready(g);
    }
    for (int i = 0; i < 4; i++) {
        while (!w[i].done)
            g_yield();
    }
    IS(rounding_wrong, 0, "goroutines that take turns keep their rounding");
}

// ---- the timer ----

static _Atomic unsigned early;
static _Atomic uint64_t timer_irqs;

static void sleep_some(unsigned cpu, void *arg)
{
    (void)arg;
    uint64_t irqs = cpu_table[cpu]->nirqs;

    for (int i = 1; i <= 10; i++) {
        uint64_t until = arch_mono_ns() + (uint64_t)i * 300000;

        g_sleep_until(until);
        if (arch_mono_ns() < until || arch_cpu_id() != cpu)
            atomic_fetch_add(&early, 1);
    }
    atomic_fetch_add(&timer_irqs, cpu_table[cpu]->nirqs - irqs);
}

static void test_timer(void)
{
    par_run(sleep_some, NULL);
    IS(early, 0, "a sleep on any CPU is never short");
    ok(timer_irqs >= 10 * ncpus, "the timer of every CPU interrupts");
}

// ---- critical text ----

static volatile uint32_t critical_step; // how far it is; 0: not in it
static _Atomic unsigned asked, interrupted, seen_inside, seen_outside;

// Counted wherever it comes: stay() ends by it, single steps would take ages.
static IRQ_FN void tick_in_critical(void)
{
    atomic_fetch_add(&asked, 1);
    if (critical_step > 0)
        atomic_fetch_add(&interrupted, 1);
    preempt_set_pending();
}

// Whatever was interrupted: it must not be in the middle.
static IRQ_FN bool look_where(void)
{
    if (critical_step > 0)
        atomic_fetch_add(&seen_inside, 1);
    else
        atomic_fetch_add(&seen_outside, 1);
    return false;
}

// A leaf, as malloc is: runs until the timer has gone off in it, and some more.
ARCH_CRITICAL NOINLINE IRQ_FN static void stay(unsigned before)
{
    critical_step = 1;
    for (uint32_t i = 0;
         atomic_load_explicit(&asked, memory_order_relaxed) == before &&
         i < 400000000;
         i++)
        ;
    for (uint32_t i = 0; i < 20; i++)
        critical_step = critical_step + 1;
    critical_step = 0;
}

// What an interrupt makes pending waits until critical text has been left, and is
// done right then.
static void test_critical_text(void)
{
    void (*tick)(void) = arch_hooks.tick;
    bool (*pending)(void) = arch_hooks.pending;
    unsigned late = 0;

    arch_hooks.pending = look_where;
    arch_hooks.tick = tick_in_critical;
    for (unsigned i = 0; i < 20; i++) {
        unsigned outside = atomic_load(&seen_outside);
        unsigned before = atomic_load(&asked);

        preempt_disable();
        arch_timer_set(arch_mono_ns() + 50000 * i);
        preempt_enable();
        stay(before);
        late += atomic_load(&seen_outside) == outside;
    }
    arch_hooks.tick = tick;
    arch_hooks.pending = pending;
    // A tick may come before or behind it, too.
    ok(interrupted > 0, "critical text was interrupted %u times", interrupted);
    IS(seen_inside, 0, "and nothing pending was done in it");
    IS(late, 0, "but as soon as it was left");
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    ncpus = arch_cpu_count();
    if (argc > 1 && strcmp(argv[1], "quick") == 0)
        rounds = 300;
    // QEMU's CPUs take turns on the machine's: every wait for all is long.
    if (ncpus > 2)
        rounds /= 4;
    test_calls();
    test_system_stack();
    test_timer();
    test_critical_text();
    test_shootdown();
    test_locks();
    test_interrupts_and_stacks();
    test_fpu();
    test_rounding();
    arch_on_system_stack((void (*)(void *))(uintptr_t)frame_check, NULL);
    return tap_end();
}
