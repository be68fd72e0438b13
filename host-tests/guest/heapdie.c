// Crimes against the heap that must end in a report. One argument: which.

#include <gneiss/heap.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/tap.h"

static char *volatile p;
static char in_bss[64];

static void free_there(unsigned cpu, void *arg)
{
    if (cpu == 1)
        free(arg);
}

static void free_once_more(unsigned cpu, void *arg)
{
    (void)cpu;
    free(arg);
}

// What a wild store to the heap's own structures does.
static void damage(void *object)
{
    extern struct span *span_of(uintptr_t va);

    *((unsigned char *)span_of((uintptr_t)object) + 24) ^= 1;
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    char local[64];
    void *keep = malloc(100); // its span stays

    p = malloc(100);
    memset(p, 1, 100);
    if (strcmp(what, "double") == 0) {
        free(p);
        free(p);
    } else if (strcmp(what, "double_other") == 0) {
        free(p);
        free(malloc(100));
        p = malloc(100);
        char *q = malloc(100);

        free(p);
        free(q);
        free(p);
    } else if (strcmp(what, "double_large") == 0) {
        p = malloc(100000);
        free(p);
        free(p);
    } else if (strcmp(what, "double_remote") == 0) {
        par_run(free_there, p);
        par_run(free_once_more, p);
    } else if (strcmp(what, "double_slow") == 0) {
        p = malloc(20000);
        par_run(free_there, p);
        free(p); // its owner has not taken notice yet
    } else if (strcmp(what, "realloc_remote") == 0) {
        par_run(free_there, p);
        p = realloc(p, 50); // its owner has not taken notice yet
    } else if (strcmp(what, "interior") == 0) {
        free(p + 16);
    } else if (strcmp(what, "interior_large") == 0) {
        p = malloc(100000);
        free(p + 4096);
    } else if (strcmp(what, "unaligned") == 0) {
        free(p + 1);
    } else if (strcmp(what, "tiny_double") == 0) {
        void *more[8];

        for (int i = 0; i < 8; i++)
            more[i] = gn_alloc(4, GN_NOSCAN, 0);
        gn_free(more[5]);
        gn_free(more[4]);
        gn_free(more[5]);
    } else if (strcmp(what, "tiny_interior") == 0) {
        p = gn_alloc(8, GN_NOSCAN, 0);
        gn_free(p + 2);
    } else if (strcmp(what, "tiny_usable") == 0) {
        p = gn_alloc(8, GN_NOSCAN, 0);
        gn_usable_size(p + 4);
    } else if (strcmp(what, "sized") == 0) {
        gn_free_sized(p, 113);
    } else if (strcmp(what, "free_sized") == 0) {
        free_sized(p, 200);
    } else if (strcmp(what, "scan_double") == 0) {
        p = gn_alloc(24, GN_SCAN, 0);
        gn_free(p);
        gn_free(p);
    } else if (strcmp(what, "stack") == 0) {
        p = local;
        free(p);
    } else if (strcmp(what, "bss") == 0) {
        p = in_bss;
        free(p);
    } else if (strcmp(what, "garbage") == 0) {
        p = (char *)0x123456789abcde0;
        free(p);
    } else if (strcmp(what, "realloc_freed") == 0) {
        free(p);
        p = realloc(p, 5000);
    } else if (strcmp(what, "use_after_free") == 0) {
        free(p);
        p[50] = 2;
        for (int i = 0; i < 1000; i++)
            keep = malloc(100);
    } else if (strcmp(what, "read_after_free") == 0) {
        free(p);
        return p[50];
    } else if (strcmp(what, "overrun") == 0) {
        p[112] = 1; // the object and its padding end before
    } else if (strcmp(what, "overrun_by_one") == 0) {
        p[100] = 1;
        free(p);
    } else if (strcmp(what, "read_any_freed") == 0) {
        // One in a few is guarded: sooner or later it is this one.
        for (int i = 0; i < 100000; i++) {
            p = malloc(100);
            free(p);
            in_bss[0] = p[50];
        }
    } else if (strcmp(what, "damage") == 0) {
        damage(p);
        p = malloc(3000);
        free(p);
    } else if (strcmp(what, "damage_small") == 0) {
        static char *all[600];

        for (int i = 0; i < 600; i++)
            all[i] = malloc(100);
        damage(p);
        free(p);
        for (int i = 0; i < 600; i++)
            free(all[i]);
    } else if (strcmp(what, "damage_larger") == 0) {
        p = malloc(20000);
        damage(p);
        free(p);
    }
    return keep == NULL; // still here
}
