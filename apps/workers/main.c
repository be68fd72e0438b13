// A pool of workers that takes no more than so many jobs a second: a ticker gives out
// permits, a few may be saved up. The jobs come through one channel, the results go
// through another; a context says when time is up.
//
// usage: workers [JOBS [PER-SECOND [WORKERS]]]      default: 40 jobs, 200 a second, 4
//
// Checks that each job was done once, and that there were never more than allowed.

#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAVED = 5, MOST = 100000 };

struct result {
    int job, worker;
    int64_t at; // when it was begun
};

typedef gn_chan(int) jobs;
typedef gn_chan(struct result) results;

static jobs todo;
static results done;
static gn_signal permits;
static struct gn_ctx *all_done;

static void fail(const char *what)
{
    fprintf(stderr, "workers: %s\n", what);
    exit(1);
}

static void go(void (*fn)(void *), void *arg)
{
    if (gn_go(fn, arg) != 0)
        fail("no memory for a goroutine: run with more MEM");
}

static void give_permits(void *arg)
{
    struct gn_timer *t = gn_ticker_new(*(int64_t *)arg);

    if (t == NULL)
        fail("no memory for a ticker");
    for (;;) {
        struct gn_case cases[] = {GN_RECV(gn_timer_channel(t), NULL),
                                  GN_RECV(gn_ctx_done(all_done), NULL)};

        if (gn_select(cases, 2) == 1)
            break;
        (void)gn_try_send(permits, 0); // enough are saved up: lost
    }
    gn_timer_free(t);
}

static void work(void *arg)
{
    int me = (int)(intptr_t)arg, job;

    while (gn_recv(todo, &job)) {
        (void)gn_next(permits);
        gn_send(done, ((struct result){job, me, gn_now()}));
    }
}

static void hand_out(void *arg)
{
    for (int i = 0; i < *(int *)arg; i++)
        gn_send(todo, i);
    gn_close(todo);
}

static int number(const char *s, int max)
{
    char *end;
    long n = strtol(s, &end, 10);

    if (*s == '\0' || *end != '\0' || n < 1 || n > max) {
        fprintf(stderr,
                "usage: workers [JOBS [PER-SECOND [WORKERS]]]      "
                "1 to %d, 1 to 100000, 1 to 1000\n",
                MOST);
        exit(2);
    }
    return (int)n;
}

static int by_time(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? number(argv[1], MOST) : 40;
    int rate = argc > 2 ? number(argv[2], 100000) : 200;
    int workers = argc > 3 ? number(argv[3], 1000) : 4;
    int64_t every = GN_SECOND / rate, start = gn_now();
    char *seen = calloc((size_t)n, 1);
    int *each = calloc((size_t)workers, sizeof *each);
    int64_t *at = calloc((size_t)n, sizeof *at);
    struct result r;

    todo = gn_make_chan(jobs, 0);
    done = gn_make_chan(results, 0);
    permits = gn_make_chan(gn_signal, SAVED);
    all_done = gn_ctx_cancelable(gn_ctx_background());
    if (seen == NULL || each == NULL || at == NULL || todo.raw == NULL ||
        done.raw == NULL || permits.raw == NULL || all_done == NULL)
        fail("no memory");
    go(give_permits, &every);
    for (intptr_t i = 0; i < workers; i++)
        go(work, (void *)i);
    go(hand_out, &n);
    for (int i = 0; i < n; i++) {
        r = gn_next(done);
        if (seen[r.job]++)
            fail("a job was done twice");
        each[r.worker]++;
        at[i] = r.at - start;
    }
    gn_ctx_cancel(all_done);
    // The k-th comes after k - SAVED ticks at the earliest.
    qsort(at, (size_t)n, sizeof *at, by_time);
    for (int k = 0; k < n; k++) {
        if (at[k] < (k + 1 - SAVED) * every)
            fail("there were more jobs than allowed");
    }
    printf("%d jobs, at most %d a second, by %d workers:", n, rate, workers);
    for (int i = 0; i < workers && i < 10; i++)
        printf(" %d", each[i]);
    printf("%s\n", workers > 10 ? " ..." : "");
    return 0;
}
