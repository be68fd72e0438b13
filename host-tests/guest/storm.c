// Memory management on all CPUs at once: what can go wrong only then.
//
// Rounds are counted, never timed. With one CPU the tests run with one worker
// and still check the results. `storm quick` runs a third of the rounds, `storm
// brief` a tenth of these, `storm long` ten times as many.
//
// With little memory the tests take less of it; random steps that are refused for
// want of memory are left out, and counted.

#include <errno.h>
#include <string.h>

#include "host-tests/guest/par.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/settle.h"
#include "host-tests/guest/tap.h"
#include "mm/dirty.h"
#include "mm/fcache.h"
#include "mm/mm.h"
#include "mm/pt.h"
#include "mm/vm.h"

#define RW (PROT_R | PROT_W)

static unsigned scale = 30; // tenths of `quick`

static uintptr_t map(size_t pages, unsigned flags)
{
    uintptr_t va = 0;

    if (vm_map(&va, pages * PAGE_SIZE, RW, flags, "storm") != 0)
        abort();
    return va;
}

static void unmap(uintptr_t va, size_t pages)
{
    if (vm_unmap(va, pages * PAGE_SIZE) != 0)
        abort();
}

static volatile uint64_t *word(uintptr_t va)
{
    return (volatile uint64_t *)va;
}

// A few turns without the lock of anything: the others get on.
static void spin(unsigned n)
{
    while (n-- > 0)
        arch_pause();
}

// ---- R12: a reader of the zero frame sees the first store ----

static _Atomic uintptr_t zero_page;
static _Atomic unsigned zero_readers, zero_seen, zero_stale, zero_stored;

static void zero_reader(unsigned cpu, void *arg)
{
    unsigned rounds = *(unsigned *)arg;

    for (unsigned i = 0; i < rounds; i++) {
        if (cpu == 0) {
            uintptr_t va = map(1, VM_SPARSE);

            (void)*word(va); // maps the zero frame
            atomic_store(&zero_page, va);
            while (atomic_load(&zero_readers) != arch_cpu_count() - 1)
                arch_pause();
            *word(va) = i + 1;
            atomic_store(&zero_stored, i + 1);
            while (atomic_load(&zero_seen) != arch_cpu_count() - 1)
                arch_pause();
            atomic_store(&zero_page, 0);
            while (atomic_load(&zero_readers) != 0)
                arch_pause();
            atomic_store(&zero_seen, 0);
            unmap(va, 1);
            continue;
        }
        uintptr_t va;

        while ((va = atomic_load(&zero_page)) == 0)
            arch_pause();
        (void)*word(va);
        atomic_fetch_add(&zero_readers, 1);
        // Keeps the translation in use until the store is known to be done.
        while (atomic_load(&zero_stored) != i + 1)
            (void)*word(va);
        if (*word(va) != i + 1)
            atomic_fetch_add(&zero_stale, 1);
        atomic_fetch_add(&zero_seen, 1);
        while (atomic_load(&zero_page) != 0)
            arch_pause();
        atomic_fetch_sub(&zero_readers, 1);
    }
}

static void first_store_is_seen(void)
{
    unsigned rounds = 6 * scale;

    par_run(zero_reader, &rounds);
    IS(zero_stale, 0, "every CPU sees the first store to a zero page (R12)");
}

// ---- R13: no frame is seen through a stale translation ----

static _Atomic unsigned foreign;

static void signer(unsigned cpu, void *arg)
{
    unsigned rounds = *(unsigned *)arg;
    uint64_t me = (uint64_t)(cpu + 1) << 32;

    for (unsigned i = 0; i < rounds; i++) {
        size_t n = 1 + i % 5;
        uintptr_t va = map(n, 0);

        for (size_t p = 0; p < n; p++) {
            if (*word(va + p * PAGE_SIZE) != 0)
                atomic_fetch_add(&foreign, 1);
            *word(va + p * PAGE_SIZE) = me + i;
        }
        spin(200);
        for (size_t p = 0; p < n; p++) {
            if (*word(va + p * PAGE_SIZE) != me + i)
                atomic_fetch_add(&foreign, 1);
        }
        unmap(va, n);
    }
}

static void frames_are_never_seen_twice(void)
{
    unsigned rounds = 15 * scale;

    par_run(signer, &rounds);
    IS(foreign, 0, "frames that carry a signature are seen by one owner only");
    mm_check();
}

// ---- a write after protect faults on every CPU ----

enum { PATIENCE = 100000 }; // rounds

static uintptr_t guarded;
static _Atomic bool is_protected, stop_writers;
static _Atomic unsigned late_stores, caught;
static bool (*real_fault)(uintptr_t va, unsigned access, uintptr_t rsp);

// Runs in the fault: waits until the page may be written again.
static bool IRQ_FN waiting_fault(uintptr_t va, unsigned access, uintptr_t rsp)
{
    if (va < guarded || va >= guarded + PAGE_SIZE || access != PROT_W)
        return real_fault(va, access, rsp);
    // Denied, or served; in both cases the store is tried again.
    atomic_fetch_add(&caught, 1);
    while (atomic_load(&is_protected))
        arch_relax();
    return true;
}

static void guarded_writer(unsigned cpu, void *arg)
{
    volatile uint64_t *mine = word(guarded) + cpu * 8;

    if (cpu != 0 || arch_cpu_count() == 1) {
        for (uint64_t i = 0;
             arch_cpu_count() > 1 && !atomic_load(&stop_writers); i++)
            *mine = i;
        return;
    }
    // Until the others have had a turn at all: the host may run them late.
    for (unsigned i = 0; i < *(unsigned *)arg || (caught == 0 && i < PATIENCE);
         i++) {
        uint64_t seen[ARCH_MAX_CPUS];

        atomic_store(&is_protected, true);
        if (vm_protect(guarded, PAGE_SIZE, PROT_R) != 0)
            abort();
        // From here on no CPU may store.
        for (unsigned c = 1; c < arch_cpu_count(); c++)
            seen[c] = word(guarded)[c * 8];
        spin(500);
        for (unsigned c = 1; c < arch_cpu_count(); c++)
            late_stores += word(guarded)[c * 8] != seen[c];
        if (vm_protect(guarded, PAGE_SIZE, RW) != 0)
            abort();
        atomic_store(&is_protected, false);
        spin(200);
    }
    atomic_store(&stop_writers, true);
}

static void protect_reaches_every_cpu(void)
{
    unsigned rounds = 6 * scale;

    guarded = map(1, 0);
    *word(guarded) = 0;
    real_fault = arch_hooks.fault;
    arch_hooks.fault = waiting_fault;
    par_run(guarded_writer, &rounds);
    arch_hooks.fault = real_fault;
    IS(late_stores, 0, "no CPU stores once protect has returned");
    ok(arch_cpu_count() == 1 || caught > 0, "stores were caught (%u)", caught);
    unmap(guarded, 1);
}

// ---- clones are of one moment ----

static size_t clone_pages = 64;

static uintptr_t counted;
static _Atomic unsigned torn, clones_left;

// Stores a in the first page of its pair, then b in the second: at any moment
// b <= a <= b + 1.
static void pair_writer(unsigned cpu, void *arg)
{
    volatile uint64_t *a = word(counted + cpu * PAGE_SIZE);
    volatile uint64_t *b = word(counted + (clone_pages - 1 - cpu) * PAGE_SIZE);

    (void)arg;
    if (cpu != 0) {
        for (uint64_t i = 1; atomic_load(&clones_left) > 0; i++) {
            *a = i;
            *b = i;
        }
        return;
    }
    for (; clones_left > 0; clones_left--) {
        uintptr_t copy = 0;

        *a += 1;
        *b += 1;
        if (vm_clone(counted, clone_pages * PAGE_SIZE, &copy) != 0)
            abort();
        for (unsigned c = 0; c < arch_cpu_count(); c++) {
            uint64_t x = *word(copy + c * PAGE_SIZE);
            uint64_t y = *word(copy + (clone_pages - 1 - c) * PAGE_SIZE);

            if (!(y <= x && x <= y + 1)) {
                torn++;
                printf("# clone %u, CPU %u: first %lu, second %lu\n",
                       (unsigned)clones_left, c, (unsigned long)x,
                       (unsigned long)y);
            }
        }
        *word(copy) = 0; // and the copy can be written without the other seeing
        torn += *a == 0;
        unmap(copy, clone_pages);
    }
}

static void clones_are_of_one_moment(void)
{
    clone_pages = room_for(clone_pages, 4);
    // The first clones find pages that are just being touched.
    for (unsigned i = 0; i < scale; i++) {
        counted = map(clone_pages, 0);
        clones_left = i == 0 ? 4 * scale : 2;
        par_run(pair_writer, NULL);
        if (i + 1 < scale)
            unmap(counted, clone_pages);
    }
    IS(torn, 0, "clones taken while all CPUs store are of one moment");
    unmap(counted, clone_pages);
    mm_check();
}

// ---- dirty bits against what was really stored ----

enum { DIRTY_PAGES = 256 };

static uintptr_t watched;
static unsigned dirty_pages;
static uint8_t stored[DIRTY_PAGES];   // [one writer a page]
static uint8_t reported[DIRTY_PAGES]; // [collector]
static _Atomic bool dirty_stop;
static _Atomic unsigned missed;

static void note_page(uintptr_t page, void *arg)
{
    uint64_t v = *word(page);
    uint64_t *last = arg;

    // What is read after the report is at least what was stored before it.
    last[(page - watched) / PAGE_SIZE] = v;
    reported[(page - watched) / PAGE_SIZE] = 1;
}

static void dirty_worker(unsigned cpu, void *arg)
{
    static uint64_t last[DIRTY_PAGES];
    int client = *(int *)arg;

    if (cpu != 0) {
        for (unsigned i = 0; !atomic_load(&dirty_stop); i++) {
            unsigned page = (i * 7919 + cpu * 31) % dirty_pages;

            page -= page % arch_cpu_count();
            page += cpu;
            if (page >= dirty_pages)
                continue;
            *word(watched + page * PAGE_SIZE) += 1;
            stored[page] = 1;
            spin(20);
        }
        return;
    }
    for (unsigned i = 0; i < 3 * scale; i++) {
        *word(watched) += 1;
        if (dirty_collect(client, watched, note_page, last) < 0)
            abort();
    }
    atomic_store(&dirty_stop, true);
    memset(last, 0, 0);
}

static uint64_t final_values[DIRTY_PAGES];

static void dirty_bits_miss_nothing(void)
{
    int client = dirty_client_new();

    dirty_pages = (unsigned)room_for(DIRTY_PAGES, 2);
    watched = map(dirty_pages, 0);
    for (unsigned i = 0; i < dirty_pages; i++)
        *word(watched + i * PAGE_SIZE) = 1;
    if (client < 0 || dirty_watch(client, watched) != 0)
        abort();
    par_run(dirty_worker, &client);
    // All stores that no report has covered yet are in the last one.
    dirty_collect(client, watched, note_page, final_values);
    for (unsigned i = 0; i < dirty_pages; i++)
        missed += stored[i] && !reported[i];
    IS(missed, 0, "every page that was stored to is reported dirty (R15)");
    IS(dirty_collect(client, watched, note_page, final_values), 0,
       "and nothing is when nobody stores");
    dirty_client_free(client);
    unmap(watched, dirty_pages);
}

// ---- everything at once ----

enum { SLOTS = 6, SLOT_PAGES = 24 };

static _Atomic unsigned wrong, refused;

static uint32_t random_below(uint64_t *state, uint32_t n)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (uint32_t)(*state >> 33) % n;
}

struct slot {
    uintptr_t va;
    size_t n;
    uint64_t tag; // in every page
};

static void check_slot(const struct slot *s)
{
    for (size_t i = 0; i < s->n; i++)
        wrong += *word(s->va + i * PAGE_SIZE) != s->tag + i;
}

static void tag_slot(struct slot *s, uint64_t tag)
{
    s->tag = tag;
    for (size_t i = 0; i < s->n; i++)
        *word(s->va + i * PAGE_SIZE) = tag + i;
}

// True if the call did its work; it may be refused for want of memory only.
static bool done(int err)
{
    if (err != 0 && err != -ENOMEM)
        abort();
    refused += err != 0;
    return err == 0;
}

static void one_step(struct slot *s, struct slot *other, uint64_t *rnd,
                     uint64_t tag)
{
    uintptr_t to = 0;

    if (s->va == 0) {
        s->n = 1 + random_below(rnd, SLOT_PAGES);
        if (done(vm_map(&s->va, s->n * PAGE_SIZE, RW,
                        random_below(rnd, 2) ? VM_SPARSE : 0, "storm")))
            tag_slot(s, tag);
        return;
    }
    check_slot(s);
    switch (random_below(rnd, 6)) {
    case 0:
        unmap(s->va, s->n);
        s->va = 0;
        break;
    case 1:
        if (done(vm_move(s->va, s->n * PAGE_SIZE, s->n * PAGE_SIZE, &to)))
            s->va = to;
        check_slot(s);
        break;
    case 2: {
        struct slot copy = *s;

        if (!done(vm_clone(s->va, s->n * PAGE_SIZE, &copy.va)))
            break;
        tag_slot(s, tag);
        check_slot(&copy);
        unmap(copy.va, copy.n);
        break;
    }
    case 3: {
        struct slot view = *s;

        view.va = 0;
        if (!done(vm_alias(s->va, s->n * PAGE_SIZE, RW, &view.va)))
            break;
        tag_slot(&view, tag);
        s->tag = tag;
        check_slot(s);
        unmap(view.va, view.n);
        break;
    }
    case 4:
        if (vm_protect(s->va, s->n * PAGE_SIZE, PROT_R) != 0 ||
            vm_protect(s->va, s->n * PAGE_SIZE, RW) != 0)
            abort();
        tag_slot(s, tag);
        break;
    default:
        if (other->va != 0)
            check_slot(other);
        break;
    }
}

static void random_worker(unsigned cpu, void *arg)
{
    struct slot slots[SLOTS] = {0};
    uint64_t rnd = cpu * 77 + 1;

    for (unsigned i = 0; i < *(unsigned *)arg; i++)
        one_step(&slots[random_below(&rnd, SLOTS)],
                 &slots[random_below(&rnd, SLOTS)], &rnd,
                 ((uint64_t)cpu << 48) + ((uint64_t)i << 8));
    for (unsigned k = 0; k < SLOTS; k++) {
        if (slots[k].va != 0)
            unmap(slots[k].va, slots[k].n);
    }
}

static void everything_at_once(void)
{
    unsigned rounds = 25 * scale;
    // A clone of the largest slot beside all slots, on every CPU.
    bool enough = room() > arch_cpu_count() * (SLOTS + 1) *
                               mm_mapping_cost(SLOT_PAGES * PAGE_SIZE);

    par_run(random_worker, &rounds);
    mm_check();
    struct accounts before = settle();

    par_run(random_worker, &rounds);
    printf("# %u steps were refused\n", (unsigned)refused);
    ok(refused == 0 || !enough, "none where there is memory for all");
    ok(refused < rounds * arch_cpu_count() * 3 / 2,
       "a quarter was done at least");
    IS(wrong, 0, "random steps on all CPUs at once keep every page's contents");
    mm_check();
    is_settled(&before, "random steps");
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "quick") == 0)
        scale = 10;
    else if (argc > 1 && strcmp(argv[1], "brief") == 0)
        scale = 1;
    else if (argc > 1 && strcmp(argv[1], "long") == 0)
        scale = 300;
    first_store_is_seen();
    frames_are_never_seen_twice();
    protect_reaches_every_cpu();
    clones_are_of_one_moment();
    dirty_bits_miss_nothing();
    everything_at_once();
    return tap_end();
}
