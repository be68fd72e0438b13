// Memory that is there only in pieces, or only if somebody gives it back: any size
// that can be promised is mapped whole, whatever frames it comes from.

#include <gneiss/cpu.h>
#include <gneiss/mem.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/aside.h"
#include "host-tests/guest/par.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"

#include "mm/fcache.h"
#include "mm/mm.h"

enum { RW = GN_READ | GN_WRITE };

enum { MOST = 256 * MIB / PAGE_SIZE }; // frames

// ---- frames that somebody keeps, so that no free ones are neighbours ----

static uint64_t kept, nkept; // the list's first frame; how many
static unsigned apart;       // every so many frames one is kept

static void push(uint64_t *list, paddr_t p)
{
    *(uint64_t *)arch_direct(p) = *list;
    *list = p.raw;
}

static paddr_t pop(uint64_t *list)
{
    paddr_t p = paddr(*list);

    *list = *(uint64_t *)arch_direct(p);
    return p;
}

static void scatter_call(void *arg)
{
    uint64_t others = 0;
    paddr_t p;

    (void)arg;
    while ((p = frame_cache_take(FRAME_DIRTY)).raw != 0) {
        bool keep = p.raw / PAGE_SIZE % apart == 0;

        push(keep ? &kept : &others, p);
        nkept += keep;
    }
    while (others != 0)
        frame_put(pop(&others));
    frame_cache_flush();
}

static void gather_call(void *arg)
{
    (void)arg;
    while (kept != 0)
        frame_put(pop(&kept));
}

static void scatter(unsigned n)
{
    apart = n;
    nkept = 0;
    arch_on_system_stack(scatter_call, NULL);
    mm_charge_stack(nkept);
}

static void gather(void)
{
    arch_on_system_stack(gather_call, NULL);
    mm_uncharge(nkept);
}

static void block_call(void *arg)
{
    unsigned order = *(unsigned *)arg;
    paddr_t p = frame_alloc(order, FRAME_DIRTY);

    if (p.raw != 0)
        frame_free(p, order);
    *(unsigned *)arg = p.raw != 0;
}

static bool has_block(unsigned order)
{
    arch_on_system_stack(block_call, &order);
    return order;
}

// ---- mapping ----

// Pages that a mapping, or malloc, takes beside the memory: they matter where
// the stacks of the CPUs are most of it.
enum { TABLES = 10, HEAP_KEEPS = 80 };

// Each page gets a word of its own, and all are looked at afterwards.
static bool touch_all(char *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += PAGE_SIZE) {
        if (*(uint64_t *)(p + i) != 0)
            return false;
        *(uint64_t *)(p + i) = ~i;
    }
    for (size_t i = 0; i < bytes; i += PAGE_SIZE) {
        if (*(uint64_t *)(p + i) != ~i)
            return false;
    }
    return true;
}

static void map_all(uint64_t n)
{
    char *p = gn_map(NULL, n * PAGE_SIZE, RW, 0);

    ok(p != NULL, "all of them are one mapping");
    ok(p != NULL && touch_all(p, n * PAGE_SIZE), "which holds what is stored");
    if (p != NULL && n * PAGE_SIZE >= 2 * MIB) {
        IS(gn_advise(p, 2 * MIB, GN_PROMOTE), 0, "no large page can be made");
        ok(*(uint64_t *)(p + PAGE_SIZE) == ~(uint64_t)PAGE_SIZE,
           "and the contents stay");
    }
    gn_unmap(p, n * PAGE_SIZE);
}

static void test_single_frames(void)
{
    struct accounts before = settle();
    uint64_t all, n;

    set_aside(MOST);
    all = room();
    scatter(2);
    ok(!has_block(1), "no two free frames are a pair");
    for (n = room(); n > 0 && mm_mapping_cost(n * PAGE_SIZE) > room();)
        n--;
    ok(n + 16 >= min_u64(total_frames() / 3, all - nkept),
       "%llu of %llu frames can be promised", (unsigned long long)n,
       (unsigned long long)total_frames());
    if (n > 0)
        map_all(n);
    else
        printf("# single frames: left out, too little memory\n");
    gather();
    bring_back();
    is_settled(&before, "single frames");
}

static void test_most_of_memory(void)
{
    struct accounts before = settle();
    size_t bytes;
    char *p;

    set_aside(MOST);
    scatter(16);
    bytes = min_u64(total_frames() / 10 * 8, room() - TABLES) * PAGE_SIZE;
    ok(!has_block(4), "no 16 free frames are one block");
    p = gn_map(NULL, bytes, RW, 0);
    ok(p != NULL, "%zu of %llu KiB are one mapping", bytes / KIB,
       (unsigned long long)total_frames() * PAGE_SIZE / KIB);
    ok(p != NULL && touch_all(p, bytes), "which holds what is stored");
    gn_unmap(p, bytes);
    gather();
    bring_back();
    is_settled(&before, "most of memory");
}

static void test_malloc_most(void)
{
    size_t bytes;
    char *p;

    set_aside(MOST);
    scatter(16);
    bytes = min_u64(total_frames() / 10 * 8, room() - TABLES) * PAGE_SIZE;
    if (bytes > (room() - HEAP_KEEPS) * PAGE_SIZE)
        bytes = (room() - HEAP_KEEPS) * PAGE_SIZE;
    p = malloc(bytes);
    if (p != NULL)
        memset(p, 0, bytes);
    ok(p != NULL && touch_all(p, bytes), "malloc has as much, less its own");
    free(p);
    gather();
    bring_back();
}

// ---- reclaim ----

// What malloc keeps for later is given up for a mapping.
static void test_heap_gives_back(void)
{
    enum { PIECES = 64, LEAST = 2000 };
    void *piece[PIECES];
    size_t size = total_frames() * PAGE_SIZE / 64 / PIECES;
    uint64_t all, n;
    char *p;

    if (size < LEAST)
        size = LEAST;
    mm_reclaim(UINT64_MAX);
    all = room();
    for (int i = 0; i < PIECES; i++) {
        piece[i] = malloc(size);
        if (piece[i] != NULL)
            memset(piece[i], 1, size);
    }
    for (int i = 0; i < PIECES; i++)
        free(piece[i]);
    uint64_t keeps = all - room();

    // It keeps a share of memory: few pages of 2 MiB.
    ok(keeps > (all < 400 ? 8 : 16), "malloc keeps %llu pages that nobody uses",
       (unsigned long long)keeps);
    for (n = room(); mm_mapping_cost(n * PAGE_SIZE) < room() + keeps / 2;)
        n++;
    p = gn_map(NULL, n * PAGE_SIZE, RW, 0);
    ok(p != NULL, "a mapping gets them");
    gn_unmap(p, n * PAGE_SIZE);
}

// A hook of the program's own: asked when a frame is needed and few are left.
static _Atomic unsigned calls;
static enum mm_pressure level_seen;

static uint64_t gather_some(uint64_t npages, enum mm_pressure level)
{
    uint64_t n = nkept + naside;

    if (npages == 0 || kept == 0)
        return 0;
    level_seen = level;
    gather();
    bring_back();
    nkept = 0;
    calls++;
    return n;
}

static void test_pressure(void)
{
    static struct mm_reclaimer hook = {.reclaim = gather_some};
    struct accounts before = settle();
    char *p = gn_map(NULL, 16 * PAGE_SIZE, RW, 0);

    if (p == NULL)
        abort();
    IS(mm_pressure(), MM_PLENTY, "frames are plenty");
    set_aside(0);
    scatter(1); // all that are left
    IS(mm_pressure(), MM_CRITICAL, "and critically few when all are taken");
    mm_reclaimer_add(&hook);
    ok(mm_frames_scarce(), "somebody sees it");
    for (int i = 0; i < 1000 && calls == 0; i++)
        g_sleep_until(arch_mono_ns() + 100 * 1000);
    IS(calls, 1, "the scheduler asks who may give some back");
    IS(level_seen, MM_CRITICAL, "and says how few there are");
    ok(touch_all(p, 16 * PAGE_SIZE), "then a store finds its frame");
    IS(mm_pressure(), MM_PLENTY, "and all is well");
    gn_unmap(p, 16 * PAGE_SIZE);
    is_settled(&before, "pressure");
}

static void nothing(unsigned cpu, void *arg)
{
    (void)cpu, (void)arg;
}

int main(void)
{
    gn_cpu_stay(0);
    frame_zeroed_max = 0;
    free(malloc(1));
    par_run(nothing, NULL); // every CPU has what it keeps
    // So has mm: a page of descriptors, which no promise is for.
    gn_unmap(gn_map(NULL, PAGE_SIZE, RW, 0), PAGE_SIZE);
    test_single_frames();
    test_most_of_memory();
    test_malloc_most();
    test_heap_gives_back();
    test_pressure();
    mm_check();
    arch_on_system_stack((void (*)(void *))(uintptr_t)frame_check, NULL);
    ok(true, "accounts and frames are consistent");
    return tap_end();
}
