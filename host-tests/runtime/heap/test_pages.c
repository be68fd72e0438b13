// sources: $(heap)
// Heap pages against a naive model: one byte per page.
//
// The model's first fit looks at every page in turn, so it is what the radix
// summaries must agree with. Which idle pages were given back is the policy of
// pages.c; the model asks pages_promised() and checks that it was allowed.

#include "host-tests/support.h"

#include "host-tests/runtime/heap/heap_fixture.h"

enum {
    CHUNK = 512, // pages by which the heap grows
    WORD = 64,   // pages that are given back together, at most
    MOST_PAGES = 1 << 16,
    MOST_RUNS = 4096,
};

enum state { UNUSED, IDLE, USED }; // no promise; free and promised; used

struct run {
    uint64_t page, n;
};

static uint8_t state[MOST_PAGES];
static uint64_t total; // pages of the heap
static struct run runs[MOST_RUNS];
static size_t nruns;
static uint64_t not_pages; // charged for tables

// ---- the interface, as it is to be called ----

struct call {
    uint64_t page, n, align, result;
    bool ok, zero;
};

static void alloc_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&heap_lock);
    c->page = pages_alloc(c->n, c->align > 0 ? c->align : 1, &c->zero);
    spin_unlock(&heap_lock);
}

static void take_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&heap_lock);
    c->ok = pages_take(c->page, c->n, &c->zero);
    spin_unlock(&heap_lock);
}

static void free_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&heap_lock);
    pages_free(c->page, c->n);
    spin_unlock(&heap_lock);
}

static void scavenge_call(void *arg)
{
    struct call *c = arg;

    spin_lock(&heap_lock);
    c->result = pages_scavenge(c->n);
    spin_unlock(&heap_lock);
}

static void check_call(void *arg)
{
    (void)arg;
    spin_lock(&heap_lock);
    pages_check();
    spin_unlock(&heap_lock);
}

// ---- the model ----

static uint64_t count(enum state s)
{
    uint64_t n = 0;

    for (uint64_t i = 0; i < total; i++)
        n += state[i] == s;
    return n;
}

static bool are(uint64_t page, uint64_t n, bool (*pred)(enum state))
{
    for (uint64_t i = page; i < page + n; i++) {
        if (!pred(state[i]))
            return false;
    }
    return true;
}

static bool is_free(enum state s)
{
    return s != USED;
}

static bool is_unused(enum state s)
{
    return s == UNUSED;
}

// The lowest n free pages among the first `end`.
static uint64_t first_fit(uint64_t n, uint64_t end)
{
    uint64_t run = 0;

    for (uint64_t i = 0; i < end; i++) {
        run = state[i] == USED ? 0 : run + 1;
        if (run == n)
            return i + 1 - n;
    }
    return HEAP_NO_PAGE;
}

static bool is_promised(uint64_t page)
{
    unsigned n = pages_promised(heap_page_address(page), HEAP_PAGE_FRAMES);

    MUST(n == 0 || n == HEAP_PAGE_FRAMES);
    return n != 0;
}

// The heap may have grown: as if the new pages had always been there.
static void see_growth(void)
{
    MUST(pages_stats.total >= total && pages_stats.total % CHUNK == 0);
    MUST(pages_stats.total <= MOST_PAGES);
    total = pages_stats.total;
}

// Pages that were idle may have lost their promise, the highest first; at least
// `least` in all. Returns how many.
static uint64_t see_scavenged(void)
{
    uint64_t lost = 0, lowest = total;

    for (uint64_t i = 0; i < total; i++) {
        if (state[i] == IDLE && !is_promised(i)) {
            state[i] = UNUSED;
            lowest = lost++ == 0 ? i : lowest;
        }
        MUST(is_promised(i) == (state[i] != UNUSED));
    }
    for (uint64_t i = (lowest / WORD + 1) * WORD; i < total; i++)
        MUST(state[i] != IDLE);
    return lost;
}

static void assert_counts(void)
{
    uint64_t used = count(USED), idle = count(IDLE);

    MUST(pages_stats.total == total);
    MUST(pages_stats.free == total - used);
    MUST(pages_stats.promised == used + idle);
    MUST(mm_commit().committed ==
         not_pages + pages_stats.promised * HEAP_PAGE_FRAMES);
}

// ---- contents: each frame of a used page says which it is ----

static uint64_t *frame_of(uint64_t page, unsigned i)
{
    return (uint64_t *)(heap_page_address(page) + i * PAGE_SIZE);
}

static void sign(struct run r, bool is_zero)
{
    for (uint64_t p = r.page; p < r.page + r.n; p++) {
        for (unsigned i = 0; i < HEAP_PAGE_FRAMES; i++) {
            uint64_t *w = frame_of(p, i);

            for (size_t k = 0; is_zero && k < PAGE_SIZE / 8; k += 73)
                MUST(w[k] == 0);
            w[0] = p + 1;
            w[PAGE_SIZE / 8 - 1] = ~p;
        }
    }
}

static void assert_signed(struct run r)
{
    for (uint64_t p = r.page; p < r.page + r.n; p++) {
        for (unsigned i = 0; i < HEAP_PAGE_FRAMES; i++) {
            uint64_t *w = frame_of(p, i);

            MUST(w[0] == p + 1 && w[PAGE_SIZE / 8 - 1] == ~p);
        }
    }
}

static bool do_sign; // needs a frame for each

static void add_run(uint64_t page, uint64_t n, bool is_zero)
{
    MUST(nruns < MOST_RUNS);
    runs[nruns] = (struct run){page, n};
    memset(&state[page], USED, n);
    if (do_sign)
        sign(runs[nruns], is_zero);
    nruns++;
}

// ---- operations ----

// Frames that could be promised if all that is idle were given up.
static uint64_t obtainable(void)
{
    struct mm_commit c = mm_commit();

    return c.limit - c.committed + count(IDLE) * HEAP_PAGE_FRAMES;
}

static void see_tables(void)
{
    uint64_t now =
        mm_commit().committed - pages_stats.promised * HEAP_PAGE_FRAMES;

    MUST(now >= not_pages);
    not_pages = now;
}

static bool op_alloc(uint64_t n)
{
    struct call c = {.n = n};
    uint64_t should = first_fit(n, total), had = total;
    uint64_t most = obtainable();

    arch_on_system_stack(alloc_call, &c);
    see_growth();
    if (should == HEAP_NO_PAGE || total > had) {
        MUST(should == HEAP_NO_PAGE); // it grows for nothing else
        should = n <= total ? first_fit(n, total) : HEAP_NO_PAGE;
        see_tables();
    }
    if (c.page == HEAP_NO_PAGE) {
        // Tables for more may be what is missing: some for each chunk, and a
        // page that is charged in advance for each level.
        uint64_t tables = total == had ? 64 + n / 64 : 0;

        MUST(most < n * HEAP_PAGE_FRAMES + tables);
        see_scavenged();
        return false;
    }
    MUST(c.page == should);
    MUST(!are(c.page, n, is_unused) || c.zero);
    memset(&state[c.page], USED, n);
    see_scavenged();
    add_run(c.page, n, c.zero);
    return true;
}

static void op_take(uint64_t page, uint64_t n)
{
    struct call c = {.page = page, .n = n};
    uint64_t had = total;
    bool inside = page + n <= total;
    uint64_t most = obtainable();
    bool good = are(page, inside ? n : total - page, is_free);

    arch_on_system_stack(take_call, &c);
    see_growth();
    if (total > had) {
        MUST(!inside && total - had < n + CHUNK);
        see_tables();
    }
    if (!c.ok) {
        MUST(!good || most < n * HEAP_PAGE_FRAMES + (inside ? 0 : 64 + n / 64));
        see_scavenged();
        return;
    }
    MUST(good);
    MUST(!are(page, n, is_unused) || c.zero);
    memset(&state[page], USED, n);
    see_scavenged();
    add_run(page, n, c.zero);
}

// How many idle pages may stay.
static uint64_t most_idle(void)
{
    return pages_keep != PAGES_KEEP_TENTH ? pages_keep : count(USED) / 10 + 32;
}

static void op_free(size_t i)
{
    struct run r = runs[i];
    uint64_t idle;
    struct call c = {.page = r.page, .n = r.n};

    if (do_sign)
        assert_signed(r);
    runs[i] = runs[--nruns];
    arch_on_system_stack(free_call, &c);
    memset(&state[r.page], IDLE, r.n);
    idle = count(IDLE);
    MUST(see_scavenged() == 0 || idle > most_idle());
    MUST(count(IDLE) <= most_idle());
}

// Gives a part of a run back: spans are cut so.
static void op_cut(size_t i)
{
    struct run *r = &runs[i];
    uint64_t keep = 1 + support_below(r->n - 1);
    struct call c = {.page = r->page + keep, .n = r->n - keep};

    arch_on_system_stack(free_call, &c);
    memset(&state[c.page], IDLE, c.n);
    r->n = keep;
    see_scavenged();
}

static void op_scavenge(uint64_t n)
{
    uint64_t idle = count(IDLE);
    struct call c = {.n = n};

    arch_on_system_stack(scavenge_call, &c);
    MUST(see_scavenged() == c.result);
    MUST(c.result >= min_u64(n, idle) && c.result <= idle);
    MUST(n > UINT64_MAX - WORD || c.result < n + WORD);
}

static void check_all(void)
{
    arch_on_system_stack(check_call, NULL);
    assert_counts();
    for (size_t i = 0; do_sign && i < nruns; i++)
        assert_signed(runs[i]);
    // Pages that have no promise have no frame.
    for (uint64_t p = 0; p < total; p++) {
        if (state[p] == UNUSED)
            MUST(!mm_readable(heap_page_address(p), PAGE_SIZE));
    }
    MUST(host_tlb_stale() == 0);
}

static void free_everything(void)
{
    while (nruns > 0)
        op_free(nruns - 1);
    op_scavenge(UINT64_MAX);
    MUST(pages_stats.promised == 0 && pages_stats.free == total);
    check_all();
}

static void begin(uint64_t ram)
{
    heap_machine(ram);
    not_pages = mm_commit().committed;
    MUST(pages_stats.total == 0 && pages_stats.promised == 0);
}

// Small ones mostly, some of more than a word, than a chunk, than eight.
static uint64_t some_length(uint64_t most)
{
    static const uint64_t bounds[] = {1, 4, 16, 64, 70, 600, 4200};
    uint64_t n =
        1 + support_below(bounds[support_below(support_below(2) ? 4 : 7)]);

    return n < most ? n : most;
}

static void random_steps(unsigned steps, uint64_t most)
{
    for (unsigned i = 0; i < steps; i++) {
        unsigned what = (unsigned)support_below(100);

        if (what < 48)
            op_alloc(some_length(most));
        else if (what < 52)
            op_take(support_below(total + 1), some_length(most));
        else if (what < 90 && nruns > 0)
            op_free(support_below(nruns));
        else if (what < 97 && nruns > 0 && runs[nruns - 1].n > 1)
            op_cut(nruns - 1);
        else if (what == 98)
            op_scavenge(support_below(200));
        else if (what == 99 && support_below(4) == 0)
            op_scavenge(UINT64_MAX);
        assert_counts();
        if (i % 64 == 0)
            check_all();
        if (support_below(500) == 0) {
            while (nruns > 4)
                op_free(support_below(nruns));
        }
    }
}

// ---- tests ----

// As far as a random sequence goes with memory enough for most.
static void plenty(void)
{
    begin(256 * MIB);
    do_sign = false;
    random_steps(4000, 4200);
    free_everything();
}

static void random_pages_are_the_lowest_that_fit(void **s)
{
    (void)s;
    heap_alone(plenty);
}

// Every used page has its frames, and there are too few for all.
static void short_of_memory(void)
{
    begin(24 * MIB);
    do_sign = true;
    random_steps(3000, 600);
    free_everything();
    // No frame is lost; where the heap grew, what it took for tables is charged.
    struct heap_accounts before = heap_accounts();
    uint64_t tables = not_pages;

    random_steps(1000, 600);
    free_everything();
    MUST(before.frames - heap_accounts().frames <= not_pages - tables);
}

static void used_pages_keep_their_contents_when_memory_is_short(void **s)
{
    (void)s;
    heap_alone(short_of_memory);
}

static void exhaust(void)
{
    uint64_t n = 0, m = 0;

    begin(32 * MIB);
    do_sign = true;
    while (op_alloc(1))
        n++;
    assert_counts();
    MUST(n * HEAP_PAGE > 20 * MIB);
    // Every second one goes: half of it is there again, but not two together.
    for (size_t i = 0; i < nruns; i++)
        op_free(i);
    check_all();
    struct call c = {.n = 2};

    while (op_alloc(1))
        m++;
    MUST(m >= n / 2);
    check_all();
    arch_on_system_stack(alloc_call, &c);
    MUST(c.page == HEAP_NO_PAGE);
    free_everything();
    // And again as many: nothing was lost.
    for (m = 0; op_alloc(1);)
        m++;
    MUST(m >= n);
    free_everything();
    MUST(op_alloc(n - n / 8)); // in one piece
    free_everything();
}

static void all_memory_can_be_had_and_given_back(void **s)
{
    (void)s;
    heap_alone(exhaust);
}

static void absurd(void)
{
    static const uint64_t lengths[] = {UINT64_MAX, UINT64_MAX - CHUNK,
                                       UINT64_MAX / 2, UINT64_C(1) << 32,
                                       UINT64_C(1) << 40};
    struct heap_accounts before;

    begin(32 * MIB);
    do_sign = true;
    MUST(op_alloc(3));
    before = heap_accounts();
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        struct call c = {.n = lengths[i]};

        arch_on_system_stack(alloc_call, &c);
        MUST(c.page == HEAP_NO_PAGE);
    }
    struct call all = {.n = ARCH_HEAP_SIZE / HEAP_PAGE};

    arch_on_system_stack(alloc_call, &all);
    MUST(all.page == HEAP_NO_PAGE);
    all.n++;
    arch_on_system_stack(alloc_call, &all);
    MUST(all.page == HEAP_NO_PAGE);
    // More than there is memory for costs no tables.
    MUST(!op_alloc(5000));
    MUST(total == CHUNK);
    struct heap_accounts after = heap_accounts();

    MUST(after.frames == before.frames);
    MUST(after.committed == before.committed);
    op_take(1, 2); // used
    MUST(nruns == 1);
    op_take(3, 2); // free
    MUST(nruns == 2);
    op_take(CHUNK - 1, 2); // one of them is not there yet
    MUST(nruns == 3 && total == 2 * CHUNK);
    op_take(2 * CHUNK - 1, 5000);
    MUST(nruns == 3);
    free_everything();
}

static void what_cannot_be_had_costs_nothing(void **s)
{
    (void)s;
    heap_alone(absurd);
}

// Up to the end of a word at most, and never too far.
static void promised_ahead(void)
{
    begin(32 * MIB);
    do_sign = true;
    MUST(op_alloc(70));
    uint64_t page = runs[0].page;
    uintptr_t va = heap_page_address(page);

    MUST(pages_promised(va, 1) == 1);
    MUST(pages_promised(va, 16) == 16);
    MUST(pages_promised(va + PAGE_SIZE, 16) == 16);
    // To the end of a word of 64 pages at most: fewer than there are.
    MUST(pages_promised(va, 1000) == 128);
    MUST(pages_promised(va + PAGE_SIZE, 1000) == 127);
    MUST(pages_promised(va + 63 * HEAP_PAGE + PAGE_SIZE, 16) == 1);
    MUST(pages_promised(va + 70 * HEAP_PAGE, 16) == 0);
    MUST(pages_promised(va + 69 * HEAP_PAGE, 16) == 2);
    free_everything();
    MUST(pages_promised(va, 16) == 0);
}

static void fault_around_learns_how_far_the_promise_goes(void **s)
{
    (void)s;
    heap_alone(promised_ahead);
}

// Idle pages keep their frames up to pages_keep; what is given back is zero.
static void kept(void)
{
    uint64_t frames;

    begin(64 * MIB);
    do_sign = true;
    pages_keep = 100;
    MUST(op_alloc(60) && op_alloc(60) && op_alloc(5));
    frames = mm_free_frames();
    op_free(0);
    MUST(count(IDLE) == 60 && mm_free_frames() == frames);
    MUST(op_alloc(60)); // zero would be a lie: signed pages
    op_free(2);
    op_free(1);
    MUST(count(IDLE) <= 100 && mm_free_frames() > frames);
    free_everything();
    pages_keep = 0;
    MUST(op_alloc(60));
    op_free(0);
    MUST(pages_stats.promised == 0);
    check_all();
}

static void idle_pages_are_kept_up_to_a_bound(void **s)
{
    (void)s;
    heap_alone(kept);
}

// A span grows in place, where the heap ends, though idle pages elsewhere hold
// the memory for it.
static void take_at_the_end(void)
{
    begin(32 * MIB);
    do_sign = true;
    pages_keep = MOST_PAGES;
    MUST(op_alloc(2 * CHUNK) && op_alloc(2 * CHUNK) && total == 4 * CHUNK);
    op_take(4 * CHUNK - 1, 10); // used: the heap need not grow
    MUST(nruns == 2 && total == 4 * CHUNK);
    op_free(0);
    MUST(count(IDLE) == 2 * CHUNK);
    op_take(4 * CHUNK, 2000);
    MUST(nruns == 2);
    op_take(total, 2000); // this is more than there is
    MUST(nruns == 2);
    free_everything();
}

static void idle_memory_is_given_up_for_growth_in_place(void **s)
{
    (void)s;
    heap_alone(take_at_the_end);
}

// Nothing is found damaged that is not, and what is, is.
static void damaged(void)
{
    begin(32 * MIB);
    MUST(op_alloc(10));
    pages_stats.free++;
    MUST_PANIC("pages are free", pages_check());
    pages_stats.free--;
    pages_check();
    struct call c = {.page = 5, .n = 10}; // five of them are free already

    MUST_PANIC("mask) == 0", free_call(&c));
}

static void damage_is_found(void **s)
{
    (void)s;
    heap_alone(damaged);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_pages_are_the_lowest_that_fit),
        cmocka_unit_test(used_pages_keep_their_contents_when_memory_is_short),
        cmocka_unit_test(all_memory_can_be_had_and_given_back),
        cmocka_unit_test(what_cannot_be_had_costs_nothing),
        cmocka_unit_test(fault_around_learns_how_far_the_promise_goes),
        cmocka_unit_test(idle_pages_are_kept_up_to_a_bound),
        cmocka_unit_test(idle_memory_is_given_up_for_growth_in_place),
        cmocka_unit_test(damage_is_found),
    };

    return cmocka_run_group_tests_name("pages", tests, NULL, NULL);
}
