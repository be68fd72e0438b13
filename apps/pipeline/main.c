// A pipeline that is given up half way: numbers are made, squared by several goroutines
// at once, and summed up, until the sum is large enough. Then the context is canceled,
// and every stage ends, wherever it stands.
//
// usage: pipeline [SUM [WORKERS]]      default: 1000000, with 4
//
// Checks that the squares are what they should be, that none came twice, and that all
// goroutines have ended.

#include <gneiss/chan.h>
#include <gneiss/context.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct square {
    uint64_t n, squared;
};

typedef gn_chan(uint64_t) numbers;
typedef gn_chan(struct square) squares;

static struct {
    struct gn_ctx *ctx;
    numbers in;
    squares out;
    struct gn_wg squarers, all;
} line;

static const char enough[] = "the sum is large enough";

static void start(void (*fn)(void *))
{
    gn_wg_add(&line.all, 1);
    if (gn_go(fn, NULL) != 0) {
        fprintf(stderr, "pipeline: no memory for a goroutine\n");
        exit(1);
    }
}

// Both return false when it is to end.

static bool send_number(uint64_t n)
{
    struct gn_case cases[] = {GN_SEND(line.in, &n),
                              GN_RECV(gn_ctx_done(line.ctx), NULL)};

    return gn_select(cases, 2) == 0;
}

static bool send_square(struct square s)
{
    struct gn_case cases[] = {GN_SEND(line.out, &s),
                              GN_RECV(gn_ctx_done(line.ctx), NULL)};

    return gn_select(cases, 2) == 0;
}

static void make_numbers(void *arg)
{
    (void)arg;
    for (uint64_t n = 1; send_number(n); n++)
        ;
    gn_close(line.in);
    gn_wg_done(&line.all);
}

static void square(void *arg)
{
    uint64_t n;

    (void)arg;
    while (gn_recv(line.in, &n) && send_square((struct square){n, n * n}))
        ;
    gn_wg_done(&line.squarers);
    gn_wg_done(&line.all);
}

static void close_squares(void *arg)
{
    (void)arg;
    gn_wg_wait(&line.squarers);
    gn_close(line.out);
    gn_wg_done(&line.all);
}

static uint64_t number(const char *s, uint64_t max)
{
    char *end;
    unsigned long long n = strtoull(s, &end, 10);

    if (*s == '\0' || *end != '\0' || n == 0 || n > max) {
        fprintf(stderr, "usage: pipeline [SUM [WORKERS]]      from 1; at most "
                        "10^15, and 1000\n");
        exit(2);
    }
    return n;
}

int main(int argc, char **argv)
{
    uint64_t want = argc > 1 ? number(argv[1], 1000000000000000) : 1000000;
    uint64_t workers = argc > 2 ? number(argv[2], 1000) : 4;
    uint64_t sum = 0, taken = 0, most = 0;
    struct square s;

    line.ctx = gn_ctx_cancelable(gn_ctx_background());
    line.in = gn_make_chan(numbers, 0);
    line.out = gn_make_chan(squares, 0);
    if (line.ctx == NULL || line.in.raw == NULL || line.out.raw == NULL) {
        fprintf(stderr, "pipeline: no memory\n");
        return 1;
    }
    start(make_numbers);
    gn_wg_add(&line.squarers, (int64_t)workers);
    for (uint64_t i = 0; i < workers; i++)
        start(square);
    start(close_squares);
    while (gn_recv(line.out, &s)) {
        if (s.squared != s.n * s.n) {
            fprintf(stderr, "pipeline: the square of %llu is wrong\n",
                    (unsigned long long)s.n);
            return 1;
        }
        if (sum < want) {
            sum += s.squared;
            taken++;
            most = s.n > most ? s.n : most;
            if (sum >= want)
                gn_ctx_cancel_cause(line.ctx, enough);
        }
    }
    gn_wg_wait(&line.all);
    printf("%llu squares, of numbers up to %llu, make %llu: %s\n",
           (unsigned long long)taken, (unsigned long long)most,
           (unsigned long long)sum, gn_ctx_cause(line.ctx));
    // At most one number each is on the way when the next is taken.
    if (most < taken || most > taken + 2 * workers + 1) {
        fprintf(stderr, "pipeline: a square is missing, or came twice\n");
        return 1;
    }
    return gn_ctx_cause(line.ctx) == enough ? 0 : 1;
}
