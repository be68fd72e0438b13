// Atomic types, after Go's own tests: src/sync/atomic/atomic_test.go. Each point begins
// with the name of the test that it answers, or says what it answers all of
// (go-tests.tsv lists them all).
//
// usage: go_atomic [ROUNDS]

#include "host-tests/guest/go_test.h"

#include <gneiss/atomic.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

static unsigned rounds = 1000;
static struct gn_atomic_i32 failures;
static struct gn_wg all;

// ---- atomics ----

// Op for op, as atomic_test.go: with a guard on both sides.
#define TEST_NUMBER(S, T)                                                      \
    static bool test_##S(void)                                                 \
    {                                                                          \
        struct {                                                               \
            T before;                                                          \
            struct gn_atomic_##S x;                                            \
            T after;                                                           \
        } v;                                                                   \
        const T magic = (T)0xdeddeadbeefbeef;                                  \
        T j = 0;                                                               \
        bool good = true;                                                      \
                                                                               \
        memset(&v, 0, sizeof v);                                               \
        v.before = v.after = magic;                                            \
        for (T delta = 1; delta > 0 && delta + delta > delta;                  \
             delta = (T)(delta + delta)) {                                     \
            T k = gn_atomic_##S##_swap(&v.x, delta);                           \
                                                                               \
            good &= k == j && gn_atomic_##S##_load(&v.x) == delta;             \
            j = (T)(delta + 1);                                                \
            good &= gn_atomic_##S##_add(&v.x, 1) == j;                         \
            good &= !gn_atomic_##S##_cas(&v.x, delta, 5) &&                    \
                    gn_atomic_##S##_load(&v.x) == j;                           \
            good &= gn_atomic_##S##_cas(&v.x, j, delta);                       \
            good &= gn_atomic_##S##_or(&v.x, 1) == delta &&                    \
                    gn_atomic_##S##_load(&v.x) == (delta | 1);                 \
            good &= gn_atomic_##S##_and(&v.x, (T)~1) == (delta | 1);           \
            j = delta & (T)~1;                                                 \
            good &= gn_atomic_##S##_load(&v.x) == j;                           \
            gn_atomic_##S##_store_order(&v.x, (T)-3, __ATOMIC_RELEASE);        \
            good &=                                                            \
                gn_atomic_##S##_load_order(&v.x, __ATOMIC_ACQUIRE) == (T)-3;   \
            good &= gn_atomic_##S##_add_order(&v.x, 3, __ATOMIC_RELAXED) == 0; \
            good &= gn_atomic_##S##_cas_order(&v.x, 0, j, __ATOMIC_ACQ_REL);   \
            gn_atomic_##S##_store(&v.x, j);                                    \
        }                                                                      \
        return good && v.before == magic && v.after == magic;                  \
    }

TEST_NUMBER(i32, int32_t)
TEST_NUMBER(i64, int64_t)
TEST_NUMBER(u32, uint32_t)
TEST_NUMBER(u64, uint64_t)
TEST_NUMBER(uptr, uintptr_t)

static bool test_pointer(void)
{
    struct gn_atomic_ptr p = {NULL};
    int a, b;

    return gn_atomic_ptr_load(&p) == NULL &&
           gn_atomic_ptr_swap(&p, &a) == NULL &&
           !gn_atomic_ptr_cas(&p, &b, NULL) && gn_atomic_ptr_cas(&p, &a, &b) &&
           gn_atomic_ptr_load(&p) == &b;
}

static bool test_bool(void)
{
    struct gn_atomic_bool b = {false};

    return !gn_atomic_bool_swap(&b, true) && gn_atomic_bool_load(&b) &&
           gn_atomic_bool_cas(&b, true, false) && !gn_atomic_bool_load(&b);
}

static struct gn_atomic_i32 n32;
static struct gn_atomic_u64 n64;

static void hammer_atomics(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < rounds; i++) {
        gn_atomic_i32_add(&n32, 1);
        for (uint64_t v = gn_atomic_u64_load(&n64);
             !gn_atomic_u64_cas(&n64, v, v + 1); v = gn_atomic_u64_load(&n64))
            ;
    }
    gn_wg_done(&all);
}

static struct gn_atomic_u64 halves;

static void swap_halves(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < rounds; i++) {
        uint64_t was =
            gn_atomic_u64_swap(&halves, (uint64_t)i << 32 | (uint32_t)i);

        if ((uint32_t)was != was >> 32)
            gn_atomic_i32_add(&failures, 1);
        gn_atomic_u64_store(&halves, (uint64_t)i << 32 | (uint32_t)i);
        was = gn_atomic_u64_load(&halves);
        if ((uint32_t)was != was >> 32)
            gn_atomic_i32_add(&failures, 1);
    }
    gn_wg_done(&all);
}

// Both store, then both look: one sees the other's.
static struct gn_atomic_i32 shown[2], seen[2][3];

static void store_then_load(void *arg)
{
    int me = arg != NULL, he = 1 - me;

    for (int32_t i = 1; i < (int32_t)rounds / 4; i++) {
        gn_atomic_i32_store(&shown[me], i);
        int32_t my = gn_atomic_i32_load(&shown[he]), his;

        gn_atomic_i32_store(&seen[me][i % 3], my);
        while ((his = gn_atomic_i32_load(&seen[he][i % 3])) == -1)
            gn_yield();
        if ((my != i && my != i - 1) || (his != i && his != i - 1) ||
            (my != i && his != i))
            gn_atomic_i32_add(&failures, 1);
        gn_atomic_i32_store(&seen[me][(i - 1) % 3], -1);
    }
    gn_wg_done(&all);
}

static struct {
    struct gn_atomic_i32 signal;
    char pad[128];
    int32_t data;
} message;

static void release_acquire(void *arg)
{
    int me = arg != NULL;

    for (int32_t i = 1; i < (int32_t)rounds / 4; i++) {
        if ((i + me) % 2 == 0) {
            message.data = i;
            gn_atomic_i32_store_order(&message.signal, i, __ATOMIC_RELEASE);
        } else {
            while (gn_atomic_i32_load_order(&message.signal,
                                            __ATOMIC_ACQUIRE) != i)
                gn_yield();
            if (message.data != i)
                gn_atomic_i32_add(&failures, 1);
        }
    }
    gn_wg_done(&all);
}

static int32_t two(void (*fn)(void *), int n)
{
    gn_atomic_i32_store(&failures, 0);
    gn_wg_add(&all, n);
    for (int i = 0; i < n; i++)
        go(fn, i % 2 != 0 ? &all : NULL);
    gn_wg_wait(&all);
    return gn_atomic_i32_load(&failures);
}

static void add_to_nil(void *arg)
{
    gn_atomic_i64_add(arg, 1);
}

static void atomics(void)
{
    ok(test_i32(), "TestSwapInt32 and all of int32");
    ok(test_i64(), "TestSwapInt64 and all of int64");
    ok(test_u32(), "TestSwapUint32 and all of uint32");
    ok(test_u64(), "TestSwapUint64 and all of uint64");
    ok(test_uptr(), "TestSwapUintptr and all of uintptr");
    ok(test_pointer(), "TestSwapPointer and all of pointers");
    ok(test_bool(), "atomic.Bool");
    two(hammer_atomics, 4);
    IS(gn_atomic_i32_load(&n32), 4 * rounds, "TestHammer32: Add");
    IS(gn_atomic_u64_load(&n64), 4 * rounds, "TestHammer64: CompareAndSwap");
    IS(two(swap_halves, 4), 0, "TestHammerStoreLoad: no halves");
    for (int i = 0; i < 6; i++)
        gn_atomic_i32_store(&seen[i / 3][i % 3], -1);
    IS(two(store_then_load, 2), 0, "TestStoreLoadSeqCst32: one sees the other");
    IS(two(release_acquire, 2), 0,
       "TestStoreLoadRelAcq32: and what was before");
    ok(panics(add_to_nil, NULL,
              "runtime error: invalid memory address or nil pointer "
              "dereference"),
       "TestNilDeref: an atomic at nil");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = (unsigned)atoi(argv[1]);
    atomics();
    return tap_end();
}
