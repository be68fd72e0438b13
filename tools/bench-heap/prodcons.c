// Producer and consumer: one thread takes all blocks, another one gives them
// back, in order, through a queue of batches. With one thread it does both by
// turns: fills the queue, empties it.
#include "common.h"

enum {
    BATCH = 256,
    QUEUE = 16, // batches
    BATCHES = 100 * 1000,
    SMALLEST = 32,
    LARGEST = 512,
    SEED = 90210,
};

struct batch {
    struct block block[BATCH];
};

static struct batch queue[QUEUE];
static unsigned head, tail; // [lock] batches produced, consumed
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct rng rng = {SEED};
static uint32_t tag;

static void produce(struct batch *b)
{
    for (int i = 0; i < BATCH; i++) {
        uint32_t size = SMALLEST + rng_below(&rng, LARGEST - SMALLEST + 1);

        b->block[i] = block_take(size, tag++);
    }
}

static void consume(struct batch *b)
{
    for (int i = 0; i < BATCH; i++)
        block_give(&b->block[i]);
}

static void *producer(void *arg)
{
    (void)arg;
    for (unsigned n = 0; n < BATCHES; n++) {
        pthread_mutex_lock(&lock);
        while (head - tail == QUEUE)
            pthread_cond_wait(&more, &lock);
        pthread_mutex_unlock(&lock);
        produce(&queue[n % QUEUE]);
        pthread_mutex_lock(&lock);
        head++;
        pthread_cond_signal(&more);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void *consumer(void *arg)
{
    (void)arg;
    for (unsigned n = 0; n < BATCHES; n++) {
        pthread_mutex_lock(&lock);
        while (head == tail)
            pthread_cond_wait(&more, &lock);
        pthread_mutex_unlock(&lock);
        consume(&queue[n % QUEUE]);
        pthread_mutex_lock(&lock);
        tail++;
        pthread_cond_signal(&more);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void *both(void *arg)
{
    return arg == NULL ? producer(NULL) : consumer(NULL);
}

int main(int argc, char **argv)
{
    unsigned nthreads = threads_of(argc, argv);

    if (nthreads == 2)
        run_threads(nthreads, both);
    for (unsigned n = 0; nthreads == 1 && n < BATCHES; n += QUEUE) {
        for (int i = 0; i < QUEUE; i++)
            produce(&queue[i]);
        for (int i = 0; i < QUEUE; i++)
            consume(&queue[i]);
    }
    printf("prodcons: %d operations, %u threads\n", BATCHES * BATCH, nthreads);
}
