// malloc and free: nothing but the fast paths, so that they need no frame.

#include <stdlib.h>

#include "runtime/heap/fast.h"

ARCH_CRITICAL void *malloc(size_t n)
{
    return heap_fast_malloc(n);
}

ARCH_CRITICAL void free(void *p)
{
    heap_fast_free(p);
}
