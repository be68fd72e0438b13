// What there is, page by page: of each page of each region its rights, its flags and
// its contents, looked at through the tables without touching it.
#pragma once

#include "host-tests/support.h"
#include "mm/mm_impl.h"

enum { MOST_PAGES = 8192 };

struct page {
    uintptr_t va;
    uint64_t value;
    unsigned prot, flags;
};

struct seen {
    size_t n;
    struct page page[MOST_PAGES];
};

static struct seen *filling;

static inline paddr_t frame_at(uintptr_t va)
{
    int level;
    pte_t *e = pt_find(va, &level);

    if (e == NULL || !pt_has_frame(pt_get(e)))
        return paddr(0);
    return paddr((pte_paddr(pt_get(e)).raw & ~(pte_span(level) - 1)) +
                 (va & (pte_span(level) - 1)));
}

// What a load would find, without being one.
static inline uint64_t contents(struct region *r, uintptr_t va)
{
    struct region *p = r;

    do {
        uintptr_t at = mm_peer_address(r, va, p);
        paddr_t frame = at != 0 ? frame_at(at) : paddr(0);

        if (frame.raw != 0 && (r->flags & REGION_DEVICE))
            return frame.raw; // registers: the host has none
        if (frame.raw != 0)
            return *(uint64_t *)arch_direct(frame);
        p = p->peer;
    } while (p != r);
    return 0;
}

static inline void add_region(struct region *r, void *arg)
{
    (void)arg;
    for (uintptr_t va = r->start; va < r->end; va += PAGE_SIZE) {
        assert_true(filling->n < MOST_PAGES);
        filling->page[filling->n++] =
            (struct page){va, contents(r, va), r->prot, r->flags};
    }
}

static inline void look(struct seen *s)
{
    s->n = 0;
    filling = s;
    region_each(add_region, NULL);
}

// A clone lies where there is room, so addresses are not always compared.
static inline void assert_same(const char *doing, const struct seen *is,
                               const struct seen *should, bool addresses,
                               const char *what)
{
    if (is->n != should->n)
        fail_msg("%s, %s: %zu pages, not %zu", doing, what, is->n, should->n);
    for (size_t i = 0; i < is->n; i++) {
        struct page a = is->page[i], b = should->page[i];

        if ((addresses && a.va != b.va) || a.value != b.value ||
            a.prot != b.prot || a.flags != b.flags)
            fail_msg(
                "%s, %s: page %zu at 0x%lx holds %lu, rights %u, flags %u, "
                "not 0x%lx, %lu, %u, %u",
                doing, what, i, a.va, a.value, a.prot, a.flags, b.va, b.value,
                b.prot, b.flags);
    }
}
