// Batches by size, as sh6bench has them: of each size a number of blocks that
// falls with the size; every second batch is given back at once and in order,
// the others only after some more were taken, the youngest batch first and each
// from its end.
//
// Source: what sh6bench (MicroQuill, SmartHeap) is said to do; the program is
// our own.
#include "common.h"

enum {
    SMALLEST = 8,
    LARGEST = 1000,
    SIZE_STEP = 8,
    BATCH_BYTES = 16 * 1024, // of a batch, but at least BATCH_LEAST blocks
    BATCH_LEAST = 16,
    BATCH_MOST = 1024,
    KEPT = 32, // batches
    PASSES = 6400,
};

struct batch {
    struct block block[BATCH_MOST];
    unsigned n;
};

struct worker {
    struct batch kept[KEPT], passing;
    unsigned nkept;
    uint32_t tag;
    uint64_t operations;
};

static struct worker workers[MAX_THREADS];
static unsigned nthreads;

static void fill(struct worker *w, struct batch *b, uint32_t size)
{
    b->n = BATCH_BYTES / size;
    if (b->n > BATCH_MOST)
        b->n = BATCH_MOST;
    if (b->n < BATCH_LEAST)
        b->n = BATCH_LEAST;
    for (unsigned i = 0; i < b->n; i++)
        b->block[i] = block_take(size, w->tag++);
}

static void empty_forwards(struct batch *b)
{
    for (unsigned i = 0; i < b->n; i++)
        block_give(&b->block[i]);
}

static void empty_backwards(struct batch *b)
{
    for (unsigned i = b->n; i > 0; i--)
        block_give(&b->block[i - 1]);
}

static void give_youngest(struct worker *w, unsigned n)
{
    for (; n > 0; n--)
        empty_backwards(&w->kept[--w->nkept]);
}

static void one_pass(struct worker *w)
{
    bool keep = false;

    for (uint32_t size = SMALLEST; size <= LARGEST; size += SIZE_STEP) {
        struct batch *b = keep ? &w->kept[w->nkept++] : &w->passing;

        fill(w, b, size);
        w->operations += b->n;
        if (!keep)
            empty_forwards(b);
        if (w->nkept == KEPT)
            give_youngest(w, KEPT / 2);
        keep = !keep;
    }
    give_youngest(w, w->nkept);
}

static void *work(void *arg)
{
    struct worker *w = &workers[(uintptr_t)arg];

    w->tag = (uint32_t)(uintptr_t)arg << 31;
    for (unsigned pass = 0; pass < PASSES / nthreads; pass++)
        one_pass(w);
    return NULL;
}

int main(int argc, char **argv)
{
    nthreads = threads_of(argc, argv);
    run_threads(nthreads, work);
    printf("sh6: %llu operations, %u threads\n",
           (unsigned long long)(workers[0].operations + workers[1].operations),
           nthreads);
}
