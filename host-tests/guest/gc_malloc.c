// malloc.gc=1: what malloc gave and nobody points to any more is freed; all else of
// malloc's is as ever.

#include <gneiss/gc.h>

#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/tap.h"

enum { KEPT = 500 };

struct block {
    size_t n;
    unsigned char *p;
};

static struct block kept[KEPT];
static uint64_t seed = 1;

static uint64_t below(uint64_t n)
{
    seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (seed >> 33) % n;
}

static bool is_whole(const struct block *b)
{
    for (size_t i = 0; i < b->n; i++) {
        if (b->p[i] != (unsigned char)b->n)
            return false;
    }
    return true;
}

static void fill(struct block *b, void *p, size_t n)
{
    if (p == NULL)
        abort();
    *b = (struct block){n, p};
    memset(p, (int)(unsigned char)n, n);
}

int main(void)
{
    uint64_t bytes = 0;
    bool whole = true, aligned = true;
    struct gn_gc_stats s;

    // 1 GiB is forgotten, of all sizes.
    while (bytes < UINT64_C(1) << 30) {
        struct block *b = &kept[below(KEPT)];
        size_t n = below(50) == 0 ? 1 + below(300000) : 1 + below(2000);

        whole &= is_whole(b);
        bytes += n;
        switch (below(6)) {
        case 0:
            fill(b, calloc(1, n), n);
            break;
        case 1: {
            void *p = memalign(256, n);

            aligned &= (uintptr_t)p % 256 == 0;
            fill(b, p, n);
            break;
        }
        case 2: {
            size_t had = b->n < n ? b->n : n;
            unsigned char *p = realloc(b->p, n);

            for (size_t i = 0; i < had; i++)
                whole &= p[i] == (unsigned char)b->n;
            fill(b, p, n);
            break;
        }
        case 3:
            free(b->p);
            fill(b, malloc(n), n);
            break;
        default: {
            void *p = malloc(n);

            aligned &= (uintptr_t)p % 16 == 0;
            fill(b, p, n);
        }
        }
    }
    ok(whole, "what is known stays whole");
    ok(aligned, "and is aligned");
    gn_gc_stats(&s);
    ok(s.cycles > 5 && s.freed_bytes > UINT64_C(500) << 20,
       "the rest was freed");
    printf("# %lu collections, %lu MiB\n", (unsigned long)s.cycles,
           (unsigned long)(s.freed_bytes >> 20));
    errno = 0;
    ok(malloc(UINT64_C(1) << 40) == NULL && errno == ENOMEM,
       "what can't be had is refused");
    return tap_end();
}
