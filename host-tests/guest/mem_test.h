// What tests of <gneiss/mem.h> and <sys/mman.h> share.
#pragma once

#include <errno.h>
#include <gneiss/mem.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/room.h"
#include "host-tests/guest/tap.h"

enum { PAGE = 4096, RW = GN_READ | GN_WRITE };

#define HUGE ((size_t)2 << 20)

// Are there n large pages of memory, with room to put them?
static inline bool has_large(unsigned n)
{
    return room() > (n + 1) * 600u;
}

static inline struct gn_where look(const void *p)
{
    struct gn_where w;

    gn_where(p, &w);
    return w;
}

static inline struct gn_mem_stats stats(void)
{
    struct gn_mem_stats s;

    gn_mem_stats(&s);
    return s;
}

static inline char *map(size_t npages, int flags)
{
    char *p = gn_map(NULL, npages * PAGE, RW, flags);

    if (p == NULL)
        abort();
    return p;
}

static inline void put(char *p, char c)
{
    *(volatile char *)p = c;
}

static inline char get(const char *p)
{
    return *(const volatile char *)p;
}

// True if the call returned NULL and errno says why.
static inline bool fails(const void *p, int expected)
{
    bool right = p == NULL && errno == expected;

    if (!right)
        printf("# returned %p, errno %d, expected %d\n", p, errno, expected);
    errno = 0;
    return right;
}

// Each page begins with its number.
static inline void fill(char *p, size_t npages)
{
    for (size_t i = 0; i < npages; i++)
        memcpy(p + i * PAGE, &i, sizeof i);
}

static inline bool filled(const char *p, size_t npages)
{
    for (size_t i = 0; i < npages; i++) {
        if (memcmp(p + i * PAGE, &i, sizeof i) != 0)
            return false;
    }
    return true;
}

// The stack grows now: its pages are counted against the rest as they come, and
// tests compare what is promised before and after a call.
__attribute__((unused)) static NOINLINE void grow_stack(void)
{
    volatile char deep[64 * 1024];

    for (size_t i = sizeof deep; i > PAGE; i -= PAGE)
        deep[i - PAGE] = 0;
}
