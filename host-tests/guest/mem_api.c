// <gneiss/mem.h>: every call, what it does and how it fails. <sys/mman.h> is in
// mem_mman.c.
//
// What a forbidden access does is shown by mustdie.c; here gn_where says whether
// one would be possible.

#include <gneiss/cpu.h>
#include <unistd.h>

#include "host-tests/guest/mem_test.h"
#include "host-tests/guest/par.h"
#include "host-tests/guest/settle.h"

#include "mm/mm.h"

// ---- map, unmap, protect ----

static void *heap_object;

static void test_map(void)
{
    char *p = gn_map(NULL, 1, RW, 0), *q;

    ok(p != NULL && (uintptr_t)p % PAGE == 0, "map: 1 byte is a page");
    IS(look(p).end - look(p).start, PAGE, "map: the length is rounded up");
    ok(get(p) == 0 && get(p + PAGE - 1) == 0, "map: reads as zero");
    put(p, 1);
    ok(fails(gn_map(p, PAGE, RW, GN_FIXED), EEXIST), "map: FIXED, EEXIST");
    q = gn_map(p, PAGE, RW, 0);
    ok(q != NULL && q != p, "map: a hint that is taken is passed over");
    ok(get(p) == 1, "map: and what lies there is untouched");
    IS(gn_unmap(q, PAGE), 0, "unmap");
    q = gn_map(p + 64 * PAGE, PAGE, GN_READ, 0);
    ok(q == p + 64 * PAGE, "map: a hint that is free is taken");
    ok(!look(q).writable && look(q).prot == GN_READ, "map: read-only");
    IS(gn_unmap(q, PAGE), 0, "unmap");
    q = gn_map(p + 64 * PAGE, PAGE, RW, GN_FIXED);
    ok(q == p + 64 * PAGE, "map: FIXED");
    IS(gn_unmap(q, 1), 0, "unmap: the length is rounded up");
    ok(look(q).kind == GN_KIND_NOTHING, "unmap: nothing is left");
    q = gn_map((void *)12345, PAGE, RW, 0);
    ok(q != NULL, "map: a hint that can't be is passed over");
    gn_unmap(q, PAGE);
    q = gn_map(NULL, 3 * HUGE, RW, GN_NORESERVE);
    ok((uintptr_t)q % HUGE == 0, "map: large mappings are aligned to 2 MiB");
    gn_unmap(q, 3 * HUGE);
    q = gn_map_named(NULL, PAGE, GN_WRITE, 0, "some name");
    ok(strcmp(look(q).name, "some name") == 0 && look(q).prot == RW,
       "map: a name; writing implies reading");
    gn_unmap(q, PAGE);
    gn_unmap(p, PAGE);
}

static void test_map_errors(void)
{
    size_t huge = (size_t)1 << 46;

    ok(fails(gn_map(NULL, 0, RW, 0), EINVAL), "map: length 0");
    ok(fails(gn_map(NULL, SIZE_MAX, RW, 0), ENOMEM), "map: SIZE_MAX");
    ok(fails(gn_map(NULL, SIZE_MAX - 4096, RW, 0), ENOMEM), "map: nearly");
    ok(fails(gn_map(NULL, huge, GN_NONE, 0), ENOMEM), "map: 64 TiB");
    ok(fails(gn_map(NULL, stats().frames_total * PAGE, RW, 0), ENOMEM),
       "map: all memory can't be promised");
    ok(fails(gn_map(NULL, PAGE, 64, 0), EINVAL), "map: unknown rights");
    ok(fails(gn_map(NULL, PAGE, GN_WRITE | GN_EXEC, 0), EACCES), "map: W^X");
    ok(fails(gn_map(NULL, PAGE, RW, 1024), EINVAL), "map: unknown flag");
    ok(fails(gn_map((void *)1, PAGE, RW, GN_FIXED), EINVAL), "map: unaligned");
    ok(fails(gn_map((void *)PAGE, PAGE, RW, GN_FIXED), EINVAL), "map: at 4096");
    ok(fails(gn_map((void *)look((void *)(uintptr_t)test_map).start, PAGE, RW,
                    GN_FIXED),
             EINVAL),
       "map: over the image");
    ok(fails(gn_map((void *)look(heap_object).start, PAGE, RW, GN_FIXED),
             EEXIST),
       "map: over the heap");
}

static void test_unmap(void)
{
    char *p = map(8, 0), local;

    memset(p, 7, 8 * PAGE);
    IS(gn_unmap(p + 2 * PAGE, 2 * PAGE), 0, "unmap: a part in the middle");
    ok(!look(p + 2 * PAGE).mapped && !look(p + 3 * PAGE).mapped &&
           get(p + PAGE) == 7 && get(p + 4 * PAGE) == 7,
       "unmap: it and nothing else");
    IS(gn_unmap(p, 8 * PAGE), 0, "unmap: holes are fine");
    IS(gn_unmap(p, 8 * PAGE), 0, "unmap: twice is fine");
    IS(gn_unmap(p, 0), -EINVAL, "unmap: length 0");
    IS(gn_unmap(p + 1, PAGE), -EINVAL, "unmap: unaligned");
    IS(gn_unmap(p, SIZE_MAX), -EINVAL, "unmap: SIZE_MAX");
    IS(gn_unmap(NULL, PAGE), -EINVAL, "unmap: NULL");
    // As the header says: it is the runtime's.
    void *stack = (void *)look(&local).start;

    IS(gn_unmap(stack, PAGE), -EPERM, "unmap: a stack");
    IS(gn_protect(stack, PAGE, GN_READ), -EPERM, "protect: a stack");
    ok(fails(gn_alias(stack, PAGE, GN_READ), EPERM), "alias: a stack");
    IS(gn_unmap((void *)look(heap_object).start, PAGE), -EPERM,
       "unmap: malloc's heap");
    IS(gn_unmap((void *)look((void *)(uintptr_t)test_unmap).start, PAGE),
       -EINVAL, "unmap: the image");
}

static void test_protect(void)
{
    char *p = map(4, 0);

    memset(p, 5, 4 * PAGE);
    IS(gn_protect(p + PAGE, PAGE, GN_READ), 0, "protect: read-only");
    ok(!look(p + PAGE).writable && look(p).writable && get(p + PAGE) == 5,
       "protect: that page only");
    IS(gn_protect(p + PAGE, 2 * PAGE, GN_NONE), 0, "protect: none");
    ok(!look(p + PAGE).mapped && look(p + PAGE).prot == GN_NONE,
       "protect: not to be read");
    IS(gn_protect(p, 4 * PAGE, RW), 0, "protect: back, across parts");
    ok(get(p + PAGE) == 5 && get(p + 2 * PAGE) == 5, "protect: contents stay");
    put(p + PAGE, 6);
    ok(get(p + PAGE) == 6, "protect: and can be stored to");
    IS(gn_protect(p, PAGE, GN_EXEC), 0, "protect: to execute");
    ok(look(p).executable && !look(p).writable, "protect: not to store");
    IS(gn_protect(p, PAGE, GN_WRITE | GN_EXEC), -EACCES, "protect: W^X");
    IS(gn_protect(p, PAGE, 8), -EINVAL, "protect: unknown rights");
    IS(gn_protect(p, 0, RW), -EINVAL, "protect: length 0");
    IS(gn_protect(p + 8, PAGE, RW), -EINVAL, "protect: unaligned");
    gn_unmap(p + PAGE, PAGE);
    IS(gn_protect(p, 4 * PAGE, GN_READ), -ENOMEM, "protect: a hole");
    IS(gn_protect((void *)look(heap_object).start, PAGE, GN_READ), -EPERM,
       "protect: malloc's heap");
    gn_unmap(p, 4 * PAGE);
}

// ---- reserve, commit, decommit ----

static void test_reserve(void)
{
    uint64_t before = stats().committed;
    size_t tera = (size_t)1 << 40;
    char *p = gn_reserve(tera);

    ok(p != NULL && stats().committed == before,
       "reserve: 1 TiB costs no promise");
    ok(!look(p).mapped && look(p).prot == GN_NONE, "reserve: no rights");
    IS(gn_commit(p + HUGE, 10 * PAGE, RW), 0, "commit");
    ok(stats().committed >= before + 10, "commit: promises");
    put(p + HUGE, 3);
    IS(gn_commit(p + HUGE, 20 * PAGE, RW), 0, "commit: more");
    ok(get(p + HUGE) == 3, "commit: twice keeps the contents");
    IS(gn_decommit(p + HUGE, 20 * PAGE), 0, "decommit");
    ok(!look(p + HUGE).mapped && look(p + HUGE).prot == GN_NONE,
       "decommit: access faults again");
    IS(stats().committed, before, "decommit: gives the promise back");
    IS(gn_commit(p + HUGE, PAGE, RW), 0, "commit: again");
    IS(get(p + HUGE), 0, "decommit: the contents were gone");
    IS(gn_commit(p, PAGE, GN_NONE), -EINVAL, "commit: no rights");
    IS(gn_commit(p, tera, RW), -ENOMEM, "commit: too much");
    IS(gn_commit(p + 1, PAGE, RW), -EINVAL, "commit: unaligned");
    IS(gn_unmap(p, tera), 0, "unmap: all of it");
    IS(gn_commit(p, PAGE, RW), -ENOMEM, "commit: nothing reserved");
    IS(gn_decommit(p, PAGE), -ENOMEM, "decommit: nothing there");
    IS(gn_decommit(p, 0), -EINVAL, "decommit: length 0");
    ok(fails(gn_reserve(0), EINVAL), "reserve: length 0");
    IS(stats().committed, before, "reserve: accounts are as before");
    p = map(2 * stats().frames_total, GN_NORESERVE);
    ok(p != NULL && stats().committed == before,
       "map: NORESERVE promises nothing");
    gn_unmap(p, 2 * stats().frames_total * PAGE);
}

// Nearly all is promised; memory without a promise gets the rest, and no more.
static void test_noreserve(void)
{
    uint64_t before = stats().committed, left = stats().commit_limit - before;
    size_t rest = left / 4 < 256 ? left / 4 : 256;
    size_t n = left - rest - left / 512 - 4;
    char *q = map(n, 0), *p = map(left, GN_NORESERVE);

    ok(q != NULL && p != NULL, "noreserve: mapped");
    IS(gn_advise(p, left * PAGE, GN_POPULATE), -ENOMEM, "noreserve: not all");
    ok(gn_resident(p, left * PAGE) <= 2 * rest * PAGE, "noreserve: the rest");
    ok(stats().committed <= stats().commit_limit, "noreserve: it counts");
    for (size_t i = 0; i < n; i += n < 8 * 256 ? 1 : n / 256)
        put(q + i * PAGE, 1);
    gn_unmap(p, left * PAGE);
    gn_unmap(q, n * PAGE);
    IS(stats().committed, before, "noreserve: accounts are as before");
}

// ---- remap ----

static void test_remap(void)
{
    char *p = map(8, 0), *q, *to;
    uint64_t moves = stats().moves, frame;

    fill(p, 8);
    frame = look(p + 3 * PAGE).frame;
    ok(gn_remap(p, 8 * PAGE, 8 * PAGE, 0, NULL) == p, "remap: same length");
    q = gn_remap(p, 8 * PAGE, 8 * PAGE, GN_MOVE, NULL);
    ok(q != NULL && q != p && filled(q, 8), "remap: moved");
    IS(look(q + 3 * PAGE).frame, frame, "remap: the frames are the same");
    ok(look(p).kind == GN_KIND_NOTHING, "remap: nothing is left behind");
    IS(stats().moves - moves, 1, "remap: counted");
    p = gn_remap(q, 8 * PAGE, 20 * PAGE, GN_MAYMOVE, NULL);
    ok(p != NULL && filled(p, 8) && get(p + 8 * PAGE) == 0,
       "remap: grown, zero behind");
    q = gn_remap(p, 20 * PAGE, 3 * PAGE, 0, NULL);
    ok(q == p && filled(p, 3) && look(p + 3 * PAGE).kind == GN_KIND_NOTHING,
       "remap: shrunk in place");
    to = p + 100 * PAGE;
    q = gn_remap(p, 3 * PAGE, 2 * PAGE, GN_FIXED, to);
    ok(q == to && filled(q, 2), "remap: FIXED, and shrunk");
    p = gn_remap(q + PAGE, PAGE, PAGE, GN_MOVE, NULL);
    ok(p != NULL && *(size_t *)p == 1 && *(size_t *)q == 0,
       "remap: a part of a mapping");
    ok(fails(gn_remap(q, PAGE, PAGE, GN_FIXED, p), EEXIST),
       "remap: FIXED, EEXIST");
    ok(fails(gn_remap(q, PAGE, PAGE, GN_FIXED, q), EINVAL), "remap: overlap");
    ok(fails(gn_remap(q, PAGE, PAGE, GN_FIXED, p + 1), EINVAL),
       "remap: unaligned target");
    ok(fails(gn_remap(q, PAGE, 0, 0, NULL), EINVAL), "remap: new length 0");
    ok(fails(gn_remap(q, 0, PAGE, 0, NULL), EINVAL), "remap: old length 0");
    ok(fails(gn_remap(q, PAGE, PAGE, 1024, NULL), EINVAL), "remap: flags");
    put(q, 7);
    ok(gn_remap(q, PAGE, 4 * PAGE, 0, NULL) == q && get(q) == 7 &&
           get(q + 3 * PAGE) == 0,
       "remap: grown in place");
    ok(gn_remap(q, 4 * PAGE, PAGE, 0, NULL) == q, "remap: and shrunk again");
    to = gn_map(q + 2 * PAGE, PAGE, RW, GN_FIXED);
    ok(to != NULL && fails(gn_remap(q, PAGE, 2 * PAGE, 0, NULL), ENOMEM),
       "remap: no room in place");
    gn_unmap(to, PAGE);
    ok(fails(gn_remap(q, PAGE, SIZE_MAX, GN_MAYMOVE, NULL), ENOMEM),
       "remap: SIZE_MAX");
    ok(fails(gn_remap(q, PAGE, stats().frames_total * PAGE, GN_MAYMOVE, NULL),
             ENOMEM) &&
           get(q) == 7,
       "remap: more than there is");
    ok(fails(gn_remap(q, 2 * PAGE, PAGE, GN_MOVE, NULL), ENOMEM),
       "remap: a hole");
    ok(fails(gn_remap(q, 2 * PAGE, PAGE, 0, NULL), ENOMEM) &&
           fails(gn_remap(q + PAGE, PAGE, PAGE, 0, NULL), ENOMEM) &&
           get(q) == 7,
       "remap: in place, too");
    to = gn_map(q + PAGE, PAGE, GN_READ, GN_FIXED);
    ok(to != NULL && fails(gn_remap(q, 2 * PAGE, PAGE, 0, NULL), EINVAL) &&
           fails(gn_remap(q, 2 * PAGE, 2 * PAGE, GN_MAYMOVE, NULL), EINVAL) &&
           get(to) == 0,
       "remap: two mappings");
    gn_unmap(to, PAGE);
    ok(fails(
           gn_remap((void *)look(heap_object).start, PAGE, PAGE, GN_MOVE, NULL),
           EPERM),
       "remap: malloc's heap");
    gn_unmap(p, PAGE);
    gn_unmap(q, PAGE);
}

// ---- devices ----

static void test_device(void)
{
    uint64_t frames = known_now();
    volatile uint32_t *p =
        gn_map_device(0xfec00000, PAGE, GN_READ | GN_WRITE, "the IOAPIC");

    if (p == NULL) {
        ok(false, "device: mapped");
        return;
    }
    p[0] = 1; // its version
    ok((p[4] & 0xff) >= 0x11 && (p[4] & 0xff) < 0x30, "device: the IOAPIC");
    ok(look((void *)p).kind == GN_KIND_DEVICE && look((void *)p).users == 0,
       "device: its frame is nobody's");
    volatile uint32_t *q = gn_remap((void *)p, PAGE, PAGE, GN_MOVE, NULL);

    ok(q != NULL && (q[4] & 0xff) >= 0x11, "device: moved");
    IS(gn_protect((void *)q, PAGE, GN_READ), 0, "device: protected");
    ok((q[4] & 0xff) >= 0x11, "device: it is still there");
    IS(gn_decommit((void *)q, PAGE), -EPERM, "device: no memory to decommit");
    IS(gn_advise((void *)q, PAGE, GN_DISCARD), -EPERM, "device: nor discard");
    ok(fails(gn_alias((void *)q, PAGE, GN_READ), EPERM), "device: no alias");
    ok(fails(gn_snapshot((void *)q, PAGE), EPERM), "device: no snapshot");
    IS(gn_unmap((void *)q, PAGE), 0, "device: unmapped");
    ok(look((void *)q).kind == GN_KIND_NOTHING, "device: nothing is left");
    ok(fails(gn_map_device(0x100000, PAGE, GN_READ, NULL), EPERM),
       "device: RAM is none");
    ok(fails(gn_map_device(0xfec00001, PAGE, GN_READ, NULL), EINVAL),
       "device: unaligned");
    ok(fails(gn_map_device(UINT64_C(1) << 60, PAGE, GN_READ, NULL), EINVAL),
       "device: no such address");
    ok(fails(gn_map_device(0xfec00000, 0, GN_READ, NULL), EINVAL),
       "device: no length");
    ok(fails(gn_map_device(0xfec00000, PAGE, GN_NONE, NULL), EINVAL),
       "device: no rights");
    ok(fails(gn_map_device(0xfec00000, PAGE, GN_EXEC, NULL), EACCES),
       "device: not executable");
    IS(known_now(), frames, "device: no frame is lost");
}

// ---- neighbours ----

static void test_unite(void)
{
    char *p = map(8, 0), *q;
    size_t whole = look(p).end - look(p).start;

    gn_protect(p + 3 * PAGE, PAGE, GN_READ);
    ok(look(p).end == (uintptr_t)p + 3 * PAGE, "unite: cut");
    gn_protect(p + 3 * PAGE, PAGE, RW);
    ok(look(p).end - look(p).start == whole, "unite: whole again");
    q = gn_map_named(p + 8 * PAGE, 2 * PAGE, RW, GN_FIXED, "other");
    ok(look(p).end - look(p).start == whole, "unite: not with another name");
    gn_unmap(q, 2 * PAGE);
    q = gn_map(p + 8 * PAGE, 2 * PAGE, RW, GN_FIXED);
    ok(look(q).start == (uintptr_t)p && look(p).end == (uintptr_t)q + 2 * PAGE,
       "unite: mapped behind");
    fill(p, 10);
    q = gn_remap(p, 10 * PAGE, 10 * PAGE, GN_MOVE, NULL);
    ok(q != NULL && filled(q, 10), "unite: both move as one");
    gn_decommit(q + 4 * PAGE, PAGE);
    ok(gn_commit(q + 4 * PAGE, PAGE, RW) == 0 &&
           look(q).end == (uintptr_t)q + 10 * PAGE && filled(q, 4),
       "unite: after decommit and commit");
    gn_unmap(q, 10 * PAGE);
}

// ---- alias, snapshot ----

static void test_alias(void)
{
    char *p = map(4, 0), *a, *b;

    fill(p, 4);
    a = gn_alias(p, 4 * PAGE, RW);
    b = gn_alias(p + PAGE, PAGE, GN_READ);
    ok(a != NULL && filled(a, 4), "alias: shows the memory");
    put(a, 9);
    ok(get(p) == 9, "alias: stored at one, read at the other");
    put(p + 3 * PAGE, 8);
    ok(get(a + 3 * PAGE) == 8, "alias: and the other way");
    ok(b != NULL && *(size_t *)b == 1 && !look(b).writable,
       "alias: of a part, read-only");
    ok(look(p + PAGE).frame == look(b).frame && look(b).users == 3 &&
           look(b).views == 3,
       "alias: one frame, three users");
    IS(look(a).kind, GN_KIND_ALIAS, "alias: kind");
    gn_unmap(p, 4 * PAGE);
    ok(get(a) == 9 && *(size_t *)b == 1, "alias: outlives what it was made of");
    gn_unmap(a, 4 * PAGE);
    ok(*(size_t *)b == 1 && look(b).users == 1, "alias: the last view");
    gn_unmap(b, PAGE);
    p = map(2, GN_SPARSE);
    ok(get(p) == 0 && look(p).zero_frame, "sparse: shows the page of zeros");
    a = gn_alias(p, 2 * PAGE, RW);
    put(a, 4);
    ok(get(p) == 4, "alias: of sparse memory");
    gn_unmap(a, 2 * PAGE);
    gn_unmap(p, 2 * PAGE);
    ok(fails(gn_alias(p, PAGE, RW), ENOMEM), "alias: of nothing");
    ok(fails(gn_alias(p, 0, RW), EINVAL), "alias: length 0");
    ok(fails(gn_alias(p + 1, PAGE, RW), EINVAL), "alias: unaligned");
    ok(fails(gn_alias(p, PAGE, GN_WRITE | GN_EXEC), EACCES), "alias: W^X");
    ok(fails(gn_alias((void *)look(heap_object).start, PAGE, RW), EPERM),
       "alias: malloc's heap");
}

static void test_snapshot(void)
{
    size_t n = room_for(16, 4); // three times, and tables
    char *p = map(n, 0), *s, *t;
    uint64_t before = stats().committed;

    fill(p, 6);
    s = gn_snapshot(p, n * PAGE);
    ok(s != NULL && filled(s, 6) && get(s + 6 * PAGE) == 0,
       "snapshot: has the contents");
    ok(stats().committed >= before + n, "snapshot: is promised in full");
    ok(look(p).frame == look(s).frame && look(p).users == 2 && look(p).cow,
       "snapshot: shares the frames");
    IS(look(s).kind, GN_KIND_SNAPSHOT, "snapshot: kind");
    put(p, 77);
    put(s + PAGE, 78);
    put(p + 6 * PAGE, 79);
    ok(get(s) == 0 && *(size_t *)(p + PAGE) == 1 && get(s + 6 * PAGE) == 0,
       "snapshot: neither sees the other's stores");
    t = gn_snapshot(s, n * PAGE);
    gn_unmap(s, n * PAGE);
    ok(t != NULL && get(t + PAGE) == 78 && get(t) == 0,
       "snapshot: of a snapshot, which is gone");
    gn_unmap(p, n * PAGE);
    ok(*(size_t *)(t + 5 * PAGE) == 5, "snapshot: outlives the memory");
    gn_unmap(t, n * PAGE);
    ok(fails(gn_snapshot(p, PAGE), ENOMEM), "snapshot: of nothing");
    ok(fails(gn_snapshot(p, 0), EINVAL), "snapshot: length 0");
    ok(fails(gn_snapshot(p + 1, PAGE), EINVAL), "snapshot: unaligned");
    ok(fails(gn_snapshot((void *)look(heap_object).start, PAGE), EPERM),
       "snapshot: malloc's heap");
}

// ---- advice ----

static void test_advice(void)
{
    size_t n = room_for(64, 2);
    char *p = map(n, 0), *a;
    uint64_t before, free = known_now(), faults;

    IS(gn_advise(p, n * PAGE, GN_POPULATE), 0, "populate");
    IS(gn_resident(p, n * PAGE), n * PAGE, "populate: every page");
    faults = stats().faults;
    fill(p, n);
    IS(stats().faults - faults, 0, "populate: no fault comes later");
    a = gn_alias(p, PAGE, RW);
    before = stats().committed; // with the tables of the alias
    IS(gn_advise(p, n * PAGE, GN_DISCARD), 0, "discard");
    ok(gn_resident(p, n * PAGE) == 0 && stats().committed == before,
       "discard: frames go, the promise stays");
    IS(known_now(), free, "discard: the frames are free");
    ok(*(size_t *)(p + 5 * PAGE) == 0 && get(a) == 0,
       "discard: zero, all views");
    gn_unmap(a, PAGE);
    gn_protect(p, PAGE, GN_READ);
    IS(gn_advise(p, 2 * PAGE, GN_POPULATE), 0, "populate: read-only memory");
    ok(look(p).mapped && !look(p).writable, "populate: has a frame");
    gn_protect(p, PAGE, GN_NONE);
    gn_advise(p, PAGE, GN_DISCARD);
    IS(gn_advise(p, PAGE, GN_POPULATE), -EACCES, "populate: no rights");
    gn_unmap(p + 2 * PAGE, PAGE);
    IS(gn_advise(p + PAGE, 4 * PAGE, GN_POPULATE), -ENOMEM, "populate: a hole");
    IS(gn_advise(p, n * PAGE, GN_DISCARD), -ENOMEM, "discard: a hole");
    IS(gn_advise(p, PAGE, (enum gn_advice)9), -EINVAL, "advise: unknown");
    IS(gn_advise(p, 0, GN_DISCARD), -EINVAL, "advise: length 0");
    IS(gn_advise(p + 1, PAGE, GN_DISCARD), -EINVAL, "advise: unaligned");
    gn_unmap(p, n * PAGE);
}

static void test_promote(void)
{
    char *p;

    if (!has_large(2)) {
        // Nor would a promise of so much be kept.
        p = gn_map(NULL, 2 * HUGE, RW, GN_NORESERVE);
        put(p, 1);
        IS(gn_advise(p, 2 * HUGE, GN_PROMOTE), 0, "promote: no frames");
        ok(look(p).page_bytes == PAGE && get(p) == 1, "promote: as before");
        gn_unmap(p, 2 * HUGE);
        return;
    }
    p = gn_map(NULL, 2 * HUGE, RW, 0);
    fill(p, 100);
    IS(gn_advise(p, 2 * HUGE, GN_PROMOTE), 2, "promote: 2 large pages");
    ok(look(p).page_bytes == HUGE && filled(p, 100), "promote: same contents");
    IS(gn_resident(p, 2 * HUGE), 2 * HUGE, "promote: all of it has memory");
    IS(gn_advise(p, HUGE / 2, GN_PROMOTE), 0, "promote: less than a whole one");
    IS(gn_protect(p + PAGE, PAGE, GN_READ), 0, "promote: cut again");
    ok(look(p).page_bytes == PAGE && filled(p, 100), "promote: small pages");
    gn_unmap(p, 2 * HUGE);
}

// A table that is read in order stays empty.
static void test_sparse(void)
{
    size_t n = room_for(1000, 2);
    char *p = map(n, GN_SPARSE);
    bool zero = true;

    for (size_t i = 0; i < n; i++)
        zero = zero && get(p + i * PAGE) == 0;
    ok(zero && gn_resident(p, n * PAGE) == 0,
       "sparse: %zu pages read in order take no frame", n);
    put(p + n / 2 * PAGE, 1);
    ok(gn_resident(p, n * PAGE) == PAGE, "sparse: a store takes one");
    IS(gn_advise(p, n * PAGE, GN_POPULATE), 0, "sparse: populated");
    IS(gn_resident(p, n * PAGE), n * PAGE, "sparse: real frames");
    gn_unmap(p, n * PAGE);
}

// ---- watching ----

static void test_watch(void)
{
    size_t npages = room_for(200, 2), far = npages * 3 / 4, some = npages / 3;
    char *p = map(npages, 0);
    void *pages[200];
    int w = gn_watch_new(), v = gn_watch_new();

    fill(p, npages);
    ok(w >= 0 && v >= 0 && w != v, "watch: two watchers");
    IS(gn_watch(w, p + 5), 0, "watch: a mapping");
    IS(gn_watch(w, p), -EEXIST, "watch: twice");
    IS(gn_watch_collect(w, p, pages, 200), 0, "watch: old stores don't count");
    IS(gn_watch(v, p), 0, "watch: another watcher");
    put(p + 3 * PAGE, 1);
    put(p + far * PAGE + 17, 1);
    (void)get(p + 9 * PAGE);
    IS(gn_watch_collect(w, p, pages, 200), 2, "collect: two pages");
    ok(pages[0] == p + 3 * PAGE && pages[1] == p + far * PAGE,
       "collect: the right ones");
    IS(gn_watch_collect(w, p, pages, 200), 0, "collect: once");
    put(p + 3 * PAGE, 2);
    IS(gn_watch_collect(w, p, pages, 200), 1, "collect: a store after that");
    IS(gn_watch_collect(v, p, pages, 200), 2, "collect: each has its own");
    fill(p, npages);
    long n = gn_watch_collect(w, p, pages, some), sum = n;

    IS(n, some, "collect: no more than fit");
    for (int i = 0; i < 10 && n > 0; i++) {
        n = gn_watch_collect(w, p, pages, some);
        sum += n;
    }
    IS(sum, npages, "collect: the rest comes with the next calls");
    n = gn_watch_collect(v, p, pages, 200);
    IS(n, npages, "collect: all at once, for another");
    IS(gn_watch_collect(v, p, pages, 200), 0, "collect: once, for it too");
    for (int i = 0; i < 3; i++)
        put(p + i * PAGE, 3);
    IS(gn_watch_collect(w, p, pages, 1), 1, "collect: one of three");
    IS(gn_watch_collect(v, p, pages, 200), 3, "collect: all, for another");
    IS(gn_watch_collect(w, p, pages, 1), 1, "collect: one more");
    IS(gn_watch_collect(v, p, pages, 200), 0,
       "collect: what one leaves is no news for another");
    IS(gn_watch_collect(w, p, pages, 0), -EINVAL, "collect: no room");
    IS(gn_watch_end(v), 0, "watch: ended");
    IS(gn_watch_end(v), -EINVAL, "watch: ended twice");
    IS(gn_watch_collect(v, p, pages, 1), -EINVAL, "collect: ended");
    IS(gn_watch(99, p), -EINVAL, "watch: no such watcher");
    IS(gn_watch_end(-1), -EINVAL, "watch: -1");
    IS(gn_watch(w, NULL), -EINVAL, "watch: nothing there");
    IS(gn_watch(w, &w), -EINVAL, "watch: a stack");
    IS(gn_watch(w, heap_object), 0, "watch: malloc's heap");
    IS(gn_watch_end(w), 0, "watch: ended");
    for (n = 0; gn_watch_new() >= 0; n++)
        ;
    IS(n, 8, "watch: 8 watchers");
    IS(gn_watch_new(), -ENOSPC, "watch: and no more");
    for (int i = 0; i < 8; i++)
        gn_watch_end(i);
    gn_unmap(p, npages * PAGE);
}

// ---- looking ----

static int in_data = 1, in_bss;
static const int in_rodata = 1;

static void is_kind(const void *p, enum gn_kind kind)
{
    struct gn_where w = look(p);

    ok(w.kind == kind && w.name != NULL && (uintptr_t)p >= w.start &&
           ((uintptr_t)p < w.end || w.end == 0) &&
           w.offset == (uintptr_t)p - w.start,
       "where: %s", gn_kind_name(kind));
    if (w.kind != kind)
        printf("# %p is %s\n", p, gn_kind_name(w.kind));
}

static void test_where(void)
{
    int local;
    char *p = map(1, 0);
    struct gn_where w;

    in_data++;
    in_bss++;
    is_kind((void *)(uintptr_t)test_where, GN_KIND_TEXT);
    is_kind(&in_rodata, GN_KIND_RODATA);
    is_kind(&in_data, GN_KIND_DATA);
    is_kind(&in_bss, GN_KIND_BSS);
    is_kind(&local, GN_KIND_STACK);
    is_kind(heap_object, GN_KIND_HEAP);
    is_kind(p, GN_KIND_REGION);
    is_kind(NULL, GN_KIND_NIL);
    is_kind((void *)PAGE, GN_KIND_NOTHING);
    is_kind((void *)((uintptr_t)1 << 47), GN_KIND_NOTHING);
    is_kind((void *)UINTPTR_MAX, GN_KIND_NOTHING);
    is_kind((void *)(look(&local).start - 1), GN_KIND_GUARD);
    is_kind((void *)(ARCH_STACK_END - PAGE), GN_KIND_NOTHING);
    is_kind((void *)ARCH_DIRECT_BASE, GN_KIND_DIRECT);
    is_kind((void *)ARCH_META_BASE, GN_KIND_RUNTIME);
    is_kind((void *)ARCH_SLOTS_BASE, GN_KIND_RUNTIME);
    is_kind((void *)ARCH_HEAPMETA_BASE, GN_KIND_RUNTIME);
    is_kind((void *)ARCH_MMIO_BASE, GN_KIND_DEVICE);
    ok(look((void *)ARCH_SLOTS_BASE).end == ARCH_HEAPMETA_BASE,
       "where: the heap's tables have a range of their own");
    w = look((char *)(uintptr_t)test_where + 1);
    ok(w.symbol != NULL && strcmp(w.symbol, "test_where") == 0 &&
           w.symbol_offset == 1,
       "where: the function");
    w = look(&local);
    ok(w.goroutine == 1 && strcmp(w.name, "main") == 0, "where: whose stack");
    ok(strcmp(gn_kind_name((enum gn_kind)99), "?") == 0, "where: no such kind");
    w = look(p);
    ok(!w.mapped && w.page_bytes == 0 && w.prot == RW, "where: untouched");
    put(p, 1);
    w = look(p);
    ok(w.mapped && w.page_bytes == PAGE && w.users == 1 && w.readable &&
           w.writable && !w.executable && w.dirty && w.accessed && !w.cow &&
           !w.zero_frame && w.frame != 0,
       "where: touched");
    ok(look((char *)ARCH_DIRECT_BASE + w.frame * PAGE).frame == w.frame,
       "where: the direct map shows the same frame");
    gn_unmap(p, PAGE);
}

static void test_whole_space(void)
{
    uintptr_t at = 0;
    unsigned n = 0;
    bool right = true;

    do {
        struct gn_where w = look((void *)at);

        right = right && w.start == at && (w.end > at || w.end == 0);
        at = w.end;
    } while (right && at != 0 && ++n < 10000);
    ok(right && at == 0, "where: ranges cover the whole address space");
}

static void test_walk(void)
{
    char *p = map(4, 0);
    struct gn_walk_step s[4];
    unsigned n = gn_walk(p, s);

    ok(n >= 1 && !s[n - 1].present, "walk: ends where nothing is");
    put(p, 1);
    IS(gn_walk(p, s), 4, "walk: 4 levels");
    ok(s[0].level == 4 && s[3].level == 1 && s[3].leaf &&
           s[3].frame == look(p).frame,
       "walk: to the frame");
    IS(gn_walk((void *)((uintptr_t)1 << 47), s), 0, "walk: no address");
    n = gn_walk((void *)ARCH_DIRECT_BASE, s);
    ok(n >= 2 && s[n - 1].leaf, "walk: the direct map");
    IS(gn_resident(p + PAGE + 1, 0), 0, "resident: 0 bytes");
    IS(gn_resident(p + PAGE - 1, 2), PAGE, "resident: partial pages are whole");
    IS(gn_resident((void *)1, SIZE_MAX), 0, "resident: wraps around");
    ok(gn_resident((void *)look(p).start - HUGE,
                   ARCH_REGION_END - look(p).start) >= PAGE,
       "resident: over 16 TiB");
    gn_unmap(p, 4 * PAGE);
}

static void test_stats(void)
{
    struct gn_mem_stats a = stats(), b;
    char *p = map(1, 0);

    put(p, 1);
    b = stats();
    ok(a.frames_total > 0 && a.frames_free <= a.frames_total &&
           a.frames_cached <= a.frames_free &&
           a.frames_zeroed <= a.frames_cached,
       "stats: frames");
    IS(b.faults - a.faults, 1, "stats: a fault");
    IS(b.zero_fills - a.zero_fills, 1, "stats: a zero fill");
    ok(b.committed > a.committed && b.commit_limit >= b.committed,
       "stats: promises");
    ok(b.page_tables > 0, "stats: page tables");
    gn_unmap(p, PAGE);
}

// ---- CPUs ----

static _Atomic unsigned ran;

static void add_cpu(void *arg)
{
    if (gn_cpu_id() == (unsigned)(uintptr_t)arg)
        atomic_fetch_add(&ran, 1);
}

static void test_cpus(void)
{
    unsigned n = gn_cpu_count();
    bool right = true;

    IS(n, sysconf(_SC_NPROCESSORS_ONLN), "cpu: count");
    ok(gn_cpu_id() < n, "cpu: id");
    for (unsigned i = 0; i < n; i++)
        right = gn_cpu_start(i, add_cpu, (void *)(uintptr_t)i) == 0 && right;
    for (int i = 0; i < 2000 && atomic_load(&ran) < n; i++)
        usleep(1000);
    ok(right && atomic_load(&ran) == n, "cpu: one on each");
    IS(gn_cpu_start(n, add_cpu, NULL), -EINVAL, "cpu: no such CPU");
}

int main(void)
{
    struct accounts before;

    gn_cpu_stay(0);
    // What is made once: malloc's first page, the stack.
    printf("# on %u CPUs\n", gn_cpu_count());
    grow_stack();
    heap_object = malloc(1);
    test_cpus();
    test_map();
    before = settle();
    test_map();
    test_map_errors();
    test_unmap();
    test_protect();
    test_reserve();
    test_noreserve();
    test_remap();
    test_device();
    test_unite();
    test_alias();
    test_snapshot();
    test_advice();
    test_promote();
    test_sparse();
    test_watch();
    test_where();
    test_whole_space();
    test_walk();
    test_stats();
    mm_check();
    is_settled(&before, "all calls");
    return tap_end();
}
