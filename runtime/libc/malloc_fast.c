// malloc and free: nothing but the fast paths, so that they need no frame.

#include <stdlib.h>

#include "runtime/heap/fast.h"

void *malloc(size_t n)
{
    return heap_fast_malloc(n);
}

void free(void *p)
{
    heap_fast_free(p);
}
