// Batches change hands: each thread fills a batch, exchanges it for a random
// one of a pool that all share, and gives that one's blocks back. With two
// threads half of what a thread gives back is the other's. The batch itself is a
// block too.
//
// Source: the idea is that of xmalloc-test (C. Lever and D. Boreham, "malloc()
// performance in a multithreaded Linux environment", 2000).
#include "common.h"

enum {
    BATCH = 120,
    POOL = 100, // batches
    BATCHES = 320 * 1000,
    SIZES = 16,
    SEED = 1977,
};

static const uint32_t sizes[SIZES] = {
    16, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 320, 512, 768, 1024, 2048,
};

struct batch {
    struct block block[BATCH];
    uint32_t tag; // the batch's own stamp
};

static struct batch *pool[POOL];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned nthreads;

static struct batch *fill(struct rng *rng, uint32_t *tag)
{
    struct batch *b = malloc(sizeof *b);

    if (b == NULL)
        fail("no memory");
    b->tag = *tag;
    for (int i = 0; i < BATCH; i++)
        b->block[i] = block_take(sizes[rng_below(rng, SIZES)], (*tag)++);
    return b;
}

static void empty(struct batch *b)
{
    if (b == NULL)
        return;
    if (b->tag != b->block[0].tag)
        fail("a batch lost its contents");
    for (int i = 0; i < BATCH; i++)
        block_give(&b->block[i]);
    free(b);
}

static void *work(void *arg)
{
    struct rng rng = {SEED + (uintptr_t)arg};
    uint32_t tag = (uint32_t)(uintptr_t)arg << 31;

    for (unsigned n = 0; n < BATCHES / nthreads; n++) {
        struct batch *mine = fill(&rng, &tag), *got;
        uint32_t at = rng_below(&rng, POOL);

        pthread_mutex_lock(&lock);
        got = pool[at];
        pool[at] = mine;
        pthread_mutex_unlock(&lock);
        empty(got);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    nthreads = threads_of(argc, argv);
    run_threads(nthreads, work);
    for (int i = 0; i < POOL; i++)
        empty(pool[i]);
    printf("xmalloc: %d operations, %u threads\n", BATCHES * BATCH, nthreads);
}
