// The address space: its map, what lies where in it, how it is translated.

#include <gneiss/cpu.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "apps/tour/tour.h"

// ---- map ----

// The direct map is all of physical memory and the runtime's arrays are sparse:
// what is mapped there is no news.
static const char *frames_of(const struct gn_where *w)
{
    return size_text(gn_resident((void *)w->start, w->end - w->start));
}

static void print_range(const struct gn_where *w)
{
    char rights[4] = {w->prot & GN_READ ? 'r' : '-',
                      w->prot & GN_WRITE ? 'w' : '-',
                      w->prot & GN_EXEC ? 'x' : '-', '\0'};

    if (w->kind == GN_KIND_NIL || w->kind == GN_KIND_GUARD)
        strcpy(rights, "---");
    printf("  0x%016llx %9s %9s %3s %-10s %s\n", (unsigned long long)w->start,
           size_text(w->end - w->start), frames_of(w), rights,
           gn_kind_name(w->kind), w->name);
}

void chapter_map(void)
{
    char *p = memory(8 * MIB, 0, "a mapping of the tour");
    uintptr_t at = 0;
    unsigned guards = 0, text = 0;
    bool ordered = true, both = false;

    if (p == NULL)
        return;
    memset(p, 1, 100 * KIB);
    say("Everything that means something, and how much of it has frames:\n");
    printf("  %-18s %9s %9s     %-10s name\n", "from", "size", "frames",
           "kind");
    do {
        struct gn_where w = look((void *)at);

        ordered = ordered && w.start == at && (w.end > at || w.end == 0);
        guards += w.kind == GN_KIND_GUARD;
        text += w.kind == GN_KIND_TEXT;
        both = both || (w.prot & GN_WRITE && w.prot & GN_EXEC);
        if (w.kind != GN_KIND_NOTHING)
            print_range(&w);
        at = w.end;
    } while (at != 0 && ordered);
    putchar('\n');
    struct gn_mem_stats s = stats();

    say("%s of memory: %s free, %s promised, %u page tables,",
        size_text(s.frames_total * PAGE), size_text(s.frames_free * PAGE),
        size_text(s.committed * PAGE), (unsigned)s.page_tables);
    say("%u page faults until now.", (unsigned)s.faults);
    claim(ordered, "the ranges follow each other, from 0 to the last address");
    claim(guards >= 1 && text == 1,
          "this stack has a guard; one range is code");
    claim(!both, "nothing can be written and executed");
    gn_unmap(p, 8 * MIB);
}

// ---- where ----

static volatile int with_value = 42;
static volatile int without;
static const int constant = 7;
static _Thread_local volatile int thread_local = 1;

static void print_variable(const char *what, const volatile void *p,
                           enum gn_kind kind)
{
    struct gn_where w = look((const void *)p);

    if (w.kind == kind)
        claim(true, "%-19s 0x%016llx  %-7s %s", what,
              (unsigned long long)(uintptr_t)p, gn_kind_name(w.kind), w.name);
    else
        claim(false, "%-22s %p should be %s, is %s", what, (const void *)p,
              gn_kind_name(kind), gn_kind_name(w.kind));
}

static void print_mapped(const char *mapping, const char *small)
{
    char *mapped = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    print_variable("malloc(10)", small, GN_KIND_HEAP);
    print_variable("gn_map()", mapping, GN_KIND_REGION);
    if (mapped != MAP_FAILED) {
        print_variable("mmap()", mapped, GN_KIND_REGION);
        munmap(mapped, PAGE);
    }
}

void chapter_where(void)
{
    volatile int local = 0;
    char *small = malloc(10);
    char *mapping = memory(PAGE, 0, "mapped here");

    if (small != NULL && mapping != NULL) {
        print_variable("a function", (void *)(uintptr_t)chapter_where,
                       GN_KIND_TEXT);
        print_variable("a string literal", "literal", GN_KIND_RODATA);
        print_variable("static const int", &constant, GN_KIND_RODATA);
        print_variable("static int x = 42", &with_value, GN_KIND_DATA);
        print_variable("static int x", &without, GN_KIND_BSS);
        print_variable("int x in a function", &local, GN_KIND_STACK);
        print_variable("_Thread_local int", &thread_local, GN_KIND_STACK);
        print_mapped(mapping, small);
        print_variable("NULL", NULL, GN_KIND_NIL);
        struct gn_where w = look((char *)(uintptr_t)chapter_where + 4);

        claim(w.symbol != NULL && strcmp(w.symbol, "chapter_where") == 0,
              "4 bytes into that function is %s+%u", w.symbol,
              (unsigned)w.symbol_offset);
    }
    free(small);
    gn_unmap(mapping, PAGE);
}

// ---- walk ----

static void print_step(const struct gn_walk_step *s)
{
    static const char *const tables[] = {"", "page table", "page directory",
                                         "PDPT", "PML4"};
    char end[64];

    if (!s->present)
        snprintf(end, sizeof end, "nothing");
    else if (!s->leaf)
        snprintf(end, sizeof end, "table in frame 0x%llx",
                 (unsigned long long)s->frame);
    else
        snprintf(end, sizeof end, "frame 0x%llx%s%s",
                 (unsigned long long)s->frame, s->entry & 2 ? ", write" : "",
                 s->entry & 0x40 ? ", dirty" : "");
    say("%d %-15s [%3u]  0x%016llx  -> %s", s->level, tables[s->level],
        s->index, (unsigned long long)s->entry, end);
}

void chapter_walk(void)
{
    struct gn_walk_step steps[4];
    char *p = memory(PAGE, 0, "walked to");
    unsigned n;

    if (p == NULL)
        return;
    say("The address of one byte of memory that nobody has touched yet:\n");
    uintptr_t va = (uintptr_t)p + 0x123;

    n = gn_walk((char *)va, steps);
    for (unsigned i = 0; i < n; i++)
        print_step(&steps[i]);
    claim(n > 0 && !steps[n - 1].present, "the walk ends at level %d: a fault",
          n > 0 ? steps[n - 1].level : 0);
    put((char *)va, 1);
    putchar('\n');
    say("After a store to it:\n");
    n = gn_walk((char *)va, steps);
    uintptr_t rebuilt = 0;

    for (unsigned i = 0; i < n; i++) {
        print_step(&steps[i]);
        rebuilt = rebuilt << 9 | steps[i].index;
    }
    rebuilt = rebuilt << 12 | (va & (PAGE - 1));
    putchar('\n');
    say("0x%012llx = 9 + 9 + 9 + 9 bits of index, 12 bits in the page",
        (unsigned long long)va);
    claim(rebuilt == va, "the indices are the address");
    claim(n == 4 && steps[3].leaf && steps[3].frame == look(p).frame,
          "frame 0x%llx, which gn_where says too",
          (unsigned long long)look(p).frame);
    claim(n == 4 && steps[3].entry & 0x40, "the hardware noted the store: D");
    gn_unmap(p, PAGE);
}
