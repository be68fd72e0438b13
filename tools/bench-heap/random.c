// Random mixed sizes, 8 bytes to 16 KiB, small ones as frequent as large ones
// by doublings. A table of slots; each step gives back the block of a random
// one and takes another.
#include "common.h"

enum {
    SLOTS = 4000, // of all threads together
    STEPS = 27 * 1000 * 1000,
    SMALLEST = 8,
    DOUBLINGS = 11,
    SEED = 20240117,
};

static unsigned nthreads;

static void *work(void *arg)
{
    struct rng rng = {SEED + (uintptr_t)arg};
    uint32_t slots = SLOTS / nthreads, tag = (uint32_t)(uintptr_t)arg << 31;
    struct block *table = calloc(slots, sizeof *table);

    if (table == NULL)
        fail("no memory");
    for (unsigned n = 0; n < STEPS / nthreads; n++) {
        struct block *b = &table[rng_below(&rng, slots)];

        block_give(b);
        *b = block_take(rng_size(&rng, SMALLEST, DOUBLINGS), tag++);
    }
    for (uint32_t i = 0; i < slots; i++)
        block_give(&table[i]);
    free(table);
    return NULL;
}

int main(int argc, char **argv)
{
    nthreads = threads_of(argc, argv);
    run_threads(nthreads, work);
    printf("random: %d operations, %u threads\n", STEPS, nthreads);
}
