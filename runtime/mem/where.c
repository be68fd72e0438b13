// The calls of <gneiss/mem.h> that only look.
//
// What lies at an address is asked of three: the table of fixed areas below,
// mm's tree of regions, and the stacks' slots. All answers are taken under one
// mm_lock, on the system stack (R5), and copied out afterwards.

#include <gneiss/mem.h>

#include <string.h>

#include "mm/mm.h"
#include "runtime/debug/debug.h"
#include "runtime/stack/stack.h"

extern const char text_start[], rodata_start[], data_start[], bss_start[],
    bss_end[];

const char *gn_kind_name(enum gn_kind kind)
{
    static const char *const names[] = {
        [GN_KIND_NOTHING] = "nothing",   [GN_KIND_NIL] = "nil",
        [GN_KIND_TEXT] = "text",         [GN_KIND_RODATA] = "rodata",
        [GN_KIND_DATA] = "data",         [GN_KIND_BSS] = "bss",
        [GN_KIND_STACK] = "stack",       [GN_KIND_GUARD] = "guard",
        [GN_KIND_HEAP] = "heap",         [GN_KIND_REGION] = "region",
        [GN_KIND_ALIAS] = "alias",       [GN_KIND_SNAPSHOT] = "snapshot",
        [GN_KIND_DIRECT] = "direct map", [GN_KIND_DEVICE] = "device",
        [GN_KIND_RUNTIME] = "runtime",
    };

    return (unsigned)kind < ARRAY_LEN(names) ? names[kind] : "?";
}

// ---- the fixed areas (DESIGN 3) ----

struct area {
    uintptr_t start; // the end is the next one's start
    enum gn_kind kind;
    const char *name;
};

// Fills w's range, kind and name by where va lies.
static void find_area(uintptr_t va, struct gn_where *w)
{
    const struct area areas[] = {
        {0, GN_KIND_NIL, "the nil page"},
        {PAGE_SIZE, GN_KIND_NOTHING, "low 4 GiB, never mapped"},
        {UINT64_C(1) << 32, GN_KIND_NOTHING, "nothing"},
        {ARCH_REGION_BASE, GN_KIND_NOTHING, "free for mappings"},
        {ARCH_REGION_END, GN_KIND_NOTHING, "nothing"},
        {ARCH_STACK_BASE, GN_KIND_NOTHING, "stack slots"},
        {ARCH_STACK_END, GN_KIND_NOTHING, "nothing"},
        {UINT64_C(1) << 47, GN_KIND_NOTHING, "no address"},
        {ARCH_DIRECT_BASE, GN_KIND_DIRECT, "all frames, by number"},
        {ARCH_DIRECT_BASE + ARCH_DIRECT_SIZE, GN_KIND_NOTHING, "nothing"},
        {ARCH_META_BASE, GN_KIND_RUNTIME, "the frame array"},
        {ARCH_SLOTS_BASE, GN_KIND_RUNTIME, "the goroutine array"},
        {ARCH_HEAPMETA_BASE, GN_KIND_RUNTIME, "the heap's tables"},
        {ARCH_MMIO_BASE, GN_KIND_DEVICE, "devices, CPU stacks"},
        {ARCH_MMIO_END, GN_KIND_NOTHING, "nothing"},
        {(uintptr_t)text_start, GN_KIND_TEXT, "code"},
        {(uintptr_t)rodata_start, GN_KIND_RODATA, "constants"},
        {(uintptr_t)data_start, GN_KIND_DATA, "variables with a value"},
        {(uintptr_t)bss_start, GN_KIND_BSS, "variables without"},
        {align_up((uintptr_t)bss_end, PAGE_SIZE), GN_KIND_NOTHING, "nothing"},
    };
    size_t i = ARRAY_LEN(areas) - 1;

    while (va < areas[i].start)
        i--;
    w->kind = areas[i].kind;
    w->name = areas[i].name;
    w->start = areas[i].start;
    w->end = i + 1 < ARRAY_LEN(areas) ? areas[i + 1].start : 0;
}

// Cuts the area's range to the gap between two regions.
static void cut_to_gap(struct gn_where *w, const struct mm_look *l)
{
    if (l->start > w->start)
        w->start = l->start;
    if (l->end != 0 && (w->end == 0 || l->end < w->end))
        w->end = l->end;
}

// ---- stacks ----

// The first slot that nobody has ever used.
static uintptr_t unused_slots(void)
{
    uintptr_t low = 0,
              high = (ARCH_STACK_END - ARCH_STACK_BASE) / STACK_SLOT_BYTES;

    while (low < high) {
        uintptr_t mid = (low + high) / 2;

        if (stack_owner(ARCH_STACK_BASE + mid * STACK_SLOT_BYTES) != NULL)
            low = mid + 1;
        else
            high = mid;
    }
    return ARCH_STACK_BASE + low * STACK_SLOT_BYTES;
}

static void find_stack(uintptr_t va, struct gn_where *w)
{
    struct g *g = stack_owner(va);

    if (g == NULL) {
        w->start = unused_slots();
        w->end = ARCH_STACK_END;
        w->name = "unused stack slots";
        return;
    }
    uintptr_t top = stack_top(g), base = top - g->slots * STACK_SLOT_BYTES;

    w->start = base;
    w->end = top;
    w->name = "a stack slot that waits for a goroutine";
    if (g->state == G_FREE)
        return;
    w->name = g->name;
    w->goroutine = g->id;
    if (va < stack_bottom(g)) {
        w->kind = GN_KIND_GUARD;
        w->end = stack_bottom(g);
    } else {
        w->kind = GN_KIND_STACK;
        w->start = stack_bottom(g);
        w->prot = GN_READ | GN_WRITE;
    }
}

// ---- regions ----

// The runtime's own anonymous memory is malloc's.
static enum gn_kind kind_of_region(const struct mm_look *l)
{
    if (l->flags & REGION_DEVICE)
        return GN_KIND_DEVICE;
    if (l->flags & REGION_VIEW)
        return GN_KIND_ALIAS;
    if (l->flags & REGION_SNAPSHOT)
        return GN_KIND_SNAPSHOT;
    return l->flags & REGION_FIXED ? GN_KIND_HEAP : GN_KIND_REGION;
}

static void find_region(uintptr_t va, struct gn_where *w,
                        const struct mm_look *l)
{
    w->start = l->start;
    w->end = l->end;
    w->name = l->name;
    w->views = l->views;
    w->prot = (int)(l->prot & (PROT_R | PROT_W | PROT_X));
    if (va >= ARCH_STACK_BASE && va < ARCH_STACK_END)
        find_stack(va, w);
    else
        w->kind = kind_of_region(l);
}

// ---- the page ----

static void find_page(uintptr_t va, struct gn_where *w, const struct mm_look *l)
{
    if (!l->mapped)
        return;
    w->mapped = true;
    w->page_bytes = (size_t)pte_span(l->level);
    w->frame = l->frame;
    w->users = l->users;
    w->readable = (l->rights & PROT_R) != 0;
    w->writable = (l->rights & PROT_W) != 0;
    w->executable = (l->rights & PROT_X) != 0;
    w->accessed = l->accessed;
    w->dirty = l->dirty;
    w->cow = l->cow;
    w->zero_frame = l->zero_frame;
    if (!l->in_region)
        w->prot = (int)l->rights;
    (void)va;
}

struct where_call {
    uintptr_t va;
    struct gn_where w;
};

static void where_call(void *arg)
{
    struct where_call *c = arg;
    struct mm_look l;

    find_area(c->va, &c->w);
    spin_lock(&mm_lock);
    mm_look(c->va, &l);
    if (l.in_region)
        find_region(c->va, &c->w, &l);
    else if (va_is_canonical(c->va))
        cut_to_gap(&c->w, &l);
    find_page(c->va, &c->w, &l);
    spin_unlock(&mm_lock);
    if (arch_is_system_guard(c->va)) {
        c->w.kind = GN_KIND_GUARD;
        c->w.name = "the guard of a CPU's stack";
        c->w.start = align_down(c->va, PAGE_SIZE);
        c->w.end = c->w.start + PAGE_SIZE;
    }
    c->w.offset = c->va - c->w.start;
    if (c->w.kind == GN_KIND_TEXT)
        c->w.symbol = symbol_find(c->va, &c->w.symbol_offset);
}

void gn_where(const void *p, struct gn_where *w)
{
    struct where_call c = {.va = (uintptr_t)p, .w = {.views = 1}};

    arch_on_system_stack(where_call, &c);
    *w = c.w;
}

struct resident_call {
    uintptr_t start, end;
    uint64_t npages;
};

static void resident_call(void *arg)
{
    struct resident_call *c = arg;

    c->npages = mm_count_resident(c->start, c->end);
}

size_t gn_resident(const void *p, size_t bytes)
{
    uintptr_t va = (uintptr_t)p;
    struct resident_call c = {align_down(va, PAGE_SIZE),
                              align_up(va + bytes, PAGE_SIZE), 0};

    if (bytes == 0 || va + bytes < va || !va_is_canonical(va) ||
        !va_is_canonical(va + bytes - 1) || c.end < c.start)
        return 0;
    arch_on_system_stack(resident_call, &c);
    return (size_t)c.npages * PAGE_SIZE;
}

struct walk_call {
    uintptr_t va;
    struct mm_walk_step steps[PT_LEVELS];
    unsigned n;
};

static void walk_call(void *arg)
{
    struct walk_call *c = arg;

    spin_lock(&mm_lock);
    c->n = mm_walk(c->va, c->steps);
    spin_unlock(&mm_lock);
}

unsigned gn_walk(const void *p, struct gn_walk_step steps[4])
{
    struct walk_call c = {.va = (uintptr_t)p};

    arch_on_system_stack(walk_call, &c);
    for (unsigned i = 0; i < c.n; i++) {
        const struct mm_walk_step *s = &c.steps[i];

        steps[i] = (struct gn_walk_step){
            s->level,   s->index, s->entry,
            s->present, s->leaf,  pte_paddr(s->entry).raw >> PAGE_SHIFT};
    }
    return c.n;
}

// ---- figures ----

static void stats_call(void *arg)
{
    struct gn_mem_stats *s = arg;
    struct frame_stats f = frame_stats();
    struct frame_cache_stats c = frame_cache_stats();
    struct mm_commit m = mm_commit();
    struct mm_events e = mm_events();

    *s = (struct gn_mem_stats){
        .frames_total = f.total,
        .frames_free = f.free + c.cached,
        .frames_low = f.low_mark,
        .frames_cached = c.cached,
        .frames_zeroed = c.zeroed,
        .frames_reserved = c.reserved,
        .page_tables = pt_tables(),
        .pages_2mib = e.large[0],
        .pages_1gib = e.large[1],
        .committed = m.committed,
        .commit_limit = m.limit,
        .faults = e.faults,
        .zero_fills = e.zero_fills,
        .cow_faults = e.cow_faults,
        .zeroed_hits = c.from_zeroed,
        .zeroed_misses = c.cleared,
        .moves = e.moves,
        .shootdowns = e.shootdowns,
        .scarce = mm_pressure() == MM_CRITICAL,
    };
}

void gn_mem_stats(struct gn_mem_stats *s)
{
    struct gn_mem_stats all = {0};

    arch_on_system_stack(stats_call, &all);
    *s = all;
}
