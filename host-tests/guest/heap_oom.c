// Every call that allocates, once each, for heap.fail=N: one of them fails, or all
// from one on. Prints a line for each that failed; the suite sees to it that each
// did. Those that did not fail must work.

#include <gneiss/heap.h>

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char
    text[4096]; // stdio must not allocate: what failed, to be printed last
static unsigned failed, wrong;

static void note(const char *name)
{
    strcat(strcat(strcat(text, "failed "), name), "\n");
    failed++;
}

// What a call returned that must be good for n bytes or NULL with ENOMEM.
static void *look(const char *name, void *p, size_t n)
{
    if (p == NULL) {
        wrong += errno != ENOMEM;
        note(name);
    } else {
        memset(p, 1, n);
    }
    errno = 0;
    return p;
}

static void small_and_large(const char *name, void *(*call)(size_t n))
{
    static const size_t sizes[] = {40, 3000, 20000, 100000};
    void *p[4];

    for (int i = 0; i < 4; i++)
        p[i] = look(name, call(sizes[i]), sizes[i]);
    for (int i = 0; i < 4; i++)
        free(p[i]);
}

static void *call_calloc(size_t n)
{
    return calloc(2, n);
}

static void *call_realloc(size_t n)
{
    return realloc(NULL, n);
}

static void *call_reallocarray(size_t n)
{
    return reallocarray(NULL, n, 2);
}

static void *call_memalign(size_t n)
{
    return memalign(64, n);
}

static void *call_aligned_alloc(size_t n)
{
    return aligned_alloc(8192, n);
}

static void *call_posix_memalign(size_t n)
{
    void *p = NULL;
    int err = posix_memalign(&p, 128, n);

    errno = err;
    return p;
}

static void *call_manual(size_t n)
{
    return gn_alloc(n, GN_MANUAL, 0);
}

static void *call_scan(size_t n)
{
    return gn_alloc(n, GN_SCAN, 0);
}

static void *call_noscan(size_t n)
{
    return gn_alloc(n, GN_NOSCAN, GN_UNCLEARED);
}

static void *call_tiny(size_t n)
{
    return gn_alloc(n % 15 + 1, GN_NOSCAN, 0) != NULL
               ? gn_alloc(n, GN_NOSCAN, 0)
               : NULL;
}

static void *call_gn_aligned(size_t n)
{
    return gn_alloc_aligned(n, 16384, GN_SCAN, 0);
}

static void *call_gn_realloc(size_t n)
{
    return gn_realloc(NULL, n);
}

// A block that grows: if it can't, it is as it was.
static void grow(size_t from, size_t to)
{
    char *p = look("malloc", malloc(from), from), *q;

    if (p == NULL)
        return;
    memset(p, 7, from);
    q = realloc(p, to);
    if (q == NULL) {
        wrong += errno != ENOMEM;
        note("growth");
    } else {
        p = q;
    }
    errno = 0;
    for (size_t i = 0; i < from; i++)
        wrong += p[i] != 7;
    free(p);
}

int main(void)
{
    void *page[2];

    small_and_large("malloc", malloc);
    small_and_large("calloc", call_calloc);
    small_and_large("realloc", call_realloc);
    small_and_large("reallocarray", call_reallocarray);
    small_and_large("memalign", call_memalign);
    small_and_large("aligned_alloc", call_aligned_alloc);
    small_and_large("posix_memalign", call_posix_memalign);
    small_and_large("gn_alloc_manual", call_manual);
    small_and_large("gn_alloc_scan", call_scan);
    small_and_large("gn_alloc_noscan", call_noscan);
    small_and_large("gn_alloc_tiny", call_tiny);
    small_and_large("gn_alloc_aligned", call_gn_aligned);
    small_and_large("gn_realloc", call_gn_realloc);
    small_and_large("valloc", valloc);
    small_and_large("pvalloc", pvalloc);
    page[0] = look("strdup", strdup("some text"), 1);
    page[1] = look("malloc", _malloc_r(_REENT, 10), 10);
    free(page[0]);
    free(page[1]);
    grow(40, 400);
    grow(100, 40000);
    grow(100000, 5000000);
    gn_heap_check();
    fputs(text, stdout);
    printf("%u failed, %u wrong\n", failed, wrong);
    return wrong != 0;
}
