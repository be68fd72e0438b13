// The heap as a whole: alignment, realloc, trimming, checks, figures.

#include "runtime/heap/heap.h"

#include <string.h>

#include "arch/option.h"
#include "runtime/heap/cache.h"
#include "runtime/heap/central.h"
#include "runtime/heap/collect.h"
#include "runtime/heap/debug.h"
#include "runtime/heap/memory.h"
#include "runtime/heap/report.h"
#include "runtime/heap/tiny.h"

enum {
    MOVE_MIN = 64 * 1024, // from here on realloc moves entries, not bytes
    TRIES = 11, // to find memory: one of what is idle, five of two kinds
};

static uint64_t keep_bytes = UINT64_MAX, delay_ms = 100, limit_bytes;
OPTION_ROW(opt_keep, "heap.keep",
           "free memory that malloc keeps, bytes with K, M, G (a tenth of what "
           "is used)",
           &keep_bytes, NULL, 0, UINT64_MAX, OPTION_SIZE);
OPTION_UINT(opt_delay, "heap.delay", delay_ms, 0, 3600000,
            "milliseconds that more than heap.keep stays before it goes back");
OPTION_ROW(opt_limit, "heap.limit",
           "most memory of the heap, bytes with K, M, G (0: all there is)",
           &limit_bytes, NULL, 0, UINT64_MAX, OPTION_SIZE);

static bool (*out_of_memory)(size_t, void *); // [c] or set when nobody fails
static void *out_of_memory_arg;

// A call-back that runs, on the stack of its goroutine.
struct asking {
    struct asking *next;
    const void *g;
    bool already; // it runs on this goroutine
};

static struct spinlock asking_lock =
    SPINLOCK_INIT(RANK_ASKING);   // inside of no other, no other inside
static struct asking *all_asking; // [asking_lock]

void heap_init(void)
{
    span_init();
    collect_malloc |= collect_leaks;
    heap_debug_init();
    cache_init();
    if (keep_bytes != UINT64_MAX)
        pages_keep = keep_bytes / HEAP_PAGE;
    pages_delay = delay_ms * 1000000;
    if (limit_bytes != 0)
        pages_limit = limit_bytes / HEAP_PAGE;
    heap_memory_on_pressure(heap_trim);
}

// ---- allocation ----

void *heap_alloc(size_t n, enum heap_kind kind, size_t align, bool zero)
{
    bool fresh = false;

    if (n > ARCH_HEAP_SIZE / 2 || align > ARCH_HEAP_SIZE / 4)
        return NULL;
    void *p = cache_alloc(n > 0 ? n : 1, kind, align, &fresh);

    if (zero && p != NULL && !fresh)
        memset(p, 0, n);
    return p;
}

struct enlarge_call {
    struct span *s;
    uint64_t bytes;
};

static void enlarge_call(void *arg)
{
    struct enlarge_call *c = arg;

    c->s->huge = true;
    c->bytes = heap_memory_enlarge(span_base(c->s), span_bytes(c->s));
}

uint64_t heap_enlarge(void *p)
{
    struct enlarge_call c = {.s = span_of((uintptr_t)p)};

    if (c.s != NULL && c.s->class == 0 && c.s->kind == HEAP_NOSCAN)
        arch_on_system_stack(enlarge_call, &c);
    return c.bytes;
}

static bool flush_others(void)
{
    enum { WAIT_NS = 5000000 };
    uint64_t end = arch_mono_ns() + WAIT_NS;

    if (!cache_flush_others())
        return false;
    // They may be busy: no longer than it takes them to finish what is short.
    while (!cache_others_flushed() && arch_mono_ns() < end)
        arch_pause();
    heap_trim();
    return true;
}

static void asking_begin(void *arg)
{
    struct asking *me = arg;

    spin_lock(&asking_lock);
    for (struct asking *a = all_asking; a != NULL; a = a->next)
        me->already |= a->g == me->g;
    if (!me->already) {
        me->next = all_asking;
        all_asking = me;
    }
    spin_unlock(&asking_lock);
}

static void asking_end(void *arg)
{
    struct asking *me = arg, **at = &all_asking;

    spin_lock(&asking_lock);
    while (*at != me)
        at = &(*at)->next;
    *at = me->next;
    spin_unlock(&asking_lock);
}

// What the call-back can't have itself is not asked for again: that would not end.
static bool ask_program(size_t n)
{
    struct asking me = {.g = arch_current()};

    if (out_of_memory == NULL)
        return false;
    arch_on_system_stack(asking_begin, &me);
    if (me.already)
        return false;
    bool again = out_of_memory(n, out_of_memory_arg);

    arch_on_system_stack(asking_end, &me);
    return again;
}

bool heap_get_memory(size_t n, unsigned *tried)
{
    if (*tried == 0) {
        // What this CPU's cache, idle pages and others than the heap can spare.
        ++*tried;
        if (heap_memory_reclaim((n + PAGE_SIZE - 1) / PAGE_SIZE))
            return true;
    }
    // What is dead, and what the caches of other CPUs hold: again and again, since
    // others may have taken what came of it.
    while (*tried < TRIES) {
        bool collects = collector.collect != NULL;

        if (++*tried % 2 == 0) {
            if (collects && collector.collect())
                return true;
            *tried = TRIES - 1;
        } else {
            if (!collects)
                *tried = TRIES;
            if (flush_others())
                return true;
        }
    }
    *tried = 0; // what the program frees lies in such caches, too
    return ask_program(n);
}

// ---- sizes ----

static struct span *object_span(const void *p, const char *call)
{
    struct heap_place at;

    if (!heap_place_of((uintptr_t)p, &at) || at.span == NULL ||
        (at.object != (uintptr_t)p && at.span->class != HEAP_CLASS_TINY))
        heap_report_bad(p, call, "not the beginning of an object");
    struct span *s = at.span;

    if (!at.allocated)
        heap_report_bad(p, call, "freed already, or never allocated");
    if (s->class == HEAP_CLASS_TINY && tiny_usable(s, (uintptr_t)p) == 0)
        heap_report_bad(p, call,
                        "not the beginning of an object, or freed already");
    return s;
}

static size_t usable(struct span *s, const void *p)
{
    return s->class == 0                 ? span_bytes(s)
           : s->class == HEAP_CLASS_TINY ? tiny_usable(s, (uintptr_t)p)
                                         : heap_classes[s->class].size;
}

size_t heap_usable(const void *p)
{
    struct heap_object o;

    if (heap_debug_is_guarded(p, &o, "malloc_usable_size"))
        return o.n;
    return usable(object_span(p, "malloc_usable_size"), p);
}

void heap_check_size(const void *p, size_t n, const char *call)
{
    struct heap_object o;

    bool guarded = heap_debug_is_guarded(p, &o, call);

    if (!guarded)
        o.n = usable(object_span(p, call), p);
    if (o.n >= n)
        return;
    if (guarded)
        panic("%s of 0x%lx: the object is smaller than the size given (a "
              "guarded object of %lu bytes)",
              call, (unsigned long)(uintptr_t)p, (unsigned long)o.n);
    heap_report_bad(p, call, "the object is smaller than the size given");
}

// ---- realloc ----

struct move_call {
    struct span *from, *to;
    size_t bytes;
    bool done;
};

static void move_call(void *arg)
{
    struct move_call *m = arg;
    size_t bytes = align_up(m->bytes, PAGE_SIZE);

    // Markers know what they have read by its address (R25): it is copied then.
    if (collect_holding && likely(!(collect_breaks & COLLECT_BREAK_MOVE)))
        return;
    // Pages that were used before, or filled just now, have frames: they go first.
    if (m->to->fresh != 0 || heap_debug_on)
        heap_memory_drop(span_base(m->to), bytes);
    m->done = heap_memory_move(span_base(m->from), span_base(m->to), bytes);
    m->to->huge |= m->from->huge;
}

static bool move_pages(struct span *from, struct span *to, size_t bytes)
{
    struct move_call m = {from, to, bytes, false};

    if (to->class != 0)
        return false;
    arch_on_system_stack(move_call, &m);
    return m.done;
}

struct resize_call {
    struct span *s;
    uint64_t npages;
    bool done;
};

static void resize_call(void *arg)
{
    struct resize_call *r = arg;

    spin_lock(&heap_lock);
    size_t had = span_bytes(r->s);

    r->done = span_resize(r->s, r->npages);
    // Nobody shall find pointers there that were left by others.
    if (r->done && span_bytes(r->s) > had &&
        (r->s->kind == HEAP_SCAN || unlikely(collect_checks)))
        heap_memory_drop(span_base(r->s) + had, span_bytes(r->s) - had);
    spin_unlock(&heap_lock);
}

static bool resize_in_place(struct span *s, size_t n)
{
    struct resize_call r = {s, (n + HEAP_PAGE - 1) >> HEAP_PAGE_SHIFT, false};

    if (s->class != 0 || n <= HEAP_SMALL_MAX || n > ARCH_HEAP_SIZE / 2)
        return false;
    // heap.fail and heap.fill are for what it gets more, too: it moves.
    if (heap_debug_on && n > span_bytes(s))
        return false;
    arch_on_system_stack(resize_call, &r);
    return r.done;
}

// s: the object's span, if it has one.
static void *copy_to_new(const struct heap_object *o, size_t n, struct span *s)
{
    void *p = o->p;
    size_t had = o->n, keep = n < had ? n : had;
    bool may_move = s != NULL && s->class == 0 && keep >= MOVE_MIN;

    if (may_move)
        heap_memory_move_begin();
    // With malloc.gc what was malloc's is so again.
    enum heap_kind kind =
        collect_malloc != 0 && o->kind == HEAP_SCAN ? HEAP_MANUAL : o->kind;
    void *q = heap_alloc(n, kind, 1, false);
    struct span *to = may_move && q != NULL ? span_of((uintptr_t)q) : NULL;
    bool moved = to != NULL && move_pages(s, to, keep);

    if (may_move)
        heap_memory_move_end();
    if (q == NULL)
        return n <= had ? p : NULL;
    if (!moved)
        memcpy(q, p, keep);
    heap_free(p);
    return q;
}

void *heap_realloc(void *p, size_t n)
{
    struct heap_object o = {.p = p};

    if (p == NULL)
        return heap_malloc(n);
    if (heap_debug_is_guarded(p, &o, "realloc"))
        return copy_to_new(&o, n, NULL);
    struct span *s = object_span(p, "realloc");

    o.n = usable(s, p);
    o.kind = (enum heap_kind)s->kind;

    // It fits, and does not waste more than half.
    if (n <= o.n && (n > o.n / 2 || o.n <= 64))
        return p;
    if (resize_in_place(s, n))
        return p;
    return copy_to_new(&o, n, s);
}

// ---- settings ----

struct keep_call {
    uint64_t pages, delay;
};

static void keep_call(void *arg)
{
    const struct keep_call *k = arg;

    spin_lock(&heap_lock);
    pages_set_keep(k->pages, k->delay);
    spin_unlock(&heap_lock);
}

void heap_set_keep(uint64_t bytes, unsigned ms)
{
    struct keep_call k = {bytes != UINT64_MAX ? bytes / HEAP_PAGE
                                              : PAGES_KEEP_TENTH,
                          ms * UINT64_C(1000000)};

    arch_on_system_stack(keep_call, &k);
}

static void limit_call(void *arg)
{
    uint64_t *pages = arg, was = pages_limit;

    spin_lock(&heap_lock);
    pages_limit = *pages;
    spin_unlock(&heap_lock);
    *pages = was;
}

uint64_t heap_set_limit(uint64_t bytes)
{
    uint64_t pages = bytes == UINT64_MAX ? UINT64_MAX : bytes / HEAP_PAGE;

    arch_on_system_stack(limit_call, &pages);
    return pages == UINT64_MAX ? UINT64_MAX : pages * HEAP_PAGE;
}

void heap_on_oom(bool (*fn)(size_t n, void *arg), void *arg)
{
    out_of_memory_arg = arg;
    out_of_memory = fn;
}

// ---- giving back ----

void heap_serve(void)
{
    cache_serve();
}

static void tick_call(void *arg)
{
    uint64_t *at = arg;

    cache_serve();
    spin_lock(&heap_lock);
    *at = pages_tick(*at);
    spin_unlock(&heap_lock);
}

uint64_t heap_tick(uint64_t now)
{
    arch_on_system_stack(tick_call, &now);
    return now;
}

static void count_call(void *arg)
{
    spin_lock(&heap_lock);
    *(uint64_t *)arg = pages_stats.promised;
    spin_unlock(&heap_lock);
}

static void scavenge_call(void *arg)
{
    spin_lock(&heap_lock);
    pages_scavenge(UINT64_MAX);
    *(uint64_t *)arg = pages_stats.promised;
    spin_unlock(&heap_lock);
}

uint64_t heap_trim(void)
{
    uint64_t before, after; // others may take meanwhile

    arch_on_system_stack(count_call, &before);
    cache_flush();
    arch_on_system_stack(scavenge_call, &after);
    return after < before ? (before - after) * HEAP_PAGE_FRAMES : 0;
}

// ---- figures, checks ----

void heap_lock_all(void)
{
    central_lock_all();
    spin_lock(&heap_lock);
    meta_lock_common();
}

void heap_unlock_all(void)
{
    meta_unlock_common();
    spin_unlock(&heap_lock);
    central_unlock_all();
}

static void check_call(void *arg)
{
    (void)arg;
    spin_lock(&heap_lock);
    pages_check();
    span_check();
    cache_check();
    spin_unlock(&heap_lock);
    central_check();
}

void heap_check(void)
{
    arch_on_system_stack(check_call, NULL);
}
