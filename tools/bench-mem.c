// What memory costs: one source for the guest and for the Linux guest beside
// it, whose init it is a part of (tools/peers/linux-init.c).
//
//   bench-mem              first touches, copy-on-write, a clone of 256 MiB,
//                          mapping and rights: instructions by the TSC, under
//                          -icount; needs 1 GiB of memory
//   bench-mem move         1 GiB, all of it touched, to another place (1.5 GiB)
//   bench-mem shoot P N    N times P pages read-only and back, while all other
//                          CPUs spin in the same address space
//   bench-mem ram          what describes the memory (Gneiss only)
//   bench-mem thp          as without arguments, with large pages
//
// A result is a line "name value": the median of several rounds, instructions
// for each page or call. `shoot` is meant for an emulator with one thread for
// all CPUs (-accel tcg,thread=single): then the time that passes is the CPU time
// of all of them together, waiting included. With a thread for each, on fewer
// processors than CPUs, it would be how long the host lets threads wait. The
// others spin with `pause`, where QEMU goes on to the next CPU.

#ifndef __gneiss__
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#else
#include <gneiss/cpu.h>
#include <gneiss/mem.h>
#endif

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cycles.h"

#define MIB ((size_t)1 << 20)
#define GIB ((size_t)1 << 30)

enum {
    PAGE = 4096,
    HUGE_PAGE = 2 << 20,
    ROUNDS = 5,
    CALLS = 101, // rounds of single calls
    TOUCHED = 4096,
    SPREAD = 4 * TOUCHED, // pages that TOUCHED are picked from
    ZEROED = 512,         // touched of those cleared in advance
};

static uint16_t order[SPREAD]; // the pages, shuffled
static bool huge;

// ---- what differs between the two systems ----

static void fail(const char *what)
{
    fflush(stdout);
    perror(what);
    exit(1);
}

#ifdef __gneiss__

static void *map(size_t bytes)
{
    void *p = gn_map(NULL, bytes, GN_READ | GN_WRITE, 0);

    if (p == NULL)
        fail("map");
    if (huge && bytes >= HUGE_PAGE)
        gn_advise(p, bytes, GN_PROMOTE); // which touches it, too
    return p;
}

static void unmap(void *p, size_t bytes)
{
    if (gn_unmap(p, bytes) != 0)
        fail("unmap");
}

// Without a promise of memory.
static void *map_unpromised(size_t bytes)
{
    void *p = gn_map(NULL, bytes, GN_READ | GN_WRITE, GN_NORESERVE);

    if (p == NULL)
        fail("map");
    return p;
}

// Somebody wants to know which pages are stored to.
static bool watch(void *p)
{
    int watcher = gn_watch_new();

    if (watcher < 0 || gn_watch(watcher, p) != 0)
        fail("watch");
    return true;
}

// Addresses that nobody uses.
static char *free_range(size_t bytes)
{
    char *p = gn_reserve(bytes);

    if (p == NULL)
        fail("reserve");
    unmap(p, bytes);
    return p;
}

static char *move(void *p, size_t bytes, size_t new_bytes, void *to)
{
    char *q = gn_remap(p, bytes, new_bytes, GN_FIXED, to);

    if (q == NULL)
        fail("remap");
    return q;
}

static void protect(void *p, size_t bytes, bool writable)
{
    if (gn_protect(p, bytes, writable ? GN_READ | GN_WRITE : GN_READ) != 0)
        fail("protect");
}

typedef void *clone_t;

static clone_t clone_memory(void *p, size_t bytes)
{
    void *copy = gn_snapshot(p, bytes);

    if (copy == NULL)
        fail("snapshot");
    return copy;
}

static void let_clone_settle(void)
{
}

static void end_clone(clone_t copy, size_t bytes)
{
    unmap(copy, bytes);
}

// Lets an idle CPU clear as many frames as it will.
static void idle(void)
{
    struct gn_mem_stats s;
    uint64_t before;

    gn_mem_stats(&s);
    do {
        before = s.frames_zeroed;
        usleep(10000);
        gn_mem_stats(&s);
    } while (s.frames_zeroed > before);
}

static uint64_t zeroed_hits(void)
{
    struct gn_mem_stats s;

    gn_mem_stats(&s);
    return s.zeroed_hits;
}

// How many; the caller stays on the first.
static unsigned cpus(void)
{
    gn_cpu_stay(0);
    return gn_cpu_count();
}

static void start_on(unsigned cpu, void (*fn)(void *), void *arg)
{
    if (gn_cpu_start(cpu, fn, arg) != 0)
        fail("start");
}

// What describes the frames, in the address space of the runtime.
static void ram(void)
{
    struct gn_mem_stats s;
    struct gn_where w;
    uintptr_t a = 0;
    size_t heads = 0;

    do {
        gn_where((void *)a, &w);
        if (w.kind == GN_KIND_RUNTIME)
            heads += gn_resident((void *)a, w.end - a);
    } while ((a = w.end) != 0);
    gn_mem_stats(&s);
    printf("metadata_kib %zu\n", heads / 1024);
    printf("tables_kib %zu\n", (size_t)s.page_tables * PAGE / 1024);
}

#else

static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        fail("mmap");
    // One more call that a program would not make: not for single pages.
    if (bytes >= HUGE_PAGE)
        madvise(p, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    return p;
}

static void unmap(void *p, size_t bytes)
{
    if (munmap(p, bytes) != 0)
        fail("munmap");
}

static void *map_unpromised(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        fail("mmap");
    madvise(p, bytes, MADV_NOHUGEPAGE);
    return p;
}

static bool watch(void *p)
{
    (void)p;
    return false;
}

static char *free_range(size_t bytes)
{
    char *p = mmap(NULL, bytes, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED)
        fail("mmap");
    unmap(p, bytes);
    return p;
}

static char *move(void *p, size_t bytes, size_t new_bytes, void *to)
{
    char *q = mremap(p, bytes, new_bytes, MREMAP_MAYMOVE | MREMAP_FIXED, to);

    if (q == MAP_FAILED)
        fail("mremap");
    return q;
}

static void protect(void *p, size_t bytes, bool writable)
{
    if (mprotect(p, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ) != 0)
        fail("mprotect");
}

typedef pid_t clone_t;

// All of the address space, which is the memory in question and little else.
static clone_t clone_memory(void *p, size_t bytes)
{
    pid_t child = fork();

    (void)p, (void)bytes;
    if (child < 0)
        fail("fork");
    while (child == 0)
        pause();
    return child;
}

// The child has run, and waits.
static void let_clone_settle(void)
{
    usleep(10000);
}

static void end_clone(clone_t child, size_t bytes)
{
    (void)bytes;
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static void idle(void)
{
    usleep(10000);
}

static uint64_t zeroed_hits(void)
{
    return 0;
}

static unsigned cpus(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        fail("sched_getaffinity");
    return (unsigned)CPU_COUNT(&set);
}

struct thread {
    void (*fn)(void *);
    void *arg;
};

static void *thread_entry(void *t)
{
    ((struct thread *)t)->fn(((struct thread *)t)->arg);
    return NULL;
}

static void start_on(unsigned cpu, void (*fn)(void *), void *arg)
{
    static struct thread all[64];
    pthread_t id;
    pthread_attr_t attr;
    cpu_set_t set;

    all[cpu] = (struct thread){fn, arg};
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    pthread_attr_init(&attr);
    pthread_attr_setaffinity_np(&attr, sizeof set, &set);
    if (pthread_create(&id, &attr, thread_entry, &all[cpu]) != 0)
        fail("pthread_create");
}

static void ram(void)
{
}

#endif

// ---- measuring ----

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

// The median of n totals, for each of `each`.
static void result(const char *name, uint64_t *totals, size_t n, double each)
{
    qsort(totals, n, sizeof *totals, compare);
    printf("%s %.1f\n", name, (double)totals[n / 2] / each);
    fflush(stdout);
}

// Xorshift. Source: Marsaglia, "Xorshift RNGs", 2003.
static uint32_t next_random(void)
{
    static uint32_t state = 12345;

    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static void shuffle(void)
{
    for (uint32_t i = 0; i < SPREAD; i++) {
        uint32_t k = next_random() % (i + 1);

        order[i] = order[k];
        order[k] = (uint16_t)i;
    }
}

static uint64_t touch_in_order(volatile char *p, size_t pages)
{
    uint64_t start = cycles();

    for (size_t i = 0; i < pages; i++)
        p[i * PAGE] = 1;
    return cycles() - start;
}

static uint64_t touch_scattered(volatile char *p, size_t pages)
{
    uint64_t start = cycles();

    for (size_t i = 0; i < pages; i++)
        p[(size_t)order[i] * PAGE] = 1;
    return cycles() - start;
}

// ---- first touches ----

typedef uint64_t touch_fn(volatile char *p, size_t pages);

static void first_touch(const char *name, touch_fn *touch)
{
    uint64_t t[ROUNDS];

    for (int i = 0; i < ROUNDS; i++) {
        char *p = map((size_t)SPREAD * PAGE);

        t[i] = touch(p, TOUCHED);
        unmap(p, (size_t)SPREAD * PAGE);
    }
    result(name, t, ROUNDS, TOUCHED);
}

static void zeroed_touch(const char *name, touch_fn *touch)
{
    uint64_t t[ROUNDS], hits = 0;

    for (int i = 0; i < ROUNDS; i++) {
        char *p = map((size_t)SPREAD * PAGE);

        idle();
        hits -= zeroed_hits();
        t[i] = touch(p, ZEROED);
        hits += zeroed_hits();
        unmap(p, (size_t)SPREAD * PAGE);
    }
    result(name, t, ROUNDS, ZEROED);
    printf("%s_hits %.2f\n", name, (double)hits / (ROUNDS * ZEROED));
}

// ---- copies ----

// Stores to memory that a clone shares. Each page gets a frame of its own.
static void cow(const char *name, touch_fn *touch)
{
    size_t bytes = (size_t)SPREAD * PAGE;
    char *p = map(bytes);
    uint64_t t[ROUNDS];

    touch_in_order(p, SPREAD);
    for (int i = 0; i < ROUNDS; i++) {
        clone_t copy = clone_memory(p, bytes);

        let_clone_settle();
        t[i] = touch(p, TOUCHED);
        end_clone(copy, bytes);
    }
    result(name, t, ROUNDS, TOUCHED);
    unmap(p, bytes);
}

static void clone_256m(void)
{
    enum { TIMES = 3 };
    size_t bytes = 256 * MIB;
    char *p = map(bytes);
    uint64_t t[TIMES];

    for (int i = 0; i < TIMES; i++) {
        touch_in_order(p, bytes / PAGE); // no page is shared
        uint64_t start = cycles();
        clone_t copy = clone_memory(p, bytes);

        t[i] = cycles() - start;
        end_clone(copy, bytes);
    }
    result("clone_256m", t, TIMES, 1);
    unmap(p, bytes);
}

// ---- calls ----

// Mapped, so many pages of it touched, unmapped.
static void map_unmap(const char *name, size_t pages, size_t touched)
{
    uint64_t t[CALLS];

    for (int i = 0; i < CALLS; i++) {
        uint64_t start = cycles();
        char *p = map(pages * PAGE);

        for (size_t k = 0; k < touched; k++)
            ((volatile char *)p)[k * PAGE] = 1;
        unmap(p, pages * PAGE);
        t[i] = cycles() - start;
    }
    result(name, t, CALLS, 1);
}

// Read-only and back: pages [from, from + n) of a mapping, all touched.
static void rights(const char *name, size_t pages, size_t from, size_t n)
{
    uint64_t t[CALLS];
    char *p = map(pages * PAGE);

    for (int i = 0; i < CALLS; i++) {
        touch_in_order(p, pages);
        uint64_t start = cycles();

        protect(p + from * PAGE, n * PAGE, false);
        protect(p + from * PAGE, n * PAGE, true);
        t[i] = cycles() - start;
    }
    result(name, t, CALLS, 1);
    unmap(p, pages * PAGE);
}

static void figures(void)
{
    shuffle();
    first_touch("touch_scattered", touch_scattered);
    first_touch("touch_order", touch_in_order);
    zeroed_touch("touch_zeroed", touch_in_order);
    zeroed_touch("touch_zeroed_scattered", touch_scattered);
    cow("cow_scattered", touch_scattered);
    cow("cow_order", touch_in_order);
    clone_256m();
    map_unmap("map_1", 1, 0);
    map_unmap("map_1_touched", 1, 1);
    map_unmap("map_64_touched", 64, 64);
    rights("protect_1", 1, 0, 1);
    rights("protect_1_inside", 64, 31, 1);
    rights("protect_1000", 1000, 0, 1000);
}

// ---- moving ----

// Moves p, of GIB, to a place, perhaps grown; so many things for each of which to
// report.
static char *move_timed(const char *name, char *p, size_t new_bytes, char *to,
                        double each)
{
    uint64_t start = cycles();

    p = move(p, GIB, new_bytes, to);
    uint64_t t = cycles() - start;

    if (p[0] != 'a' || p[GIB - 1] != 'z')
        fail("contents");
    printf("%s %.*f\n", name, each > 1 ? 3 : 1, (double)t / each);
    fflush(stdout);
    return p;
}

static char *to_place(const char *name, char *p, char *to)
{
    return move_timed(name, p, GIB, to, 1);
}

static char *by_pages(const char *name, char *p, char *to)
{
    return move_timed(name, p, GIB, to, GIB / PAGE);
}

static void touch_all(char *p)
{
    touch_in_order(p, GIB / PAGE);
    p[0] = 'a';
    p[GIB - 1] = 'z';
}

// Where tables of 512 entries can't change hands, from many places in a table to
// many.
static char *move_unaligned(char *p, char *base, char *far)
{
    p = by_pages("move_unaligned_page", p, base + PAGE);
    p = by_pages("move_unaligned_back_page", p, far);
    p = move(p, GIB, GIB, base + 17 * PAGE);
    p = by_pages("move_17_to_255_page", p, far + 255 * PAGE);
    p = move(p, GIB, GIB, base + 511 * PAGE);
    p = by_pages("move_511_to_1_page", p, far + PAGE);
    return by_pages("move_1_to_2_page", p, base + 2 * PAGE);
}

// Once each: the counts are exact, and what is done once is what programs do.
static void moves(void)
{
    char *p = map(GIB);
    char *base = free_range(8 * GIB);

    base += -(uintptr_t)base % GIB;
    char *far = base + 4 * GIB;

    touch_all(p);
    p = move(p, GIB, GIB, base);
    // Multiples of 2 MiB whose distance is none of 1 GiB: tables of 512 entries
    // can change hands, but no more than one at a time.
    p = to_place("move_2m_aligned", p, far + HUGE_PAGE);
    p = to_place("move_2m_aligned_back", p, base);
    p = to_place("move_1g_aligned", p, far);
    p = move_unaligned(p, base, far);
    p = move(p, GIB, GIB, far);
    p = move_timed("move_grown", p, GIB + 16 * MIB, base + HUGE_PAGE, 1);
    unmap(p + GIB, 16 * MIB);
    p = move_timed("move_grown_page", p, GIB + 16 * MIB, far + 3 * PAGE,
                   GIB / PAGE);
    unmap(p + GIB, 16 * MIB);
    if (watch(p)) {
        touch_all(p);
        p = by_pages("move_watched_page", p, base + PAGE);
        p = by_pages("move_watched_back_page", p, far);
    }
    unmap(p, GIB);
    p = map_unpromised(GIB);
    touch_all(p);
    p = by_pages("move_unpromised_page", p, base + PAGE);
    p = by_pages("move_unpromised_back_page", p, far);
    unmap(p, GIB);
}

// ---- shootdowns ----

enum {
    SPINS = 500 * 1000, // of each other CPU: more than the shootdowns last
    MAX_SHOTS = 10000,
};

static _Atomic unsigned spinning, ended;

static void spin(void *arg)
{
    (void)arg;
    spinning++;
    for (int i = 0; i < SPINS; i++)
        __asm__ volatile("pause" ::: "memory");
    ended++;
}

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void shoot(size_t pages, size_t n)
{
    static uint64_t t[MAX_SHOTS];
    unsigned others = cpus() - 1;
    char *p = map(pages * PAGE);
    double ns = now_ns();
    uint64_t ticks = cycles();

    touch_in_order(p, pages);
    for (unsigned i = 1; i <= others; i++)
        start_on(i, spin, NULL);
    while (spinning < others)
        usleep(100);
    for (size_t i = 0; i < n; i++) {
        uint64_t start = cycles();

        protect(p, pages * PAGE, false);
        protect(p, pages * PAGE, true);
        t[i] = cycles() - start;
    }
    if (ended > 0)
        puts("too few spins");
    while (ended < others)
        usleep(1000);
    ns = (now_ns() - ns) / (double)(cycles() - ticks);
    result("shootdown_ticks", t, n, 1);
    result("shootdown_us", t, n, 1000 / ns);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    huge = strcmp(what, "thp") == 0;
    if (strcmp(what, "move") == 0)
        moves();
    else if (strcmp(what, "shoot") == 0 && argc == 4 &&
             atol(argv[3]) <= MAX_SHOTS)
        shoot((size_t)atol(argv[2]), (size_t)atol(argv[3]));
    else if (strcmp(what, "ram") == 0)
        ram();
    else
        figures();
    puts("end");
    return 0;
}
