// See collect.h.
//
// Sweeping frees dead objects as if another CPU had done so (R17), span by span: those
// of this CPU's spans go to their free bits, others' to their remote bits. A dead
// object keeps its span from being deleted, so a heap page with a white bit has one.
//
// Locks: none of its own. Pages are swept by who advances the cursor over them.

#include "runtime/heap/collect.h"

#include <string.h>

#include "arch/option.h"
#include "runtime/heap/central.h"
#include "runtime/heap/memory.h"
#include "runtime/heap/owned.h"

enum {
    SWEEP_PAGES = 32, // at once
    PAGE_WORDS = HEAP_PAGE / 16 / 64,
    MOST_WORDS = HEAP_PAGE / 16 / 64, // of a span's slots
};

uint64_t collect_malloc, collect_leaks;
OPTION_UINT(opt_gc, "malloc.gc", collect_malloc, 0, 1,
            "1: what malloc gave and nothing points to any more is freed");
OPTION_UINT(opt_leaks, "heap.leaks", collect_leaks, 0, 1,
            "1: at exit, blocks that nothing points to, by who allocated them");

_Atomic bool collect_holding, collect_active;
_Atomic size_t collect_specials;
bool collect_checks;
unsigned collect_breaks;
_Atomic uint64_t collect_freed, collect_freed_bytes;
_Atomic uint64_t collect_handed_out, collect_at = UINT64_MAX;
struct collector collector;

static _Atomic uint64_t sweep_at, sweep_done; // pages begun, and finished
static uint64_t sweep_end;                    // [c] while they are swept

// ---- holding pages ----

void collect_hold(void)
{
    atomic_store(&collect_active, true);
    atomic_store(&collect_holding, true);
}

static void release_call(void *arg)
{
    struct cache *c = arch_local();

    (void)arg;
    spin_lock(&heap_lock);
    span_delete_held(&c->source);
    spin_unlock(&heap_lock);
    central_trim(&c->source);
}

void collect_release(void)
{
    atomic_store(&collect_holding, false);
    arch_on_system_stack(release_call, NULL);
}

static struct span *_Atomic scanned[COLLECT_MARKERS]; // by marker

// Both are sequentially consistent: either who frees s sees that it is scanned, or who
// is about to scan it finds it freed.
bool collect_scans(unsigned who, struct span *s)
{
    uintptr_t va = span_base(s);

    atomic_store(&scanned[who], s);
    if (atomic_load(
            (struct span * _Atomic *)&pages_spans()[heap_page_of(va)]) == s)
        return true;
    atomic_store_explicit(&scanned[who], NULL, memory_order_release);
    return false;
}

void collect_scans_none(unsigned who)
{
    atomic_store_explicit(&scanned[who], NULL, memory_order_release);
}

bool collect_is_scanned(const struct span *s)
{
    for (unsigned i = 0; i < COLLECT_MARKERS; i++) {
        if (atomic_load(&scanned[i]) == s)
            return true;
    }
    return false;
}

void collect_clear(uintptr_t va, size_t n)
{
    uintptr_t end = va + n, next;

    for (; va < end; va = next) {
        next = align_down(va, PAGE_SIZE) + PAGE_SIZE;
        next = next < end ? next : end;
        if (heap_memory_has_frame(va))
            memset((void *)va, 0, next - va);
    }
}

// ---- white ----

static uint64_t alloc_word(uint64_t i)
{
    return atomic_load_explicit((_Atomic uint64_t *)&PAGES_ALLOC_BITS[i],
                                memory_order_acquire);
}

void collect_whiten(uint64_t page, uint64_t n)
{
    for (uint64_t p = page; p < page + n; p++) {
        const struct span *s = span_of(heap_page_address(p));

        if (s == NULL || s->kind == HEAP_MANUAL)
            continue;
        uint64_t first = heap_page_address(p) / 1024;

        for (uint64_t w = first; w < first + PAGE_WORDS; w++) {
            uint64_t is = alloc_word(w), gone;

            if (is == 0)
                continue;
            atomic_fetch_or(&COLLECT_WHITE_BITS[w], is);
            gone = is & ~alloc_word(w);
            if (gone != 0)
                atomic_fetch_and(&COLLECT_WHITE_BITS[w], ~gone);
        }
    }
}

void collect_keep_tiny(void)
{
    for (unsigned cpu = 0; cpu < ARCH_MAX_CPUS; cpu++) {
        const struct cache *c = cache_of_cpu(cpu);

        if (c != NULL && c->tiny != 0 &&
            likely(!(collect_breaks & COLLECT_BREAK_TINY)))
            collect_unwhiten(c->tiny);
    }
}

void collect_check_tiny(void)
{
    for (unsigned cpu = 0; cpu < ARCH_MAX_CPUS; cpu++) {
        const struct cache *c = cache_of_cpu(cpu);

        if (c != NULL && c->tiny != 0 && collect_is_white(c->tiny))
            panic("gc: CPU %u fills the tiny block 0x%lx, which was not marked",
                  cpu, (unsigned long)c->tiny);
    }
}

// ---- sweeping ----

void collect_end_marking(void)
{
    atomic_store(&sweep_at, UINT64_MAX / 2); // nobody begins yet
    sweep_end = pages_have_white ? heap_page_of(pages_end()) : 0;
    atomic_store(&sweep_done, 0);
}

void collect_begin_sweep(void)
{
    atomic_store(&sweep_at, 0);
}

bool collect_is_swept(void)
{
    return atomic_load(&sweep_done) >= sweep_end;
}

void collect_is_over(void)
{
    atomic_store(&collect_active, false);
}

static void free_large(struct cache *c, struct span *s)
{
    uintptr_t va = span_base(s);

    collect_unwhiten(va);
    spin_lock(&heap_lock);
    atomic_fetch_add_explicit(&collect_freed, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&collect_freed_bytes, span_bytes(s),
                              memory_order_relaxed);
    arch_bit_clear(PAGES_ALLOC_BITS, va / 16);
    span_delete_large(&c->source, s);
    spin_unlock(&heap_lock);
}

// Another CPU's, or nobody's.
static void free_elsewhere(struct cache *c, struct span *s,
                           const uint64_t *dead, unsigned words)
{
    bool gone;

    // The objects keep the span until their bits are set, `freeing` from then on.
    atomic_fetch_add_explicit(&s->freeing, 1, memory_order_relaxed);
    for (unsigned w = 0; w < words; w++) {
        if (dead[w] != 0)
            atomic_fetch_or_explicit(&span_remote_bits(s)[w], dead[w],
                                     memory_order_acq_rel);
    }
    gone = owned_tell(c, s);
    if (!gone)
        atomic_fetch_sub_explicit(&s->freeing, 1, memory_order_release);
}

static void sweep_small(struct cache *c, struct span *s, uint64_t page)
{
    bool mine = atomic_load_explicit(&s->owner, memory_order_relaxed) ==
                arch_cpu_id() + 1;
    uint64_t freed[MOST_WORDS], dead[MOST_WORDS] = {0};
    uint64_t first = heap_page_address(page) / 1024;
    unsigned words = span_words(s), n = 0;
    size_t size = heap_classes[s->class].size;

    // Before the alloc bits: who takes over what was freed clears these first.
    for (unsigned w = 0; w < words; w++)
        freed[w] = atomic_load(&span_remote_bits(s)[w]);
    for (uint64_t w = first; w < first + PAGE_WORDS; w++) {
        if (atomic_load_explicit(&COLLECT_WHITE_BITS[w],
                                 memory_order_relaxed) == 0)
            continue;
        uint64_t rest =
            alloc_word(w) & atomic_exchange(&COLLECT_WHITE_BITS[w], 0);

        for (; rest != 0; rest &= rest - 1) {
            uintptr_t va = w * 1024 + (unsigned)__builtin_ctzll(rest) * 16;
            unsigned slot = span_slot(s, va + 15); // of 24 bytes: aligned to 8
            uint64_t bit = UINT64_C(1) << slot % 64;

            if (freed[slot / 64] & bit)
                continue;
            dead[slot / 64] |= bit;
            n++;
            if (mine)
                arch_bit_clear(PAGES_ALLOC_BITS, va / 16);
        }
    }
    if (n == 0)
        return;
    atomic_fetch_add_explicit(&collect_freed, n, memory_order_relaxed);
    atomic_fetch_add_explicit(&collect_freed_bytes, n * size,
                              memory_order_relaxed);
    if (mine)
        owned_freed(c, s, dead, n);
    else
        free_elsewhere(c, s, dead, words);
}

static void sweep_page(struct cache *c, uint64_t page)
{
    uint64_t any = 0, first = heap_page_address(page) / 1024;

    for (uint64_t w = first; w < first + PAGE_WORDS; w++)
        any |=
            atomic_load_explicit(&COLLECT_WHITE_BITS[w], memory_order_relaxed);
    if (any == 0)
        return;
    struct span *s = span_of(heap_page_address(page));

    if (s == NULL)
        panic("heap: free page 0x%lx has white objects",
              (unsigned long)heap_page_address(page));
    if (s->divide == 0)
        free_large(c, s);
    else
        sweep_small(c, s, page);
}

bool collect_sweep_some(void)
{
    uint64_t page, end;

    if (atomic_load_explicit(&sweep_at, memory_order_relaxed) >= sweep_end)
        return false;
    page = atomic_fetch_add(&sweep_at, SWEEP_PAGES);
    if (page >= sweep_end)
        return false;
    end = min_u64(page + SWEEP_PAGES, sweep_end);
    for (uint64_t p = page; p < end; p++)
        sweep_page(arch_local(), p);
    atomic_fetch_add(&sweep_done, end - page);
    return true;
}

static void sweep_call(void *arg)
{
    *(bool *)arg = collect_sweep_some();
}

bool collect_sweep(void)
{
    bool some;

    arch_on_system_stack(sweep_call, &some);
    return some;
}

// ---- counting ----

void collect_count(enum heap_kind kind, uint64_t n)
{
    if (kind == HEAP_MANUAL)
        return;
    uint64_t now = atomic_fetch_add_explicit(&collect_handed_out, n,
                                             memory_order_relaxed) +
                   n;

    if (now >= atomic_load_explicit(&collect_at, memory_order_relaxed) &&
        collector.wanted != NULL)
        collector.wanted();
}
