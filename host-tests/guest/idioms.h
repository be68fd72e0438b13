// Loops over an array: what programs do with pointers that optimizers change (R11).
// visit(value) is a function that the compiler does not see.
#pragma once

enum { N = 128, COLUMNS = 16 }; // words: 1 KiB is a size class

struct rec {
    int64_t a, b, c, d;
};

// ---- the loops ----

static NOINLINE void sum_to_end(const int64_t *p, size_t n)
{
    const int64_t *end = p + n;

    while (p < end)
        visit(*p++);
}

static NOINLINE void by_index(const int64_t *a, size_t n)
{
    for (size_t i = 0; i < n; i++)
        visit(a[i]);
}

static NOINLINE void by_int(const int64_t *a, size_t n)
{
    for (int i = 0; i < (int)n; i++)
        visit(a[i]);
}

static NOINLINE void of_known_length(const int64_t *a, size_t n)
{
    (void)n;
    for (int i = 0; i < N; i++)
        visit(a[i]);
}

static NOINLINE void strided(const int64_t *a, size_t n)
{
    for (size_t i = 0; i < n; i += 3)
        visit(a[i]);
}

static NOINLINE void pairs(const int64_t *a, size_t n)
{
    for (size_t i = 0; i < n; i += 2) {
        visit(a[i]);
        visit(a[i + 1]);
    }
}

static NOINLINE void pairs_at_once(const int64_t *a, size_t n)
{
    for (size_t i = 0; i < n; i += 2)
        visit(a[i] | a[i + 1]);
}

static NOINLINE void by_pairs_of_pointer(const int64_t *p, size_t n)
{
    for (const int64_t *end = p + n; p != end; p += 2)
        visit(p[0] | p[1]);
}

static NOINLINE void count_down(const int64_t *a, size_t n)
{
    while (n-- > 0)
        visit(a[n]);
}

static NOINLINE void pointer_down(const int64_t *a, size_t n)
{
    for (const int64_t *p = a + n; p > a;)
        visit(*--p);
}

static NOINLINE void post_increment(const int64_t *p, size_t n)
{
    while (n-- > 0)
        visit(*p++);
}

static NOINLINE void from_one(const int64_t *a, size_t n)
{
    for (size_t i = 1; i <= n; i++)
        visit(a[i - 1]);
}

static NOINLINE void from_far(const int64_t *a, size_t n)
{
    for (size_t i = 100000; i < n + 100000; i++)
        visit(a[i - 100000]);
}

static NOINLINE void behind(const int64_t *a, size_t n)
{
    for (size_t i = 0; i + 4 < n; i++)
        visit(a[i + 4]);
}

static NOINLINE void two_ends(const int64_t *a, size_t n)
{
    for (size_t i = 0, k = n - 1; i < k; i++, k--)
        visit(a[i] | a[k]);
}

static NOINLINE void members(const int64_t *a, size_t n)
{
    const struct rec *r = (const struct rec *)a;

    for (size_t i = 0; i < n / 4; i++) {
        visit(r[i].c);
        visit(r[i].a);
    }
}

static NOINLINE void last_member(const int64_t *a, size_t n)
{
    const struct rec *r = (const struct rec *)a;

    for (size_t i = 0; i < n / 4; i++)
        visit(r[i].d);
}

static NOINLINE void members_by_pointer(const int64_t *a, size_t n)
{
    const struct rec *r = (const struct rec *)a, *end = r + n / 4;

    for (; r < end; r++)
        visit(r->d | r->b);
}

static NOINLINE void rows(const int64_t *a, size_t n)
{
    const int64_t(*m)[COLUMNS] = (const int64_t(*)[COLUMNS])a;

    for (size_t i = 0; i < n / COLUMNS; i++) {
        for (int k = 0; k < COLUMNS; k++)
            visit(m[i][k]);
    }
}

static NOINLINE void columns(const int64_t *a, size_t n)
{
    const int64_t(*m)[COLUMNS] = (const int64_t(*)[COLUMNS])a;

    for (int k = 0; k < COLUMNS; k++) {
        for (size_t i = 0; i < n / COLUMNS; i++)
            visit(m[i][k]);
    }
}

static NOINLINE void until_found(const int64_t *a, size_t n)
{
    (void)n;
    for (const int64_t *p = a; *p != (N - 1) * 3; p++)
        visit(*p);
}

static NOINLINE void shorts(const int64_t *a, size_t n)
{
    const int16_t *p = (const int16_t *)a;

    for (size_t i = 0; i < n * 4; i += 8)
        visit(p[i]);
}

// Without calls.
#define QUIET(name, ...)                                                       \
    static NOINLINE void name(const int64_t *a, size_t n)                      \
    {                                                                          \
        int64_t sum = 0;                                                       \
                                                                               \
        __VA_ARGS__                                                            \
        visit(sum);                                                            \
    }

QUIET(quiet_sum, for (size_t i = 0; i < n; i++) sum += a[i];)
QUIET(quiet_to_end,
      for (const int64_t *p = a, *e = a + n; p < e; p++) sum = sum * 3 + *p;)
QUIET(quiet_strided, for (size_t i = 0; i < n; i += 3) sum = sum * 3 + a[i];)
QUIET(quiet_down, for (size_t i = n; i-- > 0;) sum = sum * 3 + a[i];)
QUIET(quiet_pairs,
      for (size_t i = 0; i < n; i += 2) sum = sum * 3 + (a[i] ^ a[i + 1]);)
QUIET(quiet_neighbours, for (size_t i = 2; i < n; i++)
                            sum = sum * 3 + a[i] - a[i - 1] + a[i - 2];)
QUIET(quiet_members, const struct rec *r = (const struct rec *)a;
      for (size_t i = 0; i < n / 4; i++) sum = sum * 3 + r[i].a - r[i].c;)
QUIET(quiet_known, for (int i = 0; i < N; i++) sum = sum * 3 + a[i]; (void)n;)
QUIET(quiet_columns,
      for (int k = 0; k < COLUMNS; k++) for (size_t i = 0; i < n / COLUMNS; i++)
          sum = sum * 3 + a[i * COLUMNS + (size_t)k];)
QUIET(quiet_bytes, const uint8_t *p = (const uint8_t *)a;
      for (size_t i = 0; i < n * 8; i++) sum = sum * 3 + p[i];)
QUIET(quiet_two_ends, for (size_t i = 0, k = n - 1; i < k; i++, k--)
                          sum = sum * 3 + a[i] - a[k];)

QUIET(quiet_stride_by_pointer,
      for (const int64_t *p = a, *e = a + n; p < e; p += 3) sum = sum * 3 + *p;)
QUIET(quiet_stride_of_seven,
      for (const int64_t *p = a, *e = a + n; p < e; p += 7) sum ^= *p;)
QUIET(
    quiet_by_fours, for (; n >= 4; n -= 4) {
        sum += *a++;
        sum ^= *a++;
        sum += *a++;
        sum ^= *a++;
    })
QUIET(quiet_window,
      for (size_t i = 0; i + 3 < n; i++)
          sum = sum * 3 + (a[i] ^ a[i + 1]) + (a[i + 2] ^ a[i + 3]);)
QUIET(quiet_every_third_pair,
      for (size_t i = 0; i + 1 < n; i += 3) sum += a[i] * a[i + 1];)
QUIET(quiet_reverse_pairs,
      for (size_t i = n; i >= 2; i -= 2) sum = sum * 3 + a[i - 1] - a[i - 2];)
QUIET(quiet_far_start,
      for (size_t i = 0; i < n; i += 16) sum += a[i] - a[i + 15];)
QUIET(quiet_search, for (; *a != (N - 1) * 3; a++) sum += *a; (void)n;)
QUIET(quiet_convert, const int32_t *p = (const int32_t *)a;
      for (size_t i = 0; i < n * 2; i += 5) sum += p[i];)

static const struct {
    const char *name;
    void (*fn)(const int64_t *a, size_t n);
} loops[] = {
#define LOOP(fn)                                                               \
    {                                                                          \
#fn, fn                                                                \
    }
    LOOP(sum_to_end),
    LOOP(by_index),
    LOOP(by_int),
    LOOP(of_known_length),
    LOOP(strided),
    LOOP(pairs),
    LOOP(pairs_at_once),
    LOOP(by_pairs_of_pointer),
    LOOP(count_down),
    LOOP(pointer_down),
    LOOP(post_increment),
    LOOP(from_one),
    LOOP(from_far),
    LOOP(behind),
    LOOP(two_ends),
    LOOP(members),
    LOOP(last_member),
    LOOP(members_by_pointer),
    LOOP(rows),
    LOOP(columns),
    LOOP(until_found),
    LOOP(shorts),
    LOOP(quiet_stride_by_pointer),
    LOOP(quiet_stride_of_seven),
    LOOP(quiet_by_fours),
    LOOP(quiet_window),
    LOOP(quiet_every_third_pair),
    LOOP(quiet_reverse_pairs),
    LOOP(quiet_far_start),
    LOOP(quiet_search),
    LOOP(quiet_convert),
    LOOP(quiet_sum),
    LOOP(quiet_to_end),
    LOOP(quiet_strided),
    LOOP(quiet_down),
    LOOP(quiet_pairs),
    LOOP(quiet_neighbours),
    LOOP(quiet_members),
    LOOP(quiet_known),
    LOOP(quiet_columns),
    LOOP(quiet_bytes),
    LOOP(quiet_two_ends),
};
