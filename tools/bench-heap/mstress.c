// Rounds of threads that come and go: each takes blocks of all sizes, a few of
// them large, keeps some to its end, gives others back in random order and
// swaps some with what the threads of earlier rounds left behind.
//
// Source: the idea is that of mimalloc's stress test (D. Leijen); the program
// is our own.
#include "common.h"

enum {
    ROUNDS = 120,
    STEPS = 32 * 1000 * 1000, // of all threads and rounds together
    HELD = 3000,              // blocks of one thread
    LEFT = 1000,              // blocks that pass from thread to thread
    SWAP_EVERY = 8,           // steps
    SMALLEST = 16,
    DOUBLINGS = 6,       // most blocks: 16 to 1,023 bytes
    LARGE_EVERY = 64,    // of the others one of so many
    LARGE = 2048,        // and up
    LARGE_DOUBLINGS = 6, // to 128 KiB
    SEED = 43,
};

static struct block left[LEFT]; // [lock]
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned nthreads, this_round;

static struct block take(struct rng *rng, uint32_t *tag)
{
    uint32_t size = rng_below(rng, LARGE_EVERY) == 0
                        ? rng_size(rng, LARGE, LARGE_DOUBLINGS)
                        : rng_size(rng, SMALLEST, DOUBLINGS);

    return block_take(size, (*tag)++);
}

static void swap(struct block *b, struct rng *rng)
{
    uint32_t at = rng_below(rng, LEFT);

    pthread_mutex_lock(&lock);
    struct block other = left[at];

    left[at] = *b;
    pthread_mutex_unlock(&lock);
    *b = other;
}

static void *work(void *arg)
{
    struct rng rng = {SEED + this_round * MAX_THREADS + (uintptr_t)arg};
    uint32_t tag = this_round << 24 | (uint32_t)(uintptr_t)arg << 23;
    struct block *held = calloc(HELD, sizeof *held);

    if (held == NULL)
        fail("no memory");
    for (unsigned n = 0; n < STEPS / ROUNDS / nthreads; n++) {
        struct block *b = &held[rng_below(&rng, HELD)];

        if (n % SWAP_EVERY == 0)
            swap(b, &rng);
        block_give(b);
        *b = take(&rng, &tag);
    }
    for (int i = 0; i < HELD; i++)
        block_give(&held[i]);
    free(held);
    return NULL;
}

// One thread has to end as well, so it is not the main one.
static void *alone(void *arg)
{
    pthread_t t;

    if (pthread_create(&t, NULL, work, arg) != 0)
        fail("no thread");
    pthread_join(t, NULL);
    return NULL;
}

int main(int argc, char **argv)
{
    nthreads = threads_of(argc, argv);
    for (; this_round < ROUNDS; this_round++)
        run_threads(nthreads, nthreads == 1 ? alone : work);
    for (int i = 0; i < LEFT; i++)
        block_give(&left[i]);
    printf("mstress: %d operations, %u threads\n", STEPS, nthreads);
}
