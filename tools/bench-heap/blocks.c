// 100,000 blocks of 1,029 bytes: prints how much more memory was resident than
// they need.
#include "common.h"
#include "memory.h"

enum { BLOCKS = 100 * 1000, SIZE = 1029 };

static struct block block[BLOCKS];

int main(void)
{
    memset(block, 1, sizeof block); // resident before we look
    free(malloc(1));
    long before = resident_kib();

    for (unsigned i = 0; i < BLOCKS; i++)
        block[i] = block_take(SIZE, i);
    long peak = peak_kib() - before;

    for (unsigned i = 0; i < BLOCKS; i++)
        block_give(&block[i]);
    printf("blocks: over %ld KiB, %d blocks of %d bytes\n",
           peak - (long)BLOCKS * SIZE / 1024, BLOCKS, SIZE);
}
