// The concurrent prime sieve: a goroutine for each prime takes numbers from the one
// before and passes on those that its prime does not divide. What Go programs show
// first, after Doug McIlroy.
//
// usage: sieve [N]        the first N primes, 1 to 10000 (default 100), 10 to a line
//
// Checks each prime, and ends with status 1 if one is wrong.

#include <gneiss/chan.h>
#include <gneiss/go.h>

#include <stdio.h>
#include <stdlib.h>

typedef gn_chan(int) numbers;

struct filter {
    numbers in, out;
    int prime;
};

static void fail(const char *what)
{
    fprintf(stderr, "sieve: %s\n", what);
    exit(1);
}

static numbers make(void)
{
    numbers c = gn_make_chan(numbers, 0);

    if (c.raw == NULL)
        fail("no memory for a channel");
    return c;
}

static void generate(void *arg)
{
    numbers out = {arg};

    for (int i = 2;; i++)
        gn_send(out, i);
}

static void sift(void *arg)
{
    struct filter f = *(struct filter *)arg;

    free(arg);
    for (;;) {
        int i = gn_next(f.in);

        if (i % f.prime != 0)
            gn_send(f.out, i);
    }
}

static numbers filter(numbers in, int prime)
{
    struct filter *f = malloc(sizeof *f);

    if (f == NULL)
        fail("no memory for a filter");
    *f = (struct filter){in, make(), prime};
    numbers out = f->out;

    if (gn_go(sift, f) != 0)
        fail("no memory for a goroutine: run with more MEM");
    return out;
}

static int is_prime(int n)
{
    for (int d = 2; d * d <= n; d++) {
        if (n % d == 0)
            return 0;
    }
    return n > 1;
}

int main(int argc, char **argv)
{
    char *end = "";
    long n = argc > 1 ? strtol(argv[1], &end, 10) : 100;
    int last = 1;

    if (argc > 2 || *end != '\0' || n < 1 || n > 10000) {
        fprintf(stderr, "usage: sieve [N]        1 to 10000 primes\n");
        return 2;
    }
    numbers c = make();

    if (gn_go(generate, c.raw) != 0)
        fail("no memory for a goroutine");
    for (long i = 1; i <= n; i++) {
        int prime = gn_next(c);

        printf("%d%c", prime, i % 10 == 0 || i == n ? '\n' : ' ');
        for (int between = last + 1; between < prime; between++) {
            if (is_prime(between))
                fail("a prime is missing");
        }
        if (!is_prime(prime))
            fail("that is no prime");
        last = prime;
        c = filter(c, prime);
    }
    return 0;
}
