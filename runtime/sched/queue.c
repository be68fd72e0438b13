// See queue.h.
//
// Indices count up for ever; a slot is index % RUNQ_SIZE. What lies between head
// and tail is queued. A thief reads slots before it moves the head by CAS: if the
// owner has taken them meanwhile, the CAS fails, and the owner writes over a slot
// only after it has seen a head beyond it (acquire).
//
// Locks: glob_lock protects the common list; no other lock is taken inside.

#include "runtime/sched/queue.h"

#include "runtime/sched/g_impl.h"

enum { SPILL = RUNQ_SIZE / 4 };

static struct spinlock glob_lock = SPINLOCK_INIT(RANK_SCHED);
static struct g *glob_first, *glob_last; // [glob_lock]
static _Atomic unsigned glob_n;          // [glob_lock] writes; read anywhere

// ---- the common list ----

void globq_put(struct g *first, struct g *last, unsigned n)
{
    last->next = NULL;
    spin_lock(&glob_lock);
    if (glob_first == NULL)
        glob_first = first;
    else
        glob_last->next = first;
    glob_last = last;
    atomic_store_explicit(&glob_n, glob_n + n, memory_order_relaxed);
    spin_unlock(&glob_lock);
}

bool globq_has(void)
{
    return atomic_load_explicit(&glob_n, memory_order_relaxed) > 0;
}

struct g *globq_get(struct runq *q, unsigned ncpus, unsigned most)
{
    if (!globq_has())
        return NULL;
    spin_lock(&glob_lock);
    unsigned n = glob_n / ncpus + 1;

    n = n < glob_n ? n : glob_n;
    n = n < most ? n : most;
    n = n < RUNQ_SIZE / 2 ? n : RUNQ_SIZE / 2;
    struct g *g = n > 0 ? glob_first : NULL, *last = g;

    for (unsigned i = 1; i < n; i++)
        last = last->next;
    if (g != NULL)
        glob_first = last->next;
    atomic_store_explicit(&glob_n, glob_n - n, memory_order_relaxed);
    spin_unlock(&glob_lock);
    // A link is read before its goroutine is put: then it is another's.
    for (struct g *put = n > 1 ? g->next : NULL, *after; n > 1; n--) {
        after = put->next;
        runq_put(q, put, false);
        put = after;
    }
    return g;
}

// ---- rings ----

static struct g *slot(struct runq *q, uint32_t i)
{
    return atomic_load_explicit(&q->ring[i % RUNQ_SIZE], memory_order_relaxed);
}

static void set_slot(struct runq *q, uint32_t i, struct g *g)
{
    atomic_store_explicit(&q->ring[i % RUNQ_SIZE], g, memory_order_relaxed);
}

// Moves a part of a full ring, and g, to the common list. False: thieves came
// first, there is room again.
static bool spill(struct runq *q, struct g *g, uint32_t head)
{
    struct g *batch[SPILL + 1];

    for (uint32_t i = 0; i < SPILL; i++)
        batch[i] = slot(q, head + i);
    // Release: the slots were read.
    if (!atomic_compare_exchange_strong_explicit(&q->head, &head, head + SPILL,
                                                 memory_order_release,
                                                 memory_order_relaxed))
        return false;
    batch[SPILL] = g;
    for (uint32_t i = 0; i < SPILL; i++)
        batch[i]->next = batch[i + 1];
    globq_put(batch[0], g, SPILL + 1);
    return true;
}

void runq_put(struct runq *q, struct g *g, bool first)
{
    if (first) {
        g = atomic_exchange_explicit(&q->next, g, memory_order_acq_rel);
        if (g == NULL)
            return;
    }
    for (;;) {
        uint32_t head = atomic_load_explicit(&q->head, memory_order_acquire);
        uint32_t tail = atomic_load_explicit(&q->tail, memory_order_relaxed);

        if (tail - head < RUNQ_SIZE) {
            set_slot(q, tail, g);
            atomic_store_explicit(&q->tail, tail + 1, memory_order_release);
            return;
        }
        if (spill(q, g, head))
            return;
    }
}

struct g *runq_get(struct runq *q, bool *inherit)
{
    struct g *g = atomic_load_explicit(&q->next, memory_order_relaxed);

    // Only we put one there, so if this fails a thief has taken it.
    if (g != NULL &&
        atomic_compare_exchange_strong_explicit(
            &q->next, &g, NULL, memory_order_acquire, memory_order_relaxed)) {
        *inherit = true;
        return g;
    }
    uint32_t head = atomic_load_explicit(&q->head, memory_order_acquire);

    *inherit = false;
    for (;;) {
        if (head == atomic_load_explicit(&q->tail, memory_order_relaxed))
            return NULL;
        g = slot(q, head);
        if (atomic_compare_exchange_weak_explicit(&q->head, &head, head + 1,
                                                  memory_order_release,
                                                  memory_order_acquire))
            return g;
    }
}

struct g *runq_steal(struct runq *to, struct runq *from, bool take_next)
{
    uint32_t tail = atomic_load_explicit(&to->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&from->head, memory_order_acquire);

    for (;;) {
        uint32_t end = atomic_load_explicit(&from->tail, memory_order_acquire);
        uint32_t n = end - head;

        n -= n / 2;
        if (n == 0)
            break;
        if (n > RUNQ_SIZE / 2) { // both were not read at the same time
            head = atomic_load_explicit(&from->head, memory_order_acquire);
            continue;
        }
        for (uint32_t i = 0; i < n; i++)
            set_slot(to, tail + i, slot(from, head + i));
        if (!atomic_compare_exchange_strong_explicit(
                &from->head, &head, head + n, memory_order_acq_rel,
                memory_order_acquire))
            continue;
        // The last of them is ours at once.
        atomic_store_explicit(&to->tail, tail + n - 1, memory_order_release);
        return slot(to, tail + n - 1);
    }
    struct g *g = take_next
                      ? atomic_load_explicit(&from->next, memory_order_relaxed)
                      : NULL;

    if (g != NULL &&
        atomic_compare_exchange_strong_explicit(
            &from->next, &g, NULL, memory_order_acquire, memory_order_relaxed))
        return g;
    return NULL;
}

bool runq_has(struct runq *q)
{
    return atomic_load_explicit(&q->head, memory_order_acquire) !=
               atomic_load_explicit(&q->tail, memory_order_acquire) ||
           atomic_load_explicit(&q->next, memory_order_acquire) != NULL;
}
