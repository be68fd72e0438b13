// What a goroutine's stack takes, and what it gives back; a thousand that wait.

#include "apps/tour/tour.h"

#include <gneiss/go.h>
#include <gneiss/stack.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

// ---- one that grows ----

enum moment { BEGUN, DEEP, BACK, TRIMMED, MOMENTS };

enum {
    LIMIT = MIB,      // of its stack
    DIVE = 256 * KIB, // how deep it goes
    FRAME_BYTES = 1000,
    PAGES_PER_MARK = 8,
    SLACK = 8 * PAGE, // what the calls that measure may take
};

// It stops at each moment, so that we can look at it and store to its variable.
static struct grower {
    struct gn_wg reached[MOMENTS], left[MOMENTS], over;
    size_t used[MOMENTS], high[MOMENTS]; // as it says
    size_t resident[MOMENTS];            // as we see
    size_t dive, limit, given_back;
    volatile unsigned *local;
    unsigned seen; // what it found there at the end
} grower;

static NOINLINE void pause_at(enum moment m)
{
    grower.used[m] = gn_stack_used();
    grower.high[m] = gn_stack_high();
    gn_wg_done(&grower.reached[m]);
    gn_wg_wait(&grower.left[m]);
}

static NOINLINE unsigned dive(size_t bytes)
{
    volatile char frame[FRAME_BYTES];

    frame[0] = 1;
    if (gn_stack_used() >= bytes)
        pause_at(DEEP);
    else
        frame[0] = (char)dive(bytes);
    return (unsigned)frame[0];
}

static void grow(void *arg)
{
    volatile unsigned local = 0;

    (void)arg;
    grower.local = &local;
    grower.limit = gn_stack_limit();
    pause_at(BEGUN);
    (void)dive(grower.dive);
    pause_at(BACK);
    grower.given_back = gn_stack_trim();
    pause_at(TRIMMED);
    grower.seen = local;
    gn_wg_done(&grower.over);
}

// False: no memory.
static bool watch_it_grow(struct gn_where *w)
{
    struct gn_go_options o = {.name = "grower", .stack_limit = LIMIT};
    uint64_t room = stats().frames_free / 8 * PAGE;

    grower = (struct grower){.dive = room < DIVE ? room : DIVE};
    for (int m = 0; m < MOMENTS; m++) {
        gn_wg_add(&grower.reached[m], 1);
        gn_wg_add(&grower.left[m], 1);
    }
    gn_wg_add(&grower.over, 1);
    if (gn_go_with(&o, grow, NULL) != 0)
        return false;
    for (int m = 0; m < MOMENTS; m++) {
        gn_wg_wait(&grower.reached[m]);
        *w = look((const void *)grower.local);
        grower.resident[m] = gn_resident((void *)w->start, w->end - w->start);
        *grower.local += 1;
        gn_wg_done(&grower.left[m]);
    }
    gn_wg_wait(&grower.over);
    wait_until_alone(); // its frames are free
    return true;
}

static void draw_slot(const struct gn_where *w)
{
    say("A goroutine that went %s deep and came back:\n",
        size_text(grower.used[DEEP]));
    say("                |      |  addresses that its limit forbids");
    say("0x%012llx  +------+  limit, %s below the top",
        (unsigned long long)w->start, size_text(grower.limit));
    say("                |      |  never touched");
    say("0x%012llx  +------+  high-water mark, %s",
        (unsigned long long)(w->end - grower.high[BACK]),
        size_text(grower.high[BACK]));
    say("                | ---- |  touched once, not in use");
    say("0x%012llx  +------+  its frame now, %s used",
        (unsigned long long)(w->end - grower.used[BACK]),
        size_text(grower.used[BACK]));
    say("                | #### |");
    say("0x%012llx  +------+  top\n", (unsigned long long)w->end);
}

static void print_moments(void)
{
    static const char *const names[MOMENTS] = {"begun", "deep", "back",
                                               "trimmed"};

    say("%-8s %12s %12s %12s", "", "used", "high-water", "has frames");
    for (int m = 0; m < MOMENTS; m++)
        say("%-8s %12s %12s %12s %s", names[m], size_text(grower.used[m]),
            size_text(grower.high[m]), size_text(grower.resident[m]),
            bar('#',
                (unsigned)((grower.resident[m] + PAGES_PER_MARK * PAGE - 1) /
                           (PAGES_PER_MARK * PAGE))));
    putchar('\n');
}

static void check_growth(void)
{
    const struct grower *g = &grower;

    claim(g->limit == LIMIT && g->high[DEEP] <= g->limit,
          "its limit is %s; one byte deeper is \"stack overflow\"",
          size_text(g->limit));
    claim(g->used[DEEP] >= g->dive && g->high[DEEP] >= g->used[DEEP] &&
              g->resident[DEEP] >= g->used[DEEP],
          "%s deep, it has frames for all of that", size_text(g->used[DEEP]));
    claim(g->used[BACK] < g->dive && g->high[BACK] >= g->high[DEEP],
          "back again it uses %s and has as many as before",
          size_text(g->used[BACK]));
    claim(g->given_back + 2 * PAGE >= g->dive &&
              g->resident[TRIMMED] + g->given_back <= g->resident[BACK] + SLACK,
          "gn_stack_trim gave %s back, page tables too",
          size_text(g->given_back));
    claim(
        g->seen == MOMENTS,
        "four times we stored to its variable, by one pointer: nothing moved");
}

// ---- a thousand that wait ----

enum {
    MOST = 1000,
    LEAST = 16,
    SHARERS = 16,
    USUAL_LIMIT = 64 * MIB, // whatever the boot option stack.limit says
};

static struct crowd {
    struct gn_wg gate, all;
    _Atomic size_t there;
    size_t n;
    int64_t frames, tables; // that all of them took
    uint64_t address[MOST]; // of a variable of each
    uint64_t leaf[MOST];    // frame of the leaf table that maps it
} crowd;

static void stand(void *arg)
{
    volatile char here = 1;

    crowd.address[(uintptr_t)arg] = (uintptr_t)&here;
    atomic_fetch_add(&crowd.there, 1);
    gn_wg_wait(&crowd.gate);
    gn_wg_done(&crowd.all);
}

static uint64_t leaf_table_of(uint64_t address)
{
    struct gn_walk_step steps[4];
    unsigned n = gn_walk((void *)address, steps);

    return n < 2 ? 0 : steps[n - 2].frame;
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void gather(size_t most)
{
    struct gn_mem_stats before = stats(), after;
    struct gn_go_options o = {.name = "one of many",
                              .stack_limit = USUAL_LIMIT};

    gn_wg_add(&crowd.gate, 1);
    while (crowd.n < most) {
        gn_wg_add(&crowd.all, 1);
        if (gn_go_with(&o, stand, (void *)crowd.n) != 0) {
            gn_wg_done(&crowd.all);
            break;
        }
        crowd.n++;
    }
    while (crowd.there < crowd.n)
        gn_yield();
    after = stats();
    // Stacks may take what is kept for them.
    crowd.frames = (int64_t)(before.frames_free + before.frames_reserved -
                             after.frames_free - after.frames_reserved);
    crowd.tables = (int64_t)(after.page_tables - before.page_tables);
    for (size_t i = 0; i < crowd.n; i++)
        crowd.leaf[i] = leaf_table_of(crowd.address[i]);
    qsort(crowd.address, crowd.n, sizeof crowd.address[0], by_number);
    qsort(crowd.leaf, crowd.n, sizeof crowd.leaf[0], by_number);
}

static void disperse(void)
{
    gn_wg_done(&crowd.gate);
    gn_wg_wait(&crowd.all);
    wait_until_alone();
}

static void draw_one(long each, long tables)
{
    say("%u goroutines wait: %ld bytes each\n", (unsigned)crowd.n, each);
    if (each - tables < PAGE) {
        say("(their slots were in use before, and some kept their top page)\n");
        return;
    }
    say("%5d  [%s]  its page: stack, thread-local", PAGE, bar('#', 32));
    say("       %34s  variables, the C library's state", "");
    say("%5ld  [%s]%28s  of page tables, shared by %d", tables, bar('#', 4), "",
        SHARERS);
    say("%5ld  [%s]%30s  its struct, and the rest\n", each - tables - PAGE,
        bar('#', 2), "");
}

static void check_crowd(long each)
{
    uint64_t apart = UINT64_MAX;
    size_t leaves = 0, alike = 0, most = 0;

    for (size_t i = 0; i < crowd.n; i++) {
        alike = i > 0 && crowd.leaf[i] == crowd.leaf[i - 1] ? alike + 1 : 1;
        leaves += alike == 1;
        most = alike > most ? alike : most;
        if (i > 0 && crowd.address[i] - crowd.address[i - 1] < apart)
            apart = crowd.address[i] - crowd.address[i - 1];
    }
    claim(each < 2 * PAGE, "that is less than two pages");
    claim(most <= SHARERS && leaves <= crowd.n / 8 + 4,
          "%u stacks lie in %u leaf tables, never more than %d in one",
          (unsigned)crowd.n, (unsigned)leaves, SHARERS);
    claim(apart >= USUAL_LIMIT,
          "neighbours lie %s apart: each can grow to %s where it is",
          size_text(apart), size_text(USUAL_LIMIT));
}

void chapter_grow(void)
{
    uint64_t room = stats().frames_free / 4;
    struct gn_where w;

    crowd = (struct crowd){.n = 0};
    if (room < LEAST || !watch_it_grow(&w)) {
        skip("not so much memory here (run with more MEM)");
        return;
    }
    draw_slot(&w);
    print_moments();
    check_growth();
    putchar('\n');
    gather(room < MOST ? room : MOST);
    if (crowd.n >= LEAST) {
        long each = (long)(crowd.frames * PAGE / (int64_t)crowd.n);

        draw_one(each, (long)(crowd.tables * PAGE / (int64_t)crowd.n));
        check_crowd(each);
    } else {
        skip("not so much memory here (run with more MEM)");
    }
    disperse();
}
