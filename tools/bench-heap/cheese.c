// Swiss cheese: chunks of one size, every second one given back, then 16 MiB in
// other sizes, smaller and larger than the holes. Prints how much more memory
// was resident at the peak than lived, how much that may be (10 % and a page a
// chunk), and what was held at the end beyond what lived then.
//
//   cheese SIZE     of a chunk, in KiB
#include "common.h"
#include "memory.h"

enum {
    LEAST_MIB = 64, // of chunks together
    LEAST_CHUNKS = 16,
    MOST_CHUNKS = LEAST_MIB * 1024 / 64,
    FILL = 16 * 1024 * 1024,
    FILL_SMALLEST = 4096,
    FILL_DOUBLINGS = 8, // to 1 MiB
    FILL_BLOCKS = FILL / FILL_SMALLEST,
    SEED = 1815,
};

static struct block chunk[MOST_CHUNKS], filling[FILL_BLOCKS];

int main(int argc, char **argv)
{
    unsigned kib = argc > 1 ? (unsigned)atoi(argv[1]) : 64;
    unsigned n = kib > 0 ? LEAST_MIB * 1024 / kib : 0, filled = 0, i = 0;
    struct rng rng = {SEED};

    if (kib < 64 || kib > 32 * 1024)
        fail("usage: cheese KIB (64 to 32768)");
    if (n < LEAST_CHUNKS)
        n = LEAST_CHUNKS;
    memset(chunk, 0, sizeof chunk);
    memset(filling, 1, sizeof filling); // resident before we look
    free(malloc(1));
    long before = resident_kib();

    for (unsigned c = 0; c < n; c++)
        chunk[c] = block_take(kib * 1024, c);
    for (unsigned c = 0; c < n; c += 2)
        block_give(&chunk[c]);
    for (; filled < FILL; i++) {
        uint32_t size = rng_size(&rng, FILL_SMALLEST, FILL_DOUBLINGS);

        if (size > FILL - filled)
            size = FILL - filled > MIN_BLOCK ? FILL - filled : MIN_BLOCK;
        filling[i] = block_take(size, MOST_CHUNKS + i);
        filled += size;
    }
    long peak = peak_kib() - before, now = resident_kib() - before;
    long most = (long)n * kib, end = most - (n + 1) / 2 * kib + FILL / 1024;

    for (unsigned c = 1; c < n; c += 2)
        block_give(&chunk[c]);
    while (i-- > 0)
        block_give(&filling[i]);
    printf("cheese: over %ld allowed %ld held %ld KiB, %u chunks of %u KiB\n",
           peak - most, most / 10 + (long)n * 4, now - end, n, kib);
}
