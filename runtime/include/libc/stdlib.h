// newlib's <stdlib.h>, and what gcc may know of its allocating calls beside malloc,
// calloc and realloc, which it knows: -fanalyzer finds leaks, double frees and uses
// after free of them.
#ifndef GNEISS_STDLIB_H
#define GNEISS_STDLIB_H

#include_next <stdlib.h>

#if defined __GNUC__ && !defined __clang__
#define GNEISS_FREED_BY_FREE                                                   \
    __attribute__((malloc(free, 1), malloc(realloc, 1)))
#else
#define GNEISS_FREED_BY_FREE
#endif

#ifdef __cplusplus
extern "C" {
#endif

void *aligned_alloc(size_t align, size_t n) GNEISS_FREED_BY_FREE
    __attribute__((malloc, alloc_align(1), alloc_size(2)));

#if __BSD_VISIBLE || __POSIX_VISIBLE >= 202405
void *reallocarray(void *p, size_t count, size_t size) GNEISS_FREED_BY_FREE
    __attribute__((alloc_size(2, 3)));
#endif

// C23: frees what was asked for with n bytes; a smaller object is reported.
void free_sized(void *p, size_t n);
void free_aligned_sized(void *p, size_t align, size_t n);

#ifdef __cplusplus
}
#endif

#endif
