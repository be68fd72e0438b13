// The C library's malloc and its family over the heap, under names that are not
// the host's own.
#pragma once

#include <stddef.h>

void *libc_malloc(size_t n);
void libc_free(void *p);
void *libc_calloc(size_t count, size_t size);
void *libc_realloc(void *p, size_t n);
void *libc_reallocarray(void *p, size_t count, size_t size);
void *libc_memalign(size_t align, size_t n);
void *libc_aligned_alloc(size_t align, size_t n);
int libc_posix_memalign(void **p, size_t align, size_t n);
void *libc_valloc(size_t n);
void *libc_pvalloc(size_t n);
size_t libc_malloc_usable_size(void *p);
int libc_malloc_trim(size_t pad);
