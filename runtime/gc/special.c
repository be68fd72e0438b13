// See special.h.
//
// Locks: table.lock protects the table and its records; of goroutines, nothing is
// allocated with it. run.lock protects the queue of what is to be called.

#include "runtime/gc/special.h"

#include <gneiss/gc.h>
#include <gneiss/panic.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mm/mm.h"
#include "runtime/gc/leaks.h"
#include "runtime/libc/libc.h"
#include "runtime/panic/panic.h"
#include "runtime/sched/event.h"
#include "runtime/sched/sched.h"

enum what { WEAK_POINTER, CLEANUP, FINALIZER };

// What is to be called, made with its record: later there may be no memory.
struct call {
    struct call *next;
    void (*fn)(void *);
    void *arg; // of a finalizer the object
};

struct record {
    struct record *next; // of the bucket
    uintptr_t hidden;    // ~ the object's address
    enum what what;
    uint64_t id; // of a cleanup
    void (*fn)(void *);
    void *arg;                     // of a cleanup
    struct call *call;             // not of weak ones
    struct gn_weak_handle *handle; // weak
};

// What weak pointers to one object share; holds no pointer that counts.
struct gn_weak_handle {
    _Atomic uintptr_t hidden; // 0: the object is gone
};

enum { FIRST_BUCKETS = 64 };

static struct {
    struct spinlock lock;
    struct record **of; // [lock] a block of malloc
    size_t room, n;     // [lock] buckets, a power of two; records
    uint64_t next_id;   // [lock]
} table;

static struct {
    struct spinlock lock;
    struct call *first, *last; // [lock]
    struct event wake;
    struct g *_Atomic g;
} run;

// Between the final stop and the end of step 1, and of step 3.
static _Atomic bool marking, pending;

static size_t bucket_of(uintptr_t object)
{
    return (size_t)((object >> 4) * UINT64_C(0x9e3779b97f4a7c15) >> 32) &
           (table.room - 1);
}

static void free_all(struct record *r)
{
    while (r != NULL) {
        struct record *next = r->next;

        free(r->call);
        r->arg = NULL; // the block may lie there for long
        free(r);
        r = next;
    }
}

// ---- the table ----

// Room for one record more. False: there is no memory. Without the lock.
static bool make_room(void)
{
    for (;;) {
        spin_lock(&table.lock);
        size_t room = table.room;
        bool enough = table.n < room;

        spin_unlock(&table.lock);
        if (enough)
            return true;
        size_t more = room > 0 ? 2 * room : FIRST_BUCKETS;
        struct record **fresh = calloc(more, sizeof *fresh), **old = fresh;

        if (fresh == NULL)
            return false;
        spin_lock(&table.lock);
        if (table.room == room) {
            old = table.of;
            table.of = fresh;
            table.room = more;
            for (size_t i = 0; i < room; i++) {
                for (struct record *r = old[i], *next; r != NULL; r = next) {
                    struct record **at = &fresh[bucket_of(~r->hidden)];

                    next = r->next;
                    r->next = *at;
                    *at = r;
                }
            }
        }
        spin_unlock(&table.lock);
        free(old);
    }
}

static struct record *find(uintptr_t object, enum what what)
{
    struct record *r = table.room > 0 ? table.of[bucket_of(object)] : NULL;

    while (r != NULL && (r->hidden != ~object || r->what != what))
        r = r->next;
    return r;
}

static void put(struct record *r)
{
    struct record **at = &table.of[bucket_of(~r->hidden)];

    r->next = *at;
    *at = r;
    table.n++;
    atomic_store_explicit(&collect_specials, table.n + collect_leaks,
                          memory_order_relaxed);
}

// Takes out the record that *at leads to.
static struct record *take(struct record **at)
{
    struct record *r = *at;

    *at = r->next;
    r->next = NULL;
    table.n--;
    atomic_store_explicit(&collect_specials, table.n + collect_leaks,
                          memory_order_relaxed);
    return r;
}

// ---- calling ----

static void enqueue(struct record *r, void *arg)
{
    struct call *c = r->call;

    r->call = NULL;
    c->next = NULL;
    c->fn = r->fn;
    c->arg = arg;
    spin_lock(&run.lock);
    *(run.first != NULL ? &run.last->next : &run.first) = c;
    run.last = c;
    spin_unlock(&run.lock);
}

// What a call leaves behind must keep no object: neither in this goroutine's registers
// and frames, nor in the block.
__attribute__((noinline)) static void call_one(struct call *c)
{
    void (*fn)(void *) = c->fn;
    void *arg = c->arg;

    *c = (struct call){NULL, NULL, NULL};
    free(c);
    fn(arg);
}

__attribute__((noinline)) static void clear_stack(void)
{
    volatile uintptr_t below[96];

    for (unsigned i = 0; i < ARRAY_LEN(below); i++)
        below[i] = 0;
}

static void caller(void *arg)
{
    (void)arg;
    for (;;) {
        spin_lock(&run.lock);
        struct call *c = run.first;

        if (c != NULL)
            run.first = c->next;
        spin_unlock(&run.lock);
        if (c != NULL)
            call_one(c);
        clear_stack();
        if (c == NULL)
            event_wait_idle(&run.wake, "finalizer wait");
    }
}

static void call_queued(void)
{
    spin_lock(&run.lock);
    bool some = run.first != NULL;

    spin_unlock(&run.lock);
    if (!some)
        return;
    if (atomic_load(&run.g) == NULL) {
        struct g *g = g_create(caller, NULL, "finalizers", G_ANY_CPU);

        if (g == NULL)
            return; // they stay queued until the next collection
        g_hide(g);
        atomic_store(&run.g, g);
        g_ready(g);
        return;
    }
    preempt_disable();
    event_happened(&run.wake);
    preempt_enable();
}

// ---- after the final stop ----

void special_begin(void)
{
    bool some = atomic_load(&collect_specials) > 0;

    atomic_store(&marking, some);
    atomic_store(&pending, some);
}

static size_t size_of(const struct span *s)
{
    return s->divide != 0 ? heap_classes[s->class].size : span_bytes(s);
}

// Takes those records out of bucket i, with the lock, for which fn says so; *gone is a
// list of them.
static void each_white(size_t i, bool (*fn)(struct record *r, void *arg),
                       void *arg, struct record **gone)
{
    for (struct record **at = &table.of[i]; *at != NULL;) {
        if (!collect_is_white(~(*at)->hidden) || !fn(*at, arg)) {
            at = &(*at)->next;
            continue;
        }
        struct record *r = take(at);

        r->next = *gone;
        *gone = r;
    }
}

// Does this to all buckets, a few at a time. Records may be added and taken out
// meanwhile, but not of white objects; and a table that grows keeps what is not yet
// seen in buckets that are not yet seen.
static void each_bucket(bool (*fn)(struct record *r, void *arg), void *arg)
{
    for (size_t i = 0; i < table.room; i++) {
        struct record *gone = NULL;

        spin_lock(&table.lock);
        each_white(i, fn, arg, &gone);
        spin_unlock(&table.lock);
        free_all(gone);
    }
}

static bool mark_children(struct record *r, void *m)
{
    if (r->what == FINALIZER)
        mark_inside(m, ~r->hidden);
    return false;
}

static bool clear_weak(struct record *r, void *arg)
{
    (void)arg;
    if (r->what == WEAK_POINTER)
        atomic_store(&r->handle->hidden, 0);
    return r->what == WEAK_POINTER;
}

// A queued record is a copy, made before: there may be no memory now.
static bool finalize(struct record *r, void *arg)
{
    (void)arg;
    if (r->what != FINALIZER)
        return false;
    collect_unwhiten(~r->hidden);
    enqueue(r, (void *)~r->hidden); // the queue keeps the object
    return true;
}

static bool clean_up(struct record *r, void *arg)
{
    (void)arg;
    if (r->what == CLEANUP)
        enqueue(r, r->arg);
    return true;
}

void special_finish(struct marker *m, void (*drain)(struct marker *m))
{
    if (!atomic_load(&pending))
        return;
    each_bucket(mark_children, m);
    drain(m);
    each_bucket(clear_weak, NULL);
    each_bucket(finalize, NULL);
    atomic_store(&marking, false);
    each_bucket(clean_up, NULL);
    leaks_sweep();
    atomic_store(&pending, false);
    call_queued();
}

// ---- objects ----

// The collected object that p points into. Panics, naming the call, if there is none.
static uintptr_t object_of(const void *p, const char *call)
{
    struct heap_place at;

    if (!heap_place_of((uintptr_t)p, &at) || at.span == NULL || !at.allocated ||
        at.span->kind == HEAP_MANUAL)
        gn_panic("%s: not a pointer to a collected object", call);
    return at.object;
}

static struct record *new_record(uintptr_t object, enum what what)
{
    struct record *r = calloc(1, sizeof *r);

    if (r != NULL && what != WEAK_POINTER)
        r->call = calloc(1, sizeof *r->call);
    if (r == NULL || (what != WEAK_POINTER && r->call == NULL) ||
        !make_room()) {
        free_all(r);
        errno = ENOMEM;
        return NULL;
    }
    r->hidden = ~object;
    r->what = what;
    return r;
}

int gn_set_finalizer(void *object, void (*fn)(void *object))
{
    uintptr_t o = object_of(object, "gn_set_finalizer");

    if (o != (uintptr_t)object)
        panic_go("runtime.SetFinalizer: pointer not at beginning of allocated "
                 "block");
    struct record *r = fn != NULL ? new_record(o, FINALIZER) : NULL, *old;
    struct record **at;

    if (fn != NULL && r == NULL)
        return -ENOMEM;
    spin_lock(&table.lock);
    old = find(o, FINALIZER);
    if (old == NULL && r != NULL) {
        r->fn = fn;
        put(r);
    } else if (old != NULL && r == NULL) {
        for (at = &table.of[bucket_of(o)]; *at != old;)
            at = &(*at)->next;
        take(at);
    }
    spin_unlock(&table.lock);
    if (old != NULL && r != NULL) {
        free_all(r);
        panic_go("runtime.SetFinalizer: finalizer already set");
    }
    if (r == NULL)
        free_all(old);
    gn_keep_alive(object);
    return 0;
}

int gn_add_cleanup(const void *p, void (*fn)(void *arg), void *arg,
                   struct gn_cleanup *c)
{
    uintptr_t o = object_of(p, "gn_add_cleanup");

    if ((uintptr_t)arg - o < size_of(span_of(o)))
        panic_go("runtime.AddCleanup: ptr is within arg, cleanup will never "
                 "run");
    struct record *r = new_record(o, CLEANUP);

    if (r == NULL)
        return -ENOMEM;
    r->fn = fn;
    r->arg = arg;
    spin_lock(&table.lock);
    r->id = ++table.next_id;
    put(r);
    if (c != NULL)
        *c = (struct gn_cleanup){r->hidden, r->id};
    spin_unlock(&table.lock);
    gn_keep_alive(p);
    return 0;
}

bool gn_cleanup_stop(struct gn_cleanup c)
{
    struct record *r = NULL;

    spin_lock(&table.lock);
    if (table.room > 0) {
        for (struct record **at = &table.of[bucket_of(~c.object)]; *at != NULL;
             at = &(*at)->next) {
            if ((*at)->what == CLEANUP && (*at)->id == c.id && c.id != 0) {
                r = take(at);
                break;
            }
        }
    }
    spin_unlock(&table.lock);
    free_all(r);
    return r != NULL;
}

int gn_weak_make(const void *p, struct gn_weak *w)
{
    *w = (struct gn_weak){NULL, 0};
    if (p == NULL)
        return 0;
    uintptr_t o = object_of(p, "gn_weak_make");
    struct gn_weak_handle *h = gn_alloc(sizeof *h, GN_NOSCAN, 0);
    struct record *r = h != NULL ? new_record(o, WEAK_POINTER) : NULL, *old;

    if (r == NULL)
        return -ENOMEM;
    h->hidden = ~o;
    r->handle = h;
    spin_lock(&table.lock);
    old = find(o, WEAK_POINTER);
    if (old == NULL)
        put(r);
    else
        h = old->handle;
    spin_unlock(&table.lock);
    if (old != NULL)
        free_all(r);
    *w = (struct gn_weak){h, (uintptr_t)p - o};
    gn_keep_alive(p);
    return 0;
}

void *gn_weak_get(struct gn_weak w)
{
    void *p = NULL;

    if (w.handle == NULL)
        return NULL;
    for (;;) {
        preempt_disable();
        uintptr_t hidden = atomic_load(&w.handle->hidden);
        bool wait =
            hidden != 0 && atomic_load(&marking) && !collect_is_white(~hidden);

        if (hidden != 0 && !wait &&
            !(atomic_load(&pending) && collect_is_white(~hidden)))
            p = (void *)(~hidden + w.offset);
        preempt_enable();
        if (!wait)
            return p;
        g_yield();
    }
}

void special_freed(void *p)
{
    struct record *gone = NULL;
    bool some = false;

    leaks_freed(p);
    if (table.room == 0)
        return;
    spin_lock(&table.lock);
    for (struct record **at = &table.of[bucket_of((uintptr_t)p)];
         *at != NULL;) {
        struct record *r = *at;

        if (r->hidden != ~(uintptr_t)p) {
            at = &r->next;
            continue;
        }
        some = true;
        r = take(at);
        if (r->what == CLEANUP)
            enqueue(r, r->arg);
        else if (r->what == WEAK_POINTER)
            atomic_store(&r->handle->hidden, 0);
        r->next = gone;
        gone = r;
    }
    spin_unlock(&table.lock);
    free_all(gone);
    if (some)
        call_queued();
}
