// Memory management on all CPUs at once: what can go wrong only then.
//
// Rounds are counted, never timed. With one CPU the tests run with one worker
// and still check the results. `storm quick` runs a third of the rounds, `storm
// brief` a tenth of these, `storm long` ten times as many.
//
// usage: storm [quick|brief|long [SEED]]
//
// With little memory the tests take less of it; random steps that are refused for
// want of memory are left out, and counted.

#include <gneiss/cpu.h>

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
static uint64_t seed;       // of the random steps

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

// The nth time that all CPUs are here; none is idle meanwhile.
static void meet(_Atomic unsigned *here, unsigned n)
{
    atomic_fetch_add(here, 1);
    while (atomic_load(here) < n * arch_cpu_count())
        arch_pause();
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
            uintptr_t va = map(1, VM_SPARSE), other = 0;

            (void)*word(va); // maps the zero frame
            atomic_store(&zero_page, va);
            while (atomic_load(&zero_readers) != arch_cpu_count() - 1)
                arch_pause();
            // Every second time through another view, which takes it away.
            if (i % 2 == 1 && vm_alias(va, PAGE_SIZE, RW, &other) != 0)
                abort();
            *word(other != 0 ? other : va) = i + 1;
            atomic_store(&zero_stored, i + 1);
            while (atomic_load(&zero_seen) != arch_cpu_count() - 1)
                arch_pause();
            atomic_store(&zero_page, 0);
            while (atomic_load(&zero_readers) != 0)
                arch_pause();
            atomic_store(&zero_seen, 0);
            unmap(va, 1);
            if (other != 0)
                unmap(other, 1);
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

static uintptr_t guarded;
static _Atomic bool is_protected, stop_writers;
static _Atomic unsigned late_stores;
static bool (*real_fault)(uintptr_t va, unsigned access, uintptr_t rsp);

// Runs in the fault: waits until the page may be written again.
static bool IRQ_FN waiting_fault(uintptr_t va, unsigned access, uintptr_t rsp)
{
    if (va < guarded || va >= guarded + PAGE_SIZE || access != PROT_W)
        return real_fault(va, access, rsp);
    // Denied, or served; in both cases the store is tried again.
    while (atomic_load(&is_protected))
        arch_relax();
    return true;
}

static void guarded_writer(unsigned cpu, void *arg)
{
    volatile uint64_t *mine = word(guarded) + cpu * 8;

    if (cpu != 0) {
        for (uint64_t i = 0; !atomic_load(&stop_writers); i++)
            *mine = i;
        return;
    }
    for (unsigned i = 0; i < *(unsigned *)arg; i++) {
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

// Others store all the time while it comes and goes.
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
    unmap(guarded, 1);
}

// Of all CPUs together: more than are shot down one by one, and fewer.
enum { DENIED_MANY = 36, DENIED_FEW = 8 };

static uintptr_t denied;
static unsigned denied_pages;
static _Atomic unsigned denied_told, denied_done, denied_caught, denied_wrong;
static volatile unsigned caught_at[DENIED_MANY + ARCH_MAX_CPUS];

// Runs in the fault: counts what is denied, and lets the store be done then.
static bool IRQ_FN counting_fault(uintptr_t va, unsigned access, uintptr_t rsp)
{
    uintptr_t page = (va - denied) / PAGE_SIZE;

    if (real_fault(va, access, rsp))
        return true;
    if (va < denied || page >= denied_pages || access != PROT_W)
        return false;
    caught_at[page]++;
    return vm_protect(align_down(va, PAGE_SIZE), PAGE_SIZE, RW) == 0;
}

static void denied_writer(unsigned cpu, void *arg)
{
    unsigned each = denied_pages / arch_cpu_count(), first = cpu * each;
    uintptr_t mine = denied + first * PAGE_SIZE;

    for (unsigned i = 1; i <= *(unsigned *)arg; i++) {
        for (unsigned k = 0; k < each; k++) {
            *word(mine + k * PAGE_SIZE) = 2 * i; // this CPU may, and knows it
            caught_at[first + k] = 0;
        }
        meet(&denied_done, 2 * i - 1);
        if (i % arch_cpu_count() == cpu) {
            if (vm_protect(denied, denied_pages * PAGE_SIZE, PROT_R) != 0)
                abort();
            atomic_store(&denied_told, i);
        }
        while (atomic_load(&denied_told) != i)
            arch_pause();
        for (unsigned k = 0; k < each; k++)
            *word(mine + k * PAGE_SIZE) = 2 * i + 1;
        for (unsigned k = 0; k < each; k++) {
            denied_caught += caught_at[first + k];
            denied_wrong += caught_at[first + k] != 1 ||
                            *word(mine + k * PAGE_SIZE) != 2 * i + 1;
        }
        meet(&denied_done, 2 * i);
    }
}

// One CPU protects and tells all, itself too: each store of each then faults once.
static void every_denied_store_faults(unsigned pages)
{
    unsigned rounds = scale + arch_cpu_count(), each;

    pages = (unsigned)room_for(pages, 2);
    each = pages / arch_cpu_count() > 0 ? pages / arch_cpu_count() : 1;
    denied_pages = each * arch_cpu_count();
    denied = map(denied_pages, 0);
    denied_told = denied_done = denied_caught = denied_wrong = 0;
    real_fault = arch_hooks.fault;
    arch_hooks.fault = counting_fault;
    par_run(denied_writer, &rounds);
    arch_hooks.fault = real_fault;
    IS(denied_caught, rounds * denied_pages, "each store after protect faults");
    ok(denied_wrong == 0, "once, and is done later (%u pages a CPU)", each);
    unmap(denied, denied_pages);
    mm_check();
}

// ---- R12: all take the first store to one page at once ----

enum { TO_CLONE, TO_ORIGINAL, TO_ZERO_FRAME, FIRST_STORES };

static uintptr_t first_page, first_other; // 0: no other
static _Atomic unsigned first_here, first_wrong, first_frames, first_extra;

static void make_first(unsigned kind, uint64_t tag)
{
    uintptr_t va = map(1, kind == TO_ZERO_FRAME ? VM_SPARSE : 0), copy = 0;

    if (kind != TO_ZERO_FRAME) {
        for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
            word(va)[i] = tag + i;
        if (vm_clone(va, PAGE_SIZE, &copy) != 0)
            abort();
    }
    first_page = kind == TO_CLONE ? copy : va;
    first_other = kind == TO_CLONE ? va : copy;
}

// Each CPU's word is stored, all others are as they were, and the other side is.
static void check_first(uint64_t tag, uint64_t stored)
{
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++) {
        uint64_t old = first_other != 0 ? tag + i : 0;
        bool is_mine = i % 8 == 0 && i / 8 < arch_cpu_count();

        first_wrong += word(first_page)[i] != (is_mine ? stored + i : old);
        first_wrong += first_other != 0 && word(first_other)[i] != old;
    }
}

static void first_storer(unsigned cpu, void *arg)
{
    const uint64_t tag = UINT64_C(1) << 32, stored = UINT64_C(2) << 32;
    uint64_t before = 0;

    for (unsigned i = 0, n = 0; i < *(unsigned *)arg; i++) {
        if (cpu == 0)
            make_first(i % FIRST_STORES, tag);
        meet(&first_here, ++n);
        (void)*word(first_page); // the right to read is known here
        meet(&first_here, ++n);
        if (cpu == 0)
            before = mm_free_frames(); // all others stand still
        meet(&first_here, ++n);
        word(first_page)[cpu * 8] = stored + cpu * 8;
        meet(&first_here, ++n);
        if (cpu == 0) {
            first_frames += (unsigned)(before - mm_free_frames());
            check_first(tag, stored);
            before = mm_free_frames();
            // The frame that was shared has one user now: no copy.
            if (first_other != 0)
                *word(first_other) = tag;
            first_extra += (unsigned)(before - mm_free_frames());
            unmap(first_page, 1);
            if (first_other != 0)
                unmap(first_other, 1);
        }
        // Not before: a CPU that is idle clears frames in advance.
        meet(&first_here, ++n);
    }
}

static void one_copy_for_all_first_stores(void)
{
    unsigned rounds = FIRST_STORES * scale;

    _Static_assert(ARCH_MAX_CPUS * 8 <= PAGE_SIZE / 8, "a word for each CPU");
    par_run(first_storer, &rounds);
    IS(first_wrong, 0, "first stores of all CPUs at once: all are there");
    IS(first_frames, rounds, "each page is copied once, to one frame");
    IS(first_extra, 0, "who is left alone with a frame keeps it");
    mm_check();
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
static uint64_t stores[DIRTY_PAGES];  // [one writer a page]
static uint64_t last[DIRTY_PAGES];    // [collector] as read at its last report
static unsigned reports[DIRTY_PAGES]; // [collector]
static _Atomic bool dirty_stop;

static void note_page(uintptr_t page, void *arg)
{
    size_t i = (page - watched) / PAGE_SIZE;

    (void)arg;
    // What is read after the report is at least what was stored before it.
    last[i] = *word(page);
    reports[i]++;
}

static void dirty_worker(unsigned cpu, void *arg)
{
    int client = *(int *)arg;

    if (cpu != 0) {
        for (unsigned i = 0; !atomic_load(&dirty_stop); i++) {
            unsigned page = (i * 7919 + cpu * 31) % dirty_pages;

            page -= page % arch_cpu_count();
            page += cpu;
            if (page >= dirty_pages)
                continue;
            *word(watched + page * PAGE_SIZE) += 1;
            stores[page]++;
            spin(20);
        }
        return;
    }
    for (unsigned i = 0; i < 3 * scale; i++) {
        unsigned page = i * 7 * arch_cpu_count() % dirty_pages;

        page -= page % arch_cpu_count();
        *word(watched + page * PAGE_SIZE) += 1;
        stores[page]++;
        if (dirty_collect(client, watched, note_page, NULL) < 0)
            abort();
    }
    atomic_store(&dirty_stop, true);
}

// A store that no report has covered would leave an older value in `last`.
static void compare_dirty(void)
{
    unsigned missed = 0, lost = 0, unknown = 0, written = 0;

    for (unsigned i = 0; i < dirty_pages; i++) {
        uint64_t is = *word(watched + i * PAGE_SIZE);

        lost += is != 1 + stores[i];
        missed += is != last[i];
        unknown += reports[i] > 0 && stores[i] == 0;
        written += stores[i] > 0;
    }
    IS(lost, 0, "no store is lost while dirty bits are cleared");
    IS(missed, 0, "every page is reported after its last store (R15)");
    IS(unknown, 0, "and none that nobody stored to");
    printf("# %u of %u pages were stored to\n", written, dirty_pages);
}

static void dirty_bits_miss_nothing(void)
{
    int client = dirty_client_new();

    dirty_pages = (unsigned)room_for(DIRTY_PAGES, 2);
    watched = map(dirty_pages, 0);
    for (unsigned i = 0; i < dirty_pages; i++)
        last[i] = *word(watched + i * PAGE_SIZE) = 1;
    if (client < 0 || dirty_watch(client, watched) != 0)
        abort();
    par_run(dirty_worker, &client);
    // All stores that no report has covered yet are in the last one.
    dirty_collect(client, watched, note_page, NULL);
    compare_dirty();
    IS(dirty_collect(client, watched, note_page, NULL), 0,
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
    uint64_t rnd = seed * 1000003 + cpu * 77 + 1;

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
    gn_cpu_stay(0);
    if (argc > 1 && strcmp(argv[1], "quick") == 0)
        scale = 10;
    else if (argc > 1 && strcmp(argv[1], "brief") == 0)
        scale = 1;
    else if (argc > 1 && strcmp(argv[1], "long") == 0)
        scale = 300;
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 0);
    first_store_is_seen();
    frames_are_never_seen_twice();
    protect_reaches_every_cpu();
    every_denied_store_faults(DENIED_MANY);
    every_denied_store_faults(DENIED_FEW);
    one_copy_for_all_first_stores();
    clones_are_of_one_moment();
    dirty_bits_miss_nothing();
    everything_at_once();
    return tap_end();
}
