// A tour of Gneiss's memory, with live figures: what is mapped where, what a
// page fault does, how frames are shared and moved, what goroutines take and who
// runs where, and how malloc deals memory out.
//
//   make run APP=tour                 all of it
//   make run APP=tour ARGS="cow move" some chapters
//   make run APP=tour ARGS=list       what there is
//
// Every statement marked "ok" was checked just then; the status is 1 if one is
// false.

#include <gneiss/cpu.h>
#include <gneiss/go.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "apps/tour/tour.h"

enum { STATUS_FALSE = 1, STATUS_USAGE = 2, COLUMNS = 80 };

static const struct chapter {
    const char *name, *title;
    void (*show)(void);
} chapters[] = {
    {"map", "what lies where in the address space", chapter_map},
    {"where", "where each kind of C variable lives", chapter_where},
    {"walk", "how the hardware finds the frame of an address", chapter_walk},
    {"fault", "a page gets its frame when it is touched", chapter_fault},
    {"around", "touched in order, pages come in larger groups", chapter_around},
    {"zero", "reading a sparse table takes no memory", chapter_zero},
    {"cow", "a snapshot shares frames until somebody stores", chapter_cow},
    {"alias", "one page of memory at two addresses", chapter_alias},
    {"move", "moving memory without copying a byte", chapter_move},
    {"shootdown", "what one CPU unmaps, no CPU sees", chapter_shootdown},
    {"stack", "a stack grows, and nothing moves", chapter_stack},
    {"grow", "what a goroutine's stack takes, and gives back", chapter_grow},
    {"goroutines", "on all CPUs, and none keeps one", chapter_goroutines},
    {"channels", "what goes through them; select, contexts, panics",
     chapter_channels},
    {"heap", "follow 48 bytes from malloc down to a frame", chapter_heap},
    {"span", "a span and the bits that say what is free", chapter_span},
    {"tiny", "small objects without pointers share 16 bytes", chapter_tiny},
    {"large", "a large object, and realloc without copying", chapter_large},
    {"return", "what was freed goes back, after a while", chapter_return},
    {"fragments", "few survivors can keep many pages", chapter_fragments},
    {"collect", "a collection, step by step: white, gray, black",
     chapter_collect},
};

enum { NCHAPTERS = sizeof chapters / sizeof chapters[0] };

static unsigned nclaims, nfalse, nskipped;

void say(const char *fmt, ...)
{
    va_list ap;

    fputs("  ", stdout);
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
}

bool claim(bool is_true, const char *fmt, ...)
{
    va_list ap;

    nclaims++;
    nfalse += !is_true;
    printf("  %-5s ", is_true ? "ok" : "FALSE");
    va_start(ap, fmt);
    vprintf(fmt, ap);
    va_end(ap);
    putchar('\n');
    return is_true;
}

void skip(const char *why)
{
    nskipped++;
    say("skipped: %s", why);
}

char *memory(size_t bytes, int flags, const char *name)
{
    char *p = gn_map_named(NULL, bytes, GN_READ | GN_WRITE, flags, name);

    if (p == NULL)
        skip("not so much memory here (run with more MEM)");
    return p;
}

struct gn_where look(const void *p)
{
    struct gn_where w;

    gn_where(p, &w);
    return w;
}

struct gn_mem_stats stats(void)
{
    struct gn_mem_stats s;

    gn_mem_stats(&s);
    return s;
}

uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static char *next_buffer(void)
{
    static char buffers[4][COLUMNS + 1];
    static unsigned turn;

    return buffers[turn++ % 4];
}

const char *size_text(uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB",
                                        "GiB",   "TiB", "PiB"};
    char *text = next_buffer();
    uint64_t whole = bytes, tenths = 0;
    unsigned i = 0;

    for (; whole >= 1024 && i < 5; i++) {
        tenths = whole % 1024 * 10 / 1024;
        whole /= 1024;
    }
    if (tenths == 0 || whole >= 100)
        snprintf(text, COLUMNS, "%llu %s", (unsigned long long)whole, units[i]);
    else
        snprintf(text, COLUMNS, "%llu.%u %s", (unsigned long long)whole,
                 (unsigned)tenths, units[i]);
    return text;
}

const char *bar(char c, unsigned n)
{
    char *text = next_buffer();

    if (n > COLUMNS)
        n = COLUMNS;
    memset(text, c, n);
    text[n] = '\0';
    return text;
}

char get(const char *p)
{
    return *(const volatile char *)p;
}

void put(char *p, char value)
{
    *(volatile char *)p = value;
}

void wait_until_alone(void)
{
    while (gn_go_count() > 1)
        gn_yield();
}

static void show(const struct chapter *c)
{
    unsigned used = (unsigned)(strlen(c->name) + strlen(c->title) + 7);

    printf("== %s: %s %s\n\n", c->name, c->title,
           bar('=', used < COLUMNS ? COLUMNS - used : 0));
    c->show();
    putchar('\n');
}

static const struct chapter *find(const char *name)
{
    for (unsigned i = 0; i < NCHAPTERS; i++) {
        if (strcmp(chapters[i].name, name) == 0)
            return &chapters[i];
    }
    return NULL;
}

static void list(FILE *to)
{
    for (unsigned i = 0; i < NCHAPTERS; i++)
        fprintf(to, "  %-10s %s\n", chapters[i].name, chapters[i].title);
}

static int check_names(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (find(argv[i]) != NULL)
            continue;
        fprintf(stderr, "tour: there is no chapter \"%s\"; there are\n",
                argv[i]);
        list(stderr);
        return STATUS_USAGE;
    }
    return 0;
}

int main(int argc, char **argv)
{
    unsigned shown = argc > 1 ? (unsigned)argc - 1 : NCHAPTERS;

    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        list(stdout);
        return 0;
    }
    if (check_names(argc, argv) != 0)
        return STATUS_USAGE;
    gn_cpu_stay(0); // much of what it shows is one CPU's
    for (unsigned i = 0; i < shown; i++)
        show(argc > 1 ? find(argv[i + 1]) : &chapters[i]);
    printf("tour: %u chapter%s, %u skipped; %u statements checked, ", shown,
           shown == 1 ? "" : "s", nskipped, nclaims);
    if (nfalse == 0)
        puts("all true");
    else
        printf("%u FALSE\n", nfalse);
    return fflush(stdout) != 0 || nfalse != 0 ? STATUS_FALSE : 0;
}
