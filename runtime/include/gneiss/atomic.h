// Atomic values: Go's atomic.Int64 and the like.
//
//     static struct gn_atomic_i64 n;       var n atomic.Int64
//     gn_atomic_i64_add(&n, 1);            n.Add(1): returns the new value
//     gn_atomic_i64_load(&n);              n.Load()
//
// What C's _Atomic does not give: no plain access by mistake, and Go's results. All
// zero: 0, false, NULL. They must not be copied while others use them.
//
// Types: i32, i64, u32, u64, uptr (all operations), bool, ptr (a void *; these have
// neither add nor and nor or). Operations on struct gn_atomic_T, of a type T:
//
//     T    gn_atomic_T_load(a)
//     void gn_atomic_T_store(a, value)
//     T    gn_atomic_T_swap(a, value)      returns what was there
//     bool gn_atomic_T_cas(a, from, to)    returns whether it was `from`, and is `to`
//     T    gn_atomic_T_add(a, n)           returns what is there now; it wraps around
//     T    gn_atomic_T_and(a, mask)        these return what was there
//     T    gn_atomic_T_or(a, mask)
//
// They are sequentially consistent, as Go's. Each has a form with another order, whose
// last argument it is: gn_atomic_i64_load_order(&n, __ATOMIC_ACQUIRE). The order is a
// constant that fits: a load cannot release, nor a store acquire. A cas that fails has
// the order of a load.
//
// Context: any, interrupt handlers as well. None blocks or allocates.
//
// Source: Go, src/sync/atomic/type.go.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define GN_ATOMIC_FN_ static inline __attribute__((always_inline))

// What a failed cas may be ordered by.
#define GN_ATOMIC_FAILED_(order)                                               \
    ((order) == __ATOMIC_SEQ_CST   ? __ATOMIC_SEQ_CST                          \
     : (order) == __ATOMIC_ACQ_REL ? __ATOMIC_ACQUIRE                          \
     : (order) == __ATOMIC_RELEASE ? __ATOMIC_RELAXED                          \
                                   : (order))

#define GN_ATOMIC_(S, T)                                                       \
    struct gn_atomic_##S {                                                     \
        T value_;                                                              \
    };                                                                         \
    GN_ATOMIC_FN_ T gn_atomic_##S##_load_order(const struct gn_atomic_##S *a,  \
                                               int order)                      \
    {                                                                          \
        return __atomic_load_n(&a->value_, order);                             \
    }                                                                          \
    GN_ATOMIC_FN_ void gn_atomic_##S##_store_order(struct gn_atomic_##S *a,    \
                                                   T value, int order)         \
    {                                                                          \
        __atomic_store_n(&a->value_, value, order);                            \
    }                                                                          \
    GN_ATOMIC_FN_ T gn_atomic_##S##_swap_order(struct gn_atomic_##S *a,        \
                                               T value, int order)             \
    {                                                                          \
        return __atomic_exchange_n(&a->value_, value, order);                  \
    }                                                                          \
    GN_ATOMIC_FN_ bool gn_atomic_##S##_cas_order(struct gn_atomic_##S *a,      \
                                                 T from, T to, int order)      \
    {                                                                          \
        return __atomic_compare_exchange_n(&a->value_, &from, to, false,       \
                                           order, GN_ATOMIC_FAILED_(order));   \
    }                                                                          \
    GN_ATOMIC_FN_ T gn_atomic_##S##_load(const struct gn_atomic_##S *a)        \
    {                                                                          \
        return gn_atomic_##S##_load_order(a, __ATOMIC_SEQ_CST);                \
    }                                                                          \
    GN_ATOMIC_FN_ void gn_atomic_##S##_store(struct gn_atomic_##S *a, T value) \
    {                                                                          \
        gn_atomic_##S##_store_order(a, value, __ATOMIC_SEQ_CST);               \
    }                                                                          \
    GN_ATOMIC_FN_ T gn_atomic_##S##_swap(struct gn_atomic_##S *a, T value)     \
    {                                                                          \
        return gn_atomic_##S##_swap_order(a, value, __ATOMIC_SEQ_CST);         \
    }                                                                          \
    GN_ATOMIC_FN_ bool gn_atomic_##S##_cas(struct gn_atomic_##S *a, T from,    \
                                           T to)                               \
    {                                                                          \
        return gn_atomic_##S##_cas_order(a, from, to, __ATOMIC_SEQ_CST);       \
    }

#define GN_ATOMIC_OP_(S, T, op, builtin)                                       \
    GN_ATOMIC_FN_ T gn_atomic_##S##_##op##_order(struct gn_atomic_##S *a, T v, \
                                                 int order)                    \
    {                                                                          \
        return builtin(&a->value_, v, order);                                  \
    }                                                                          \
    GN_ATOMIC_FN_ T gn_atomic_##S##_##op(struct gn_atomic_##S *a, T v)         \
    {                                                                          \
        return builtin(&a->value_, v, __ATOMIC_SEQ_CST);                       \
    }

#define GN_ATOMIC_NUMBER_(S, T)                                                \
    GN_ATOMIC_(S, T)                                                           \
    GN_ATOMIC_OP_(S, T, add, __atomic_add_fetch)                               \
    GN_ATOMIC_OP_(S, T, and, __atomic_fetch_and)                               \
    GN_ATOMIC_OP_(S, T, or, __atomic_fetch_or)

GN_ATOMIC_NUMBER_(i32, int32_t)
GN_ATOMIC_NUMBER_(i64, int64_t)
GN_ATOMIC_NUMBER_(u32, uint32_t)
GN_ATOMIC_NUMBER_(u64, uint64_t)
GN_ATOMIC_NUMBER_(uptr, uintptr_t)
GN_ATOMIC_(bool, bool)
GN_ATOMIC_(ptr, void *)
