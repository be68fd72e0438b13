// See libc_malloc.h.

#include "host-tests/runtime/heap/libc_malloc.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/heap/fast.h"

#define malloc             libc_malloc
#define free               libc_free
#define calloc             libc_calloc
#define realloc            libc_realloc
#define reallocarray       libc_reallocarray
#define memalign           libc_memalign
#define aligned_alloc      libc_aligned_alloc
#define posix_memalign     libc_posix_memalign
#define valloc             libc_valloc
#define pvalloc            libc_pvalloc
#define malloc_usable_size libc_malloc_usable_size
#define malloc_trim        libc_malloc_trim

// newlib's header declares the _r forms.
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

#include "runtime/libc/malloc.c"
#include "runtime/libc/malloc_fast.c"
