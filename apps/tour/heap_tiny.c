// What several small objects without pointers in one block look like.

#include "apps/tour/heap.h"

#include <stdio.h>
#include <string.h>

enum { BLOCK = 16 };

static const unsigned char sizes[] = {1, 2, 3, 5,  8, 4, 4, 1, 7,
                                      6, 9, 2, 12, 1, 3, 6, 15};

enum { TINY = sizeof sizes };

static char *tiny[TINY];

static uintptr_t block_of(const void *p)
{
    return (uintptr_t)p / BLOCK * BLOCK;
}

// Objects in a block, which are drawn into row. 0: two of them overlap.
static unsigned draw_block(uintptr_t block, char row[BLOCK + 1])
{
    unsigned n = 0;
    bool apart = true;

    memset(row, '.', BLOCK);
    row[BLOCK] = '\0';
    for (unsigned i = 0; i < TINY; i++) {
        if (block_of(tiny[i]) != block)
            continue;
        n++;
        for (unsigned k = 0; k < sizes[i]; k++) {
            char *at = &row[(uintptr_t)tiny[i] - block + k];

            apart = apart && *at == '.';
            *at = (char)('a' + i);
        }
    }
    return apart ? n : 0;
}

static bool is_first_of_block(unsigned i)
{
    for (unsigned k = 0; k < i; k++)
        if (block_of(tiny[k]) == block_of(tiny[i]))
            return false;
    return true;
}

static bool are_aligned(void)
{
    bool right = true;

    for (unsigned i = 0; i < TINY; i++) {
        unsigned align = sizes[i] & -sizes[i]; // the largest power of two

        right = right && (uintptr_t)tiny[i] % align == 0;
    }
    return right;
}

// Draws all blocks. Returns the block with most objects.
static uintptr_t draw_blocks(void)
{
    unsigned blocks = 0, most = 0, bytes = 0;
    uintptr_t fullest = 0;
    bool apart = true;

    for (unsigned i = 0; i < TINY; i++) {
        char row[BLOCK + 1];

        bytes += sizes[i];
        if (!is_first_of_block(i))
            continue;
        unsigned n = draw_block(block_of(tiny[i]), row);

        say("0x%012llx  |%s|  %u", (unsigned long long)block_of(tiny[i]), row,
            n);
        apart = apart && n > 0;
        blocks++;
        if (n > most) {
            most = n;
            fullest = block_of(tiny[i]);
        }
    }
    putchar('\n');
    claim(apart && are_aligned(),
          "none overlap, and each is aligned as its size is");
    claim(blocks < TINY, "%u objects of %u bytes are in %u blocks of %d bytes",
          (unsigned)TINY, bytes, blocks, BLOCK);
    return fullest;
}

static bool is_allocated(uintptr_t block)
{
    struct gn_span s;

    return find_span((void *)block, &s) &&
           bit_of(s.allocated_bits, number_in(&s, (void *)block));
}

// Frees all, those of the block first.
static void show_end_of_block(uintptr_t block)
{
    unsigned last = 0, n = 0;
    bool kept = true;

    gn_heap_trim(); // no block is being filled any more
    for (unsigned i = 0; i < TINY; i++)
        if (block_of(tiny[i]) == block)
            last = i;
    for (unsigned i = 0; i < TINY; i++) {
        if (i == last)
            continue;
        n += block_of(tiny[i]) == block;
        gn_free(tiny[i]);
        kept = kept && is_allocated(block);
    }
    claim(kept, "%u of its %u objects freed: the block is still allocated", n,
          n + 1);
    gn_free(tiny[last]);
    claim(!is_allocated(block), "%c freed as well: now the block is free",
          (char)('a' + last));
}

void chapter_tiny(void)
{
    struct gn_span s;
    bool shared = true;

    if (!spans_are_used())
        return;
    for (unsigned i = 0; i < TINY; i++) {
        tiny[i] = gn_alloc(sizes[i], GN_NOSCAN, 0);
        shared = shared && find_span(tiny[i], &s) && s.shared;
    }
    if (shared) {
        say("a, b, c ... in this order; a row is a block, the number how many:"
            "\n");
        show_end_of_block(draw_blocks());
        return;
    }
    skip("a boot option gives each object a block of its own");
    for (unsigned i = 0; i < TINY; i++)
        gn_free(tiny[i]);
}
