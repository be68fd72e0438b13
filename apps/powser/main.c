// Power series as goroutines: each makes its coefficients one by one, when somebody asks
// for the next, from those of others. A series may depend on itself: exp is 1 plus its
// own integral. After M. D. McIlroy, "Squinting at Power Series", 1990.
//
// usage: powser [TERMS]        1 to 16 (default 10)
//
// Prints some series and checks each coefficient; status 1: one is wrong.

#include <gneiss/chan.h>
#include <gneiss/go.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 17 }; // terms

static void fail(const char *what)
{
    fprintf(stderr, "powser: %s\n", what);
    exit(1);
}

static void *need(void *p)
{
    if (p == NULL)
        fail("no memory: run with more MEM");
    return p;
}

// ---- rational numbers ----

struct rat {
    int64_t num, den; // den > 0, without a common divisor
};

static int64_t gcd(int64_t a, int64_t b)
{
    while (b != 0) {
        int64_t r = a % b;

        a = b;
        b = r;
    }
    return a < 0 ? -a : a;
}

static struct rat rat(__int128 num, __int128 den)
{
    __int128 a = num < 0 ? -num : num, b = den < 0 ? -den : den;

    while (b != 0) {
        __int128 r = a % b;

        a = b;
        b = r;
    }
    if (den < 0)
        a = -a;
    num /= a;
    den /= a;
    if ((int64_t)num != num || (int64_t)den != den)
        fail("a coefficient is too large");
    return (struct rat){(int64_t)num, (int64_t)den};
}

static struct rat plus(struct rat a, struct rat b)
{
    int64_t g = gcd(a.den, b.den);

    return rat((__int128)a.num * (b.den / g) + (__int128)b.num * (a.den / g),
               (__int128)a.den * (b.den / g));
}

static struct rat times(struct rat a, struct rat b)
{
    return rat((__int128)a.num * b.num, (__int128)a.den * b.den);
}

static const struct rat zero = {0, 1}, one = {1, 1}, minus_one = {-1, 1};

// ---- series ----

typedef gn_chan(char) demands;
typedef gn_chan(struct rat) rats;

struct series {
    demands want;
    rats next;
};

static struct rat get(const struct series *s)
{
    gn_send(s->want, 0);
    return gn_next(s->next);
}

// Waits until somebody asks.
static void put(const struct series *s, struct rat r)
{
    (void)gn_next(s->want);
    gn_send(s->next, r);
}

static struct series *series(void)
{
    struct series *s = need(malloc(sizeof *s));

    s->want = gn_make_chan(demands, 0);
    s->next = gn_make_chan(rats, 0);
    need(s->want.raw);
    need(s->next.raw);
    return s;
}

// What a goroutine makes a series from.
struct maker {
    struct series *out, *a, *b;
    struct rat r;
};

static struct series *go(void (*fn)(void *), struct maker m)
{
    struct maker *arg = need(malloc(sizeof *arg));

    *arg = m;
    if (arg->out == NULL)
        arg->out = series();
    struct series *out = arg->out;

    if (gn_go(fn, arg) != 0)
        fail("no memory for a goroutine: run with more MEM");
    return out;
}

// ---- making them ----

// r - x
static void minus_x(void *arg)
{
    struct maker *m = arg;

    put(m->out, m->r);
    put(m->out, minus_one);
    for (;;)
        put(m->out, zero);
}

static void add(void *arg)
{
    struct maker *m = arg;

    for (;;)
        put(m->out, plus(get(m->a), get(m->b)));
}

static void scale(void *arg)
{
    struct maker *m = arg;

    for (;;)
        put(m->out, times(m->r, get(m->a)));
}

static struct rat sum_of_products(const struct rat *f, const struct rat *g,
                                  int from, int n)
{
    struct rat sum = zero;

    for (int i = from; i <= n; i++)
        sum = plus(sum, times(f[i], g[n - i]));
    return sum;
}

static void multiply(void *arg)
{
    struct maker *m = arg;
    struct rat f[MOST], g[MOST];

    for (int n = 0; n < MOST; n++) {
        // Not before somebody asks: who asks may be what a depends on.
        (void)gn_next(m->out->want);
        f[n] = get(m->a);
        g[n] = get(m->b);
        gn_send(m->out->next, sum_of_products(f, g, 0, n));
    }
}

// 1 / a
static void reciprocal(void *arg)
{
    struct maker *m = arg;
    struct rat f[MOST], r[MOST];

    for (int n = 0; n < MOST; n++) {
        (void)gn_next(m->out->want);
        f[n] = get(m->a);
        struct rat first = rat(f[0].den, f[0].num);

        r[n] = n == 0 ? first
                      : times(times(minus_one, first),
                              sum_of_products(f, r, 1, n));
        gn_send(m->out->next, r[n]);
    }
}

// r plus the integral from 0
static void integrate(void *arg)
{
    struct maker *m = arg;

    put(m->out, m->r);
    for (int n = 1;; n++) {
        (void)gn_next(m->out->want);
        gn_send(m->out->next, times(get(m->a), rat(1, n)));
    }
}

// The same series twice: each may be ahead of the other. While it waits for the next one
// of a, which may depend on what both have had, it goes on answering.
static void split(void *arg)
{
    struct maker *m = arg;
    struct series *to[2] = {m->out, m->b};
    struct rat r[MOST];
    int had = 0, at[2] = {0, 0};
    bool asked[2] = {false, false};

    while (had < MOST) {
        rats next = asked[0] || asked[1] ? m->a->next : (rats){0};
        struct gn_case cases[] = {GN_RECV(to[0]->want, NULL),
                                  GN_RECV(to[1]->want, NULL),
                                  GN_RECV(next, &r[had])};
        size_t i = gn_select(cases, 3);

        if (i == 2) {
            had++;
        } else if (at[i] == had) {
            if (!asked[1 - i])
                gn_send(m->a->want, 0);
            asked[i] = true;
            continue;
        } else {
            asked[i] = true;
        }
        for (i = 0; i < 2; i++) {
            if (asked[i] && at[i] < had) {
                gn_send(to[i]->next, r[at[i]++]);
                asked[i] = false;
            }
        }
    }
}

// ---- showing them ----

static bool good = true;

static void show(const char *name, struct series *s, int n,
                 struct rat (*should)(int))
{
    printf("%-11s", name);
    for (int i = 0; i < n; i++) {
        struct rat r = get(s), e = should(i);

        if (r.den == 1)
            printf(" %lld", (long long)r.num);
        else
            printf(" %lld/%lld", (long long)r.num, (long long)r.den);
        if (r.num != e.num || r.den != e.den) {
            printf(" (should be %lld/%lld)", (long long)e.num,
                   (long long)e.den);
            good = false;
        }
    }
    printf("\n");
}

static int64_t factorial(int n)
{
    return n < 2 ? 1 : n * factorial(n - 1);
}

static struct rat all_ones(int n)
{
    (void)n;
    return one;
}

static struct rat naturals(int n)
{
    return rat(n + 1, 1);
}

static struct rat of_exp(int n)
{
    return rat(1, factorial(n));
}

static struct rat of_sin(int n)
{
    return n % 2 == 0 ? zero : rat(n % 4 == 1 ? 1 : -1, factorial(n));
}

static struct rat of_one(int n)
{
    return n == 0 ? one : zero;
}

static struct rat of_tan(int n)
{
    static const struct rat odd[] = {
        {1, 1},     {1, 3},         {2, 15},          {17, 315},
        {62, 2835}, {1382, 155925}, {21844, 6081075}, {929569, 638512875}};

    return n % 2 == 0 ? zero : odd[n / 2];
}

static struct series *twice(struct series *a, struct series *out)
{
    struct series *second = series();

    go(split, (struct maker){.out = out, .a = a, .b = second});
    return second;
}

static struct series *exponential(void)
{
    // e = 1 + integral of e
    struct series *back = series();
    struct series *e = go(integrate, (struct maker){.a = back, .r = one});

    return twice(e, back);
}

// Of which several are needed: a new pair each time.
static void sine_and_cosine(struct series **s, struct series **c)
{
    struct series *s_back = series(), *c_back = series();
    struct series *sine = go(integrate, (struct maker){.a = c_back, .r = zero});
    struct series *minus =
        go(scale, (struct maker){.a = s_back, .r = minus_one});
    struct series *cosine = go(integrate, (struct maker){.a = minus, .r = one});

    *s = twice(sine, s_back);
    *c = twice(cosine, c_back);
}

static struct series *square(struct series *a)
{
    struct series *x = series(), *y = twice(a, x);

    return go(multiply, (struct maker){.a = x, .b = y});
}

int main(int argc, char **argv)
{
    char *end = "";
    long n = argc > 1 ? strtol(argv[1], &end, 10) : 10;
    struct series *s, *c, *r;

    if (argc > 2 || *end != '\0' || n < 1 || n >= MOST) {
        fprintf(stderr, "usage: powser [TERMS]        1 to 16\n");
        return 2;
    }
    show("1/(1-x)",
         go(reciprocal,
            (struct maker){.a = go(minus_x, (struct maker){.r = one})}),
         (int)n, all_ones);
    r = go(reciprocal,
           (struct maker){.a = go(minus_x, (struct maker){.r = one})});
    show("1/(1-x)^2", square(r), (int)n, naturals);
    show("exp", exponential(), (int)n, of_exp);
    sine_and_cosine(&s, &c);
    show("sin", s, (int)n, of_sin);
    sine_and_cosine(&s, &c);
    show("sin^2+cos^2", go(add, (struct maker){.a = square(s), .b = square(c)}),
         (int)n, of_one);
    sine_and_cosine(&s, &c);
    r = go(reciprocal, (struct maker){.a = c});
    show("tan", go(multiply, (struct maker){.a = s, .b = r}), (int)n, of_tan);
    printf("%s; %zu goroutines wait to be asked\n",
           good ? "all coefficients are right" : "a coefficient is WRONG",
           gn_go_count() - 1);
    return good ? 0 : 1;
}
