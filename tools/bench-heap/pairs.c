// Takes a block and gives it back at once: 16, 32 ... 1024 bytes in turn. One
// block of each size lives all the time: an allocator may have trouble with a
// size of which nothing lives (mimalloc takes ten times as long then), but
// programs seldom come to that.
#include "common.h"

enum {
    STEP = 16,
    SIZES = 64, // up to 1,024 bytes
    ROUNDS = 2000 * 1000,
};

static unsigned nthreads;

static void *work(void *arg)
{
    uint32_t tag = (uint32_t)(uintptr_t)arg << 31;
    struct block alive[SIZES];

    for (uint32_t i = 0; i < SIZES; i++)
        alive[i] = block_take((i + 1) * STEP, tag++);
    for (unsigned n = 0; n < ROUNDS / nthreads; n++)
        for (uint32_t i = 0; i < SIZES; i++) {
            struct block b = block_take((i + 1) * STEP, tag++);

            block_give(&b);
        }
    for (uint32_t i = 0; i < SIZES; i++)
        block_give(&alive[i]);
    return NULL;
}

int main(int argc, char **argv)
{
    nthreads = threads_of(argc, argv);
    run_threads(nthreads, work);
    printf("pairs: %d operations, %u threads\n", ROUNDS * SIZES, nthreads);
}
