// malloc and its family, newlib's _r forms too, over the heap. malloc and free
// themselves are in malloc_fast.c.

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/heap/heap.h"

struct _reent;

static void *checked(void *p)
{
    if (p == NULL)
        errno = ENOMEM;
    return p;
}

void *calloc(size_t count, size_t size)
{
    size_t n;

    if (__builtin_mul_overflow(count, size, &n))
        return checked(NULL);
    return checked(heap_alloc(n, HEAP_MANUAL, 16, true));
}

void *realloc(void *p, size_t n)
{
    return checked(heap_realloc(p, n));
}

void *reallocarray(void *p, size_t count, size_t size)
{
    size_t n;

    if (__builtin_mul_overflow(count, size, &n))
        return checked(NULL);
    return realloc(p, n);
}

static bool is_power_of_two(size_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

void *memalign(size_t align, size_t n)
{
    if (!is_power_of_two(align)) {
        errno = EINVAL;
        return NULL;
    }
    return checked(heap_alloc(n, HEAP_MANUAL, align, false));
}

void *aligned_alloc(size_t align, size_t n)
{
    return memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    if (!is_power_of_two(align) || align % sizeof(void *) != 0)
        return EINVAL;
    void *q = heap_alloc(n, HEAP_MANUAL, align, false);

    if (q == NULL)
        return ENOMEM;
    *p = q;
    return 0;
}

void *valloc(size_t n)
{
    return memalign(PAGE_SIZE, n);
}

void *pvalloc(size_t n)
{
    if (n > SIZE_MAX - PAGE_SIZE)
        return checked(NULL);
    return memalign(PAGE_SIZE, align_up(n, PAGE_SIZE));
}

size_t malloc_usable_size(void *p)
{
    return p != NULL ? heap_usable(p) : 0;
}

int malloc_trim(size_t pad)
{
    (void)pad;
    return heap_trim() > 0;
}

void free_sized(void *p, size_t n)
{
    if (p != NULL)
        heap_check_size(p, n, "free_sized");
    heap_free(p);
}

void free_aligned_sized(void *p, size_t align, size_t n)
{
    (void)align;
    free_sized(p, n);
}

// ---- newlib's own calls ----

void *_malloc_r(struct _reent *r, size_t n)
{
    (void)r;
    return malloc(n);
}

void _free_r(struct _reent *r, void *p)
{
    (void)r;
    heap_free(p);
}

void *_calloc_r(struct _reent *r, size_t count, size_t size)
{
    (void)r;
    return calloc(count, size);
}

void *_realloc_r(struct _reent *r, void *p, size_t n)
{
    (void)r;
    return realloc(p, n);
}

void *_memalign_r(struct _reent *r, size_t align, size_t n)
{
    (void)r;
    return memalign(align, n);
}

size_t _malloc_usable_size_r(struct _reent *r, void *p)
{
    (void)r;
    return malloc_usable_size(p);
}

int _malloc_trim_r(struct _reent *r, size_t pad)
{
    (void)r;
    return malloc_trim(pad);
}
