// Random operations on ranges against a model that knows memory and views of it,
// with every page's contents and rights compared. For the host and for the guest:
// the includer supplies fail_msg() and model_store_faults().
//
// A model never has more promised than it was given, so no call of it may be
// refused for want of memory. The one thing that is refused is what the calls'
// descriptions say: to share or move what several regions show; then with the
// errno that they name, and only then. Models are independent of each other: each
// may be on a CPU of its own.
#pragma once

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mm/mm.h"

enum {
    MODEL_PAGES = 4000, // pages of memory that can exist at once in a model
    MODEL_SHOWN = 6000, // pages of all views together
    MODEL_VIEWS = 12,
    MODEL_VIEW_PAGES = 40,
    MODEL_LARGE_PAGES = 1100, // of a view that large pages fit in

    // Promised beside a view's pages: tables, for two regions of it.
    MODEL_VIEW_COST = 10,
    MODEL_LEAST = 3 * (MODEL_VIEW_COST + 4), // for any model at all
    // With large views, of which 2 MiB are copied to others: at least, at most.
    MODEL_LARGE = 3 * MODEL_LARGE_PAGES + MODEL_VIEWS * MODEL_VIEW_COST + 512,
    MODEL_MOST = MODEL_SHOWN + MODEL_VIEWS * MODEL_VIEW_COST + 512,
    // Without: what all views can be.
    MODEL_SMALL = MODEL_VIEWS * (2 * MODEL_VIEW_PAGES + MODEL_VIEW_COST),
};

#define MODEL_RW (PROT_R | PROT_W)

enum model_kind {
    MODEL_MAP,
    MODEL_UNMAP,
    MODEL_UNMAP_PART,
    MODEL_ALIAS,
    MODEL_CLONE,
    MODEL_MOVE,
    MODEL_PROTECT,
    MODEL_DECOMMIT,
    MODEL_PROMOTE, // that made a large page
    MODEL_STORE,
    MODEL_DENIED, // stores that must fault, and did
    MODEL_KINDS,
};

struct model_counts {
    unsigned done[MODEL_KINDS], refused[MODEL_KINDS];
    unsigned large; // of those done, by models that have large views
};

// A view's page shows one memory page of the model; several views may show the
// same (aliases). Values stand for the contents.
struct model_view {
    uintptr_t va;
    size_t n;
    uint16_t *page;
    unsigned prot;
};

struct model {
    uint64_t seed;
    size_t npages, most_shown, view_pages; // limits
    unsigned nviews;
    bool has_large;

    struct model_view views[MODEL_VIEWS];
    uint64_t *value;
    uint8_t *users;
    size_t next_page, nused, nshown;
    struct model_counts counts;
};

// Stores what is there already into a page that may only be read. Returns true if
// that faulted; the page's rights are as before.
static bool model_store_faults(uintptr_t va);

static volatile uint64_t *model_word(uintptr_t va)
{
    return (volatile uint64_t *)va;
}

// splitmix64.
static uint64_t model_random(struct model *m)
{
    uint64_t z = m->seed += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static uint64_t model_below(struct model *m, uint64_t n)
{
    return model_random(m) % n;
}

// ---- making one ----

static size_t model_smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

// Limits for a model that may have `promised` pages, MODEL_LEAST or more.
static void model_set_limits(struct model *m, size_t promised)
{
    m->has_large = promised >= MODEL_LARGE;
    m->nviews =
        (unsigned)model_smaller(MODEL_VIEWS, promised / (MODEL_VIEW_COST + 4));
    promised -= m->nviews * MODEL_VIEW_COST + (m->has_large ? 512 : 0);
    m->most_shown =
        model_smaller(m->has_large ? MODEL_SHOWN : MODEL_SMALL, promised);
    m->npages = model_smaller(MODEL_PAGES, m->most_shown);
    m->view_pages = model_smaller(MODEL_VIEW_PAGES, m->most_shown / 4);
}

static size_t model_longest_view(const struct model *m)
{
    return m->has_large ? MODEL_LARGE_PAGES : 2 * m->view_pages;
}

// How many bytes model_init wants for it.
static size_t model_bytes(size_t promised)
{
    struct model m = {0};

    model_set_limits(&m, promised);
    return m.npages * (sizeof *m.value + sizeof *m.users) +
           m.nviews * model_longest_view(&m) * sizeof *m.views[0].page;
}

static void model_init(struct model *m, char *memory, size_t promised,
                       uint64_t seed)
{
    *m = (struct model){.seed = seed};
    model_set_limits(m, promised);
    memset(memory, 0, model_bytes(promised));
    m->value = (void *)memory;
    memory += m->npages * sizeof *m->value;
    for (unsigned i = 0; i < m->nviews; i++) {
        m->views[i].page = (void *)memory;
        memory += model_longest_view(m) * sizeof *m->views[i].page;
    }
    m->users = (void *)memory;
}

// ---- pages of memory ----

static void model_show(struct model *m, struct model_view *v, size_t page)
{
    v->page[v->n++] = (uint16_t)page;
    m->users[page]++;
    m->nshown++;
}

static void model_show_new(struct model *m, struct model_view *v, uint64_t x)
{
    do
        m->next_page = (m->next_page + 1) % m->npages;
    while (m->users[m->next_page] != 0);
    m->value[m->next_page] = x;
    m->nused++;
    model_show(m, v, m->next_page);
}

static void model_shorten(struct model *m, struct model_view *v, size_t n)
{
    while (v->n > n) {
        m->nused -= --m->users[v->page[--v->n]] == 0;
        m->nshown--;
    }
}

static bool model_may_show(const struct model *m, size_t n)
{
    return m->most_shown - m->nshown >= n;
}

static bool model_may_use(const struct model *m, size_t n)
{
    return m->npages - m->nused >= n && model_may_show(m, n);
}

static void model_begin_view(struct model_view *v, uintptr_t va, unsigned prot)
{
    v->va = va;
    v->n = 0;
    v->prot = prot;
}

// ---- what the calls may answer ----

static const char *model_name(enum model_kind kind)
{
    static const char *const names[MODEL_KINDS] = {
        "map",     "unmap",    "unmap a part", "alias", "clone", "move",
        "protect", "decommit", "promote",      "store", "denied"};

    return names[kind];
}

// Counts a call, which must answer what is expected of it. True if it was done.
static bool model_answer(struct model *m, enum model_kind kind, long is,
                         int expected)
{
    if (is != expected)
        fail_msg("%s says %ld, not %d", model_name(kind), is, expected);
    m->counts.done[kind] += is == 0;
    m->counts.refused[kind] += is != 0;
    return is == 0;
}

struct model_look_call {
    uintptr_t va;
    struct mm_look look;
};

static void model_look_call(void *arg)
{
    struct model_look_call *c = arg;

    spin_lock(&mm_lock);
    mm_look(c->va, &c->look);
    spin_unlock(&mm_lock);
}

static struct mm_look model_look(uintptr_t va)
{
    struct model_look_call c = {.va = va};

    arch_on_system_stack(model_look_call, &c);
    return c.look;
}

static bool model_is_one_region(uintptr_t va, size_t n)
{
    struct mm_look l = model_look(va);

    return l.in_region && l.start <= va && l.end >= va + n * PAGE_SIZE;
}

// ---- comparing ----

static void model_compare(const struct model *m, const struct model_view *v)
{
    for (size_t i = 0; v->va != 0 && i < v->n; i++) {
        uint64_t is = *model_word(v->va + i * PAGE_SIZE + 8);

        if (is != m->value[v->page[i]])
            fail_msg("view %d page %zu: %llu, not %llu", (int)(v - m->views), i,
                     (unsigned long long)is,
                     (unsigned long long)m->value[v->page[i]]);
    }
}

// What the region says is what the view may do, and the entry allows no more, and
// no less but for a copy that is still to be made.
static void model_compare_rights(const struct model_view *v, size_t page)
{
    struct mm_look l = model_look(v->va + page * PAGE_SIZE);
    bool right = l.in_region && l.prot == v->prot && !l.kept;

    if (l.mapped)
        right = right && (l.rights & ~v->prot) == 0 &&
                (l.rights == v->prot || (l.rights == PROT_R && l.cow));
    if (!right)
        fail_msg("page %zu of %zu: rights %u, of the region %u, not %u", page,
                 v->n, l.rights, l.prot, v->prot);
}

static void model_compare_all(struct model *m)
{
    for (unsigned i = 0; i < m->nviews; i++) {
        struct model_view *v = &m->views[i];

        model_compare(m, v);
        for (size_t k = 0; v->va != 0 && k < v->n; k += v->n / 8 + 1)
            model_compare_rights(v, k);
    }
}

// ---- steps: each returns true if it did something that counts ----

static bool model_step_map(struct model *m, struct model_view *v)
{
    size_t n = 1 + model_below(m, m->view_pages);
    unsigned flags = model_below(m, 3) == 0 ? VM_SPARSE : 0;
    uintptr_t at = 0;

    if (m->has_large && model_below(m, 16) == 0)
        n = MODEL_LARGE_PAGES - n;
    if (!model_may_use(m, n))
        return false;
    model_answer(m, MODEL_MAP,
                 vm_map(&at, n * PAGE_SIZE, MODEL_RW, flags, "model"), 0);
    model_begin_view(v, at, MODEL_RW);
    while (v->n < n)
        model_show_new(m, v, 0);
    return true;
}

static bool model_step_unmap(struct model *m, struct model_view *v)
{
    model_answer(m, MODEL_UNMAP, vm_unmap(v->va, v->n * PAGE_SIZE), 0);
    model_shorten(m, v, 0);
    v->va = 0;
    return true;
}

// The upper part of a view goes.
static bool model_step_unmap_part(struct model *m, struct model_view *v)
{
    size_t n = model_below(m, v->n);

    if (n == 0)
        return false;
    model_answer(m, MODEL_UNMAP_PART,
                 vm_unmap(v->va + (v->n - n) * PAGE_SIZE, n * PAGE_SIZE), 0);
    model_shorten(m, v, v->n - n);
    return true;
}

static bool model_step_alias(struct model *m, struct model_view *v,
                             const struct model_view *from)
{
    size_t first = model_below(m, from->n);
    size_t n = 1 + model_below(m, from->n - first);
    uintptr_t va = from->va + first * PAGE_SIZE, at = 0;
    unsigned prot = model_below(m, 4) == 0 ? PROT_R : MODEL_RW;

    if (!model_may_show(m, n))
        return false;
    int expected = model_is_one_region(va, n) ? 0 : -ENOMEM;

    if (!model_answer(m, MODEL_ALIAS, vm_alias(va, n * PAGE_SIZE, prot, &at),
                      expected))
        return false;
    model_begin_view(v, at, prot);
    while (v->n < n)
        model_show(m, v, from->page[first + v->n]);
    return true;
}

static bool model_step_clone(struct model *m, struct model_view *v,
                             const struct model_view *from)
{
    size_t first = model_below(m, from->n);
    size_t n = 1 + model_below(m, from->n - first);
    uintptr_t va = from->va + first * PAGE_SIZE, at = 0;

    if (!model_may_use(m, n))
        return false;
    int expected = model_is_one_region(va, n) ? 0 : -ENOMEM;

    if (!model_answer(m, MODEL_CLONE, vm_clone(va, n * PAGE_SIZE, &at),
                      expected))
        return false;
    model_begin_view(v, at, from->prot);
    while (v->n < n)
        model_show_new(m, v, m->value[from->page[first + v->n]]);
    return true;
}

static bool model_step_move(struct model *m, struct model_view *v)
{
    size_t n = 1 + model_below(m, 2 * m->view_pages - 1);
    uintptr_t to = 0;

    if (v->n > 2 * MODEL_VIEW_PAGES && model_below(m, 4) != 0)
        n = MODEL_LARGE_PAGES - n;
    if (n > v->n && !model_may_use(m, n - v->n))
        return false;
    int expected = model_is_one_region(v->va, v->n) ? 0 : -EINVAL;

    if (!model_answer(m, MODEL_MOVE,
                      vm_move(v->va, v->n * PAGE_SIZE, n * PAGE_SIZE, &to),
                      expected))
        return false;
    v->va = to;
    model_shorten(m, v, n);
    while (v->n < n)
        model_show_new(m, v, 0);
    return true;
}

// One store that must fault; large pages would be small afterwards.
static bool model_deny(struct model *m, const struct model_view *v)
{
    size_t page = model_below(m, v->n);

    if (v->n > 2 * MODEL_VIEW_PAGES)
        return false;
    if (!model_store_faults(v->va + page * PAGE_SIZE + 8))
        fail_msg("a store to read-only page %zu of %zu did not fault", page,
                 v->n);
    m->counts.done[MODEL_DENIED]++;
    return true;
}

static bool model_step_protect(struct model *m, struct model_view *v)
{
    unsigned prot = model_below(m, 3) == 0 ? PROT_R : MODEL_RW;

    // In two steps: the region is cut, and becomes one again.
    if (model_below(m, 32) == 0) {
        if (vm_protect(v->va, PAGE_SIZE, 0) != 0)
            fail_msg("a page does not lose its rights");
        struct mm_look l = model_look(v->va);

        if (l.prot != 0 || l.mapped || l.rights != 0)
            fail_msg("a page keeps rights %u that were taken", l.rights);
    }
    model_answer(m, MODEL_PROTECT, vm_protect(v->va, v->n * PAGE_SIZE, prot),
                 0);
    v->prot = prot;
    for (size_t i = 0; i < v->n; i++)
        model_compare_rights(v, i);
    if (prot == PROT_R)
        (void)model_deny(m, v);
    return true;
}

// Discards a part; the contents are gone in all views of the memory.
static bool model_step_decommit(struct model *m, struct model_view *v)
{
    bool all = model_below(m, 4) != 0;
    size_t first = all ? 0 : model_below(m, v->n);
    size_t n = all ? v->n : 1 + model_below(m, v->n - first);

    model_answer(m, MODEL_DECOMMIT,
                 vm_decommit(v->va + first * PAGE_SIZE, n * PAGE_SIZE, false),
                 0);
    for (size_t i = first; i < first + n; i++)
        m->value[v->page[i]] = 0;
    return true;
}

static bool model_step_promote(struct model *m, struct model_view *v)
{
    long n = vm_promote(v->va, v->n * PAGE_SIZE);

    if (n < 0)
        fail_msg("promote says %ld", n);
    m->counts.done[MODEL_PROMOTE] += n > 0;
    return n > 0;
}

static bool model_step_store(struct model *m, struct model_view *v)
{
    if (!(v->prot & PROT_W))
        return model_below(m, 4) == 0 && model_deny(m, v);
    for (int i = 0; i < 8; i++) {
        size_t k = model_below(m, v->n);
        uint64_t x = model_random(m);

        *model_word(v->va + k * PAGE_SIZE + 8) = x;
        m->value[v->page[k]] = x;
    }
    m->counts.done[MODEL_STORE]++;
    return true;
}

static struct model_view *model_pick(struct model *m, bool used)
{
    for (int tries = 0; tries < 50; tries++) {
        struct model_view *v = &m->views[model_below(m, m->nviews)];

        if ((v->va != 0) == used)
            return v;
    }
    return NULL;
}

// used, fresh: a view that there is, one that there is not; or NULL.
static bool model_try(struct model *m, struct model_view *used,
                      struct model_view *fresh)
{
    unsigned what = (unsigned)model_below(m, 9);

    if (what == 0)
        return fresh != NULL && model_step_map(m, fresh);
    if (used == NULL)
        return false;
    switch (what) {
    case 1:
        return model_step_unmap(m, used);
    case 2:
        return fresh != NULL && model_step_alias(m, fresh, used);
    case 3:
        return fresh != NULL && model_step_clone(m, fresh, used);
    case 4:
        return model_step_move(m, used);
    case 5:
        return model_step_protect(m, used);
    case 6:
        return model_below(m, 4) == 0 && model_step_decommit(m, used);
    case 7:
        if (used->n > 512)
            return model_step_promote(m, used);
        return model_below(m, 8) == 0 && model_step_unmap_part(m, used);
    default:
        return model_step_store(m, used);
    }
}

// ---- for tests ----

// One step that is done, refused ones not counted; after_try (or NULL) is called
// after each call that may have changed something.
static void model_step(struct model *m, void (*after_try)(void))
{
    enum { PATIENCE = 10000 };
    bool done = false;

    for (unsigned i = 0; !done; i++) {
        struct model_view *used = model_pick(m, true);
        struct model_view *fresh = model_pick(m, false);

        if (i == PATIENCE)
            fail_msg("no step can be done");
        done = model_try(m, used, fresh);
        if (used != NULL)
            model_compare(m, used);
        if (used != NULL && used->va != 0)
            model_compare_rights(used, model_below(m, used->n));
        if (after_try != NULL)
            after_try();
    }
}

// Compares everything once more, and unmaps it.
static void model_end(struct model *m)
{
    model_compare_all(m);
    for (unsigned i = 0; i < m->nviews; i++) {
        if (m->views[i].va != 0)
            model_step_unmap(m, &m->views[i]);
    }
    if (m->nused != 0 || m->nshown != 0)
        fail_msg("the model has %zu pages left", m->nused);
}

static void model_add_counts(struct model_counts *sum, const struct model *m)
{
    for (unsigned i = 0; i < MODEL_KINDS; i++) {
        sum->done[i] += m->counts.done[i];
        sum->refused[i] += m->counts.refused[i];
        sum->large += m->has_large ? m->counts.done[i] : 0;
    }
}

// Prints what was done in so many steps, and fails if a kind was rare, or was
// refused more often than every third time.
static void model_check_counts(const struct model_counts *c, unsigned steps)
{
    for (unsigned i = 0; i < MODEL_KINDS; i++) {
        unsigned least = i == MODEL_PROMOTE ? c->large / 5000 : steps / 200;

        printf("# %-12s %u done, %u refused\n", model_name(i), c->done[i],
               c->refused[i]);
        if (c->done[i] < least || c->refused[i] > c->done[i] / 2)
            fail_msg("%s was done too rarely", model_name(i));
    }
}
