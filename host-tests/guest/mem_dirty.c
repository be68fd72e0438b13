// Dirty bits against what was really stored (R15), while all other CPUs store:
// through move and clone of memory that they store to by a second view, through
// clone, promotion and split of memory that they store to themselves.
//
// The model: each page has one word that one CPU counts up. Whoever collects
// reads the word of a page that is reported, and keeps it. When the stores are
// over and one more report is in, what was kept is what is there: a store that
// no report covered would be missing.
//
// usage: mem_dirty [ROUNDS [STEPS]]: one round more before frames are counted

#include <gneiss/cpu.h>
#include <gneiss/mem.h>
#include <stdatomic.h>
#include <stdint.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"

#include "mm/mm.h"

#define RW (PROT_R | PROT_W)

enum { TABLE = 512, PAGES = 2 * TABLE, OWN = 4 };

static unsigned rounds = 10, steps = 12;
static int client;
static uintptr_t watched; // [CPU 0] the region that is watched begins here
static uintptr_t stored;  // [c] while CPUs store: where they do
static size_t npages;
static _Atomic bool over;
static uint64_t kept[PAGES]; // [CPU 0]
static _Atomic unsigned missed, reported;

static volatile uint64_t *word(uintptr_t va)
{
    return (volatile uint64_t *)va;
}

static void must(bool done)
{
    if (!done)
        abort();
}

static void keep(uintptr_t page, void *arg)
{
    (void)arg;
    kept[(page - watched) / PAGE_SIZE] = *word(page);
    reported++;
}

static void store_often(unsigned cpu)
{
    unsigned others = arch_cpu_count() - 1;

    for (unsigned i = cpu - 1; !over; i += others) {
        // Mostly a few pages, so that they are dirty again and again.
        size_t page = (i % 4 != 0 ? i % 64 : i * 7) % npages;

        page += cpu - 1 - page % others; // each has its own
        if (page < npages - OWN)
            *word(stored + page * PAGE_SIZE) += 1;
    }
}

// The parts of a region that was cut are watched one by one.
static long collect(void)
{
    long n = 0;

    for (uintptr_t va = watched; va < watched + npages * PAGE_SIZE;) {
        struct mm_look l;
        long k = dirty_collect(client, va, keep, NULL);

        must(k >= 0);
        n += k;
        spin_lock(&mm_lock);
        mm_look(va, &l);
        spin_unlock(&mm_lock);
        va = l.end;
    }
    return n;
}

static void check_all(void)
{
    collect();
    for (size_t i = 0; i < npages; i++)
        missed += kept[i] != *word(watched + i * PAGE_SIZE);
    must(collect() == 0);
}

// The last pages are CPU 0's own: it stores right before what follows, and
// perhaps nobody else stores near them before the next report.
static void store(void)
{
    static uint64_t n;

    n++;
    *word(watched + (npages - 1 - n % OWN) * PAGE_SIZE) += 1;
}

// A copy that nobody but this CPU knows; the original is as dirty as before.
static void clone_and_store(void)
{
    uintptr_t copy = 0;

    must(vm_clone(watched, npages * PAGE_SIZE, &copy) == 0);
    *word(copy) = 1;
    must(vm_unmap(copy, npages * PAGE_SIZE) == 0);
    // Each page gets its right to store back, without a store: what is shared
    // can't become a large page.
    must(gn_advise((void *)watched, npages * PAGE_SIZE, GN_POPULATE) == 0);
}

// ---- a second view ----

static void move(void)
{
    uintptr_t to = 0;

    must(vm_move(watched, npages * PAGE_SIZE, npages * PAGE_SIZE, &to) == 0);
    watched = to;
}

static void with_a_view(unsigned cpu, void *arg)
{
    (void)arg;
    if (cpu != 0) {
        store_often(cpu);
        return;
    }
    for (unsigned i = 0; i < steps; i++) {
        store();
        move();
        if (i % 3 == 0)
            clone_and_store();
        if (i % 3 == 1)
            must(vm_protect(watched, npages * PAGE_SIZE, PROT_R) == 0);
        collect();
        must(vm_protect(watched, npages * PAGE_SIZE, RW) == 0);
    }
    over = true;
}

// ---- large pages ----

static unsigned promoted;

static void promote(void)
{
    long n = vm_promote(watched, npages * PAGE_SIZE);

    must(n >= 0);
    promoted += n > 0;
}

static void with_large_pages(unsigned cpu, void *arg)
{
    if (cpu != 0) {
        store_often(cpu);
        return;
    }
    for (unsigned i = 0; i < steps / 3; i++) {
        collect();
        store();
        // One D bit for 512 pages from the OR of theirs,
        promote();
        collect();
        store();
        // split again, and its D handed to all of them.
        clone_and_store();
    }
    // The last store comes before the promotion, or before the cut in the middle
    // of a large page; no later one hides what got lost.
    collect();
    if (*(bool *)arg)
        store();
    promote();
    if (!*(bool *)arg)
        store();
    must(vm_protect(watched, npages / 10 * PAGE_SIZE, RW) == 0);
    collect();
    over = true;
}

static void one_round(void (*fn)(unsigned cpu, void *arg), bool by_a_view,
                      bool store_first)
{
    uintptr_t view = 0;

    // A clone is promised in full beside it. Where no large page can be had,
    // the second half runs without.
    npages = room_for(PAGES, 3);
    npages -= by_a_view ? npages / 10 : 0;
    watched = 0;
    must(vm_map(&watched, npages * PAGE_SIZE, RW, 0, "watched") == 0);
    stored = watched;
    if (by_a_view) {
        must(vm_alias(watched, npages * PAGE_SIZE, RW, &view) == 0);
        stored = view;
    }
    client = dirty_client_new();
    must(client >= 0 && dirty_watch(client, watched) == 0);
    for (size_t i = 0; i < npages; i++)
        kept[i] = 0;
    over = false;
    par_run(fn, &store_first);
    check_all();
    dirty_client_free(client);
    if (by_a_view)
        must(vm_unmap(view, npages * PAGE_SIZE) == 0);
    must(vm_unmap(watched, npages * PAGE_SIZE) == 0);
    mm_check();
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    if (argc > 1)
        rounds = (unsigned)strtoul(argv[1], NULL, 0);
    if (argc > 2)
        steps = (unsigned)strtoul(argv[2], NULL, 0);
    one_round(with_a_view, true, false); // what is made once for all
    one_round(with_large_pages, false, true);
    IS(missed, 0, "no store is missed in two rounds");
    struct accounts before = settle();

    promoted = 0;
    reported = 0;
    for (unsigned i = 0; i < rounds; i++)
        one_round(with_a_view, true, false);
    IS(missed, 0, "no store is missed through move, clone and protect");
    ok(reported > 0, "%u pages were reported", (unsigned)reported);
    reported = 0;
    for (unsigned i = 0; i < rounds; i++)
        one_round(with_large_pages, false, i % 2 == 0);
    ok(promoted > 0 || npages < PAGES, "%u times large pages were made",
       promoted);
    IS(missed, 0, "nor through promote, split, clone and cut");
    ok(reported > 0, "%u pages were reported", (unsigned)reported);
    is_settled(&before, "what was watched");
    return tap_end();
}
