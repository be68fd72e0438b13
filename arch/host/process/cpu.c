// CPUs as threads: start, rest, doorbells, clock.
//
// A CPU without work sleeps in a futex on its doorbell, which everybody counts up
// before he looks whether it sleeps; it reads the doorbell before it looks for work
// a last time. So one of both sees the other. What comes by a signal meanwhile
// counts the doorbell up as well.

#define _GNU_SOURCE

#include "arch/host/process/process.h"

#include <asm/prctl.h>
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000, SYSTEM_STACK = 256 * KIB };

struct arch_hooks arch_hooks;
struct cpu *cpu_table[ARCH_MAX_CPUS];
_Thread_local struct cpu *my_cpu;

static struct cpu cpus[ARCH_MAX_CPUS];
static unsigned ncpus;    // [c]
static uint64_t start_ns; // [c]

// ---- start ----

unsigned process_cpus(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    return (unsigned)min_u64((uint64_t)CPU_COUNT(&set), ARCH_MAX_CPUS);
}

static void system_stack(struct cpu *c)
{
    pthread_attr_t a;
    void *low;
    size_t size;

    if (pthread_getattr_np(pthread_self(), &a) != 0 ||
        pthread_attr_getstack(&a, &low, &size) != 0)
        panic("process: a thread's stack is unknown");
    pthread_attr_destroy(&a);
    c->sys_low = (uintptr_t)low;
    c->sys_top = (uintptr_t)low + size;
}

static void start_cpu(struct cpu *c)
{
    c->self = c;
    c->id = (uint32_t)(c - cpus);
    c->nopreempt = NOPREEMPT_IDLE | 1;
    c->error = &errno;
    c->thread = gettid();
    c->armed = c->deadline = c->retry = UINT64_MAX;
    system_stack(c);
    if (syscall(SYS_arch_prctl, ARCH_SET_GS, c) != 0)
        panic("process: Linux refuses to set the base of %%gs");
    signal_init_cpu(c);
    my_cpu = c;
    cpu_table[c->id] = c;
}

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void process_start(unsigned n)
{
    ncpus = n;
    start_ns = read_clock(CLOCK_MONOTONIC);
    signal_init();
    start_cpu(&cpus[0]);
}

static void (*entry)(void); // [c] of the others
static pthread_barrier_t started;

static void *run(void *c)
{
    start_cpu(c);
    pthread_barrier_wait(&started);
    entry();
    abort();
}

void process_start_others(void (*fn)(void))
{
    pthread_attr_t a;
    pthread_t t;

    entry = fn;
    pthread_barrier_init(&started, NULL, ncpus);
    pthread_attr_init(&a);
    pthread_attr_setstacksize(&a, SYSTEM_STACK);
    for (unsigned i = 1; i < ncpus; i++) {
        if (pthread_create(&t, &a, run, &cpus[i]) != 0)
            panic("process: no thread for CPU %u", i);
    }
    pthread_attr_destroy(&a);
    pthread_barrier_wait(&started);
}

bool arch_is_cpu(void)
{
    return my_cpu != NULL;
}

unsigned arch_cpu_count(void)
{
    return ncpus;
}

bool arch_on_system(void)
{
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);

    return sp >= this_cpu()->sys_low && sp <= this_cpu()->sys_top;
}

bool arch_is_system_guard(uintptr_t va)
{
    return va < this_cpu()->sys_low && va >= this_cpu()->sys_low - PAGE_SIZE;
}

// ---- waiting for others ----

void arch_relax(void)
{
    enum { SPINS = 64 };
    static _Thread_local unsigned n;

    // Who holds what we wait for may wait for our place on a real CPU.
    if (++n % SPINS == 0)
        sched_yield();
    else
        arch_pause();
}

void arch_idle(bool (*wake)(void))
{
    struct cpu *c = this_cpu();
    uint32_t seen = atomic_load(&c->doorbell);

    atomic_store(&c->idle, true);
    if (!wake())
        syscall(SYS_futex, &c->doorbell, FUTEX_WAIT_PRIVATE, seen, NULL);
    atomic_store(&c->idle, false);
}

void arch_kick(unsigned cpu)
{
    struct cpu *c = cpu_table[cpu];

    atomic_fetch_add(&c->doorbell, 1);
    if (atomic_load(&c->idle))
        syscall(SYS_futex, &c->doorbell, FUTEX_WAKE_PRIVATE, 1);
    else if (c != this_cpu())
        signal_send(c);
}

void arch_call_others(void (*fn)(void *), void *arg)
{
    preempt_disable();
    struct cpu *me = this_cpu();
    uint64_t bit = UINT64_C(1) << me->id;

    me->call_fn = fn;
    me->call_arg = arg;
    for (unsigned i = 0; i < ncpus; i++) {
        if (i == me->id)
            continue;
        atomic_fetch_or(&me->call_waiting, UINT64_C(1) << i);
        atomic_fetch_or(&cpu_table[i]->call_inbox, bit);
        signal_send(cpu_table[i]);
    }
    while (atomic_load(&me->call_waiting) != 0)
        arch_relax();
    preempt_enable();
}

// ---- clock, console, power, random ----

uint64_t arch_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC) - start_ns;
}

uint64_t arch_mono_coarse_ns(void)
{
    uint64_t now = read_clock(CLOCK_MONOTONIC_COARSE);

    return now > start_ns ? now - start_ns : 0; // it may be behind the start
}

uint64_t arch_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

static void arm(struct cpu *c)
{
    uint64_t at = min_u64(c->deadline, c->retry);
    struct itimerspec t = {0};

    if (at >= c->armed)
        return; // it goes off before, and is armed again then
    c->armed = at;
    at = min_u64(at, INT64_MAX - start_ns) + start_ns;
    t.it_value.tv_sec = (time_t)(at / NS_PER_S);
    t.it_value.tv_nsec = (long)(at % NS_PER_S);
    timer_settime(c->timer, TIMER_ABSTIME, &t, NULL);
}

void arch_timer_set(uint64_t mono_ns)
{
    this_cpu()->deadline = mono_ns;
    arm(this_cpu());
}

void timer_retry(struct cpu *c, uint64_t mono_ns)
{
    c->retry = mono_ns;
    arm(c);
}

bool timer_serve(struct cpu *c, bool *retry)
{
    uint64_t now = arch_mono_ns();
    bool due = now >= c->deadline;

    *retry = now >= c->retry;
    if (due)
        c->deadline = UINT64_MAX;
    if (*retry)
        c->retry = UINT64_MAX;
    if (now >= c->armed)
        c->armed = UINT64_MAX;
    arm(c);
    return due;
}

void arch_console_write(enum arch_stream s, const void *p, size_t n)
{
    const char *at = p;

    while (n > 0) {
        ssize_t done = write((int)s, at, n);

        if (done < 0 && errno != EINTR)
            return;
        if (done > 0) {
            at += done;
            n -= (size_t)done;
        }
    }
}

void arch_power_off(int status)
{
    _exit(status);
}

uint64_t arch_entropy(void)
{
    uint64_t v = 0;

    while (getrandom(&v, sizeof v, 0) != sizeof v)
        ;
    return v;
}
