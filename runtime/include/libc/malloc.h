// newlib's <malloc.h>, and what gcc may know of its calls; see <stdlib.h>.
#ifndef GNEISS_MALLOC_H
#define GNEISS_MALLOC_H

#include <stdlib.h>

#include_next <malloc.h>

#ifdef __cplusplus
extern "C" {
#endif

void *memalign(size_t align, size_t n) GNEISS_FREED_BY_FREE
    __attribute__((malloc, alloc_align(1), alloc_size(2)));
void *valloc(size_t n) GNEISS_FREED_BY_FREE
    __attribute__((malloc, alloc_size(1)));
void *pvalloc(size_t n) GNEISS_FREED_BY_FREE __attribute__((malloc));

#ifdef __cplusplus
}
#endif

#endif
