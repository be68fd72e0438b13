// A server: connections hold blocks of 8 to 1,000 bytes for random times, and
// outlive the threads that serve them. Each thread replaces random blocks of
// its table, then ends and leaves the table to a successor, which so gives back
// what a thread took that is gone.
//
// Source: the idea is that of P. Larson and M. Krishnan, "Memory allocation for
// long-running server applications", ISMM 1998.
#include "common.h"

enum {
    SLOTS = 5000, // of each thread
    SMALLEST = 8,
    LARGEST = 1000,
    GENERATIONS = 80,
    STEPS = 48 * 1000 * 1000,
    SEED = 4141,
};

struct server {
    struct block table[SLOTS];
    struct rng rng;
    uint32_t tag;
};

static struct server servers[MAX_THREADS];
static unsigned nthreads;

static uint32_t random_bytes(struct server *s)
{
    return SMALLEST + rng_below(&s->rng, LARGEST - SMALLEST + 1);
}

static void *serve(void *arg)
{
    struct server *s = &servers[(uintptr_t)arg];

    for (unsigned n = 0; n < STEPS / GENERATIONS / nthreads; n++) {
        struct block *b = &s->table[rng_below(&s->rng, SLOTS)];

        block_give(b);
        *b = block_take(random_bytes(s), s->tag++);
    }
    return NULL;
}

// One thread has to end as well, so it is not the main one.
static void *generations(void *arg)
{
    for (int i = 0; i < GENERATIONS; i++) {
        pthread_t t;

        if (pthread_create(&t, NULL, serve, arg) != 0)
            fail("no thread");
        pthread_join(t, NULL);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    nthreads = threads_of(argc, argv);
    for (unsigned i = 0; i < nthreads; i++) {
        servers[i].rng.x = SEED + i;
        servers[i].tag = i << 31;
        for (int k = 0; k < SLOTS; k++)
            servers[i].table[k] =
                block_take(random_bytes(&servers[i]), servers[i].tag++);
    }
    run_threads(nthreads, generations);
    for (unsigned i = 0; i < nthreads; i++)
        for (int k = 0; k < SLOTS; k++)
            block_give(&servers[i].table[k]);
    printf("larson: %d operations, %u threads\n", STEPS, nthreads);
}
