// A pointer goes, while a collection marks, from where marking has not been yet to where
// it was already: the last one to its object. Each scene moves it somewhere else; what
// finds it there is one rule of the collector. With that rule broken (gc.break=NAME) and
// gc.check=1 the collection must end in a panic; else the object is there.
//
// The moves are done in the collector's own goroutine, which is nobody's root. On one
// CPU nobody else marks, and so each is at the right moment.
//
// usage: gc_break [SCENE...]

#include <gneiss/gc.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/tap.h"
#include "runtime/gc/break.h"

enum { MARK = 0x5ca1ab1e, LARGE = 128 * 1024, PAGE = 4096 };

struct item {
    uint64_t mark;
    struct item *next;
    uint64_t pad[30];
};

static struct item *box; // its `next` is the pointer, when a collection begins
static uintptr_t hidden; // the same, negated
static void *stash;      // a word in the frame of who waits
static void *volatile root; // an object that all know
static void *target;        // a word

// Called once: when roots were scanned and nothing else; when dirty pages were scanned
// again, but not goroutines; and then.
static void (*at_roots)(void), (*at_round)(void);

static void at_step(enum gc_step step)
{
    void (**which)(void) = step == GC_AT_ROOTS   ? &at_roots
                           : step == GC_AT_ROUND ? &at_round
                                                 : NULL;

    if (which == NULL || *which == NULL)
        return;
    void (*fn)(void) = *which;

    *which = NULL;
    fn();
}

// The pointer at *from goes to *to; no register keeps it.
static void move(void *from, void *to)
{
    __asm__ volatile("movq (%0), %%rax\n"
                     "movq $0, (%0)\n"
                     "movq %%rax, (%1)\n"
                     "xorl %%eax, %%eax\n"
                     :
                     : "r"(from), "r"(to)
                     : "rax", "memory");
}

static struct item *victim(void)
{
    return (struct item *)~hidden;
}

// Nothing is left of what was called before.
static NOINLINE void wipe(void)
{
    volatile uint64_t a[400];

    for (unsigned i = 0; i < 400; i++)
        a[i] = 0;
    __asm__ volatile(""
                     :
                     : "r"(a)
                     : "memory", "rbx", "r12", "r13", "r14", "r15");
}

static NOINLINE void fill_box(void)
{
    box = gn_new(struct item);
    box->next = gn_new(struct item);
    box->next->mark = MARK;
    hidden = ~(uintptr_t)box->next;
}

static NOINLINE void spoil(void)
{
    for (int i = 0; i < 3000; i++) {
        struct item *p = gn_new(struct item);

        memset(p, 1, sizeof *p);
    }
}

// Collects. Whether the object is what it was, after others had a chance to get its
// memory.
static bool survives(void)
{
    wipe();
    gc_at_step = at_step;
    gn_gc();
    gc_at_step = NULL;
    spoil();
    return at_roots == NULL && at_round == NULL && victim()->mark == MARK;
}

// ---- one that waits, with a word in its frame ----

static struct gn_wg go_on, all;
static _Atomic unsigned ready;

static NOINLINE void waiting(void *arg)
{
    void *volatile here = NULL;

    (void)arg;
    stash = (void *)&here;
    wipe();
    ready = 1;
    gn_wg_wait(&go_on);
    here = NULL;
    gn_wg_done(&all);
}

static void start(void (*fn)(void *))
{
    ready = 0;
    gn_wg_add(&all, 1);
    gn_wg_add(&go_on, 1);
    if (gn_go(fn, NULL) != 0)
        abort();
    while (ready == 0)
        gn_sleep(GN_MILLISECOND);
}

static void end(void)
{
    ready = 2;
    gn_wg_done(&go_on);
    gn_wg_wait(&all);
}

static void to_stash(void)
{
    move(&box->next, stash);
}

static void stash_to_target(void)
{
    move(stash, target);
}

// It goes into a frame, and from there to the target.
static bool by_stash(void)
{
    bool good;

    fill_box();
    start(waiting);
    at_roots = to_stash;
    at_round = stash_to_target;
    good = survives();
    end();
    return good;
}

// ---- scenes ----

static bool in_frame(void)
{
    bool good;

    fill_box();
    start(waiting);
    at_roots = to_stash;
    good = survives();
    end();
    return good;
}

static bool in_image(void)
{
    static struct item *volatile here;

    target = (void *)&here;
    return by_stash();
}

static bool in_object(size_t n, size_t at, enum gn_heap_kind kind)
{
    root = gn_alloc(n, kind, 0);
    if (root == NULL)
        abort();
    target = (char *)root + at;
    bool good = by_stash();

    if (kind == GN_MANUAL) {
        memset(root, 0, n);
        gn_free(root);
    }
    return good;
}

static bool in_small(void)
{
    return in_object(64, 8, GN_SCAN);
}

// One of several pages in a span with others.
static bool in_medium(void)
{
    return in_object(3 * PAGE, 2 * PAGE + 80, GN_SCAN);
}

static bool in_large(void)
{
    return in_object(LARGE, LARGE / 2, GN_SCAN);
}

// The page has no frame before.
static bool in_sparse(void)
{
    return in_object(32 * LARGE, 31 * LARGE, GN_SCAN);
}

static bool in_block(void)
{
    return in_object(100, 16, GN_MANUAL);
}

static bool in_large_block(void)
{
    return in_object(LARGE, LARGE / 2, GN_MANUAL);
}

// Allocated while marking: nobody scans it but for its page, which is dirty.
static void new_target(void)
{
    root = gn_new(struct item);
    target = &((struct item *)root)->next;
    move(&box->next, target);
}

static bool in_new(void)
{
    fill_box();
    at_roots = new_target;
    return survives();
}

// Its page was stored to in the same round before: its D bit was cleared, and only a
// shootdown has the CPU set it again.
static void store_and_stash(void)
{
    ((uint64_t *)target)[1] = 1;
    to_stash();
}

static bool twice(void)
{
    bool good;

    root = gn_new(struct item);
    target = &((struct item *)root)->next;
    fill_box();
    start(waiting);
    at_roots = store_and_stash;
    at_round = stash_to_target;
    good = survives();
    end();
    return good;
}

static bool twice_in_image(void)
{
    static uint64_t volatile here[2] __attribute__((aligned(PAGE)));
    bool good;

    target = (void *)here;
    fill_box();
    start(waiting);
    at_roots = store_and_stash;
    at_round = stash_to_target;
    good = survives();
    here[0] = 0;
    end();
    return good;
}

// Waits for ready == 2, takes the pointer, waits for 4.
static NOINLINE void in_rbx(void *arg)
{
    (void)arg;
    wipe();
    __asm__ volatile("movl $1, %0\n"
                     "1: cmpl $2, %0\n"
                     "jne 1b\n"
                     "movq (%1), %%rbx\n"
                     "movq $0, (%1)\n"
                     "movl $3, %0\n"
                     "2: cmpl $4, %0\n"
                     "jne 2b\n"
                     "xorl %%ebx, %%ebx\n"
                     : "+m"(ready)
                     : "r"(&box->next)
                     : "rbx", "memory", "cc");
    gn_wg_done(&all);
}

static NOINLINE void in_xmm3(void *arg)
{
    (void)arg;
    wipe();
    __asm__ volatile("movl $1, %0\n"
                     "1: cmpl $2, %0\n"
                     "jne 1b\n"
                     "movq (%1), %%xmm3\n"
                     "movq $0, (%1)\n"
                     "movl $3, %0\n"
                     "2: cmpl $4, %0\n"
                     "jne 2b\n"
                     "pxor %%xmm3, %%xmm3\n"
                     : "+m"(ready)
                     : "r"(&box->next)
                     : "xmm3", "memory", "cc");
    gn_wg_done(&all);
}

static void have_it_taken(void)
{
    ready = 2;
    while (ready != 3)
        gn_yield();
}

static bool by_register(void (*fn)(void *), bool before)
{
    bool good;

    fill_box();
    ready = 0;
    gn_wg_add(&all, 1);
    if (gn_go(fn, NULL) != 0)
        abort();
    while (ready == 0)
        gn_sleep(GN_MILLISECOND);
    if (before)
        have_it_taken();
    else
        at_roots = have_it_taken;
    good = survives();
    ready = 4;
    gn_wg_wait(&all);
    return good;
}

static bool in_a_register(void)
{
    return by_register(in_rbx, false);
}

static bool in_xmm(void)
{
    return by_register(in_xmm3, false);
}

static bool before_it_began(void)
{
    return by_register(in_rbx, true);
}

// Nobody has but a pointer past its end.
static void past_end(void)
{
    *(uintptr_t *)stash = ~hidden + sizeof(struct item);
    box->next = NULL;
}

static bool past(void)
{
    bool good;

    fill_box();
    start(waiting);
    at_roots = past_end;
    good = survives();
    end();
    return good;
}

static bool known_to_block(void)
{
    struct item **a = malloc(100);

    fill_box();
    move(&box->next, &a[1]);
    root = a;
    bool good = survives();

    a[1] = NULL;
    free(a);
    return good;
}

static void nothing(void *arg)
{
    (void)arg;
}

static NOINLINE void set_timer(void)
{
    if (gn_after_func(GN_SECOND * 3600, nothing, box->next) == NULL)
        abort();
    box->next = NULL;
}

static bool known_to_timer(void)
{
    fill_box();
    set_timer();
    return survives();
}

// A large object moves, by its page table's entries.
static void enlarge(void)
{
    root = gn_realloc(root, 8 * LARGE);
    if (root == NULL)
        abort();
}

static NOINLINE void *large_object(void)
{
    struct item **a = gn_alloc(LARGE, GN_SCAN, 0);

    // It can't grow where it is.
    if (a == NULL || gn_alloc(LARGE, GN_SCAN, 0) == NULL)
        abort();
    return a;
}

static bool moves(void)
{
    fill_box();
    root = large_object();
    move(&box->next, &((struct item **)root)[LARGE / 16]);
    at_roots = enlarge;
    return survives();
}

// The block that tiny objects are put into is kept, even if those in it are dead.
static NOINLINE void one_tiny(void)
{
    char *p = gn_alloc(3, GN_NOSCAN, 0);

    p[0] = 1;
}

static bool tiny(void)
{
    bool good;

    fill_box();
    one_tiny();
    good = survives();
    gn_heap_check();
    return good;
}

static const struct {
    const char *name;
    bool (*fn)(void);
} scenes[] = {
    {"rbx", in_a_register},
    {"xmm3", in_xmm},
    {"rbx-before", before_it_began},
    {"frame", in_frame},
    {"past", past},
    {"image", in_image},
    {"small", in_small},
    {"medium", in_medium},
    {"large", in_large},
    {"sparse", in_sparse},
    {"block", in_block},
    {"large-block", in_large_block},
    {"new", in_new},
    {"twice", twice},
    {"twice-image", twice_in_image},
    {"malloc", known_to_block},
    {"timer", known_to_timer},
    {"move", moves},
    {"tiny", tiny},
};

static bool wanted(const char *name, int argc, char **argv)
{
    bool any = argc < 2;

    for (int i = 1; i < argc; i++)
        any |= strcmp(argv[i], name) == 0;
    return any;
}

int main(int argc, char **argv)
{
    gn_gc_percent(-1);
    for (unsigned i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        if (!wanted(scenes[i].name, argc, argv))
            continue;
        ok(scenes[i].fn(), "%s", scenes[i].name);
        box = NULL;
        root = target = stash = NULL;
    }
    return tap_end();
}
