// Programs that gcc -fanalyzer must find fault with, one at a time: -DCASE=name.
// The text behind each is what the warning is called; "none" is a sound one.

#include <gneiss/heap.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sound(size_t n);
int leak(size_t n);
int twice(size_t n);
int after(size_t n);
int local(void);
int overrun(void);

#ifdef SOUND // none
int sound(size_t n)
{
    char *p = gn_alloc(n, GN_NOSCAN, 0);
    char *q = gn_alloc(n, GN_MANUAL, 0);
    char *r = aligned_alloc(64, 640);

    if (p == NULL || q == NULL || r == NULL) {
        gn_free(p);
        free(q);
        free(r);
        return -1;
    }
    p[0] = 1;
    q[0] = r[0] = 2;
    int sum = p[0] + q[0] + r[0];

    gn_free_sized(p, n);
    free(q); // the same heap
    free(r);
    return sum;
}
#endif

#ifdef LEAK_ALLOC // -Wanalyzer-malloc-leak
int leak(size_t n)
{
    char *p = gn_alloc(n, GN_MANUAL, 0);

    return p != NULL;
}
#endif

#ifdef LEAK_ALIGNED // -Wanalyzer-malloc-leak
int leak(size_t n)
{
    char *p = gn_alloc_aligned(n, 64, GN_MANUAL, 0);

    return p != NULL;
}
#endif

#ifdef LEAK_ALIGNED_ALLOC // -Wanalyzer-malloc-leak
int leak(size_t n)
{
    char *p = aligned_alloc(64, n);

    return p != NULL;
}
#endif

#ifdef LEAK_MEMALIGN // -Wanalyzer-malloc-leak
int leak(size_t n)
{
    char *p = memalign(64, n);

    return p != NULL;
}
#endif

#ifdef DOUBLE_FREE // -Wanalyzer-double-free
int twice(size_t n)
{
    char *p = gn_alloc(n, GN_SCAN, 0);

    gn_free(p);
    gn_free(p);
    return 0;
}
#endif

#ifdef DOUBLE_FREE_MIXED // -Wuse-after-free
int twice(size_t n)
{
    char *p = gn_alloc(n, GN_SCAN, 0);

    gn_free_sized(p, n);
    free(p);
    return 0;
}
#endif

#ifdef DOUBLE_FREE_ALIGNED // -Wanalyzer-double-free
int twice(size_t n)
{
    char *p = aligned_alloc(32, n);

    if (p == NULL)
        return 0;
    int v = p[0] = (char)n;

    free(p);
    free(p);
    return v;
}
#endif

#ifdef USE_AFTER_FREE // -Wanalyzer-use-after-free
int after(size_t n)
{
    char *p = gn_alloc(n, GN_MANUAL, 0);

    if (p == NULL)
        return 0;
    gn_free(p);
    return p[0];
}
#endif

#ifdef USE_AFTER_FREE_MALLOC // -Wanalyzer-use-after-free
int after(size_t n)
{
    char *p = malloc(n);

    if (p == NULL)
        return 0;
    free(p);
    return p[0];
}
#endif

#ifdef NULL_DEREFERENCE // -Wanalyzer-possible-null-dereference
int after(size_t n)
{
    char *p = gn_alloc(n, GN_MANUAL, 0);

    p[0] = 1;
    gn_free(p);
    return 0;
}
#endif

#ifdef FREE_OF_LOCAL // -Wfree-nonheap-object
int local(void)
{
    char a[10] = "";

    gn_free(a);
    return 0;
}
#endif

#ifdef OVERRUN // -Warray-bounds
int overrun(void)
{
    char *p = gn_alloc(8, GN_NOSCAN, 0);

    if (p == NULL)
        return 0;
    memset(p, 0, 9);
    int v = p[0];

    gn_free(p);
    return v;
}
#endif

#ifdef OVERRUN_REALLOC // -Warray-bounds
int overrun(void)
{
    char *p = gn_realloc(NULL, 8);

    if (p == NULL)
        return 0;
    memset(p, 0, 9);
    int v = p[0];

    gn_free(p);
    return v;
}
#endif
