// Random operations on ranges against a model that knows memory and views of it,
// with every page's contents compared. For the host and for the guest: the
// includer supplies support_random(), support_below() and fail_msg().
#pragma once

#include <errno.h>
#include <stdio.h>

#include "mm/mm.h"

enum {
    MODEL_PAGES = 4000, // pages of memory that can exist at once in the model
    MODEL_VIEWS = 12,
    MODEL_VIEW_PAGES = 40,
    MODEL_LARGE_PAGES = 1100, // of a view that large pages fit in
};

#define MODEL_RW (PROT_R | PROT_W)

static void model_must(bool good)
{
    if (!good)
        fail_msg("a step of the model failed");
}

static volatile uint64_t *model_word(uintptr_t va)
{
    return (volatile uint64_t *)va;
}

// A view's page shows one memory page of the model; several views may show the
// same (aliases). Values stand for the contents.
static struct model_view {
    uintptr_t va;
    size_t n;
    int page[MODEL_LARGE_PAGES];
    unsigned prot;
} model_views[MODEL_VIEWS];

// Of MODEL_PAGES, where there is memory for so many. Large views need 2 MiB pages.
static size_t model_most = MODEL_PAGES;
static bool model_has_large = true;

static uint64_t model_value[MODEL_PAGES];
static unsigned model_aliases, model_clones, model_moves,
    model_large; // how many were made
static int model_users[MODEL_PAGES];
static int model_next_page;

static size_t model_nused;

static int model_new_page(uint64_t v)
{
    do
        model_next_page = (model_next_page + 1) % MODEL_PAGES;
    while (model_users[model_next_page] != 0);
    model_users[model_next_page] = 1;
    model_value[model_next_page] = v;
    model_nused++;
    return model_next_page;
}

static void model_put_page(int page)
{
    model_nused -= --model_users[page] == 0;
}

static size_t model_free_pages(void)
{
    return model_most - model_nused;
}

static void model_compare(const struct model_view *v)
{
    for (size_t i = 0; v->va != 0 && i < v->n; i++) {
        uint64_t is = *model_word(v->va + i * PAGE_SIZE + 8);

        if (is != model_value[v->page[i]])
            fail_msg("view %d page %zu: %llu, not %llu", (int)(v - model_views),
                     i, (unsigned long long)is,
                     (unsigned long long)model_value[v->page[i]]);
    }
}

static void model_drop_view(struct model_view *v)
{
    for (size_t i = 0; i < v->n; i++)
        model_put_page(v->page[i]);
    v->va = 0;
    v->n = 0;
}

static struct model_view *model_pick(bool used)
{
    for (int tries = 0; tries < 50; tries++) {
        struct model_view *v = &model_views[support_below(MODEL_VIEWS)];

        if ((v->va != 0) == used)
            return v;
    }
    return NULL;
}

static void model_step_map(struct model_view *v)
{
    size_t n = 1 + support_below(MODEL_VIEW_PAGES);

    if (support_below(16) == 0 && model_has_large)
        n = MODEL_LARGE_PAGES - n;
    if (model_free_pages() < n)
        return;
    uintptr_t at = 0;
    int err = vm_map(&at, n * PAGE_SIZE, MODEL_RW,
                     support_below(3) == 0 ? VM_SPARSE : 0, "model");

    // Tables of many small views are more than the pages where there are few.
    if (err == -ENOMEM && model_most < MODEL_PAGES)
        return;
    model_must(err == 0);
    v->va = at;
    v->n = n;
    v->prot = MODEL_RW;
    for (size_t i = 0; i < n; i++)
        v->page[i] = model_new_page(0);
}

static void model_step_alias(struct model_view *v,
                             const struct model_view *from)
{
    size_t first = support_below(from->n);
    size_t n = 1 + support_below(from->n - first);
    uintptr_t at = 0;

    if (vm_alias(from->va + first * PAGE_SIZE, n * PAGE_SIZE, MODEL_RW, &at) !=
        0)
        return; // across several regions, after cuts
    model_aliases++;
    v->va = at;
    v->n = n;
    v->prot = MODEL_RW;
    for (size_t i = 0; i < n; i++) {
        v->page[i] = from->page[first + i];
        model_users[v->page[i]]++;
    }
}

static void model_step_clone(struct model_view *v,
                             const struct model_view *from)
{
    size_t first = support_below(from->n);
    size_t n = 1 + support_below(from->n - first);
    uintptr_t at = 0;

    if (model_free_pages() < n ||
        vm_clone(from->va + first * PAGE_SIZE, n * PAGE_SIZE, &at) != 0)
        return;
    v->va = at;
    v->n = n;
    v->prot = from->prot;
    model_clones++;
    for (size_t i = 0; i < n; i++)
        v->page[i] = model_new_page(model_value[from->page[first + i]]);
}

static void model_step_move(struct model_view *v)
{
    size_t n = 1 + support_below(2 * MODEL_VIEW_PAGES - 1);
    uintptr_t to = 0;

    if (v->n > 2 * MODEL_VIEW_PAGES && support_below(4) != 0)
        n = MODEL_LARGE_PAGES - n;

    if (n > v->n && model_free_pages() < n - v->n)
        return;
    int r = vm_move(v->va, v->n * PAGE_SIZE, n * PAGE_SIZE, &to);

    if (r != 0)
        return; // several regions
    model_moves++;
    v->va = to;
    while (v->n > n)
        model_put_page(v->page[--v->n]);
    while (v->n < n)
        v->page[v->n++] = model_new_page(0);
}

static void model_step_store(struct model_view *v)
{
    for (int i = 0; i < 8; i++) {
        size_t k = support_below(v->n);

        if (v->prot & PROT_W) {
            uint64_t x = support_random();

            *model_word(v->va + k * PAGE_SIZE + 8) = x;
            model_value[v->page[k]] = x;
        }
    }
}

// Discards a part; the contents are gone in all views of the memory.
static void model_step_decommit(struct model_view *v)
{
    bool all = support_below(4) != 0; // a part leaves several regions
    size_t first = all ? 0 : support_below(v->n);
    size_t n = all ? v->n : 1 + support_below(v->n - first);

    model_must(vm_decommit(v->va + first * PAGE_SIZE, n * PAGE_SIZE, false) ==
               0);
    for (size_t i = first; i < first + n; i++)
        model_value[v->page[i]] = 0;
}

static void model_step_protect(struct model_view *v)
{
    v->prot = support_below(3) == 0 ? PROT_R : MODEL_RW;
    // In two steps: regions are cut, and can't be moved or shared as one then.
    if (support_below(32) == 0)
        model_must(vm_protect(v->va, PAGE_SIZE, 0) == 0);
    model_must(vm_protect(v->va, v->n * PAGE_SIZE, v->prot) == 0);
}

static long model_step_promote(struct model_view *v)
{
    long n = vm_promote(v->va, v->n * PAGE_SIZE);

    model_must(n >= 0);
    return n;
}

// The upper part of a view goes.
static void model_step_unmap_part(struct model_view *v)
{
    size_t n = support_below(v->n);

    if (n == 0)
        return;
    model_must(vm_unmap(v->va + (v->n - n) * PAGE_SIZE, n * PAGE_SIZE) == 0);
    while (n-- > 0)
        model_put_page(v->page[--v->n]);
}

static void model_step(struct model_view *used, struct model_view *fresh)
{
    switch (support_below(9)) {
    case 0:
        if (fresh != NULL)
            model_step_map(fresh);
        break;
    case 1:
        if (used != NULL) {
            model_must(vm_unmap(used->va, used->n * PAGE_SIZE) == 0);
            model_drop_view(used);
        }
        break;
    case 2:
        if (used != NULL && fresh != NULL)
            model_step_alias(fresh, used);
        break;
    case 3:
        if (used != NULL && fresh != NULL)
            model_step_clone(fresh, used);
        break;
    case 4:
        if (used != NULL)
            model_step_move(used);
        break;
    case 5:
        if (used != NULL)
            model_step_protect(used);
        break;
    case 6:
        if (used != NULL && support_below(4) == 0)
            model_step_decommit(used);
        break;
    case 7:
        if (used != NULL && used->n > 512)
            model_large += model_step_promote(used) > 0;
        else if (used != NULL && support_below(8) == 0)
            model_step_unmap_part(used);
        break;
    default:
        if (used != NULL)
            model_step_store(used);
        break;
    }
}

static void model_compare_all(void)
{
    mm_check();
    for (int i = 0; i < MODEL_VIEWS; i++)
        model_compare(&model_views[i]);
}

// Does the steps from..end-1; calls after_step (or NULL) after each, compares
// everything and calls mm_check() every check_every steps.
static void model_do(int from, int end, int check_every,
                     void (*after_step)(void))
{
    for (int step = from; step < end; step++) {
        struct model_view *used = model_pick(true), *fresh = model_pick(false);

        model_step(used, fresh);
        if (used != NULL && used->va != 0)
            model_compare(used);
        if (after_step != NULL)
            after_step();
        if (step % check_every == 0)
            model_compare_all();
    }
}

// After so many steps: compares everything once more, and unmaps it.
static void model_end(int steps)
{
    model_compare_all();
    for (int i = 0; i < MODEL_VIEWS; i++) {
        struct model_view *v = &model_views[i];

        if (v->va != 0) {
            model_must(vm_unmap(v->va, v->n * PAGE_SIZE) == 0);
            model_drop_view(v);
        }
    }
    mm_check();
    printf("# %d steps: %u aliases, %u clones, %u moves, %u promotions\n",
           steps, model_aliases, model_clones, model_moves, model_large);
    model_must(model_aliases > (unsigned)steps / 100);
    model_must(model_clones > (unsigned)steps / 100);
    // Where memory is little, some are refused.
    model_must(model_moves >
               (unsigned)steps / (model_most < MODEL_PAGES ? 200 : 100));
    model_must(!model_has_large || model_large > (unsigned)steps / 5000);
}
