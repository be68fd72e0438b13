// Requests for memory that fail in turn, the collector's own among them: what can't be
// had is an error or done without; nothing that is reachable is lost; and when there is
// memory again, the next call works and the next collection runs, concurrently.
//
// usage: gc_oom first|gc|grow|auto N[+]   request N for a frame in it fails, +: all later
//        gc_oom build                     with -o heap.fail=N or N+
//
// Prints "# failed N" with the number of requests that failed, at least.

#include <gneiss/cpu.h>
#include <gneiss/gc.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "host-tests/guest/tap.h"
#include "runtime/stack/stack.h"
#include "mm/fail.h"

enum { MARK = 0x600d, ITEMS = 3000, PAGE = 4096, LARGE = 300 * 1024 };

struct item {
    uint64_t mark;
    struct item *next;
    uint64_t pad[6];
};

static struct item *all;     // a list
static struct item ***block; // of malloc: [0] is an array of those behind it
static unsigned items, refused;

static uint64_t nth;
static bool on;

static void arm(void)
{
    mm_fail_at(nth, on);
}

static bool disarm(void)
{
    bool failed = mm_has_failed() && nth != 0;

    mm_fail_at(0, false);
    refused += failed;
    return failed;
}

// p, but ENOMEM is no failure of the test.
static void *may_fail(void *p)
{
    if (p == NULL && errno != ENOMEM)
        ok(false, "errno is %d, not ENOMEM", errno);
    refused += p == NULL;
    errno = 0;
    return p;
}

static bool add_item(void)
{
    struct item *p = may_fail(gn_new(struct item));

    if (p == NULL)
        return false;
    p->mark = MARK;
    p->next = all;
    all = p;
    items++;
    return true;
}

static void build(unsigned n)
{
    for (; n > 0; n--)
        (void)add_item();
}

// What only a block of malloc knows, and it a large object.
static void build_block(void)
{
    block = may_fail(malloc(LARGE));
    if (block == NULL)
        return;
    memset(block, 0, LARGE);
    block[100] = may_fail(gn_alloc(LARGE, GN_SCAN, 0));
    if (block[100] == NULL)
        return;
    for (unsigned i = 0; i < LARGE / 8; i += PAGE / 8) {
        block[100][i] = may_fail(gn_new(struct item));
        if (block[100][i] != NULL)
            block[100][i]->mark = MARK;
    }
}

static unsigned lost(void)
{
    unsigned n = 0, bad = 0;

    for (const struct item *p = all; p != NULL; p = p->next, n++)
        bad += p->mark != MARK;
    for (unsigned i = 0; block != NULL && block[100] != NULL && i < LARGE / 8;
         i += PAGE / 8)
        bad += block[100][i] != NULL && block[100][i]->mark != MARK;
    return bad + (n != items);
}

static void litter(void)
{
    for (unsigned i = 0; i < ITEMS; i++) {
        struct item *p = may_fail(gn_new(struct item));

        if (p != NULL)
            memset(p, 1, sizeof *p);
    }
}

// The runtime's own goroutines are in no list.
static unsigned collectors(void)
{
    const struct g *g;
    unsigned found = 0;

    for (size_t i = 0; (g = stack_nth(i)) != NULL; i++)
        found += g->hidden && strcmp(g->name, "gc") == 0;
    return found;
}

// With memory all is as if nothing had been.
static void afterwards(void)
{
    struct gn_gc_stats before, after;
    unsigned was = refused;

    ok(lost() == 0, "nothing is lost");
    litter();
    ok(lost() == 0, "nothing that others got");
    gn_gc_stats(&before);
    gn_gc();
    gn_gc();
    gn_gc_stats(&after);
    ok(after.cycles >= before.cycles + 2, "it collects");
    ok(after.mark_ns > before.mark_ns, "not with the world stopped");
    ok(after.freed >= before.freed + ITEMS / 2, "what is dropped is found");
    litter();
    ok(lost() == 0, "nothing is lost then");
    ok(refused == was, "nothing fails any more");
    IS(collectors(), gn_cpu_count(), "a goroutine of each CPU collects");
    gn_heap_check();
}

// ---- what fails ----

// The first collected object.
static void first(void)
{
    struct item *p;

    arm();
    p = gn_new(struct item);
    if (disarm() && p == NULL && errno != ENOMEM)
        ok(false, "errno is %d, not ENOMEM", errno);
    build(ITEMS);
    build_block();
}

// The first collection: its goroutines, its log of dirty pages.
static void collect(void)
{
    build(ITEMS);
    build_block();
    arm();
    gn_gc();
    gn_gc();
    disarm();
}

// The heap becomes longer: its white bits and logs, too.
static void grow(void)
{
    static char *volatile large;

    build(ITEMS);
    build_block();
    gn_gc();
    arm();
    large = gn_alloc(40 << 20, GN_SCAN, 0);
    disarm();
    for (int i = 0; large != NULL && i < 40; i++) {
        struct item *p = gn_new(struct item);

        p->mark = MARK;
        *(struct item **)(large + ((size_t)i << 20)) = p;
    }
    gn_gc();
    litter();
    for (int i = 0; large != NULL && i < 40; i++) {
        if ((*(struct item **)(large + ((size_t)i << 20)))->mark != MARK)
            ok(false, "item %d of a large object is lost", i);
    }
    large = NULL;
}

// Collections that begin by themselves, while much is allocated that is not touched.
static void by_itself(void)
{
    build(ITEMS);
    build_block();
    gn_gc_percent(20);
    arm();
    for (int i = 0; i < 300; i++)
        (void)gn_alloc(100000, GN_NOSCAN, GN_UNCLEARED);
    disarm();
    gn_gc_percent(-1);
    errno = 0;
}

static void build_all(void)
{
    build(ITEMS);
    build_block();
    gn_gc();
    build(ITEMS);
}

static const struct {
    const char *name;
    void (*fn)(void);
} scenes[] = {{"first", first},
              {"gc", collect},
              {"grow", grow},
              {"auto", by_itself},
              {"build", build_all}};

// A CPU that starts needs memory, too, and main may run on another before.
// Their stacks are not free then.
static struct gn_wg up, stay;

static void is_up(void *arg)
{
    (void)arg;
    free(malloc(100));
    gn_wg_done(&up);
    gn_wg_wait(&stay);
}

int main(int argc, char **argv)
{
    char *rest = "";

    nth = argc > 2 ? strtoull(argv[2], &rest, 10) : 0;
    on = *rest == '+';
    gn_gc_percent(-1);
    gn_wg_add(&stay, 1);
    for (unsigned cpu = 0; cpu < gn_cpu_count(); cpu++) {
        gn_wg_add(&up, 1);
        if (gn_cpu_start(cpu, is_up, NULL) != 0)
            abort();
    }
    gn_wg_wait(&up);
    for (unsigned i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        if (argc > 1 && strcmp(argv[1], scenes[i].name) == 0)
            scenes[i].fn();
    }
    gn_wg_done(&stay);
    printf("# failed %u\n", refused);
    if (argc > 1 && strcmp(argv[1], "build") == 0)
        ok(lost() == 0, "nothing is lost");
    else
        afterwards();
    return tap_end();
}
