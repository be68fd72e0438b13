// The native back end: threads as CPUs.
//
// Numbers are dense and the lowest free one is given first, so that a program
// whose threads come and go uses few caches. A thread's end frees its number
// (a destructor of thread-specific data); what the C library still does after
// that may start the thread once more, under a number that it cannot give back:
// so when there is no number left, those of threads that are gone are taken.
//
// Locks: numbers_lock, a spinlock of its own, since the CPU has no number yet.

#define _GNU_SOURCE

#include "arch/host/native/native.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

_Thread_local struct native_cpu native_cpu
    __attribute__((tls_model("initial-exec"))) = {.local = &native_nobody};

enum { FREE = 0, LOST = -1 };

static atomic_flag numbers_lock = ATOMIC_FLAG_INIT;
static pid_t thread_of[ARCH_MAX_CPUS]; // [numbers_lock] or FREE, LOST
static void *local_of[ARCH_MAX_CPUS];  // [numbers_lock] NULL: never started
static pthread_key_t at_exit;          // [c]
static bool ready;                     // [numbers_lock]

static void lock_numbers(void)
{
    while (
        atomic_flag_test_and_set_explicit(&numbers_lock, memory_order_acquire))
        sched_yield();
}

static void unlock_numbers(void)
{
    atomic_flag_clear_explicit(&numbers_lock, memory_order_release);
}

static void stop(void *arg)
{
    unsigned cpu = native_cpu.number - 1;

    (void)arg;
    if (native_cpu.number == 0)
        return;
    lock_numbers();
    thread_of[cpu] = FREE;
    native_cpu = (struct native_cpu){.local = &native_nobody};
    unlock_numbers();
}

static bool is_gone(pid_t thread)
{
    return thread > 0 && tgkill(getpid(), thread, 0) != 0 && errno == ESRCH;
}

static unsigned take_number(void)
{
    for (unsigned i = 0; i < ARCH_MAX_CPUS; i++)
        if (thread_of[i] == FREE)
            return i;
    for (unsigned i = 0; i < ARCH_MAX_CPUS; i++)
        if (is_gone(thread_of[i]))
            return i;
    panic("native: more than %d threads", ARCH_MAX_CPUS);
}

void native_start(void)
{
    int saved = errno;

    if (native_cpu.number != 0)
        return;
    lock_numbers();
    if (!ready) {
        if (pthread_key_create(&at_exit, stop) != 0)
            panic("native: no key");
        native_init();
        ready = true;
    }
    unsigned cpu = take_number();

    thread_of[cpu] = gettid();
    native_cpu.number = cpu + 1;
    unlock_numbers();
    if (local_of[cpu] == NULL) {
        native_init_cpu();
        local_of[cpu] = native_cpu.local;
    }
    native_cpu.local = local_of[cpu];
    pthread_setspecific(at_exit, &native_cpu);
    errno = saved;
}

void native_forked(void)
{
    for (unsigned i = 0; i < ARCH_MAX_CPUS; i++)
        if (thread_of[i] != FREE)
            thread_of[i] = LOST;
    if (native_cpu.number != 0)
        thread_of[native_cpu.number - 1] = gettid();
    unlock_numbers(); // whoever held it is gone
}

// ---- what arch.h declares ----

unsigned arch_cpu_count(void)
{
    return ARCH_MAX_CPUS;
}

void arch_on_system_stack(void (*fn)(void *), void *arg)
{
    if (unlikely(native_cpu.number == 0))
        native_start();
    fn(arg);
}

bool arch_on_system(void)
{
    return true;
}

void arch_relax(void)
{
    arch_pause();
    sched_yield();
}

void preempt_pending_slow(void)
{
}

void arch_kick(unsigned cpu)
{
    (void)cpu; // nobody can
}

void arch_call_others(void (*fn)(void *), void *arg)
{
    (void)fn, (void)arg; // nobody can: they see it when they come by
}

uint64_t arch_mono_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t arch_random(void)
{
    uint64_t v = 0;

    while (getrandom(&v, sizeof v, 0) != sizeof v)
        ;
    return v;
}

void panic(const char *fmt, ...)
{
    char text[256];
    va_list args;
    ssize_t ignored;

    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text - 1, fmt, args);

    va_end(args);
    n = n < 0 ? 0 : n < (int)sizeof text - 1 ? n : (int)sizeof text - 2;
    text[n] = '\n';
    ignored = write(2, "panic: ", 7);
    ignored = write(2, text, (size_t)n + 1);
    (void)ignored;
    abort();
}
