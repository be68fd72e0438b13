// No frame is seen through a stale translation (R13): all CPUs but one read the
// same addresses all the time, while that one takes the memory away in every way
// there is, and gives the frames to somebody else, who signs them.
//
// Each turn: the readers have seen the pages, so that their TLBs know them; then
// the pages go. What a reader reads from the moment on that the call has returned
// must be the zeros of fresh memory, where the addresses are still mapped, or a
// fault, in which it waits until there is something again. Nothing depends on
// time: a reader looks whether the call has returned before it reads.
//
// usage: mem_stale [TURNS]

#include <gneiss/cpu.h>
#include <gneiss/mem.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"
#include "mm/mm.h"
#include "mm/vm.h"

enum { MOST_PAGES = 33, RW = PROT_R | PROT_W };

#define SIGNED    (UINT64_C(1) << 32) // plus the turn: what readers know
#define ELSEWHERE (UINT64_C(2) << 32) // what the next owner of a frame stores

static unsigned turns = 3; // of each way, with each number of pages

static volatile uint64_t *word(uintptr_t va)
{
    return (volatile uint64_t *)va;
}

static void sign(uintptr_t va, size_t pages, uint64_t with)
{
    // Downwards: no fault gives frames to what comes behind.
    while (pages-- > 0)
        *word(va + pages * PAGE_SIZE) = with;
}

static uintptr_t map(uintptr_t at, size_t pages)
{
    uintptr_t va = at;

    if (vm_map(&va, pages * PAGE_SIZE, RW, at != 0 ? VM_FIXED : 0, "stale"))
        abort();
    return va;
}

static void unmap(uintptr_t va, size_t pages)
{
    if (vm_unmap(va, pages * PAGE_SIZE) != 0)
        abort();
}

// ---- the ways ----

// Takes the pages away. Returns where their frames are seen now, or 0.
typedef uintptr_t take_fn(uintptr_t va, size_t pages);

static uintptr_t take_by_unmap(uintptr_t va, size_t pages)
{
    unmap(va, pages);
    return 0;
}

static uintptr_t take_by_discard(uintptr_t va, size_t pages)
{
    if (vm_decommit(va, pages * PAGE_SIZE, false) != 0)
        abort();
    return 0;
}

static uintptr_t take_by_decommit(uintptr_t va, size_t pages)
{
    if (vm_decommit(va, pages * PAGE_SIZE, true) != 0)
        abort();
    return 0;
}

static uintptr_t take_by_move(uintptr_t va, size_t pages)
{
    uintptr_t to = 0;

    if (vm_move(va, pages * PAGE_SIZE, pages * PAGE_SIZE, &to) != 0)
        abort();
    return to;
}

// As the heap does it, within its region.
static uintptr_t take_by_page_move(uintptr_t va, size_t pages)
{
    uintptr_t to = map(0, pages);

    if (region_move_pages(region_find(va), va, to, pages * PAGE_SIZE) != 0)
        abort();
    return to;
}

// Its frames go when the copy is stored to; readers see the copy's.
static uintptr_t take_by_copy(uintptr_t va, size_t pages)
{
    uintptr_t copy = 0;

    if (vm_clone(va, pages * PAGE_SIZE, &copy) != 0)
        abort();
    for (size_t i = 0; i < pages; i++)
        *word(va + i * PAGE_SIZE) = 0;
    return copy;
}

static const struct way {
    const char *name;
    take_fn *take;
    bool stays; // the addresses are still mapped, to zeros
} ways[] = {
    {"unmapped", take_by_unmap, false},
    {"discarded", take_by_discard, true},
    {"decommitted", take_by_decommit, false},
    {"moved", take_by_move, false},
    {"moved within a region", take_by_page_move, true},
    {"copied, for a store", take_by_copy, true},
};

// ---- the turns ----

static const struct way *way;
static uintptr_t place; // a page, the pages that go, a page
static size_t npages;

static _Atomic unsigned placed;   // the turn whose signature is there, or was
static _Atomic unsigned gone;     // the turn whose pages are gone
static _Atomic unsigned replaced; // the turn whose pages are there again
static _Atomic unsigned begun, here, left;
static _Atomic uint64_t reads[ARCH_MAX_CPUS]; // begun since they were gone
static _Atomic bool waits[ARCH_MAX_CPUS];     // in a fault

static _Atomic unsigned late, foreign, unexpected;
static unsigned given, taken; // frames that somebody else got
static bool (*real_fault)(uintptr_t va, unsigned access, uintptr_t rsp);

static uintptr_t page(size_t i)
{
    return place + (1 + i) * PAGE_SIZE;
}

// Runs in the fault: a reader waits until there is memory again.
static bool IRQ_FN waiting_fault(uintptr_t va, unsigned access, uintptr_t rsp)
{
    unsigned turn = atomic_load(&placed);

    if (real_fault(va, access, rsp))
        return true;
    if (place == 0 || va < place || va >= page(npages) || access != PROT_R)
        return false;
    atomic_store(&waits[arch_cpu_id()], true);
    while (atomic_load(&replaced) != turn)
        arch_relax();
    atomic_store(&waits[arch_cpu_id()], false);
    return true;
}

// Reads until the pages are there again.
static void read_on(unsigned cpu, unsigned turn)
{
    for (size_t i = 0;; i = (i + 1) % npages) {
        bool again = atomic_load(&replaced) == turn;
        bool is_gone = atomic_load(&gone) == turn;
        uint64_t x = *word(page(i));

        if (x >> 32 == ELSEWHERE >> 32)
            foreign++;
        else if (x == SIGNED + turn)
            late += is_gone;
        else if (x != SIGNED + turn + 1 && (x != 0 || !way->stays || again))
            unexpected++;
        if (again)
            return;
        reads[cpu] += is_gone;
    }
}

static void reader(unsigned cpu, unsigned turn)
{
    while (atomic_load(&placed) != turn)
        arch_pause();
    for (size_t i = 0; i < npages; i++)
        unexpected += *word(page(i)) != SIGNED + turn;
    here++;
    read_on(cpu, turn);
    left++;
}

static uint64_t frame_at(uintptr_t va)
{
    struct gn_walk_step steps[4];
    unsigned n = gn_walk((void *)va, steps);

    return n == 4 ? steps[3].entry & PTE_ADDR_MASK : 0;
}

// All readers have read each page, or wait.
static void let_them_read(void)
{
    for (unsigned c = 1; c < arch_cpu_count(); c++) {
        uint64_t from = atomic_load(&reads[c]);

        while (!atomic_load(&waits[c]) &&
               atomic_load(&reads[c]) < from + npages + 1)
            arch_pause();
    }
}

// What the pages had is signed by who has it now.
static void sign_elsewhere(uintptr_t at, const uint64_t *frames)
{
    uintptr_t other = map(0, npages);

    sign(other, npages, ELSEWHERE);
    if (at != 0)
        sign(at, npages, ELSEWHERE);
    for (size_t i = 0; i < npages; i++) {
        uintptr_t last = at != 0 ? at : other;
        bool found = false;

        for (size_t k = 0; k < npages && !found; k++)
            found = frame_at(last + k * PAGE_SIZE) == frames[i];
        given += found;
        taken++;
    }
    let_them_read();
    unmap(other, npages);
    if (at != 0)
        unmap(at, npages);
}

static void owner(unsigned turn)
{
    static uint64_t frames[MOST_PAGES];
    unsigned others = arch_cpu_count() - 1;

    // Pages on both sides: their table stays, and the way has no other reason for
    // a shootdown.
    map(place, npages + 2);
    sign(place, npages + 2, SIGNED + turn);
    for (size_t i = 0; i < npages; i++)
        frames[i] = frame_at(page(i));
    here = left = 0;
    atomic_store(&placed, turn);
    while (atomic_load(&here) != others)
        arch_pause();
    uintptr_t at = way->take(page(0), npages);

    atomic_store(&gone, turn);
    sign_elsewhere(at, frames);
    if (!way->stays) {
        unmap(page(0), npages); // a reservation
        map(page(0), npages);
    }
    sign(page(0), npages, SIGNED + turn + 1);
    atomic_store(&replaced, turn);
    while (atomic_load(&left) != others)
        arch_pause();
    unmap(place, npages + 2);
}

// What idle CPUs have cleared would be given out first: takes it. No CPU is idle
// from now on. Returns how many pages that is.
static size_t take_cleared(uintptr_t *at)
{
    struct gn_mem_stats s;

    gn_mem_stats(&s);
    size_t n = room_for(s.frames_zeroed, 2);

    *at = n > 0 ? map(0, n) : 0;
    sign(*at, n, 0);
    return n;
}

static void worker(unsigned cpu, void *arg)
{
    unsigned first = *(unsigned *)arg;
    uintptr_t cleared = 0;
    size_t n = 0;

    begun++;
    while (atomic_load(&begun) < arch_cpu_count())
        arch_pause();
    if (cpu == 0)
        n = take_cleared(&cleared);
    for (unsigned i = 0; i < turns; i++) {
        if (cpu == 0)
            owner(first + 2 * i);
        else
            reader(cpu, first + 2 * i);
    }
    if (n > 0)
        unmap(cleared, n);
}

static void check_way(const struct way *w)
{
    static const size_t sizes[] = {1, 3, MOST_PAGES};
    static unsigned turn = 1;

    way = w;
    late = foreign = unexpected = given = taken = 0;
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        npages = room_for(sizes[i], 6);
        place = map(0, npages + 2);
        unmap(place, npages + 2);
        begun = 0;
        real_fault = arch_hooks.fault;
        arch_hooks.fault = waiting_fault;
        par_run(worker, &turn);
        arch_hooks.fault = real_fault;
        turn += 2 * turns;
    }
    ok(late == 0, "%s: no CPU reads on when the call has returned", w->name);
    IS(foreign, 0, "and none sees what the next owner of a frame stores");
    IS(unexpected, 0, "but fresh memory, where it may be read");
    ok(given > 0, "to whom they are given (%u of %u)", given, taken);
}

static void all_ways(void)
{
    for (size_t i = 0; i < ARRAY_LEN(ways); i++)
        check_way(&ways[i]);
}

int main(int argc, char **argv)
{
    gn_cpu_stay(0);
    if (argc > 1)
        turns = (unsigned)strtoul(argv[1], NULL, 0);
    check_way(&ways[0]); // what is made once for all
    struct accounts before = settle();

    all_ways();
    mm_check();
    is_settled(&before, "pages that others read");
    return tap_end();
}
