// What the runtime needs of <gneiss/heap.h>, in a Linux process: the C library's heap.

#include <gneiss/heap.h>

#include <stdlib.h>

void *gn_alloc(size_t n, enum gn_heap_kind kind, int flags)
{
    (void)kind;
    return (flags & GN_UNCLEARED) != 0 ? malloc(n) : calloc(1, n);
}

void gn_free(void *p)
{
    free(p);
}
