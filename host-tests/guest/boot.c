// What the boot promises: memory, protection, CPUs, clocks, randomness.
//
// usage: boot [cpus=N] [mem=KiB] [now=UNIX_SECONDS]    what the runner gave

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>

#include "arch/x86_64/cpu.h"
#include "mm/mm.h"
#include "mm/pt.h"

int getentropy(void *p, size_t n);

static long long option(int argc, char **argv, const char *name)
{
    size_t n = strlen(name);

    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], name, n) == 0 && argv[i][n] == '=')
            return atoll(argv[i] + n + 1);
    }
    return -1;
}

// ---- memory ----

#define IMAGE_BASE UINT64_C(0xffffffff80000000)

extern const char text_start[], text_end[], rodata_start[], rodata_end[];

struct findings {
    unsigned long leaves, wx, code_writable, executable_elsewhere, low,
        global_user;
};

static void look(uintptr_t va, pte_t e, int level, void *arg)
{
    struct findings *f = arg;
    uint64_t pa = e & PTE_ADDR_MASK & ~(pte_span(level) - 1);
    uint64_t end = pa + pte_span(level);
    bool text = va >= (uintptr_t)text_start && va < (uintptr_t)text_end;

    f->leaves++;
    if ((e & PTE_WRITE) && !(e & PTE_NX))
        f->wx++;
    if (!(e & PTE_NX) && !text)
        f->executable_elsewhere++;
    if ((e & PTE_WRITE) && pa < (uintptr_t)rodata_end - IMAGE_BASE &&
        end > (uintptr_t)text_start - IMAGE_BASE)
        f->code_writable++;
    if (va < UINT64_C(1) << 32)
        f->low++;
    if ((e & PTE_GLOBAL) && va < ARCH_DIRECT_BASE)
        f->global_user++;
}

static void test_tables(void)
{
    struct findings f = {0};
    int level;

    pt_walk(0, 0, look, &f);
    ok(f.leaves > 10, "the page tables can be walked: %lu leaves", f.leaves);
    IS(f.wx, 0, "no page is writable and executable");
    IS(f.executable_elsewhere, 0, "nothing but the text is executable");
    IS(f.code_writable, 0,
       "frames of text and rodata are writable at no address");
    IS(f.low, 0, "nothing is mapped in the low 4 GiB");
    IS(f.global_user, 0, "no page of the program is global");
    ok(pt_find(0, &level) == NULL, "the nil page is not mapped");
    pte_t *e = pt_find(
        (uintptr_t)arch_direct(paddr((uintptr_t)text_start - IMAGE_BASE)),
        &level);

    ok(e != NULL && pte_present(*e) && !(*e & PTE_WRITE) && (*e & PTE_NX),
       "the direct map shows the text, read-only");
    mm_check_wx();
    ok(true, "the boot's own check holds");
    ok(read_cr0() & 1 << 16, "CR0.WP is set");
    ok(!cpu_features.nx || (rdmsr(MSR_EFER) & 1 << 11), "EFER.NXE is set");
    ok(!!(read_cr4() & 1 << 20) == cpu_features.smep,
       "SMEP is on if it is there");
}

static void test_memory(long long mem_kib)
{
    struct frame_stats s = frame_stats();
    long long kib = (long long)(s.total * (PAGE_SIZE / KIB));

    ok(s.free > 0 && s.free <= s.total && s.low_mark <= s.free,
       "the accounts of frames make sense");
    if (mem_kib > 0)
        ok(kib <= mem_kib && kib + 1600 + mem_kib / 50 > mem_kib,
           "the machine's memory is there: %lld of %lld KiB", kib, mem_kib);
    arch_on_system_stack((void (*)(void *))(uintptr_t)frame_check, NULL);
    char *p = malloc(100000);

    memset(p, 1, 100000);
    ok(p != NULL && p[99999] == 1, "malloc works");
    free(p);
}

// ---- CPUs ----

static _Atomic uint64_t seen;
static _Atomic unsigned unlike;

static void present(unsigned cpu, void *arg)
{
    const struct cpu *c = this_cpu();

    if (c->id != cpu || cpu_table[cpu] != c || c->canary != boot_cpu.canary ||
        lapic_id() != c->apic_id || !arch_irqs_enabled() ||
        preempt_count() != 0)
        atomic_fetch_add(&unlike, 1);
    atomic_fetch_or(&seen, UINT64_C(1) << cpu);
    (void)arg;
}

static void test_cpus(long long expected)
{
    unsigned n = arch_cpu_count();

    if (expected > 0)
        IS(n, expected, "all CPUs run");
    par_run(present, NULL);
    ok(seen == (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1),
       "each CPU runs goroutines");
    IS(unlike, 0, "and is set up like the others");
    ok(boot_cpu.canary != 0 && (boot_cpu.canary & 0xff) == 0,
       "the canary is random and ends strings");
}

// ---- clocks ----

static _Atomic uint64_t latest;
static _Atomic unsigned backwards, short_sleeps;

static void read_clock(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
    for (int i = 0; i < 20000; i++) {
        uint64_t before = atomic_load(&latest), now = arch_mono_ns();

        if (now < before)
            atomic_fetch_add(&backwards, 1);
        while (before < now &&
               !atomic_compare_exchange_weak(&latest, &before, now))
            ;
    }
}

static uint64_t now_ns(clockid_t id)
{
    struct timespec t;

    if (clock_gettime(id, &t) != 0)
        return 0;
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void sleep_often(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
    for (long ns = 1; ns < 20000000; ns *= 4) {
        uint64_t start = now_ns(CLOCK_MONOTONIC);
        struct timespec t = {0, ns};

        if (nanosleep(&t, NULL) != 0 ||
            now_ns(CLOCK_MONOTONIC) - start < (uint64_t)ns)
            atomic_fetch_add(&short_sleeps, 1);
    }
}

static void test_clocks(long long now)
{
    struct timespec bad = {0, 1000000000};
    struct timeval tv;

    par_run(read_clock, NULL);
    IS(backwards, 0, "the clock goes forward, across CPUs too");
    par_run(sleep_often, NULL);
    IS(short_sleeps, 0, "nanosleep is never short");
    par_run(read_clock, NULL);
    IS(backwards, 0, "also after its rate was refined");
    errno = 0;
    ok(nanosleep(&bad, NULL) == -1 && errno == EINVAL,
       "nanosleep refuses 10^9 ns");
    time_t t = time(NULL);

    ok(gettimeofday(&tv, NULL) == 0 && tv.tv_sec - t <= 1,
       "time and gettimeofday agree");
    if (now > 0)
        ok(t >= now - 1 && t < now + 120, "the wall clock is right: %lld, %lld",
           (long long)t, now);
    ok(now_ns(CLOCK_MONOTONIC) < UINT64_C(120000000000),
       "the monotonic clock began at boot");
}

// ---- randomness ----

static void test_entropy(void)
{
    unsigned char a[32], b[32], zero[32] = {0};

    ok(getentropy(a, sizeof a) == 0 && getentropy(b, sizeof b) == 0,
       "getentropy works");
    ok(memcmp(a, b, sizeof a) != 0 && memcmp(a, zero, sizeof a) != 0,
       "and differs from call to call");
    printf("# entropy ");
    for (unsigned i = 0; i < sizeof a; i++)
        printf("%02x", a[i]);
    printf("\n");
    errno = 0;
    ok(getentropy(zero, 1000) == -1 && errno == EIO,
       "getentropy refuses more than 256 bytes");
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    test_tables();
    test_memory(option(argc, argv, "mem"));
    test_cpus(option(argc, argv, "cpus"));
    test_clocks(option(argc, argv, "now"));
    test_entropy();
    return tap_end();
}
