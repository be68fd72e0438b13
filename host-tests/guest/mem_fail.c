// Every request for a frame failed in turn, once and from then on, in every
// call of <gneiss/mem.h> and of <sys/mman.h>: ENOMEM, and nothing has changed; tried
// again, it works; no frame and no promise is lost. (host-tests/mm/test_fail.c does
// it call by call of mm, mem_fail_cpus.c on all CPUs at once.)

#include <errno.h>
#include <gneiss/cpu.h>
#include <gneiss/mem.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "host-tests/guest/even.h"
#include "host-tests/guest/room.h"
#include "host-tests/guest/tap.h"

enum {
    PAGE = 4096,
    N = 16,
    RW = GN_READ | GN_WRITE,
    MUCH = 5000, // pages: whatever can't run with as much is broken
};

// How many points there are at least, by the pages that can be promised.
static const struct {
    unsigned pages, points;
} recorded[] = {{MUCH, 200}, {500, 160}, {300, 210},
                {100, 300},  {60, 30},   {0, 20}};

#define HUGE   ((size_t)2 << 20)
#define IOAPIC UINT64_C(0xfec00000)

static char *const base = (char *)0x200000000000;
static char *const there = (char *)0x210000000000;

// ---- the calls ----

static void end_case(void);

static char *made;
static uint64_t tables; // before the call
static int watcher = -1, ended = -1;

static void fill(char *p, size_t npages)
{
    for (size_t i = 0; i < npages; i++)
        p[i * PAGE] = (char)(i % 100 + 1);
}

static bool filled(const char *p, size_t first, size_t end)
{
    for (size_t i = first; i < end; i++) {
        if (p[i * PAGE] != (char)(i % 100 + 1))
            return false;
    }
    return true;
}

static jmp_buf no_memory;
static bool preparing; // and memory may be too little for that
static bool ran_out;   // it was, for the case

static void must(bool done)
{
    if (!done && preparing)
        longjmp(no_memory, 1);
    if (!done)
        abort();
}

static void nothing(void)
{
}

static void sixteen(void)
{
    must(gn_map(base, N * PAGE, RW, GN_FIXED) == base);
    fill(base, N);
}

static void unpromised(void)
{
    must(room() > N + 20); // no call says so later
    must(gn_map(base, N * PAGE, RW, GN_FIXED | GN_NORESERVE) == base);
    fill(base, N);
}

static void aliased(void)
{
    sixteen();
    made = gn_alias(base, N * PAGE, RW);
    must(made != NULL);
}

static void huge(void)
{
    must(gn_map(base, 2 * HUGE, RW, GN_FIXED) == base);
    fill(base, 2 * HUGE / PAGE);
    must(gn_advise(base, 2 * HUGE, GN_PROMOTE) == 2);
}

static void watched(void)
{
    sixteen();
    watcher = gn_watch_new();
    must(watcher >= 0 && gn_watch(watcher, base) == 0);
}

static void unwatched(void)
{
    sixteen();
    watcher = gn_watch_new();
    must(watcher >= 0);
}

static void reserved(void)
{
    must(gn_map(base, 2 * HUGE, GN_NONE, GN_FIXED) == base);
}

static void fresh(void)
{
    must(gn_map(base, 100 * PAGE, RW, GN_FIXED) == base);
}

static void fresh_huge(void)
{
    must(gn_map(base, 2 * HUGE, RW, GN_FIXED) == base);
}

static void mapped_none(void)
{
    sixteen();
    must(gn_protect(base, N * PAGE, GN_NONE) == 0);
}

static void snapped(void)
{
    sixteen();
    made = gn_snapshot(base, N * PAGE);
    must(made != NULL);
}

// A call that returns a pointer, as one that returns a negative errno.
static long pointer(char *p)
{
    int err = errno;

    if (p != NULL)
        made = p;
    return p != NULL ? 0 : -err;
}

static long do_map(void)
{
    return pointer(gn_map(base, N * PAGE, RW, GN_FIXED | GN_SPARSE));
}

static long do_reserve(void)
{
    return pointer(gn_reserve(4 * HUGE));
}

static long do_map_named(void)
{
    return pointer(gn_map_named(base, N * PAGE, RW, GN_FIXED, "a name"));
}

// Registers that every machine has, and what lies behind: two page tables.
static long do_map_device(void)
{
    return pointer(gn_map_device(IOAPIC, HUGE + 2 * PAGE, GN_READ | GN_WRITE,
                                 "registers"));
}

static long do_watch_new(void)
{
    watcher = gn_watch_new();
    return watcher < 0 ? watcher : 0;
}

static long do_watch_end(void)
{
    long err = gn_watch_end(watcher);

    if (err == 0) {
        ended = watcher;
        watcher = -1;
    }
    return err;
}

static long do_unmap(void)
{
    return gn_unmap(base, N * PAGE);
}

static long do_unmap_part(void)
{
    return gn_unmap(base + 4 * PAGE, 4 * PAGE);
}

static long do_protect_all(void)
{
    return gn_protect(base, N * PAGE, GN_READ);
}

static long do_protect_huge(void)
{
    return gn_protect(base, 2 * HUGE, GN_READ);
}

static long do_give_rights(void)
{
    return gn_protect(base, N * PAGE, RW);
}

static long do_give_rights_huge(void)
{
    return gn_protect(base, 2 * HUGE, RW);
}

static long do_protect_part(void)
{
    return gn_protect(base + 4 * PAGE, 4 * PAGE, GN_READ);
}

static long do_commit(void)
{
    return gn_commit(base + HUGE / 2, HUGE, RW);
}

static long do_decommit(void)
{
    return gn_decommit(base + 4 * PAGE, 4 * PAGE);
}

static long do_discard(void)
{
    return gn_advise(base + 4 * PAGE, 4 * PAGE, GN_DISCARD);
}

static long do_populate(void)
{
    return gn_advise(base, 100 * PAGE, GN_POPULATE);
}

// Every page gets its right to store back, and so a frame of its own.
static long do_populate_shared(void)
{
    return gn_advise(base, N * PAGE, GN_POPULATE);
}

static long do_promote(void)
{
    long n = gn_advise(base, 2 * HUGE, GN_PROMOTE);

    return n < 0 ? n : 0;
}

static long do_move(void)
{
    return pointer(gn_remap(base, N * PAGE, N * PAGE, GN_FIXED, there + PAGE));
}

static long do_grow(void)
{
    return pointer(gn_remap(base, N * PAGE, 40 * PAGE, GN_FIXED, there));
}

static long do_shrink(void)
{
    return pointer(gn_remap(base, N * PAGE, 4 * PAGE, 0, NULL));
}

static long do_shrink_part(void)
{
    return pointer(gn_remap(base + 4 * PAGE, 8 * PAGE, 2 * PAGE, 0, NULL));
}

static long do_move_huge(void)
{
    return pointer(
        gn_remap(base, 2 * HUGE, HUGE + 3 * PAGE, GN_FIXED, there + PAGE));
}

static long do_alias(void)
{
    return pointer(gn_alias(base, N * PAGE, GN_READ));
}

static long do_alias_huge(void)
{
    return pointer(gn_alias(base, HUGE, RW));
}

static long do_snapshot(void)
{
    return pointer(gn_snapshot(base, N * PAGE));
}

static long do_snapshot_huge(void)
{
    return pointer(gn_snapshot(base, 2 * HUGE));
}

static long do_watch(void)
{
    return gn_watch(watcher, base);
}

static long do_collect(void)
{
    static void *pages[4];

    base[0] = 1;
    long n = gn_watch_collect(watcher, base, pages, 4);

    return n == 1 ? 0 : n < 0 ? n : -EIO;
}

// ---- <sys/mman.h> ----

static long posix_pointer(void *p)
{
    return p == MAP_FAILED ? -errno : pointer(p);
}

static long posix(int r)
{
    return r == 0 ? 0 : -errno;
}

static long mmap_with(int flags)
{
    return posix_pointer(mmap(base, N * PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0));
}

static long do_mmap(void)
{
    return mmap_with(MAP_FIXED_NOREPLACE | MAP_POPULATE);
}

static long do_mmap_over(void)
{
    return mmap_with(MAP_FIXED);
}

static long do_munmap(void)
{
    return posix(munmap(base + 4 * PAGE, 4 * PAGE));
}

static long do_mprotect(void)
{
    return posix(mprotect(base + 4 * PAGE, 4 * PAGE, PROT_READ));
}

static long do_mremap(void)
{
    return posix_pointer(mremap(base, N * PAGE, 40 * PAGE,
                                MREMAP_MAYMOVE | MREMAP_FIXED, there));
}

static long do_madvise(void)
{
    return posix(madvise(base, 100 * PAGE, MADV_POPULATE_WRITE));
}

static long do_madvise_huge(void)
{
    return posix(madvise(base, 2 * HUGE, MADV_HUGEPAGE));
}

// ---- what is there ----

// The contents that say whether the call has done its work, or nothing.
static bool at_base(void)
{
    return filled(base, 0, N);
}

static bool base_huge(void)
{
    return filled(base, 0, 2 * HUGE / PAGE);
}

static bool no_base(void)
{
    struct gn_where w;

    gn_where(base, &w);
    return w.kind == GN_KIND_NOTHING;
}

// What MAP_FIXED replaces is gone before it is known whether there is memory for
// the new, as on Linux.
static bool at_base_or_gone(void)
{
    return no_base() || at_base();
}

static bool one_part_gone(void)
{
    struct gn_where w;

    gn_where(base + 5 * PAGE, &w);
    return !w.mapped && filled(base, 0, 4) && filled(base, 8, N);
}

static bool discarded(void)
{
    return base[5 * PAGE] == 0 && filled(base, 0, 4) && filled(base, 8, N);
}

static bool read_only_part(void)
{
    struct gn_where w;

    gn_where(base + 5 * PAGE, &w);
    return w.prot == GN_READ && at_base();
}

static bool huge_part_gone(void)
{
    return base[5 * PAGE] == 0 && filled(base, 0, 4) &&
           filled(base, 8, 2 * HUGE / PAGE);
}

static bool is_reserve(void)
{
    struct gn_where w;

    gn_where(base + HUGE / 2, &w);
    return w.prot == GN_NONE;
}

static bool is_committed(void)
{
    return base[HUGE] == 0;
}

static bool all_there(void)
{
    return base[0] == 0 && base[99 * PAGE] == 0;
}

static bool moved(void)
{
    return no_base() && filled(made, 0, N);
}

static bool moved_huge(void)
{
    return no_base() && filled(made, 0, HUGE / PAGE + 3);
}

static bool shrunk(void)
{
    return filled(base, 0, 4);
}

static bool part_shrunk(void)
{
    struct gn_where w;

    gn_where(base + 6 * PAGE, &w);
    return w.kind == GN_KIND_NOTHING && w.end == (uintptr_t)base + 12 * PAGE &&
           filled(base, 0, 6) && filled(base, 12, N);
}

static bool two_views(void)
{
    base[3 * PAGE] = 99;
    bool same = made[3 * PAGE] == 99;

    base[3 * PAGE] = 4;
    return same && at_base() && filled(made, 0, N);
}

static bool copied(void)
{
    base[3 * PAGE] = 99;
    bool other = filled(made, 0, N);

    base[3 * PAGE] = 4;
    return other && at_base();
}

static bool copied_huge(void)
{
    return base_huge() && filled(made, 0, 2 * HUGE / PAGE);
}

static bool alias_alone(void)
{
    return no_base() && filled(made, 0, N);
}

static bool mapped_zero(void)
{
    return base[0] == 0 && base[5 * PAGE] == 0;
}

static unsigned rights_of(const char *p)
{
    struct gn_where w;

    gn_where(p, &w);
    return (unsigned)w.prot;
}

// Contents can't be looked at without rights: they are, after the call.
static bool no_rights(void)
{
    return rights_of(base) == GN_NONE;
}

static bool writable(void)
{
    base[2 * PAGE] = 3;
    return rights_of(base) == RW && at_base();
}

static bool writable_huge(void)
{
    base[HUGE] = 0;
    return is_committed();
}

static bool read_only(void)
{
    return rights_of(base) == GN_READ && at_base();
}

static bool read_only_huge(void)
{
    return rights_of(base) == GN_READ && base_huge();
}

static bool snapshot_as_before(void)
{
    return at_base() && filled(made, 0, N);
}

static bool named(void)
{
    struct gn_where w;

    gn_where(base + PAGE, &w);
    return strcmp(w.name, "a name") == 0 && mapped_zero();
}

static bool nothing_made(void)
{
    return made == NULL && pt_tables() == tables;
}

// Of its registers the first selects another.
static bool has_registers(void)
{
    volatile uint32_t *selects = (void *)made;
    struct gn_where w;

    gn_where(made, &w);
    *selects = 1;
    bool stays = (*selects & 0xff) == 1;

    return stays && w.kind == GN_KIND_DEVICE && w.mapped &&
           w.frame == IOAPIC / PAGE && strcmp(w.name, "registers") == 0;
}

// Address space and nothing else: it can be made memory anywhere.
static bool is_reserved(void)
{
    struct gn_where w;
    char *last = made + 4 * HUGE - PAGE;

    gn_where(made, &w);
    if (w.prot != GN_NONE || w.start != (uintptr_t)made ||
        w.end != w.start + 4 * HUGE || w.mapped ||
        gn_commit(last, PAGE, RW) != 0)
        return false;
    *last = 7;
    return last[1] == 0 && *last == 7 && rights_of(made) == GN_NONE &&
           gn_resident(made, 4 * HUGE) == PAGE;
}

static bool no_watcher(void)
{
    return watcher < 0;
}

// There is memory for what a watcher is for.
static void watchable(void)
{
    watched();
    end_case();
}

static bool watches(void)
{
    must(gn_map(base, N * PAGE, RW, GN_FIXED) == base);
    return gn_watch(watcher, base) == 0 && do_collect() == 0;
}

static bool still_watches(void)
{
    return do_collect() == 0 && at_base();
}

static bool watches_no_more(void)
{
    void *page;

    return gn_watch_collect(ended, base, &page, 1) == -EINVAL && at_base();
}

static const struct {
    const char *name;
    void (*prepare)(void);
    long (*call)(void);
    bool (*before)(void), (*after)(void);
} cases[] = {
    {"map", nothing, do_map, no_base, mapped_zero},
    {"map, named", nothing, do_map_named, no_base, named},
    {"map of a device", nothing, do_map_device, nothing_made, has_registers},
    {"reserve", nothing, do_reserve, nothing_made, is_reserved},
    {"unmap what has an alias", aliased, do_unmap, at_base, alias_alone},
    {"unmap a part", sixteen, do_unmap_part, at_base, one_part_gone},
    {"protect all", sixteen, do_protect_all, at_base, read_only},
    {"protect all, watched", watched, do_protect_all, at_base, read_only},
    {"protect large pages", huge, do_protect_huge, base_huge, read_only_huge},
    {"give rights back", mapped_none, do_give_rights, no_rights, writable},
    {"give rights", reserved, do_give_rights_huge, is_reserve, writable_huge},
    {"protect a part", sixteen, do_protect_part, at_base, read_only_part},
    {"protect a watched part", watched, do_protect_part, at_base,
     read_only_part},
    {"commit", reserved, do_commit, is_reserve, is_committed},
    {"decommit", sixteen, do_decommit, at_base, one_part_gone},
    {"discard", sixteen, do_discard, at_base, discarded},
    {"discard in large pages", huge, do_discard, base_huge, huge_part_gone},
    {"populate", fresh, do_populate, all_there, all_there},
    {"populate what is shared", snapped, do_populate_shared, snapshot_as_before,
     copied},
    {"promote", huge, do_promote, base_huge, base_huge},
    {"promote what is cut", reserved, do_promote, is_reserve, is_reserve},
    {"remap", sixteen, do_move, at_base, moved},
    {"remap, grown", sixteen, do_grow, at_base, moved},
    {"remap of an alias, grown", aliased, do_grow, at_base, moved},
    {"remap, shrunk", sixteen, do_shrink, at_base, shrunk},
    {"remap, a part shrunk", sixteen, do_shrink_part, at_base, part_shrunk},
    {"remap without a promise", unpromised, do_move, at_base, moved},
    {"snapshot without a promise", unpromised, do_snapshot, at_base, copied},
    {"remap of large pages", huge, do_move_huge, base_huge, moved_huge},
    {"alias", sixteen, do_alias, at_base, two_views},
    {"alias of large pages", huge, do_alias_huge, base_huge, base_huge},
    {"snapshot", sixteen, do_snapshot, at_base, copied},
    {"snapshot of a snapshot", snapped, do_snapshot, at_base, copied},
    {"snapshot of large pages", huge, do_snapshot_huge, base_huge, copied_huge},
    {"watcher", watchable, do_watch_new, no_watcher, watches},
    {"end of a watcher", watched, do_watch_end, still_watches, watches_no_more},
    {"watch", unwatched, do_watch, at_base, at_base},
    {"collect", watched, do_collect, at_base, at_base},
    {"mmap", nothing, do_mmap, no_base, mapped_zero},
    {"mmap over another", sixteen, do_mmap_over, at_base_or_gone, mapped_zero},
    {"munmap of a part", sixteen, do_munmap, at_base, one_part_gone},
    {"mprotect of a part", sixteen, do_mprotect, at_base, read_only_part},
    {"mremap, grown", sixteen, do_mremap, at_base, moved},
    {"madvise: populate", fresh, do_madvise, all_there, all_there},
    {"madvise: large pages", fresh_huge, do_madvise_huge, all_there, all_there},
};

static void end_case(void)
{
    if (watcher >= 0)
        gn_watch_end(watcher);
    watcher = -1;
    made = NULL;
    // All of what programs map: the heap's region is not of it.
    struct gn_where w;
    uintptr_t at = 0;

    do {
        gn_where((void *)at, &w);
        if (w.kind == GN_KIND_REGION || w.kind == GN_KIND_ALIAS ||
            w.kind == GN_KIND_SNAPSHOT ||
            (w.kind == GN_KIND_DEVICE && w.start < ARCH_REGION_END))
            must(gn_unmap((void *)w.start, w.end - w.start) == 0);
    } while ((at = w.end) != 0);
}

static unsigned wrong;

static void complain(size_t i, uint64_t nth, bool on, const char *what)
{
    wrong++;
    printf("# %s, request %lu%s: %s\n", cases[i].name, (unsigned long)nth,
           on ? "+" : "", what);
}

// Returns false if there is no memory for it.
static bool prepare(size_t i)
{
    if (setjmp(no_memory) != 0) {
        preparing = false;
        return false;
    }
    preparing = room() < MUCH;
    cases[i].prepare();
    preparing = false;
    return true;
}

// The nth request fails (0: none). Returns false when the call makes fewer, or
// memory is too little for the case: it has run out then.
static bool fail_at(size_t i, uint64_t nth, bool on)
{
    bool little = room() < MUCH;
    struct accounts empty = accounts();

    if (!prepare(i)) {
        ran_out = true;
        end_case();
        return false;
    }
    arch_on_system_stack(even_refill, NULL);
    arch_on_system_stack(even_take, NULL);
    tables = pt_tables();
    mm_fail_at(nth, on);
    long err = cases[i].call();
    bool failed = nth != 0 && mm_has_failed();

    mm_fail_at(0, false);
    arch_on_system_stack(even_give, NULL);
    mm_check();
    if (err == -ENOMEM && !failed && little) {
        ran_out = true;
        if (!cases[i].before())
            complain(i, nth, on, "the refused call has changed something");
    } else if (err != 0) {
        if (err != -ENOMEM || !failed)
            complain(i, nth, on, "a wrong error");
        if (!cases[i].before())
            complain(i, nth, on, "the failed call has changed something");
        err = cases[i].call();
        ran_out = err == -ENOMEM && little;
        mm_check();
    }
    if (!ran_out && (err != 0 || !cases[i].after()))
        complain(i, nth, on, "the call has not done its work");
    end_case();
    mm_check();
    struct accounts end = accounts();

    if (end.frames != empty.frames || end.committed != empty.committed) {
        complain(i, nth, on, "something is lost");
        printf("# frames %lu, were %lu; promises %lu, were %lu\n",
               (unsigned long)end.frames, (unsigned long)empty.frames,
               (unsigned long)end.committed, (unsigned long)empty.committed);
    }
    return failed && !ran_out;
}

// Returns how many points there were.
static unsigned fail_all_of(size_t i)
{
    unsigned points = 0;

    ran_out = false;
    fail_at(i, 0, false); // what is made once for all: tables, batches
    for (int on = 0; on <= 1; on++) {
        uint64_t nth = 1;

        while (!ran_out && fail_at(i, nth, on))
            nth++;
        points += (unsigned)nth - 1;
    }
    printf("# %s: %u points%s\n", cases[i].name, points,
           !ran_out     ? ""
           : points > 0 ? ", then too little memory"
                        : "; left out, too little memory");
    return points;
}

static void each_request_fails_in_turn(void)
{
    unsigned points = 0, least = 0;

    sixteen(); // what this CPU needs to give memory back stays
    end_case();
    while (recorded[least].pages > room())
        least++;
    printf("# %lu pages can be promised\n", (unsigned long)room());
    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        points += fail_all_of(i);
    IS(wrong, 0, "each request for a frame fails in turn: all is as before");
    ok(points >= recorded[least].points, "%u points failed", points);
}

int main(void)
{
    gn_cpu_stay(0);
    accounts_start();
    each_request_fails_in_turn();
    return tap_end();
}
