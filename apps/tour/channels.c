// Channels: where a value goes, what a buffer holds, which case a select takes, and how
// a context and a panic end things.

#include "apps/tour/tour.h"

#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdio.h>
#include <string.h>

enum { ROOM = 4, SELECTS = 4000, PER_MARK = 50, LEAVES = 6 };

typedef gn_chan(int) numbers;

// ---- hand-off ----

static struct {
    numbers c;
    int *_Atomic where; // the receiver's variable
    struct gn_wg shown, done;
    int got;
} hand;

static void receive(void *arg)
{
    int v = 0;

    (void)arg;
    hand.where = &v;
    gn_recv(hand.c, &v);
    hand.got = v;
    gn_wg_wait(&hand.shown); // so long it keeps its stack
    gn_wg_done(&hand.done);
}

static bool is_waiting(uint64_t *id)
{
    static struct gn_go_info list[64];
    size_t n = gn_go_list(list, 64);

    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].state, "chan receive") == 0) {
            *id = list[i].id;
            return true;
        }
    }
    return false;
}

static void show_hand_off(void)
{
    uint64_t id = 0;

    hand.c = gn_make_chan(numbers, 0);
    hand.where = NULL;
    gn_wg_add(&hand.shown, 1);
    gn_wg_add(&hand.done, 1);
    if (hand.c.raw == NULL || gn_go(receive, NULL) != 0) {
        skip("no memory");
        return;
    }
    while (!is_waiting(&id))
        gn_yield();
    int *at = hand.where;
    struct gn_where w = look(at);

    say("An unbuffered channel. Goroutine %llu waits to receive:",
        (unsigned long long)id);
    say("    int v;              at %p, on its stack, holds %d", (void *)at,
        *at);
    say("    gn_recv(c, &v);     [chan receive]");
    claim(w.kind == GN_KIND_STACK, "that is a stack, and not ours");
    gn_send(hand.c, 42);
    say("    gn_send(c, 42)      by goroutine 1: it returns, and there is %d",
        *at);
    gn_wg_done(&hand.shown);
    gn_wg_wait(&hand.done);
    claim(hand.got == 42,
          "the value went straight to where it was wanted, by one copy");
    gn_chan_free(hand.c.raw);
}

// ---- a buffer ----

static void draw(numbers c)
{
    char ring[2 * ROOM + 1] = "";

    for (size_t i = 0; i < ROOM; i++)
        strcat(ring, i < gn_len(c) ? "# " : ". ");
    say("    [ %s]  %zu of %zu", ring, gn_len(c), gn_cap(c));
}

static void show_buffer(void)
{
    numbers c = gn_make_chan(numbers, ROOM);
    int sent = 0, v = 0;

    if (c.raw == NULL) {
        skip("no memory");
        return;
    }
    putchar('\n');
    say("A channel with room for %d. Sent, as long as nobody has to wait:",
        ROOM);
    draw(c);
    while (gn_try_send(c, sent + 1))
        sent++;
    draw(c);
    gn_recv(c, &v);
    say("received %d:", v);
    draw(c);
    gn_close(c);
    say("closed: what is in it comes first, then zeroes at once");
    for (int i = 0; i < ROOM; i++) {
        bool got = gn_recv(c, &v);

        say("    gn_recv gives %d, returns %s", v, got ? "true" : "false");
    }
    claim(sent == ROOM && v == 0, "%d had room", ROOM);
    gn_chan_free(c.raw);
}

// ---- select ----

static void show_select(void)
{
    numbers c[3];
    unsigned n[3] = {0};

    for (int i = 0; i < 3; i++) {
        c[i] = gn_make_chan(numbers, 1);
        if (c[i].raw == NULL) {
            skip("no memory");
            return;
        }
    }
    for (int i = 0; i < SELECTS; i++) {
        struct gn_case cases[] = {GN_RECV(c[0], NULL), GN_RECV(c[1], NULL),
                                  GN_RECV(c[2], NULL)};

        gn_try_send(c[0], 1); // the third never has any
        gn_try_send(c[1], 1);
        n[gn_select(cases, 3)]++;
    }
    putchar('\n');
    say("%d selects of three channels, of which two always have a value:",
        SELECTS);
    for (int i = 0; i < 3; i++) {
        say("    case %d %5u %s", i, n[i], bar('#', n[i] / PER_MARK));
        gn_chan_free(c[i].raw);
    }
    claim(n[0] + n[1] == SELECTS && n[0] > SELECTS / 3 && n[1] > SELECTS / 3,
          "each of the two about as often");
}

// ---- a context ----

static struct gn_ctx *root, *leaf[LEAVES];
static struct gn_wg ended;
static _Atomic unsigned told;

static void wait_for_it(void *ctx)
{
    (void)gn_chan_recv(gn_ctx_done(ctx).raw, NULL);
    told += gn_ctx_err(ctx) == gn_ctx_canceled;
    gn_wg_done(&ended);
}

static void show_context(void)
{
    unsigned before;

    root = gn_ctx_cancelable(gn_ctx_background());
    for (int i = 0; i < LEAVES && root != NULL; i++) {
        leaf[i] = gn_ctx_timeout(i < 2 ? root : leaf[i - 2], 3600 * GN_SECOND);
        gn_wg_add(&ended, 1);
        if (leaf[i] == NULL || gn_go(wait_for_it, leaf[i]) != 0) {
            skip("no memory");
            return;
        }
    }
    if (root == NULL) {
        skip("no memory");
        return;
    }
    putchar('\n');
    say("A context, others made from it, and a goroutine that waits on each:");
    say("    root -+- 0 - 2 - 4");
    say("          +- 1 - 3 - 5");
    before = told;
    gn_ctx_cancel(root);
    gn_wg_wait(&ended);
    claim(before == 0 && told == LEAVES,
          "canceled at the root: all %d are told \"%s\"", LEAVES,
          gn_ctx_err(leaf[LEAVES - 1]));
    for (int i = LEAVES; i > 0; i--)
        gn_ctx_free(leaf[i - 1]);
    gn_ctx_free(root);
}

// ---- a panic ----

static void close_up(void *what)
{
    say("    deferred: %s", (const char *)what);
}

static volatile int *volatile nowhere;

static void goes_wrong(void *arg)
{
    gn_defer(close_up, "the file is closed");
    gn_defer(close_up, "the lock is given back");
    say("    %s", (const char *)arg);
    *nowhere = 1;
}

static void show_panic(void)
{
    struct gn_panic p;
    bool fine;

    putchar('\n');
    say("gn_try(fn): what fn defers is done, however it ends.");
    fine = gn_try(goes_wrong, "*(int *)NULL = 1;", &p);
    say("    gn_try returns false, and says why:");
    say("    %s", p.text);
    claim(!fine && p.runtime, "a fault became a panic, and we go on");
}

void chapter_channels(void)
{
    show_hand_off();
    show_buffer();
    show_select();
    show_context();
    show_panic();
    wait_until_alone();
}
