// See central.h. Full spans are in no list: the free that makes room in one
// brings it here.
//
// Locks: a list's lock protects what is linked in it, and of all spans of its
// class and kind that change hands the field `owner`. Outside of heap_lock and
// meta_lock.

#include "runtime/heap/central.h"

#include "runtime/heap/collect.h"
#include "runtime/heap/memory.h"

struct list {
    struct spinlock lock;
    struct span *first; // [lock]
};

static struct list *lists; // [c] [kind * HEAP_CLASSES + class]

_Static_assert(sizeof(struct list) * HEAP_KINDS * HEAP_CLASSES <= PAGE_SIZE,
               "a page");

static struct list *list_of(unsigned class, unsigned kind)
{
    return &lists[kind * HEAP_CLASSES + class];
}

bool central_init(void)
{
    lists = heap_memory_frames(PAGE_SIZE);
    for (unsigned i = 0; lists != NULL && i < HEAP_KINDS * HEAP_CLASSES; i++)
        spin_init(&lists[i].lock, RANK_CENTRAL);
    return lists != NULL;
}

// Stored in one piece: whether there is one is looked at without the lock.
static void set_first(struct list *l, struct span *s)
{
    atomic_store_explicit((struct span * _Atomic *)&l->first, s,
                          memory_order_relaxed);
}

static bool seems_empty(struct list *l)
{
    return atomic_load_explicit((struct span * _Atomic *)&l->first,
                                memory_order_relaxed) == NULL;
}

static void list_link(struct list *l, struct span *s)
{
    s->listed = true;
    s->prev = NULL;
    s->next = l->first;
    if (l->first != NULL)
        l->first->prev = s;
    set_first(l, s);
}

static void list_unlink(struct list *l, struct span *s)
{
    if (s->prev != NULL)
        s->prev->next = s->next;
    else
        set_first(l, s->next);
    if (s->next != NULL)
        s->next->prev = s->prev;
    s->next = s->prev = NULL;
    s->listed = false;
}

struct span *central_take(unsigned class, enum heap_kind kind)
{
    struct list *l = list_of(class, kind);

    // Most of the time there is nothing, and a new span will be made.
    if (seems_empty(l))
        return NULL;
    spin_lock(&l->lock);
    struct span *s = l->first;

    if (s != NULL) {
        list_unlink(l, s);
        atomic_store_explicit(&s->owner, (uint8_t)(arch_cpu_id() + 1),
                              memory_order_release);
    }
    spin_unlock(&l->lock);
    return s;
}

// Of a span that nobody owns: in the list if it has free slots. True: it has
// nothing else, is in no list, and none but `freeing` CPUs know of it. The
// list's lock is held.
static bool place(struct list *l, struct span *s, unsigned freeing)
{
    bool empty =
        span_is_empty(s) && !collect_holding &&
        atomic_load_explicit(&s->freeing, memory_order_acquire) == freeing &&
        !atomic_load_explicit(&s->queued, memory_order_acquire);

    if (s->listed && empty)
        list_unlink(l, s);
    else if (!s->listed && !empty && s->nfree > 0)
        list_link(l, s);
    return empty;
}

void central_put(struct span_source *from, struct span *s)
{
    struct list *l = list_of(s->class, s->kind);

    spin_lock(&l->lock);
    atomic_store_explicit(&s->owner, 0, memory_order_release);
    span_drain(s);
    bool empty = place(l, s, 0);

    spin_unlock(&l->lock);
    if (empty)
        span_delete(from, s);
}

bool central_drain(struct span_source *from, struct span *s, unsigned freeing,
                   bool *gone)
{
    struct list *l = list_of(s->class, s->kind);
    bool nobodys, empty = false;

    spin_lock(&l->lock);
    nobodys = atomic_load_explicit(&s->owner, memory_order_relaxed) == 0;
    if (nobodys) {
        atomic_exchange_explicit(&s->queued, false, memory_order_seq_cst);
        span_drain(s);
        empty = place(l, s, freeing);
    }
    spin_unlock(&l->lock);
    if (empty)
        span_delete(from, s);
    *gone = empty;
    return nobodys;
}

static void trim(struct span_source *from, struct list *l)
{
    struct span *gone = NULL, *next;

    spin_lock(&l->lock);
    for (struct span *s = l->first; s != NULL; s = next) {
        next = s->next;
        if (place(l, s, 0)) {
            s->next = gone;
            gone = s;
        }
    }
    spin_unlock(&l->lock);
    for (; gone != NULL; gone = next) {
        next = gone->next;
        span_delete(from, gone);
    }
}

void central_trim(struct span_source *from)
{
    for (unsigned i = 0; i < HEAP_KINDS * HEAP_CLASSES; i++)
        if (!seems_empty(&lists[i]))
            trim(from, &lists[i]);
}

void central_lock_all(void)
{
    for (unsigned i = 0; i < HEAP_KINDS * HEAP_CLASSES; i++)
        spin_lock(&lists[i].lock);
}

void central_unlock_all(void)
{
    for (unsigned i = 0; i < HEAP_KINDS * HEAP_CLASSES; i++)
        spin_unlock(&lists[i].lock);
}

static void check_span(const struct span *s)
{
    unsigned free = 0;

    for (unsigned w = 0; w < span_words(s); w++)
        free += (unsigned)__builtin_popcountll(s->bits[w]);
    if (s->owner != 0 || !s->listed)
        panic("heap: central span 0x%lx belongs to CPU %d",
              (unsigned long)span_base(s), s->owner - 1);
    if (free != s->nfree)
        panic("heap: central span 0x%lx has %u free slots, counts %u",
              (unsigned long)span_base(s), free, s->nfree);
}

void central_check(void)
{
    for (unsigned i = 0; i < HEAP_KINDS * HEAP_CLASSES; i++) {
        spin_lock(&lists[i].lock);
        for (struct span *s = lists[i].first; s != NULL; s = s->next)
            check_span(s);
        spin_unlock(&lists[i].lock);
    }
}
