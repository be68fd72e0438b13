// malloc and free under the runtime's own names.

#include "runtime/heap/fast.h"

ARCH_CRITICAL void *heap_malloc(size_t n)
{
    return heap_fast_malloc(n);
}

ARCH_CRITICAL void heap_free(void *p)
{
    heap_fast_free(p);
}
