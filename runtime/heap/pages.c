// See pages.h.
//
// A chunk is 512 pages (4 MiB): bitmaps `free`, `promised` and `zero`. Its summary
// says how many free pages it begins and ends with and the longest run in it; a
// node of the tree sums up eight of the level below. A search descends from the
// root to the lowest fit; a change climbs from the chunk to the root.
//
//   level 6 (root)    262144 chunks = 1 TiB
//     ...
//   level 0           one chunk
//
// A page that is not promised has no frame and reads as zero. A page is promised
// when it is first handed out, and until pages_scavenge takes it back. `zero`: it is
// free and promised, and still reads as zero; it may have a frame.
//
// All tables lie at ARCH_HEAPMETA_BASE, each in a window large enough for the
// largest heap, and are mapped as far as the heap goes.
//
// Invariants (pages_check): the summaries are those of the bitmaps; the counts
// add up.
//
// Locks: heap_lock (span.h) protects everything.

#include "runtime/heap/pages.h"

#include <string.h>

#include "runtime/heap/memory.h"

enum {
    CHUNK_SHIFT = 9,
    CHUNK = 1 << CHUNK_SHIFT, // pages
    WORDS = CHUNK / 64,
    FAN = 8,
    LEVELS = 7, // 8^6 chunks
};

struct chunk {
    uint64_t free[WORDS], promised[WORDS], zero[WORDS];
};

struct sum {
    uint32_t start, max, end; // pages
};

struct spinlock heap_lock = SPINLOCK_INIT(RANK_HEAP);
struct pages_stats pages_stats;
uint64_t pages_keep = PAGES_KEEP_TENTH, pages_delay, pages_limit = UINT64_MAX;
void (*pages_arm)(uint64_t mono_ns);

// Of a period of pages_delay: when it ends (0: none runs), and how many free and
// promised pages there were at the least. Those were not needed.
static uint64_t period_end, period_least;
static bool armed; // pages_arm was called, and pages_tick has not ended it

// How many idle pages may stay for good.
static uint64_t keep_now(void)
{
    uint64_t used = pages_stats.total - pages_stats.free;

    return pages_keep != PAGES_KEEP_TENTH ? pages_keep : used / 10 + 32;
}

static uint64_t idle_pages(void)
{
    return pages_stats.promised - (pages_stats.total - pages_stats.free);
}
_Atomic uint64_t pages_granules;
_Atomic bool pages_have_white; // [heap_lock] to set

static uint32_t cpus_with_classes[ARCH_MAX_CPUS / 32];
static unsigned cpus_count; // bits set in it

// ---- where things lie ----

#define MAX_PAGES  (ARCH_HEAP_SIZE >> HEAP_PAGE_SHIFT)
#define MAX_CHUNKS (MAX_PAGES >> CHUNK_SHIFT)

// Windows, each of a power of two: an offset is the sum of those before.
#define AT_BITS    (ARCH_HEAPMETA_BASE)
#define AT_SPANS   PAGES_AT_SPANS
#define AT_CHUNKS  (AT_SPANS + MAX_PAGES * sizeof(struct span *))
#define AT_SUMS    (AT_CHUNKS + MAX_CHUNKS * sizeof(struct chunk))
#define SUMS_BYTES (MAX_CHUNKS * 2 * sizeof(struct sum))
#define AT_CLASSES align_up(AT_SUMS + SUMS_BYTES, PAGE_SIZE)

_Static_assert(MAX_PAGES * sizeof(struct span *) >=
                   MAX_CHUNKS *
                           (sizeof(struct chunk) + 2 * sizeof(struct sum)) +
                       PAGE_SIZE,
               "the white bits lie behind");

uint8_t *pages_classes(unsigned cpu)
{
    return (uint8_t *)(AT_CLASSES + cpu * MAX_PAGES);
}

static struct chunk *chunk_at(uint64_t i)
{
    return (struct chunk *)AT_CHUNKS + i;
}

// The root first: small heaps touch the beginning of each level only.
static struct sum *sum_at(int level, uint64_t i)
{
    uint64_t above =
        ((UINT64_C(1) << 3 * (LEVELS - 1 - level)) - 1) / (FAN - 1);

    return (struct sum *)AT_SUMS + above + i;
}

static uint64_t pages_below(int level) // that a node of this level describes
{
    return (uint64_t)CHUNK << (3 * level);
}

// ---- summaries ----

static struct sum sum_chunk(const struct chunk *c)
{
    struct sum s = {0};
    uint32_t run = 0;
    bool all = true;

    for (int w = 0; w < WORDS; w++) {
        uint64_t v = c->free[w];
        unsigned at = 0;

        if (v == UINT64_MAX) {
            run += 64;
            continue;
        }
        while (at < 64) { // runs of ones and of zeros in turn
            uint64_t rest = v >> at;
            unsigned n = ~rest != 0 ? (unsigned)__builtin_ctzll(~rest) : 64;

            n = n < 64 - at ? n : 64 - at;
            run += n;
            at += n;
            if (at == 64)
                break;
            if (all)
                s.start = run;
            all = false;
            s.max = run > s.max ? run : s.max;
            run = 0;
            rest = v >> at;
            n = rest != 0 ? (unsigned)__builtin_ctzll(rest) : 64;
            at += n < 64 - at ? n : 64 - at;
        }
    }
    if (all)
        s.start = run;
    s.end = run;
    s.max = run > s.max ? run : s.max;
    return s;
}

static uint64_t nodes_at(int level)
{
    uint64_t n = pages_stats.total >> CHUNK_SHIFT;

    for (; level > 0; level--)
        n = (n + FAN - 1) / FAN;
    return n;
}

// Sums up the children of a node.
static struct sum sum_node(int level, uint64_t i)
{
    uint64_t first = i * FAN, last = nodes_at(level - 1);
    uint32_t span = (uint32_t)pages_below(level - 1);
    struct sum s = {0};
    uint32_t run = 0;
    bool all = true;

    if (last > first + FAN)
        last = first + FAN;
    for (uint64_t k = first; k < last; k++) {
        struct sum c = *sum_at(level - 1, k);

        if (c.start == span) {
            run += span;
            continue;
        }
        if (all)
            s.start = run + c.start;
        all = false;
        s.max = run + c.start > s.max ? run + c.start : s.max;
        s.max = c.max > s.max ? c.max : s.max;
        run = c.end;
    }
    if (all)
        s.start = run;
    s.end = last == first + FAN ? run : 0; // nothing continues past the end
    s.max = run > s.max ? run : s.max;
    return s;
}

static bool put_sum(struct sum *at, struct sum s)
{
    bool changed = at->start != s.start || at->max != s.max || at->end != s.end;

    *at = s;
    return changed;
}

// The bits of these chunks have changed.
static void climb(uint64_t first, uint64_t last)
{
    bool changed = false;

    for (uint64_t c = first; c <= last; c++)
        changed |= put_sum(sum_at(0, c), sum_chunk(chunk_at(c)));
    for (int level = 1; changed && level < LEVELS; level++) {
        changed = false;
        first /= FAN;
        last /= FAN;
        for (uint64_t i = first; i <= last; i++)
            changed |= put_sum(sum_at(level, i), sum_node(level, i));
    }
}

// The lowest run of n free bits in a chunk that is known to have one.
static unsigned find_in_chunk(const struct chunk *c, uint64_t n)
{
    uint64_t run = 0;

    for (unsigned i = 0; i < CHUNK;) {
        uint64_t rest = c->free[i / 64] >> (i % 64);
        unsigned left = 64 - i % 64, k;

        if (rest & 1) {
            k = ~rest != 0 ? (unsigned)__builtin_ctzll(~rest) : 64;
            k = k < left ? k : left;
            run += k;
            i += k;
            if (run >= n)
                return i - (unsigned)run;
        } else {
            run = 0;
            k = rest != 0 ? (unsigned)__builtin_ctzll(rest) : 64;
            i += k < left ? k : left;
        }
    }
    panic("heap: a summary promises %lu pages that are not there",
          (unsigned long)n);
}

// The lowest run of n free pages.
static uint64_t find(uint64_t n)
{
    int level = LEVELS - 1;
    uint64_t node = 0;

    if (pages_stats.total == 0 || sum_at(level, 0)->max < n)
        return HEAP_NO_PAGE;
    for (; level > 0; level--) {
        uint64_t span = pages_below(level - 1), run = 0, k = node * FAN;

        for (;; k++) {
            struct sum c = *sum_at(level - 1, k);

            if (run + c.start >= n)
                return k * span - run; // it lies across children
            if (c.max >= n)
                break;
            run = c.start == span ? run + span : c.end;
        }
        node = k;
    }
    return node * CHUNK + find_in_chunk(chunk_at(node), n);
}

// ---- bits ----

static uint64_t mask_of(unsigned at, unsigned n)
{
    return (n == 64 ? UINT64_MAX : (UINT64_C(1) << n) - 1) << at;
}

// Calls fn for each word that holds bits of [page, page + n).
static void each_word(uint64_t page, uint64_t n,
                      void (*fn)(struct chunk *c, unsigned word, uint64_t mask,
                                 void *arg),
                      void *arg)
{
    while (n > 0) {
        unsigned at = page % 64, k = 64 - at;

        k = k < n ? k : (unsigned)n;
        fn(chunk_at(page >> CHUNK_SHIFT), page % CHUNK / 64, mask_of(at, k),
           arg);
        page += k;
        n -= k;
    }
}

static void count_unpromised(struct chunk *c, unsigned word, uint64_t mask,
                             void *arg)
{
    *(uint64_t *)arg +=
        (unsigned)__builtin_popcountll(mask & ~c->promised[word]);
}

// Stored in one piece: pages_promised() reads it without heap_lock.
static void put_promised(struct chunk *c, unsigned word, uint64_t value)
{
    atomic_store_explicit((_Atomic uint64_t *)&c->promised[word], value,
                          memory_order_relaxed);
}

static void use(struct chunk *c, unsigned word, uint64_t mask, void *arg)
{
    (void)arg;
    ASSERT((c->free[word] & mask) == mask);
    c->free[word] &= ~mask;
    c->zero[word] &= ~mask;
    put_promised(c, word, c->promised[word] | mask);
}

static void unuse(struct chunk *c, unsigned word, uint64_t mask, void *arg)
{
    (void)arg;
    ASSERT((c->free[word] & mask) == 0);
    c->free[word] |= mask;
}

unsigned pages_promised(uintptr_t va, unsigned n)
{
    uint64_t page = heap_page_of(va);
    uint64_t *word =
        &chunk_at(page >> CHUNK_SHIFT)->promised[page % CHUNK / 64];
    uint64_t bits =
        atomic_load_explicit((_Atomic uint64_t *)word, memory_order_relaxed);
    uint64_t not = ~(bits >> page % 64);
    unsigned run = not != 0 ? (unsigned)__builtin_ctzll(not ) : 64;
    unsigned frames =
        run * HEAP_PAGE_FRAMES - (unsigned)(va / PAGE_SIZE % HEAP_PAGE_FRAMES);

    return run == 0 ? 0 : frames < n ? frames : n;
}

// ---- growing ----

static bool map_tables(uint64_t first, uint64_t n) // pages
{
    uint64_t chunk = first >> CHUNK_SHIFT, chunks = n >> CHUNK_SHIFT;
    uint64_t granules = n * (HEAP_PAGE / 16);
    bool ok =
        heap_memory_meta(AT_BITS + first * (HEAP_PAGE / 128), granules / 8) &&
        heap_memory_meta(AT_SPANS + first * sizeof(struct span *),
                         n * sizeof(struct span *)) &&
        heap_memory_meta((uintptr_t)chunk_at(chunk),
                         chunks * sizeof(struct chunk));

    for (int level = 0; ok && level < LEVELS; level++) {
        ok = heap_memory_meta((uintptr_t)sum_at(level, chunk),
                              (chunks + 1) * sizeof(struct sum));
        chunk /= FAN;
        chunks = chunks / FAN + 1;
    }
    if (ok && pages_have_white)
        ok = heap_memory_meta(PAGES_AT_WHITE + first * (HEAP_PAGE / 128),
                              granules / 8);
    for (unsigned cpu = 0; ok && cpu < ARCH_MAX_CPUS; cpu++) {
        if (cpus_with_classes[cpu / 32] >> cpu % 32 & 1)
            ok = heap_memory_meta((uintptr_t)pages_classes(cpu) + first, n);
    }
    return ok;
}

bool pages_add_cpu(unsigned cpu)
{
    if (pages_stats.total > 0 &&
        !heap_memory_meta((uintptr_t)pages_classes(cpu), pages_stats.total))
        return false;
    cpus_with_classes[cpu / 32] |= UINT32_C(1) << cpu % 32;
    cpus_count++;
    return true;
}

bool pages_add_white(void)
{
    uint64_t bytes = pages_stats.total * (HEAP_PAGE / 128);

    if (pages_have_white)
        return true;
    if (bytes > 0 && !heap_memory_meta(PAGES_AT_WHITE, bytes))
        return false;
    pages_stats.metadata += bytes;
    pages_have_white = true;
    return true;
}

// By `slack` and n pages, of which n will be taken. By whole chunks, which cost
// tables of some pages and nothing else.
static bool grow(uint64_t slack, uint64_t n)
{
    uint64_t first = pages_stats.total, more = align_up(slack + n, CHUNK);
    uint64_t chunk = first >> CHUNK_SHIFT, chunks = more >> CHUNK_SHIFT;

    // So that what can't be had costs no tables either, and tables for addresses
    // that are only skipped no more than 1 % of the memory there is.
    if (more < n || more > MAX_PAGES - first ||
        slack > heap_memory_total() / HEAP_PAGE ||
        !heap_memory_charge(n * HEAP_PAGE_FRAMES))
        return false;
    heap_memory_uncharge(n * HEAP_PAGE_FRAMES);
    if (!map_tables(first, more) ||
        !heap_memory_grow(heap_page_address(first + more)))
        return false;
    for (uint64_t c = chunk; c < chunk + chunks; c++) {
        memset(chunk_at(c)->free, 0xff, sizeof chunk_at(c)->free);
        memset(chunk_at(c)->promised, 0, sizeof chunk_at(c)->promised);
        memset(chunk_at(c)->zero, 0, sizeof chunk_at(c)->zero);
    }
    pages_stats.total += more;
    pages_stats.free += more;
    pages_stats.metadata +=
        more * ((pages_have_white ? 2u : 1u) * (HEAP_PAGE / 128) +
                sizeof(struct span *)) +
        chunks * (sizeof(struct chunk) + sizeof(struct sum)) +
        more * cpus_count;
    climb(chunk, chunk + chunks - 1);
    atomic_store_explicit(&pages_granules, pages_stats.total * (HEAP_PAGE / 16),
                          memory_order_release);
    return true;
}

// ---- the interface ----

// Whether n more can't be promised, whatever is given up for them.
static bool is_beyond_limit(uint64_t n)
{
    uint64_t used = pages_stats.total - pages_stats.free;

    return n > pages_limit || used > pages_limit - n;
}

static bool promise(uint64_t page, uint64_t n, bool *zero)
{
    uint64_t fresh = 0, over;

    each_word(page, n, count_unpromised, &fresh);
    // Of what is idle elsewhere, and did not fit, twice as much may stay as is kept
    // for good; more goes before there is more of the other.
    over = idle_pages() - (n - fresh);
    over = over / 2 > keep_now() ? over - 2 * keep_now() : 0;
    if (over > 0 && fresh > 0)
        pages_scavenge(min_u64(over, fresh));
    for (;;) {
        fresh = 0; // some of what was given up may be of these pages
        each_word(page, n, count_unpromised, &fresh);
        if (pages_stats.promised + fresh <= pages_limit &&
            heap_memory_charge(fresh * HEAP_PAGE_FRAMES))
            break;
        if (pages_scavenge(fresh) == 0)
            return false;
    }
    pages_stats.promised += fresh;
    *zero = fresh == n;
    return true;
}

static void take_found(uint64_t page, uint64_t n)
{
    each_word(page, n, use, NULL);
    pages_stats.free -= n;
    period_least = min_u64(period_least, idle_pages());
    climb(page >> CHUNK_SHIFT, (page + n - 1) >> CHUNK_SHIFT);
}

static void count_used(struct chunk *c, unsigned word, uint64_t mask, void *arg)
{
    *(bool *)arg |= (c->free[word] & mask) != mask;
}

bool pages_take(uint64_t page, uint64_t n, bool *zero)
{
    uint64_t end = page + n, there = min_u64(end, pages_stats.total);
    bool used = false;

    if (page < there)
        each_word(page, there - page, count_used, &used);
    if (used || is_beyond_limit(n))
        return false;
    // What is free and promised elsewhere is given up before the call fails.
    while (end > pages_stats.total && !grow(0, end - pages_stats.total)) {
        if (pages_scavenge(n) == 0)
            return false;
    }
    if (!promise(page, n, zero))
        return false;
    take_found(page, n);
    return true;
}

uint64_t pages_alloc(uint64_t n, uint64_t align, bool *zero)
{
    uint64_t slack = align - 1, page;

    if (is_beyond_limit(n))
        return HEAP_NO_PAGE;
    // What is free and promised is given up before the call fails.
    while ((page = find(slack + n)) == HEAP_NO_PAGE) {
        if (!grow(slack, n) && pages_scavenge(n) == 0)
            return HEAP_NO_PAGE;
    }
    page = align_up(page, align);
    if (!promise(page, n, zero))
        return HEAP_NO_PAGE;
    take_found(page, n);
    return page;
}

bool pages_alloc_group(uint64_t n, unsigned most, uint64_t *first,
                       uint64_t *taken, uint64_t *fresh)
{
    uint64_t page = find(n);

    ASSERT(n <= 64);
    if (page == HEAP_NO_PAGE || page % 64 + n > 64)
        return false;
    const struct chunk *c = chunk_at(page >> CHUNK_SHIFT);
    unsigned w = page % CHUNK / 64;
    uint64_t bits = c->free[w] & ~mask_of(0, page % 64), was = c->promised[w];
    uint64_t zero = ~was | c->zero[w];

    while ((unsigned)__builtin_popcountll(bits) > most)
        bits &= ~(UINT64_C(1) << (63 - __builtin_clzll(bits)));
    uint64_t more = (unsigned)__builtin_popcountll(bits & ~was);

    // It is a convenience: nothing is scavenged for it.
    if (pages_stats.promised + more > pages_limit ||
        !heap_memory_charge(more * HEAP_PAGE_FRAMES))
        return false;
    pages_stats.promised += more;
    use(chunk_at(page >> CHUNK_SHIFT), w, bits, NULL);
    pages_stats.free -= (unsigned)__builtin_popcountll(bits);
    period_least = min_u64(period_least, idle_pages());
    climb(page >> CHUNK_SHIFT, page >> CHUNK_SHIFT);
    *first = page & ~UINT64_C(63);
    *taken = bits;
    *fresh = bits & zero;
    return true;
}

// There is more idle memory than before.
static void give_back(void)
{
    uint64_t keep = keep_now();

    if (idle_pages() <= keep)
        return;
    if (pages_delay == 0) {
        // A quarter less than may be kept: the next few cost nothing.
        pages_scavenge(idle_pages() - keep / 4 * 3);
    } else if (period_end == 0) {
        period_end = arch_mono_ns() + pages_delay;
        period_least = idle_pages();
        if (pages_arm != NULL && !armed) {
            armed = true;
            pages_arm(period_end);
        }
    } else if (pages_arm == NULL) {
        pages_tick(arch_mono_ns());
    }
}

void pages_free(uint64_t page, uint64_t n)
{
    ASSERT(page + n <= pages_stats.total);
    each_word(page, n, unuse, NULL);
    pages_stats.free += n;
    climb(page >> CHUNK_SHIFT, (page + n - 1) >> CHUNK_SHIFT);
    give_back();
}

static void set_zero(struct chunk *c, unsigned word, uint64_t mask, void *arg)
{
    (void)arg;
    c->zero[word] |= mask;
}

void pages_free_zero(uint64_t page, uint64_t n)
{
    each_word(page, n, set_zero, NULL);
    pages_free(page, n);
}

void pages_set_keep(uint64_t keep, uint64_t delay)
{
    pages_keep = keep;
    pages_delay = delay;
    period_end = 0;
    give_back();
}

// Ends a period, or a part of its work. False: there is nothing more to do.
static bool end_period(uint64_t now)
{
    enum { SLICE = 128 }; // pages: 1 MiB, then others have their turn

    // As many may go as were never needed, and no more than are above `keep`.
    uint64_t idle = idle_pages(), keep = keep_now();
    uint64_t over = idle > keep ? idle - keep : 0;
    uint64_t due = min_u64(over, period_least);
    uint64_t done = due > 0 ? pages_scavenge(min_u64(due, SLICE)) : 0;

    if (due > SLICE && done > 0) {
        period_least = due > done ? due - done : 0; // it is not over yet
        period_end = now;
        return true;
    }
    period_end = over > done ? now + pages_delay : 0;
    period_least = idle_pages();
    return period_end != 0;
}

uint64_t pages_tick(uint64_t now)
{
    if (period_end != 0 && (now < period_end || end_period(now)))
        return period_end;
    armed = false;
    return UINT64_MAX;
}

uint64_t pages_scavenge(uint64_t n)
{
    uint64_t done = 0;

    // By runs within a word, 512 KiB at most: no run of pages is held for long.
    for (uint64_t w = pages_stats.total / 64; w-- > 0 && done < n;) {
        struct chunk *c = chunk_at(w / WORDS);
        uint64_t idle = c->free[w % WORDS] & c->promised[w % WORDS];

        while (idle != 0 && done < n) {
            unsigned at = (unsigned)__builtin_ctzll(idle);
            uint64_t rest = ~(idle >> at);
            unsigned k = rest != 0 ? (unsigned)__builtin_ctzll(rest) : 64;

            k = k < 64 - at ? k : 64 - at;
            // In this order: fault-around maps nothing here any more, what it
            // mapped goes, and only then may others have it.
            put_promised(c, w % WORDS,
                         c->promised[w % WORDS] & ~mask_of(at, k));
            c->zero[w % WORDS] &= ~mask_of(at, k);
            heap_memory_drop(heap_page_address(w * 64 + at),
                             (size_t)k << HEAP_PAGE_SHIFT);
            heap_memory_uncharge((uint64_t)k * HEAP_PAGE_FRAMES);
            pages_stats.promised -= k;
            idle &= ~mask_of(at, k);
            done += k;
        }
    }
    return done;
}

bool pages_is_free(uint64_t page)
{
    return (chunk_at(page >> CHUNK_SHIFT)->free[page % CHUNK / 64] >>
                page % 64 &
            1) != 0;
}

void pages_check(void)
{
    uint64_t free = 0, promised = 0;

    for (uint64_t c = 0; c < nodes_at(0); c++) {
        for (int w = 0; w < WORDS; w++) {
            uint64_t f = chunk_at(c)->free[w], p = chunk_at(c)->promised[w];

            free += (unsigned)__builtin_popcountll(f);
            promised += (unsigned)__builtin_popcountll(p);
            if ((~f & ~p) != 0 || (chunk_at(c)->zero[w] & ~(f & p)) != 0)
                panic("heap: the bitmaps of chunk %lu contradict each other",
                      (unsigned long)c);
        }
    }
    if (free != pages_stats.free || promised != pages_stats.promised)
        panic(
            "heap: %lu pages are free, %lu counted; %lu promised, %lu counted",
            (unsigned long)free, (unsigned long)pages_stats.free,
            (unsigned long)promised, (unsigned long)pages_stats.promised);
    for (int level = 0; level < LEVELS; level++) {
        for (uint64_t i = 0; i < nodes_at(level); i++) {
            struct sum s =
                level == 0 ? sum_chunk(chunk_at(i)) : sum_node(level, i);

            if (memcmp(&s, sum_at(level, i), sizeof s) != 0)
                panic("heap: summary %lu of level %d is wrong",
                      (unsigned long)i, level);
        }
    }
}
