// sources: $(heap) host-tests/runtime/heap/blocks.c
// Wrong pointers are found at once and said so, damaged structures by heap_check;
// and the heap's boot options, each with the same random calls as without.

#include "host-tests/support.h"

#include <gneiss/heap.h>

#include "host-tests/runtime/heap/blocks.h"
#include "host-tests/runtime/heap/heap_fixture.h"
#include "runtime/heap/cache.h"
#include "runtime/heap/debug.h"
#include "runtime/heap/report.h"

enum { RAM = 64 * MIB, SLOTS = 200 };

static const char *line; // boot options of the next machine

static void machine(void)
{
    const char *wrong = heap_options(line);

    if (wrong != NULL)
        fprintf(stderr, "%s\n", wrong);
    MUST(wrong == NULL);
    heap_machine(RAM);
}

static void with(const char *options, void (*fn)(void))
{
    line = options;
    heap_alone(fn);
}

// ---- wrong pointers ----

static void *new_object(size_t n)
{
    void *p = heap_malloc(n);

    MUST(p != NULL);
    return p;
}

static void free_wrong(void)
{
    static char mine[64] __attribute__((aligned(16)));

    machine();
    char *small = new_object(100), *cached = new_object(3000),
         *slow = new_object(30000);
    char *large = new_object(100000);

    MUST_PANIC("not an address of the heap", heap_free(mine));
    MUST_PANIC("not an address of the heap", heap_free((void *)16));
    MUST_PANIC("not an address of the heap", heap_free((void *)SIZE_MAX));
    MUST_PANIC("no object is there: freed pages",
               heap_free((void *)(pages_end() - HEAP_PAGE)));
    MUST_PANIC("16 bytes into the allocated object", heap_free(small + 16));
    MUST_PANIC("1 bytes into the allocated object", heap_free(small + 1));
    MUST_PANIC("not the beginning", heap_free(cached + 16));
    MUST_PANIC("not the beginning", heap_free(slow + 128));
    MUST_PANIC("4096 bytes into the allocated object", heap_free(large + 4096));
    MUST_PANIC("realloc of", (void)heap_realloc(small + 16, 10));
    MUST_PANIC("malloc_usable_size of", (void)heap_usable(large + 16));
    heap_free(small);
    heap_free(cached);
    heap_free(slow);
    heap_free(large);
    MUST_PANIC("freed already", heap_free(small));
    MUST_PANIC("freed already", heap_free(cached));
    MUST_PANIC("freed already", heap_free(slow));
    MUST_PANIC("freed already", heap_free(large));
    MUST_PANIC("realloc of", (void)heap_realloc(small, 10));
    MUST_PANIC("freed already", (void)heap_usable(cached));
    heap_check();
    if (line[0] == '\0') { // all is as it was; options change the order
        MUST(new_object(100) == small && new_object(3000) == cached &&
             new_object(30000) == slow);
    }
}

static void wrong_pointers_are_reported(void **s)
{
    (void)s;
    with("", free_wrong);
    with("heap.guard=1000000", free_wrong);
    with("heap.check=1000000", free_wrong);
}

// A span of 113 objects of 144 bytes ends 16 bytes after the last.
static void free_tail(void)
{
    machine();
    for (unsigned c = 1; c < HEAP_CLASSES; c++) {
        void *p = heap_alloc(heap_classes[c].size, HEAP_NOSCAN, 8, false);

        MUST(p != NULL);
        struct span *s = span_of((uintptr_t)p);
        size_t used =
            (size_t)heap_classes[s->class].slots * heap_classes[s->class].size;
        struct heap_place at;

        MUST(heap_place_of(span_base(s) + span_bytes(s) - 1, &at));
        MUST(at.span == s);
        if (used == span_bytes(s))
            continue;
        MUST(at.size == 0 && !at.allocated);
        MUST_PANIC("free of", heap_free((void *)(span_base(s) + used)));
        MUST_PANIC(
            "behind the last object of a span",
            heap_report_bad((void *)(span_base(s) + used), "free", "wrong"));
    }
    struct heap_place at;

    MUST(!heap_place_of(ARCH_HEAP_BASE - 1, &at));
    MUST(!heap_place_of(pages_end(), &at));
    MUST(heap_place_of(pages_end() - 1, &at) && at.span == NULL);
    heap_check();
}

static void the_end_of_a_span_is_no_object(void **s)
{
    (void)s;
    with("", free_tail);
}

// ---- damage ----

static void damage_class(void)
{
    machine();
    span_of((uintptr_t)new_object(100))->class = 99;
    MUST_PANIC("belongs to a damaged span", heap_check());
}

static void damage_page(void)
{
    machine();
    span_of((uintptr_t)new_object(100))->page += 5;
    MUST_PANIC("belongs to a damaged span", heap_check());
}

static void damage_count(void)
{
    machine();
    struct span *s = span_of((uintptr_t)new_object(100));

    heap_trim(); // what nobody owns is counted
    s->nfree--;
    MUST_PANIC("free slots, counts", heap_check());
}

static void damage_stack(void)
{
    machine();
    void *p = new_object(100);
    struct cache_stack *stack =
        &((struct cache *)arch_local())
             ->stack[cache_index(heap_class_of(112), HEAP_MANUAL)];

    heap_check();
    stack->top[-1] = p; // which is allocated
    MUST_PANIC("does not belong to the stack of 112", heap_check());
}

static void damage_own_count(void)
{
    machine();
    struct span *s = span_of((uintptr_t)new_object(20000));

    heap_check();
    s->nfree--;
    MUST_PANIC("free slots, counts", heap_check());
}

static void damage_empty_pages(void)
{
    machine();
    struct cache *c = arch_local();

    heap_free(new_object(100));
    heap_check();
    c->empty_pages++;
    MUST_PANIC("pages of empty spans, counts", heap_check());
}

static void damage_list(void)
{
    machine();
    struct span *s = span_of((uintptr_t)new_object(20000));

    s->prev = span_of((uintptr_t)new_object(100));
    MUST_PANIC("the list of span", heap_trim());
}

static void damage_page_cache(void)
{
    machine();
    uint64_t page = span_of((uintptr_t)new_object(100))->page;
    struct page_cache *c = &((struct cache *)arch_local())->source.pages;

    heap_check();
    c->free |= UINT64_C(1) << (page - c->first);
    MUST_PANIC("is in a cache and elsewhere", heap_check());
}

static void damage_fresh_pages(void)
{
    machine();
    heap_free(new_object(100));
    struct page_cache *c = &((struct cache *)arch_local())->source.pages;

    heap_check();
    c->fresh |= ~c->free;
    MUST_PANIC("are fresh", heap_check());
}

// Without heap_check: the next slow path that comes by.
static void damage_in_use(void)
{
    machine();
    void *p = new_object(20000);

    span_of((uintptr_t)p)->divide++;
    MUST_PANIC("is damaged (object 0x", heap_free(p));
    MUST_PANIC("is damaged (object 0x0", (void)heap_malloc(20000));
}

// What only heap_check_own finds, with the lock held.
#define OWN_IS_WRONG(text)                                                     \
    do {                                                                       \
        MUST_PANIC(text, heap_check_own());                                    \
        spin_unlock(&heap_lock);                                               \
    } while (0)

static void damage_own(void)
{
    machine();
    char *p = new_object(100), *q = new_object(20000);
    char *tiny = heap_alloc(4, HEAP_NOSCAN, 1, false);
    struct span *s = span_of((uintptr_t)p);
    struct cache *c = arch_local();
    struct cache_stack *stack =
        &c->stack[cache_index(heap_class_of(112), HEAP_MANUAL)];

    MUST(tiny != NULL);
    heap_check_own();
    stack->top--;
    MUST_PANIC("misses 1 objects of stack", heap_check_own());
    stack->top++;
    s->nfree++;
    OWN_IS_WRONG("not as counted");
    s->nfree--;
    arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)p / 16 + 1);
    OWN_IS_WRONG("lies between the objects");
    arch_bit_clear(PAGES_ALLOC_BITS, (uintptr_t)p / 16 + 1);
    arch_bit_clear(PAGES_ALLOC_BITS, (uintptr_t)q / 16);
    OWN_IS_WRONG("are nowhere");
    arch_bit_set(PAGES_ALLOC_BITS, (uintptr_t)q / 16);
    struct span *big = span_of((uintptr_t)q);
    unsigned slot = span_slot(big, (uintptr_t)q);

    arch_bit_set(span_free_bits(big), slot);
    OWN_IS_WRONG("allocated and free");
    arch_bit_clear(span_free_bits(big), slot);
    arch_bit_set((uint64_t *)span_remote_bits(s),
                 span_slot(s, (uintptr_t)stack->top[-1]));
    OWN_IS_WRONG("freed by another CPU, and");
    arch_bit_clear((uint64_t *)span_remote_bits(s),
                   span_slot(s, (uintptr_t)stack->top[-1]));
    uintptr_t filled = c->tiny;

    c->tiny = 0;
    OWN_IS_WRONG("its tenants are wrong");
    c->tiny = filled;
    heap_check_own();
}

static void damage_is_found(void **s)
{
    (void)s;
    with("", damage_own);
    with("", damage_stack);
    with("", damage_own_count);
    with("", damage_empty_pages);
    with("", damage_list);
    with("", damage_page_cache);
    with("", damage_fresh_pages);
    with("", damage_in_use);
    with("", damage_class);
    with("", damage_page);
    with("", damage_count);
}

// ---- options ----

static void churn(unsigned steps)
{
    static struct block blocks[SLOTS];
    uint64_t rnd = support_random() | 1;

    for (unsigned i = 0; i < steps; i++) {
        struct block *b = &blocks[block_random(&rnd) % SLOTS];
        struct block_request r = block_some(block_random(&rnd), 100000);
        uint64_t how = block_random(&rnd) % 16, seed = block_random(&rnd);

        if (b->p == NULL)
            MUST(block_new(b, r, seed));
        else if (how < 3)
            MUST(block_resize(b, r.n, seed));
        else
            block_free(b);
        if (i % 1000 == 999)
            heap_trim();
    }
    for (size_t i = 0; i < SLOTS; i++)
        block_free(&blocks[i]);
    heap_check();
    heap_check_own();
    heap_trim();
    heap_check();
    heap_check_own();
    MUST(pages_stats.promised == 0);
    MUST(host_tlb_stale() == 0);
}

static void churn_some(void)
{
    machine();
    churn(4000);
}

static void churn_little(void)
{
    machine();
    churn(1500);
}

static void every_option_does_what_it_did_without(void **s)
{
    (void)s;
    with("heap.fill=1", churn_some);
    with("heap.random=1", churn_some);
    with("heap.guard=20", churn_some);
    with("heap.check=50", churn_little);
    with("heap.efence=1", churn_little);
    with("heap.fill=1 heap.random=1 heap.check=100 heap.guard=30",
         churn_little);
    with("heap.keep=0", churn_little);
    with("heap.keep=64M", churn_some);
}

static void filled(void)
{
    machine();
    uint8_t *p = new_object(100), *large = new_object(100000),
            *near = new_object(100);

    for (unsigned i = 0; i < 100; i++)
        MUST(p[i] == 0xa5);
    MUST(large[0] == 0xa5 && large[99999] == 0xa5);
    heap_free(near);
    MUST(near[0] == 0x5a && near[99] == 0x5a);
    memset(p, 7, 100);
    heap_free(p);
    p[50] = 8;
    MUST_PANIC("byte 50 of 112 is 0x08", for (;;) new_object(100));
    heap_free(large);
}

static void stores_to_what_was_freed_are_found(void **s)
{
    (void)s;
    with("heap.fill=1", filled);
}

static void in_random_order(void)
{
    unsigned up = 0, n = 0;

    machine();
    for (char *last = new_object(64), *p; n < 100; n++, last = p) {
        p = new_object(64);
        up += p > last;
    }
    MUST(up > 20 && up < 80); // of 64 or so slots at a time
}

static void addresses_are_in_random_order(void **s)
{
    (void)s;
    with("heap.random=1", in_random_order);
}

static void refuse_third(void)
{
    machine();
    MUST(heap_malloc(10) != NULL && heap_malloc(50000) != NULL);
    MUST(heap_malloc(10) == NULL && heap_malloc(10) != NULL);
}

static void refuse_from_third(void)
{
    machine();
    void *p = heap_malloc(10);

    MUST(p != NULL && heap_malloc(50000) != NULL);
    MUST(heap_malloc(10) == NULL && heap_malloc(50000) == NULL);
    MUST(heap_alloc(10, HEAP_SCAN, 4096, true) == NULL);
    MUST(heap_alloc(10, HEAP_SCAN, 65536, true) == NULL);
    MUST(heap_realloc(p, 100000) == NULL);
    heap_free(p);
}

static void refuse_none(void)
{
    machine();
    MUST(heap_malloc(10) != NULL);
    MUST(heap_options("heap.fail=x") != NULL);
    MUST(heap_options("heap.fail=3++") != NULL);
    MUST(heap_options("heap.fail=") != NULL);
    MUST(heap_options("heap.fail=+") != NULL);
    MUST(heap_options("heap.fail=18446744073709551617") != NULL);
}

static void refuse_guarded(void)
{
    machine();
    MUST(heap_alloc(100, HEAP_MANUAL, 64, false) == NULL);
    MUST(heap_alloc(100, HEAP_MANUAL, 64, false) != NULL);
}

static void the_allocation_asked_for_fails(void **s)
{
    (void)s;
    with("heap.fail=3", refuse_third);
    with("heap.fail=3+", refuse_from_third);
    with("heap.fail=0", refuse_none);
    with("heap.fail=1 heap.efence=1", refuse_guarded);
}

// ---- guarded objects ----

static bool is_guarded(const void *p)
{
    return span_of((uintptr_t)p) == NULL;
}

static void fenced(void)
{
    machine();
    for (size_t n = 0; n < 10000; n = n * 2 + 5) {
        char *p = heap_alloc(n, HEAP_MANUAL, 16, true);
        size_t room = align_up(n > 0 ? n : 1, 16);
        uintptr_t end = (uintptr_t)p + room;

        MUST(p != NULL && is_guarded(p));
        MUST(heap_usable(p) == (n > 0 ? n : 1));
        MUST(end % PAGE_SIZE == 0 && !mm_readable(end, 1));
        MUST_PANIC("not the beginning", heap_free(p + 8));
        if (n % 16 != 0) {
            p[n] ^= 1;
            MUST_PANIC("was written to past its end", heap_free(p));
            p[n] ^= 1;
            p[room - 1] ^= 1;
            MUST_PANIC("was written to past its end", heap_free(p));
            p[room - 1] ^= 1;
        }
        heap_free(p);
        MUST(!mm_readable((uintptr_t)p, 1));
        MUST_PANIC("free of", heap_free(p));
        MUST_PANIC("freed already", (void)heap_realloc(p, 10));
    }
    char *p = heap_alloc(100, HEAP_MANUAL, 1024, false);

    MUST((uintptr_t)p % 1024 == 0 && is_guarded(p));
    // Its header, where the page begins, is not believed.
    size_t *header = (size_t *)align_down((uintptr_t)p, PAGE_SIZE);

    MUST(*header == 100);
    *header = 5000;
    MUST_PANIC("not the beginning", heap_free(p));
    *header = 100;
    memset(p, 3, 100);
    p = heap_realloc(p, 5000);
    MUST(p[0] == 3 && p[99] == 3 && heap_usable(p) == 5000);
    p = heap_realloc(p, 50);
    MUST(p[0] == 3 && p[49] == 3);
    heap_free(p);
    // Pages are the finest alignment; larger ones come from the heap.
    for (size_t align = 2 * PAGE_SIZE; align <= 65536; align *= 2) {
        p = heap_alloc(100, HEAP_MANUAL, align, false);
        MUST(p != NULL && !is_guarded(p) && (uintptr_t)p % align == 0);
        heap_free(p);
    }
    MUST(heap_malloc(ARCH_HEAP_SIZE / 2 + 1) == NULL);
    MUST(heap_malloc(64 * MIB) == NULL); // and not from the heap instead
    // Very large ones are not remembered when they are freed.
    p = heap_malloc(20 * MIB);
    MUST(p != NULL && is_guarded(p));
    heap_free(p);
}

static void guarded_objects_end_where_their_pages_do(void **s)
{
    (void)s;
    with("heap.efence=1", fenced);
}

static void *reserve;

static bool give_reserve(size_t n, void *arg)
{
    void *p = reserve;

    (void)n;
    ++*(int *)arg;
    reserve = NULL;
    heap_free(p);
    return p != NULL;
}

static void fenced_without_memory(void)
{
    int asked = 0;

    machine();
    reserve = new_object(30 * MIB);
    heap_on_oom(give_reserve, &asked);
    void *p = new_object(45 * MIB);

    MUST(asked == 1 && is_guarded(p));
    MUST(heap_malloc(45 * MIB) == NULL && asked == 2);
    heap_free(p);
}

static void the_program_is_asked_for_room_for_guarded_objects(void **s)
{
    (void)s;
    with("heap.efence=1", fenced_without_memory);
}

static void sized(void)
{
    machine();
    char *p = new_object(100);

    heap_check_size(p, 100, "gn_free_sized");
    MUST_PANIC("gn_free_sized of", heap_check_size(p, 200, "gn_free_sized"));
    MUST_PANIC("the object is smaller than the size given",
               heap_check_size(p, 200, "gn_free_sized"));
}

static void a_wrong_size_is_reported_of_guarded_objects_too(void **s)
{
    (void)s;
    with("", sized);
    with("heap.efence=1", sized);
}

// Large objects have room behind them.
static void growing(void)
{
    machine();
    uint8_t *p = heap_alloc(100000, HEAP_MANUAL, 16, true);
    uint8_t *q = heap_realloc(p, 300000);

    MUST(q != NULL && q[0] == 0 && q[99999] == 0);
    MUST(q[200000] == 0xa5 && q[299999] == 0xa5);
    heap_free(q);
}

static void refused_growth(void)
{
    machine();
    uint8_t *p = new_object(100000);

    p[0] = 3;
    MUST(heap_realloc(p, 300000) == NULL && p[0] == 3);
    MUST(heap_usable(p) < 110000);
    p = heap_realloc(p, 300000);
    MUST(p != NULL && p[0] == 3);
    heap_free(p);
}

static void what_realloc_adds_is_new_memory_to_the_options(void **s)
{
    (void)s;
    with("heap.fill=1", growing);
    with("heap.fail=2", refused_growth);
}

// The addresses of the last 1,024 stay taken; then they are given up.
static void remembered(void)
{
    static void *p[1100];

    machine();
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        p[i] = new_object(10);
        heap_free(p[i]);
    }
    for (size_t i = ARRAY_LEN(p) - 1000; i < ARRAY_LEN(p); i++)
        MUST_PANIC("freed already", heap_free(p[i]));
    MUST_PANIC("free of", heap_free(p[0]));
    uint64_t frames = mm_free_frames();

    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        heap_free(new_object(10));
    MUST(mm_free_frames() + 10 > frames); // they cost addresses only
}

static void freed_addresses_stay_taken_for_a_while(void **s)
{
    (void)s;
    with("heap.efence=1", remembered);
}

static void sampled(void)
{
    static void *p[20000];
    unsigned guarded = 0;

    machine();
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        p[i] = new_object(i % 2000);
        guarded += is_guarded(p[i]);
    }
    MUST(guarded > ARRAY_LEN(p) / 50 / 4 && guarded < ARRAY_LEN(p) / 50 * 4);
    for (size_t i = 0; i < ARRAY_LEN(p); i++)
        heap_free(p[i]);
    heap_check();
}

struct seen {
    void *p[3];
    unsigned n;
};

static bool see(void *p, size_t n, enum gn_heap_kind kind, void *arg)
{
    struct seen *seen = arg;

    MUST(seen->n < 3 && n == 100 + seen->n && (unsigned)kind == seen->n);
    seen->p[seen->n++] = p;
    return true;
}

static bool see_large(void *p, size_t n, enum gn_heap_kind kind, void *arg)
{
    (void)arg;
    MUST(p != NULL && n == 5000 && kind == GN_SCAN);
    return false;
}

static bool see_one(void *p, size_t n, enum gn_heap_kind kind, void *arg)
{
    (void)see(p, n, kind, arg);
    return false;
}

static void counted(void)
{
    struct seen seen = {.n = 0};
    struct gn_heap_stats was, st;
    void *p[3];

    machine();
    gn_heap_stats(&was);
    for (unsigned kind = 0; kind < 3; kind++)
        p[kind] = heap_alloc(100 + kind, (enum heap_kind)kind, 1, true);
    MUST(gn_heap_walk(see, &seen) && seen.n == 3);
    for (unsigned kind = 0; kind < 3; kind++)
        MUST(seen.p[kind] == p[kind]);
    seen.n = 0;
    MUST(!gn_heap_walk(see_one, &seen) && seen.n == 1);
    gn_heap_stats(&st);
    MUST(st.mallocs == was.mallocs + 3 && st.frees == was.frees);
    MUST(st.heap_objects == 3 && st.alloc == 303 && st.total_alloc == 303);
    p[1] = heap_realloc(p[1], 5000); // with its kind
    heap_free(p[0]);
    heap_free(p[2]);
    seen.n = 1;
    MUST(!gn_heap_walk(see_large, &seen));
    gn_heap_stats(&st);
    MUST(st.heap_objects == 1 && st.alloc == 5000);
    heap_free(p[1]);
    gn_heap_stats(&st);
    MUST(st.heap_objects == 0 && st.alloc == 0 && st.mallocs == st.frees);
    MUST(gn_heap_walk(see, &seen));
}

static void guarded_objects_are_counted_and_seen(void **s)
{
    (void)s;
    with("heap.efence=1", counted);
}

static void filled_too(void)
{
    machine();
    unsigned char *p = heap_malloc(100);

    MUST(is_guarded(p) && p[0] == 0xa5 && p[99] == 0xa5);
    heap_free(p);
    p = heap_alloc(100, HEAP_MANUAL, 1, true);
    MUST(p[0] == 0 && p[99] == 0);
    heap_free(p);
}

static void guarded_objects_are_filled(void **s)
{
    (void)s;
    with("heap.efence=1 heap.fill=1", filled_too);
}

// A pair over and over, whose stack of free objects never runs empty.
static void pairs_sampled(void)
{
    unsigned guarded = 0;

    machine();
    for (unsigned i = 0; i < 20000; i++) {
        void *p = heap_malloc(64);

        guarded += is_guarded(p);
        heap_free(p);
    }
    MUST(guarded > 20000 / 50 / 2 && guarded < 20000 / 50 * 2);
}

static void one_in_so_many_is_guarded(void **s)
{
    (void)s;
    with("heap.guard=50", sampled);
    with("heap.guard=50", pairs_sampled);
}

static void checked(void)
{
    machine();
    void *p = new_object(100);
    struct span *s = span_of((uintptr_t)p);

    heap_trim();
    s->nfree--;
    MUST_PANIC("free slots, counts",
               for (unsigned i = 0; i < 7; i++) new_object(5000));
}

static void checked_at_a_free(void)
{
    machine();
    void *p = new_object(100), *q = new_object(5000);
    struct span *s = span_of((uintptr_t)p);

    heap_trim();
    s->nfree--;
    MUST_PANIC("free slots, counts", heap_free(q));
}

static void every_nth_call_checks(void **s)
{
    (void)s;
    with("heap.check=7", checked);
    with("heap.check=1", checked_at_a_free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_pointers_are_reported),
        cmocka_unit_test(the_end_of_a_span_is_no_object),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(every_option_does_what_it_did_without),
        cmocka_unit_test(stores_to_what_was_freed_are_found),
        cmocka_unit_test(addresses_are_in_random_order),
        cmocka_unit_test(the_allocation_asked_for_fails),
        cmocka_unit_test(guarded_objects_end_where_their_pages_do),
        cmocka_unit_test(freed_addresses_stay_taken_for_a_while),
        cmocka_unit_test(the_program_is_asked_for_room_for_guarded_objects),
        cmocka_unit_test(a_wrong_size_is_reported_of_guarded_objects_too),
        cmocka_unit_test(what_realloc_adds_is_new_memory_to_the_options),
        cmocka_unit_test(guarded_objects_are_counted_and_seen),
        cmocka_unit_test(guarded_objects_are_filled),
        cmocka_unit_test(one_in_so_many_is_guarded),
        cmocka_unit_test(every_nth_call_checks),
    };

    return cmocka_run_group_tests_name("heap debug", tests, NULL, NULL);
}
