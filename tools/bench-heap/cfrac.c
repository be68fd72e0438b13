// Arithmetic on numbers of any length, each in a block of its own: factors a
// number by the continued fraction of its square root, as far as collecting
// smooth residues goes. Every result is a fresh block of 8 to 48 bytes, most
// live for a microsecond. Each step checks itself by the identity
//
//   p(k-1)^2 = (-1)^k d(k)  mod N
//
// Source: M. A. Morrison and J. Brillhart, "A method of factoring and the
// factorization of F7", 1975; division after D. Knuth, TAOCP 4.3.1 D.
#include "common.h"

enum { STEPS = 1600 * 1000, MAX_DIGITS = 16, PRIMES = 8 };

static const char *const numbers[MAX_THREADS] = {
    "340282366920938463463374607431768211507",
    "295147905179352825855999999999999999961",
};

static const uint32_t primes[PRIMES] = {2, 3, 5, 7, 11, 13, 17, 19};

static unsigned nthreads;
static uint64_t operations[MAX_THREADS];

// A number: digits of 32 bits, the lowest first, the highest not 0.
struct num {
    uint32_t n;
    uint32_t digit[];
};

static _Thread_local uint64_t taken;

static struct num *num_new(uint32_t n)
{
    struct num *a = malloc(sizeof *a + n * sizeof a->digit[0]);

    if (a == NULL)
        fail("no memory");
    taken++;
    a->n = n;
    escape(a);
    return a;
}

static void num_free(struct num *a)
{
    free(a);
}

static struct num *num_of(const uint32_t *digit, uint32_t n)
{
    while (n > 0 && digit[n - 1] == 0)
        n--;
    struct num *a = num_new(n);

    memcpy(a->digit, digit, n * sizeof digit[0]);
    return a;
}

static struct num *num_small(uint32_t v)
{
    return num_of(&v, 1);
}

static int compare(const struct num *a, const struct num *b)
{
    if (a->n != b->n)
        return a->n < b->n ? -1 : 1;
    for (uint32_t i = a->n; i > 0; i--)
        if (a->digit[i - 1] != b->digit[i - 1])
            return a->digit[i - 1] < b->digit[i - 1] ? -1 : 1;
    return 0;
}

static struct num *add(const struct num *a, const struct num *b)
{
    uint32_t sum[MAX_DIGITS], n = a->n > b->n ? a->n : b->n;
    uint64_t carry = 0;

    for (uint32_t i = 0; i < n; i++) {
        carry += i < a->n ? a->digit[i] : 0;
        carry += i < b->n ? b->digit[i] : 0;
        sum[i] = (uint32_t)carry;
        carry >>= 32;
    }
    sum[n] = (uint32_t)carry;
    return num_of(sum, n + 1);
}

// a - b, where a >= b.
static struct num *sub(const struct num *a, const struct num *b)
{
    uint32_t rest[MAX_DIGITS];
    int64_t borrow = 0;

    for (uint32_t i = 0; i < a->n; i++) {
        borrow += (int64_t)a->digit[i] - (i < b->n ? b->digit[i] : 0);
        rest[i] = (uint32_t)borrow;
        borrow >>= 32;
    }
    return num_of(rest, a->n);
}

static struct num *mul(const struct num *a, const struct num *b)
{
    uint32_t product[MAX_DIGITS] = {0};

    for (uint32_t i = 0; i < a->n; i++) {
        uint64_t carry = 0;

        for (uint32_t j = 0; j < b->n; j++) {
            carry += (uint64_t)a->digit[i] * b->digit[j] + product[i + j];
            product[i + j] = (uint32_t)carry;
            carry >>= 32;
        }
        product[i + b->n] = (uint32_t)carry;
    }
    return num_of(product, a->n + b->n);
}

// Divides by one digit in place; returns what remains.
static uint32_t divide_by_digit(uint32_t *digit, uint32_t n, uint32_t by)
{
    uint64_t rest = 0;

    for (uint32_t i = n; i > 0; i--) {
        rest = rest << 32 | digit[i - 1];
        digit[i - 1] = (uint32_t)(rest / by);
        rest %= by;
    }
    return (uint32_t)rest;
}

// u -= v * q, of n + 1 digits. Returns true if that is not negative.
static bool subtract_multiple(uint32_t *u, const uint32_t *v, uint32_t n,
                              uint64_t q)
{
    uint64_t carry = 0;
    int64_t borrow = 0;

    for (uint32_t i = 0; i <= n; i++) {
        carry += i < n ? q * v[i] : 0;
        borrow += (int64_t)u[i] - (uint32_t)carry;
        u[i] = (uint32_t)borrow;
        borrow >>= 32;
        carry >>= 32;
    }
    return borrow == 0;
}

// u += v, of n + 1 digits. Returns true if that is not negative any more.
static bool add_back(uint32_t *u, const uint32_t *v, uint32_t n)
{
    uint64_t carry = 0;

    for (uint32_t i = 0; i <= n; i++) {
        carry += (uint64_t)u[i] + (i < n ? v[i] : 0);
        u[i] = (uint32_t)carry;
        carry >>= 32;
    }
    return carry != 0;
}

static void shift_left(uint32_t *to, const uint32_t *from, uint32_t n,
                       unsigned bits)
{
    uint64_t carry = 0;

    for (uint32_t i = 0; i < n; i++) {
        carry |= (uint64_t)from[i] << bits;
        to[i] = (uint32_t)carry;
        carry >>= 32;
    }
    to[n] = (uint32_t)carry;
}

// Quotient, and the remainder into *rest, of a by b, which is not 0.
static struct num *divide(const struct num *a, const struct num *b,
                          struct num **rest)
{
    uint32_t u[MAX_DIGITS + 1], v[MAX_DIGITS + 1], q[MAX_DIGITS] = {0};
    uint32_t n = b->n;

    if (compare(a, b) < 0) {
        *rest = num_of(a->digit, a->n);
        return num_new(0);
    }
    if (n == 1) {
        memcpy(q, a->digit, a->n * sizeof q[0]);
        *rest = num_small(divide_by_digit(q, a->n, b->digit[0]));
        return num_of(q, a->n);
    }
    unsigned bits = (unsigned)__builtin_clz(b->digit[n - 1]);

    shift_left(u, a->digit, a->n, bits);
    shift_left(v, b->digit, n, bits);
    for (uint32_t j = a->n - n + 1; j > 0; j--) {
        uint32_t *at = u + j - 1;
        uint64_t guess = ((uint64_t)at[n] << 32 | at[n - 1]) / v[n - 1];

        if (guess > UINT32_MAX)
            guess = UINT32_MAX;
        for (bool ok = subtract_multiple(at, v, n, guess); !ok; guess--)
            ok = add_back(at, v, n);
        q[j - 1] = (uint32_t)guess;
    }
    for (uint32_t i = 0; i < n; i++) // the remainder, shifted back
        u[i] = (uint32_t)((uint64_t)u[i + 1] << 32 >> bits) | u[i] >> bits;
    *rest = num_of(u, n);
    return num_of(q, a->n - n + 1);
}

static struct num *quotient(const struct num *a, const struct num *b)
{
    struct num *rest, *q = divide(a, b, &rest);

    num_free(rest);
    return q;
}

static struct num *modulo(const struct num *a, const struct num *b)
{
    struct num *rest;

    num_free(divide(a, b, &rest));
    return rest;
}

// Gives back *a and puts b into its place.
static void replace(struct num **a, struct num *b)
{
    num_free(*a);
    *a = b;
}

static struct num *read_decimal(const char *s)
{
    struct num *a = num_new(0), *ten = num_small(10);

    for (; *s != '\0'; s++) {
        struct num *digit = num_small((uint32_t)(*s - '0'));

        replace(&a, mul(a, ten));
        replace(&a, add(a, digit));
        num_free(digit);
    }
    num_free(ten);
    return a;
}

// The integer part of the square root, by Newton's method from above.
static struct num *root(const struct num *n)
{
    struct num *two = num_small(2), *x = num_of(n->digit, n->n);

    for (;;) {
        struct num *y = quotient(n, x);

        replace(&y, add(x, y));
        replace(&y, quotient(y, two));
        if (compare(y, x) >= 0) {
            num_free(y);
            num_free(two);
            return x;
        }
        replace(&x, y);
    }
}

// d without its small prime factors: one block for each that it has.
static bool is_smooth(const struct num *d)
{
    struct num *left = num_of(d->digit, d->n);

    for (int i = 0; i < PRIMES; i++)
        for (;;) {
            struct num *q = num_of(left->digit, left->n);

            if (divide_by_digit(q->digit, q->n, primes[i]) != 0) {
                num_free(q);
                break;
            }
            replace(&left, num_of(q->digit, q->n));
            num_free(q);
        }
    bool smooth = left->n == 1 && left->digit[0] == 1;

    num_free(left);
    return smooth;
}

struct fraction {
    struct num *n, *root;  // N, and the integer part of its square root
    struct num *m, *d, *a; // of this step
    struct num *p, *before;
    bool odd;
};

// p^2 is d or N - d.
static void check(const struct fraction *f)
{
    struct num *square = mul(f->p, f->p);

    replace(&square, modulo(square, f->n));
    if (f->odd)
        replace(&square, sub(f->n, square));
    if (compare(square, f->d) != 0)
        fail("cfrac: a number is wrong");
    num_free(square);
}

static void step(struct fraction *f)
{
    struct num *t = mul(f->d, f->a);

    replace(&f->m, sub(t, f->m)); // m = d a - m
    replace(&t, mul(f->m, f->m));
    replace(&t, sub(f->n, t));
    replace(&f->d, quotient(t, f->d)); // d = (N - m^2) / d
    num_free(t);
    f->odd = !f->odd;
    check(f);
    t = add(f->root, f->m);
    replace(&f->a, quotient(t, f->d)); // a = (root + m) / d
    replace(&t, mul(f->a, f->p));
    replace(&t, add(t, f->before));
    num_free(f->before);
    f->before = f->p;
    f->p = modulo(t, f->n); // p = a p + p before it
    num_free(t);
}

static void *work(void *arg)
{
    uintptr_t i = (uintptr_t)arg;
    struct fraction f = {.n = read_decimal(numbers[i])};
    unsigned smooth = 0;

    f.root = root(f.n);
    f.m = num_new(0);
    f.d = num_small(1);
    f.a = num_of(f.root->digit, f.root->n);
    f.p = num_of(f.root->digit, f.root->n);
    f.before = num_small(1);
    for (unsigned n = 0; n < STEPS / nthreads; n++) {
        step(&f);
        smooth += is_smooth(f.d);
    }
    escape(&smooth);
    num_free(f.n);
    num_free(f.root);
    num_free(f.m);
    num_free(f.d);
    num_free(f.a);
    num_free(f.p);
    num_free(f.before);
    operations[i] = taken;
    return NULL;
}

int main(int argc, char **argv)
{
    nthreads = threads_of(argc, argv);
    run_threads(nthreads, work);
    printf("cfrac: %llu operations, %u threads\n",
           (unsigned long long)(operations[0] + operations[1]), nthreads);
}
