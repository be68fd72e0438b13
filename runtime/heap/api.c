// The calls of <gneiss/heap.h> that change something. Thin: arguments are checked
// here, heap.c does the work.

#include <gneiss/heap.h>

#include <errno.h>

#include "runtime/heap/cache.h"

_Static_assert((int)GN_MANUAL == HEAP_MANUAL && (int)GN_SCAN == HEAP_SCAN &&
                   (int)GN_NOSCAN == HEAP_NOSCAN,
               "the same numbers");

enum { LARGE_PAGE = 2 * MIB };

static void *fail(int err)
{
    errno = err;
    return NULL;
}

void *gn_alloc_aligned(size_t n, size_t align, enum gn_heap_kind kind,
                       int flags)
{
    if (align == 0 || (align & (align - 1)) != 0 ||
        align > ARCH_HEAP_SIZE / 4 || (unsigned)kind > GN_NOSCAN ||
        (flags & ~(GN_UNCLEARED | GN_PAST_END | GN_LARGE_PAGES)) != 0 ||
        ((flags & GN_LARGE_PAGES) != 0 && kind != GN_NOSCAN))
        return fail(EINVAL);
    bool large = (flags & GN_LARGE_PAGES) != 0 && n >= LARGE_PAGE;

    bool clear = (flags & GN_UNCLEARED) == 0 || kind == GN_SCAN;

    if ((flags & GN_PAST_END) != 0 && ++n == 0)
        return fail(ENOMEM);
    if (large && align < LARGE_PAGE)
        align = LARGE_PAGE;
    void *p = heap_alloc(n, (enum heap_kind)kind, align, clear);

    if (p != NULL && large)
        heap_enlarge(p);
    return p != NULL ? p : fail(ENOMEM);
}

void gn_free_sized(void *p, size_t n)
{
    if (p != NULL)
        heap_check_size(p, n, "gn_free_sized");
    heap_free(p);
}

void *gn_realloc(void *p, size_t n)
{
    void *q = heap_realloc(p, n > 0 ? n : 1);

    return q != NULL ? q : fail(ENOMEM);
}

size_t gn_usable_size(const void *p)
{
    return p != NULL ? heap_usable(p) : 0;
}

uint64_t gn_heap_trim(void)
{
    return heap_trim() * PAGE_SIZE;
}

void gn_heap_keep(uint64_t bytes, unsigned delay_ms)
{
    heap_set_keep(bytes, delay_ms);
}

uint64_t gn_heap_limit(uint64_t bytes)
{
    return heap_set_limit(bytes);
}

void gn_on_oom(bool (*fn)(size_t n, void *arg), void *arg)
{
    heap_on_oom(fn, arg);
}

void gn_heap_check(void)
{
    heap_check();
    heap_check_own();
}
