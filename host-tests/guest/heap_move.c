// realloc moves large objects while another CPU faults pages in, in order, right
// before the place where they go.
//
//   heap_move [ROUNDS]

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <gneiss/cpu.h>
#include <gneiss/heap.h>
#include <gneiss/mem.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"

enum { PAGE = 4096, TOUCHED = 16 * PAGE, MOVED = 64 * PAGE, ROUNDS = 1500 };

static unsigned left; // CPU 0's
static _Atomic unsigned wrong;
static _Atomic bool done;

// Moves a large object to the lowest place.
static void move(void)
{
    char *volatile hole = malloc(2 * MOVED);
    char *p = malloc(MOVED), *volatile behind = malloc(MOVED);

    memset(p, 1, MOVED);
    free(hole);
    gn_heap_trim();
    p = realloc(p, 2 * MOVED);
    wrong += p[0] != 1 || memcmp(p, p + 1, MOVED - 1) != 0;
    free(p);
    free(behind);
}

static void touch(void)
{
    volatile char *p = malloc(TOUCHED);

    for (unsigned i = 0; i < TOUCHED; i += PAGE)
        p[i] = 2;
    free((char *)p);
    gn_heap_trim();
}

static void work(unsigned cpu, void *arg)
{
    (void)arg;
    if (cpu == 0) {
        for (; left > 0; left--)
            move();
        done = true;
    }
    while (!done)
        touch();
    gn_heap_trim();
}

static void run(unsigned n)
{
    done = false;
    left = n;
    par_run(work, NULL);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : ROUNDS;

    gn_cpu_stay(0);
    run(1); // stacks and tables
    struct accounts before = settle();

    run(rounds);
    IS(wrong, 0, "what moves keeps its bytes");
    struct accounts after = settle();
    int64_t lost = (int64_t)(frames_known(&before) - frames_known(&after));

    // Metadata of the heap may have grown.
    ok(lost <= 4, "%lld frames are missing", (long long)lost);
    return tap_end();
}
