// See blocks.h.

#include "host-tests/runtime/heap/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "host-tests/runtime/heap/heap_fixture.h"

// ---- whose is what: a bit for each byte of the heap's range ----

enum { WORD_BYTES = 64 };

#define MOST_HEAP (256 * MIB)

static _Atomic uint64_t taken[MOST_HEAP / WORD_BYTES];
static _Atomic uint64_t bytes_taken, blocks_taken;

// The bits of [off, end) that are in the word at off.
static uint64_t mask_of(uint64_t off, uint64_t end)
{
    unsigned at = off % WORD_BYTES;
    uint64_t n = end - off;

    n = n < 64 - at ? n : 64 - at;
    return (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << at;
}

static void claim(const struct block *b, bool take)
{
    uint64_t off = (uintptr_t)b->p - ARCH_HEAP_BASE, end = off + b->usable;

    atomic_fetch_add_explicit(&bytes_taken, take ? b->usable : -b->usable,
                              memory_order_relaxed);
    atomic_fetch_add_explicit(&blocks_taken, take ? 1 : -UINT64_C(1),
                              memory_order_relaxed);
    if (off >= ARCH_HEAP_SIZE)
        return; // a guarded object: pages of its own
    MUST(end <= MOST_HEAP);
    for (; off < end; off = (off / WORD_BYTES + 1) * WORD_BYTES) {
        uint64_t mask = mask_of(off, end);
        _Atomic uint64_t *w = &taken[off / WORD_BYTES];
        uint64_t had =
            take ? atomic_fetch_or_explicit(w, mask, memory_order_relaxed)
                 : atomic_fetch_and_explicit(w, ~mask, memory_order_relaxed);

        MUST((had & mask) == (take ? 0 : mask));
    }
}

struct block_totals block_totals(void)
{
    return (struct block_totals){
        atomic_load_explicit(&bytes_taken, memory_order_relaxed),
        atomic_load_explicit(&blocks_taken, memory_order_relaxed)};
}

// ---- signatures ----

static uint64_t word_of(uint64_t seed, size_t i)
{
    return (seed + i) * UINT64_C(0x9e3779b97f4a7c15);
}

// Small objects without pointers may lie at any address.
static void sign(struct block *b, uint64_t seed)
{
    char *p = b->p;

    b->seed = seed;
    for (size_t i = 0; i < b->usable; i += 8) {
        uint64_t w = word_of(seed, i);

        memcpy(p + i, &w, b->usable - i < 8 ? b->usable - i : 8);
    }
}

static void check_bytes(const struct block *b, size_t n)
{
    const char *p = b->p;

    for (size_t i = 0; i < n; i += 8) {
        uint64_t w = word_of(b->seed, i);

        MUST(memcmp(p + i, &w, n - i < 8 ? n - i : 8) == 0);
    }
}

void block_check(const struct block *b)
{
    if (b->p != NULL)
        check_bytes(b, b->usable);
}

// ---- blocks ----

// What every object of so many bytes is a multiple of.
static size_t natural(size_t n, enum heap_kind kind)
{
    if (kind == HEAP_NOSCAN && n < 16)
        return n % 8 == 0 && n > 0 ? 8 : n % 4 == 0 && n > 0 ? 4 : 2;
    return kind == HEAP_MANUAL || n <= 16 || n > 24 ? 16 : 8;
}

static void look_at(const struct block *b)
{
    struct heap_place at;
    uintptr_t p = (uintptr_t)b->p;

    MUST(b->usable >= b->n);
    if (!heap_place_of(p + b->usable / 2, &at))
        return; // guarded
    MUST(at.span != NULL && at.span->kind == b->kind && at.allocated);
    if (at.span->class == HEAP_CLASS_TINY)
        MUST(at.object <= p && p + b->usable <= at.object + at.size);
    else
        MUST(at.object == p && at.size == b->usable);
}

bool block_new(struct block *b, struct block_request r, uint64_t seed)
{
    *b = (struct block){.p = heap_alloc(r.n, r.kind, r.align, r.zero),
                        .n = r.n,
                        .kind = r.kind};
    if (b->p == NULL)
        return false;
    b->usable = heap_usable(b->p);
    MUST((uintptr_t)b->p % r.align == 0);
    MUST((uintptr_t)b->p % natural(r.n, r.kind) == 0);
    look_at(b);
    claim(b, true);
    for (size_t i = 0; r.zero && i < r.n; i++)
        MUST(((char *)b->p)[i] == 0);
    sign(b, seed);
    return true;
}

bool block_resize(struct block *b, size_t n, uint64_t seed)
{
    block_check(b);
    claim(b, false);
    void *q = heap_realloc(b->p, n);

    if (q == NULL) {
        claim(b, true);
        block_check(b);
        return false;
    }
    struct block was = *b;

    b->p = q;
    check_bytes(b, n < was.usable ? n : was.usable);
    MUST(q == was.p || (uintptr_t)q % natural(n, b->kind) == 0);
    b->n = n;
    b->usable = heap_usable(q);
    look_at(b);
    claim(b, true);
    sign(b, seed);
    return true;
}

void block_free(struct block *b)
{
    if (b->p == NULL)
        return;
    block_check(b);
    claim(b, false);
    heap_free(b->p);
    b->p = NULL;
}

struct block_request block_some(uint64_t random, size_t most)
{
    static const size_t bounds[] = {32,   128,   512,   1100,   1100,
                                    4000, 17000, 34000, 100000, 1000000};
    struct block_request r = {.align = 1};
    unsigned how = random >> 48 & 0x7f, size = random >> 40 & 0xff;
    size_t bound = bounds[size < 220   ? size % 6
                          : size < 252 ? 6 + size % 2
                                       : 8 + size % 2];

    r.n = random % 1000003 * bound / 1000003;
    r.n = r.n < most ? r.n : most;
    r.kind = (enum heap_kind)(how % HEAP_KINDS);
    r.zero = random >> 60 & 1;
    if (how >= 100)
        r.align = (size_t)1 << (how - 100) % 18;
    return r;
}

uint64_t block_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s * UINT64_C(0x2545f4914f6cdd1d);
}
