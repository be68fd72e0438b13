// See tiny.h.
//
// Locks: `begins` of a block is written only by the CPU that fills it; `ended` by
// whoever frees. Whether a block is dead is asked after each change by who made
// it; both sides are seq_cst, so that one of two sees the whole, and the bit GONE
// decides if both do.

#include "runtime/heap/tiny.h"

#include "runtime/heap/owned.h"

enum {
    CURRENT = 0x80, // in begins: being filled
    GONE = 0x80,    // in ended: somebody frees the block
    LAST = 12,      // where a tenant may begin
};

static _Atomic uint8_t *begins_of(struct span *s, unsigned slot)
{
    return (_Atomic uint8_t *)(s->bits + 2 * span_words(s)) + slot;
}

static _Atomic uint8_t *ended_of(struct span *s, unsigned slot)
{
    return begins_of(s, s->slots + slot);
}

// True for one caller, once.
static bool is_dead(struct span *s, unsigned slot)
{
    _Atomic uint8_t *ended = ended_of(s, slot);
    uint8_t begins =
        atomic_load_explicit(begins_of(s, slot), memory_order_seq_cst);

    // A block that is being filled has CURRENT set, `ended` has it never.
    return atomic_load_explicit(ended, memory_order_seq_cst) == begins &&
           (atomic_fetch_or_explicit(ended, GONE, memory_order_seq_cst) &
            GONE) == 0;
}

static size_t align_of(size_t n)
{
    return n % 8 == 0 ? 8 : n % 4 == 0 ? 4 : 2;
}

static void set_begin(struct span *s, unsigned slot, unsigned off, uint8_t more)
{
    uint8_t was =
        atomic_load_explicit(begins_of(s, slot), memory_order_relaxed);

    atomic_store_explicit(begins_of(s, slot),
                          (uint8_t)(was | 1u << off / 2 | more),
                          memory_order_relaxed);
}

// filled() on another CPU reads them, the block before and after the end.
static void set_block(struct cache *c, uintptr_t block)
{
    atomic_store_explicit((_Atomic uintptr_t *)&c->tiny, block,
                          memory_order_release);
}

static void set_end(struct cache *c, size_t end)
{
    atomic_store_explicit((_Atomic unsigned *)&c->tiny_end, (unsigned)end,
                          memory_order_release);
}

// The block gets no more tenants.
static void retire(struct cache *c)
{
    void *block = (void *)c->tiny;

    if (block == NULL)
        return;
    struct span *s = span_of(c->tiny);
    unsigned slot = span_slot(s, c->tiny);
    _Atomic uint8_t *begins = begins_of(s, slot);

    set_block(c, 0);
    atomic_store_explicit(
        begins,
        (uint8_t)(atomic_load_explicit(begins, memory_order_relaxed) &
                  ~CURRENT),
        memory_order_seq_cst);
    if (is_dead(s, slot))
        cache_free_slot(c, s, block);
}

void tiny_flush(struct cache *c)
{
    retire(c);
}

static void *new_block(struct cache *c, size_t n)
{
    struct span *s = owned_find(c, HEAP_CLASS_TINY, HEAP_NOSCAN);
    bool fresh;

    if (s == NULL)
        return NULL;
    void *p = owned_take_one(c, s, 0, &fresh);
    unsigned slot = span_slot(s, (uintptr_t)p);
    // What the block that is being filled has left is given up if it is less.
    bool fill = c->tiny == 0 || c->tiny_end > n;

    if (fill)
        retire(c);
    atomic_store_explicit(begins_of(s, slot), 0, memory_order_relaxed);
    atomic_store_explicit(ended_of(s, slot), 0, memory_order_relaxed);
    set_begin(s, slot, 0, fill ? CURRENT : 0);
    if (fill) {
        set_end(c, n);
        set_block(c, (uintptr_t)p);
    }
    arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)p / 16);
    return p;
}

void *tiny_alloc(struct cache *c, size_t n)
{
    unsigned off = (unsigned)align_up(c->tiny_end, align_of(n));

    if (c->tiny == 0 || off > LAST || off + n > 16) {
        void *p = new_block(c, n);

        c->tiny_mallocs += p != NULL;
        return p;
    }
    struct span *s = span_of(c->tiny);

    c->tiny_mallocs++;
    set_begin(s, span_slot(s, c->tiny), off, 0);
    set_end(c, off + n);
    return (void *)(c->tiny + off);
}

const char *tiny_free(struct span *s, uintptr_t va, bool *dead)
{
    unsigned slot = span_slot(s, va), off = va % 16;
    uint8_t begins =
        atomic_load_explicit(begins_of(s, slot), memory_order_relaxed);

    *dead = false;
    if (off % 2 != 0 || off > LAST || (begins >> off / 2 & 1) == 0)
        return "not the beginning of an object";
    // Release: our uses of it come before the next ones of the block.
    if (atomic_fetch_or_explicit(ended_of(s, slot), (uint8_t)(1u << off / 2),
                                 memory_order_seq_cst) >>
            off / 2 &
        1)
        return "freed already";
    *dead = is_dead(s, slot);
    return NULL;
}

static uintptr_t block_of(struct cache *c)
{
    return atomic_load_explicit((_Atomic uintptr_t *)&c->tiny,
                                memory_order_acquire);
}

// How far a block is filled.
static unsigned filled(uintptr_t block)
{
    for (unsigned cpu = 0; cpu < ARCH_MAX_CPUS; cpu++) {
        struct cache *c = cache_of_cpu(cpu);

        if (c == NULL || block_of(c) != block)
            continue;
        // A tenant keeps the block from being filled a second time.
        unsigned end = atomic_load_explicit((_Atomic unsigned *)&c->tiny_end,
                                            memory_order_acquire);

        if (block_of(c) == block)
            return end;
    }
    return 16;
}

size_t tiny_usable(struct span *s, uintptr_t va)
{
    unsigned slot = span_slot(s, va), off = va % 16;
    unsigned end = filled(va - off);
    unsigned begins =
        atomic_load_explicit(begins_of(s, slot), memory_order_relaxed);
    unsigned ended =
        atomic_load_explicit(ended_of(s, slot), memory_order_relaxed);

    if (off % 2 != 0 || off > LAST || ((begins & ~ended) >> off / 2 & 1) == 0)
        return 0;
    begins = (begins & ~(unsigned)CURRENT) >> (off / 2 + 1);
    return begins != 0 ? ((unsigned)__builtin_ctz(begins) + 1) * 2 : end - off;
}

unsigned tiny_tenants(struct span *s, unsigned slot)
{
    unsigned begins =
        atomic_load_explicit(begins_of(s, slot), memory_order_relaxed);
    unsigned ended =
        atomic_load_explicit(ended_of(s, slot), memory_order_relaxed);

    return (unsigned)__builtin_popcount(begins & ~ended & ~(unsigned)CURRENT);
}

bool tiny_is_sound(struct span *s, unsigned slot, bool filled)
{
    unsigned ended =
        atomic_load_explicit(ended_of(s, slot), memory_order_acquire);
    unsigned begins =
        atomic_load_explicit(begins_of(s, slot), memory_order_relaxed);

    return (begins & 1) != 0 && (ended & ~(begins | GONE)) == 0 &&
           ((begins & CURRENT) != 0) == filled;
}
