// See debug.h.
//
// A guarded object has pages of its own and ends where they end, 16-byte aligned;
// behind it nothing is mapped. The bytes in between are filled, and looked at when
// it is freed. Then its memory goes at once and its addresses stay taken for a
// while, so that a use of either kind faults at the instruction that commits it.
//
//   | header ... (unused) ... | object | nothing |
//   ^ mapping                          ^ end of the mapping
//
// Which ones: with heap.guard=N each CPU counts its allocations down from a random
// number, N on average, so that no loop keeps in step with it. Frees are as fast
// as ever: an address outside the heap takes the slow path anyway.
//
// Locks: none; counters are atomic, relaxed. The ring of freed ones is changed by
// exchange. A header is written once, and read under mm_lock or by who frees.

#include "runtime/heap/debug.h"

#include <stdatomic.h>
#include <string.h>

#include "arch/option.h"
#include "mm/mm.h"
#include "runtime/heap/memory.h"

enum {
    FILL_NEW = 0xa5,
    FILL_FREED = 0x5a,
    FILL_BEHIND = 0xeb, // between a guarded object's end and its page's
    FREED_KEPT = 1024,  // addresses of freed objects that stay taken
};

struct header {
    size_t n;
    char *object;
    enum heap_kind kind;
};

bool heap_debug_on, heap_efence;
uint64_t heap_guard_every;
struct heap_guarded heap_guarded;

static bool fill, random_slots;
static uint64_t check_every;
static _Atomic uint64_t fail_in; // as mm_fail_in: twice the count, odd: and on
static _Atomic uint64_t calls;

// Begin of the mapping | pages, of the last FREED_KEPT. [c] after heap_debug_init
static uintptr_t _Atomic *freed;
static _Atomic unsigned next_freed;

OPTION_BOOL(
    opt_fill, "heap.fill", fill,
    "fill allocated and freed memory, and look whether freed is changed");
OPTION_BOOL(opt_random, "heap.random", random_slots,
            "malloc's addresses are in random order");
OPTION_BOOL(opt_efence, "heap.efence", heap_efence,
            "each object on pages of its own, unmapped when freed: slow");
OPTION_UINT(opt_check, "heap.check", check_every, 0, UINT32_MAX,
            "check the whole heap at every Nth call");
OPTION_UINT(opt_guard, "heap.guard", heap_guard_every, 0, UINT32_MAX,
            "one object in N as with heap.efence");

static const char fail_meaning[] =
    "N or N+: allocation N fails, +: and all later";

static const char *set_fail(const char *s)
{
    uint64_t n;
    bool on;

    if (!option_count(s, &n, &on))
        return fail_meaning;
    fail_in = n > 0 ? 2 * n + on : 0;
    return NULL;
}

OPTION_CALL(opt_fail, "heap.fail", set_fail, fail_meaning);

void heap_debug_init(void)
{
    heap_debug_on =
        fill || random_slots || heap_efence || check_every > 0 || fail_in > 0;
    if (heap_debug_guards()) {
        freed = heap_memory_frames(FREED_KEPT * sizeof *freed);
        if (freed == NULL)
            panic("heap.efence and heap.guard need memory: run with more MEM");
    }
}

// At every Nth call.
COLD static void check(void)
{
    if (check_every > 0 &&
        atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) %
                check_every ==
            check_every - 1)
        heap_check();
}

bool heap_debug_refuse(void)
{
    uint64_t left = atomic_load_explicit(&fail_in, memory_order_relaxed);

    check();
    do {
        if (left < 2)
            return left != 0;
    } while (!atomic_compare_exchange_weak_explicit(
        &fail_in, &left, left - 2, memory_order_relaxed, memory_order_relaxed));
    return left < 4;
}

bool heap_debug_guards(void)
{
    return heap_efence || heap_guard_every > 0;
}

// ---- filling ----

static bool all(const uint8_t *p, size_t n, uint8_t value)
{
    return n == 0 || (p[0] == value && memcmp(p, p + 1, n - 1) == 0);
}

void heap_debug_allocated(void *p, size_t n, size_t usable)
{
    const struct span *s = span_of((uintptr_t)p);

    if (!fill)
        return;
    // Pages that were never used are zero; what was freed is as it was left. Of
    // pages that were something else before nothing is known.
    if (s != NULL && s->class != 0 && s->zero && !all(p, usable, FILL_FREED) &&
        !all(p, usable, 0)) {
        const uint8_t *b = p;
        size_t at = 0;

        while (at < usable && b[at] == FILL_FREED)
            at++;
        panic("heap: 0x%lx was written to after it was freed (byte %lu of %lu "
              "is 0x%02x)",
              (unsigned long)(uintptr_t)p, (unsigned long)at,
              (unsigned long)usable, b[at]);
    }
    memset(p, FILL_NEW, n);
}

void heap_debug_freed(void *p, size_t n)
{
    check();
    if (fill && n <= HEAP_SMALL_MAX)
        memset(p, FILL_FREED, n);
}

unsigned heap_debug_pick(unsigned n)
{
    return random_slots && n > 1 ? (unsigned)(arch_random() % n) : 0;
}

// ---- guarded objects ----

static const char live_name[] = "a guarded object of malloc";
static const char freed_name[] = "an object that was freed";

bool heap_debug_sample(uint64_t *until)
{
    if (heap_efence)
        return true;
    if (*until > 0) {
        --*until;
        return false;
    }
    *until = arch_random() % (2 * heap_guard_every - 1);
    return true;
}

void *heap_debug_guarded(size_t n, size_t align, enum heap_kind kind)
{
    size_t room = align_up(n > 0 ? n : 1, align < 16 ? 16 : align);
    size_t bytes = align_up(room + sizeof(struct header), PAGE_SIZE);
    uintptr_t va = 0;

    if (align > PAGE_SIZE || bytes < n ||
        vm_map(&va, bytes, PROT_R | PROT_W, 0, live_name) != 0)
        return NULL;
    struct header *h = (struct header *)va;

    *h = (struct header){
        .n = n, .object = (char *)h + bytes - room, .kind = kind};
    memset(h->object + n, FILL_BEHIND, room - n);
    atomic_fetch_add_explicit(&heap_guarded.mallocs, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap_guarded.bytes, n, memory_order_relaxed);
    return h->object;
}

struct guarded {
    uintptr_t va;
    struct mm_look look;
};

static void look_call(void *arg)
{
    struct guarded *g = arg;

    spin_lock(&mm_lock);
    mm_look(g->va, &g->look);
    spin_unlock(&mm_lock);
}

NORETURN static void report(const struct guarded *g, const char *call,
                            const char *wrong)
{
    panic("%s of 0x%lx: %s (%s lies in 0x%lx..0x%lx)", call,
          (unsigned long)g->va, wrong, g->look.name,
          (unsigned long)g->look.start, (unsigned long)g->look.end);
}

bool heap_debug_is_guarded(const void *p, struct heap_object *o,
                           const char *call)
{
    struct guarded g = {.va = (uintptr_t)p};

    // Most are the heap's own.
    if (!heap_debug_guards() || g.va - ARCH_HEAP_BASE < ARCH_HEAP_SIZE)
        return false;
    arch_on_system_stack(look_call, &g);
    if (!g.look.in_region)
        return false;
    if (g.look.name == freed_name)
        report(&g, call, "freed already");
    if (g.look.name != live_name)
        return false;
    const struct header *h = (struct header *)g.look.start;

    if (p != h->object || align_up(g.va + h->n, PAGE_SIZE) != g.look.end)
        report(&g, call, "not the beginning of an object");
    *o = (struct heap_object){h->object, h->n, h->kind};
    return true;
}

struct next_call {
    uintptr_t va;
    struct heap_object o;
};

// The first guarded object in a mapping from n->va on.
static void next_call(void *arg)
{
    struct next_call *n = arg;
    struct mm_look l;

    n->o.p = NULL;
    while (n->va != 0 && n->o.p == NULL) {
        spin_lock(&mm_lock);
        mm_look(n->va, &l);
        // Without a frame it has no header yet.
        if (l.name == live_name && l.mapped) {
            const struct header *h = (struct header *)l.start;

            n->o = (struct heap_object){h->object, h->n, h->kind};
        }
        spin_unlock(&mm_lock);
        n->va = l.end;
    }
}

bool heap_debug_walk(bool (*fn)(void *p, size_t n, enum heap_kind kind,
                                void *arg),
                     void *arg)
{
    struct next_call n = {.va = heap_debug_guards() ? ARCH_REGION_BASE : 0};

    for (;;) {
        arch_on_system_stack(next_call, &n);
        if (n.o.p == NULL)
            return true;
        if (!fn(n.o.p, n.o.n, n.o.kind, arg))
            return false;
    }
}

static void check_behind(const char *p, size_t n, uintptr_t end)
{
    const uint8_t *b = (const uint8_t *)p + n;

    if (all(b, end - (uintptr_t)b, FILL_BEHIND))
        return;
    while (*b == FILL_BEHIND)
        b++;
    panic("heap: 0x%lx was written to past its end (byte %lu of %lu is 0x%02x)",
          (unsigned long)(uintptr_t)p, (unsigned long)(b - (const uint8_t *)p),
          (unsigned long)n, *b);
}

void heap_debug_free_guarded(void *p)
{
    // As heap_debug_guarded has placed it.
    uintptr_t va = align_down((uintptr_t)p - sizeof(struct header), PAGE_SIZE);
    size_t n = ((struct header *)va)->n;
    uintptr_t end = align_up((uintptr_t)p + n, PAGE_SIZE);
    size_t bytes = end - va;

    check_behind(p, n, end);
    unsigned i =
        atomic_fetch_add_explicit(&next_freed, 1, memory_order_relaxed) %
        FREED_KEPT;

    // Unmapped, and only the addresses taken again: there is nobody between but
    // who frees it a second time.
    if (vm_unmap(va, bytes) != 0)
        return;
    atomic_fetch_add_explicit(&heap_guarded.frees, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap_guarded.freed_bytes, n,
                              memory_order_relaxed);
    uintptr_t again = va;

    if (bytes / PAGE_SIZE >= PAGE_SIZE ||
        vm_map(&again, bytes, 0, VM_FIXED, freed_name) != 0)
        return;
    uintptr_t old = atomic_exchange_explicit(&freed[i], va | bytes / PAGE_SIZE,
                                             memory_order_relaxed);

    if (old != 0 &&
        vm_unmap(align_down(old, PAGE_SIZE), old % PAGE_SIZE * PAGE_SIZE) != 0)
        panic("heap: the addresses of a freed object are not there");
}
