// Memory near its end: what is promised can be touched, what can't be had is
// refused by the call, and the program goes on.

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/aside.h"
#include "host-tests/guest/par.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"

#include <gneiss/cpu.h>

#include "mm/mm.h"

// Of more than these frames some are, all over memory: the rest is set aside.
enum { MOST = 2 * (uint64_t)GIB / PAGE_SIZE };

static uint64_t total_bytes(void)
{
    return total_frames() * PAGE_SIZE;
}

// What the heap needs beside a large piece.
enum { HEAP_KEEPS = 80 };

// 80 % of memory; where that is small, and the stacks of the CPUs are most of the
// rest, what is left for the heap.
static uint64_t most_bytes, most_free;

static void find_most(void)
{
    uint64_t left = room();

    most_bytes =
        min_u64(total_bytes() / 10 * 8,
                (left > HEAP_KEEPS ? left - HEAP_KEEPS : 1) * PAGE_SIZE);
    most_free = min_u64(total_frames() / 10 * 9, mm_free_frames() - HEAP_KEEPS);
    printf("# %llu of %llu KiB are there to be taken\n",
           (unsigned long long)(most_bytes / KIB),
           (unsigned long long)(total_bytes() / KIB));
}

static bool touch(unsigned char *p, size_t n, unsigned char value)
{
    for (size_t i = 0; i < n; i += PAGE_SIZE) {
        p[i] = value;
    }
    for (size_t i = 0; i < n; i += PAGE_SIZE) {
        if (p[i] != value)
            return false;
    }
    return true;
}

static void test_again_and_again(void)
{
    size_t n = (size_t)most_bytes;
    struct accounts before = settle();
    bool right = true;

    for (int i = 0; i < 5; i++) {
        unsigned char *p = malloc(n);

        right = right && p != NULL && touch(p, n, 1);
        free(p);
        if (i == 0)
            before = settle(); // what the heap knows of its pages stays
    }
    ok(right, "80 %% of memory is had, touched, and freed, five times");
    is_settled(&before, "80 % of memory");
    // malloc keeps what is idle for a while, unless it is asked for.
    mm_reclaim(UINT64_MAX);
    ok(mm_free_frames() > most_free, "nearly all of them, when asked for");
}

// The compiler must not leave out a call whose result nobody uses.
static bool refused(void *volatile p)
{
    return p == NULL;
}

static void test_refusal(void)
{
    uint64_t total = total_bytes();
    volatile size_t huge = SIZE_MAX / 4;

    errno = 0;
    ok(refused(malloc((size_t)total * 2)) && errno == ENOMEM,
       "twice the memory is refused with ENOMEM");
    ok(refused(malloc(huge * 2)), "half the address space, too");
    ok(refused(calloc(huge, 8)), "a product that overflows, too");
    ok(!mm_charge(total), "mm_charge refuses more than there is");
    ok(mm_charge(1), "but not a page");
    mm_uncharge(1);
    char *p = malloc(1000);

    ok(p != NULL, "the program goes on");
    free(p);
}

// R14: running out is an error of the call, never of a store. The largest
// piece that malloc gives can be touched to its last byte.
static void test_largest(void)
{
    size_t n = (size_t)total_bytes();
    unsigned char *p = NULL;

    while (p == NULL) {
        n -= n / 256 + PAGE_SIZE;
        p = malloc(n);
    }
    ok(n >= most_bytes,
       "the largest piece is most of memory: %zu "
       "of %llu KiB",
       n / KIB, (unsigned long long)total_bytes() / KIB);
    ok(touch(p, n, 2), "and can be touched whole");
    free(p);
}

static void test_small_pieces(void)
{
    enum { PIECES = 20000 };
    static void *piece[PIECES];
    unsigned seed = 1, filled = 0;
    bool right = true;

    for (int i = 0; i < 200000; i++) {
        seed = seed * 1103515245 + 12345;
        unsigned k = seed / 65536 % PIECES, size = 16 + seed / 7 % 200;

        if (piece[k] != NULL) {
            unsigned char *p = piece[k];

            right = right && *(unsigned *)p == k && p[15] == (k & 0xff);
            free(p);
            piece[k] = NULL;
            filled--;
        } else if ((piece[k] = malloc(size)) != NULL) {
            memset(piece[k], k & 0xff, size);
            *(unsigned *)piece[k] = k;
            filled++;
        }
    }
    ok(right && filled > 0, "small pieces keep their contents");
    for (int i = 0; i < PIECES; i++)
        free(piece[i]);
}

// Filling memory piece by piece ends with NULL, and not with a report.
static void test_filling(void)
{
    struct link {
        struct link *next;
        char rest[60000];
    } *all = NULL, *l;
    unsigned n = 0;

    while ((l = malloc(sizeof *l)) != NULL) {
        memset(l->rest, 1, sizeof l->rest);
        l->next = all;
        all = l;
        n++;
    }
    ok(n > most_bytes / sizeof *l / 8 * 7 && errno == ENOMEM,
       "memory fills up to ENOMEM: %u pieces", n);
    while (all != NULL) {
        l = all->next;
        free(all);
        all = l;
    }
    l = malloc(sizeof *l);
    ok(l != NULL, "and is there again");
    free(l);
}

static _Atomic unsigned wrong, refusals;

static void grow_shrink(unsigned cpu, void *arg)
{
    size_t share = *(size_t *)arg;

    for (int i = 0; i < 20; i++) {
        unsigned char *p = malloc(share);

        if (p == NULL)
            refusals++;
        else if (!touch(p, share, (unsigned char)(2 + cpu)))
            wrong++;
        free(p);
    }
}

int main(void)
{
    size_t share;
    bool little;

    gn_cpu_stay(0);
    settle(); // its goroutines are there
    set_aside(MOST);
    find_most();
    test_again_and_again();
    test_refusal();
    test_small_pieces();
    // What other CPUs' caches of the heap hold can be more than a share.
    little = most_bytes < 2 * MIB;
    share =
        PAGE_SIZE + PAGE_SIZE * room_for(total_frames() / 4 / arch_cpu_count(),
                                         4 * arch_cpu_count());
    par_run(grow_shrink, &share);
    ok(wrong == 0 && (refusals == 0 || little) &&
           refusals < 20 * arch_cpu_count(),
       "all CPUs allocate and free large pieces at once");
    test_largest();
    test_filling();
    bring_back();
    arch_on_system_stack((void (*)(void *))(uintptr_t)frame_check, NULL);
    ok(true, "the frame allocator is consistent");
    return tap_end();
}
