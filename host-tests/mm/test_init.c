// sources: $(mm)
// Odd memory maps: every map, started in a process of its own, must end with a
// sound allocator that holds exactly the usable frames, or with a message.

#include "host-tests/support.h"

#include <sys/wait.h>
#include <unistd.h>

#include "host-tests/mm/mm_fixture.h"
#include "mm/fail.h"

enum { RAM = 64 * MIB, NFRAMES = RAM / PAGE_SIZE };

// In a build that counts branches: a child that just ends has counted nothing.
void __gcov_dump(void) __attribute__((weak));

// What the firmware says, before mm_read_map.
static struct mm_range told[MM_MAX_RANGES];
static unsigned ntold;

static void tell(uint64_t start, uint64_t end)
{
    told[ntold++] = (struct mm_range){start, end};
}

static bool is_told(uint64_t byte)
{
    for (unsigned i = 0; i < ntold; i++) {
        if (told[i].end <= ARCH_DIRECT_SIZE && told[i].start <= byte &&
            byte < told[i].end)
            return true;
    }
    return false;
}

// Whatever the ranges do in the page happens at their ends.
static bool is_told_whole(uint64_t page)
{
    bool whole = is_told(page);

    for (unsigned i = 0; i < ntold; i++) {
        if (told[i].end > page && told[i].end < page + PAGE_SIZE)
            whole = whole && is_told(told[i].end);
    }
    return whole;
}

// Pages that may be handed out, by the naive rule.
static bool usable[NFRAMES];

static size_t count_usable(const struct mm_boot *b)
{
    size_t n = 0;

    memset(usable, 0, sizeof usable);
    for (uint64_t p = 1; p < NFRAMES; p++) {
        uint64_t from = p * PAGE_SIZE, to = from + PAGE_SIZE;

        usable[p] = is_told_whole(from);
        for (unsigned i = 0; i < b->nkeep; i++)
            usable[p] =
                usable[p] && (b->keep[i].end <= from || b->keep[i].start >= to);
        n += usable[p];
    }
    return n;
}

static const char *check_kept(const struct mm_boot *b)
{
    for (unsigned i = 0; i < b->nkeep; i++) {
        uint64_t last = (b->keep[i].end - 1) & ~(uint64_t)(PAGE_SIZE - 1);
        int level;
        pte_t *e = pt_find(ARCH_DIRECT_BASE + last, &level);

        if (e == NULL || !pte_present(*e))
            return "kept memory is not mapped";
    }
    return NULL;
}

// Takes all frames and gives them back in another order. Returns how many, or a
// negative number that says what is wrong.
static long take_all(void)
{
    static paddr_t all[NFRAMES];
    size_t k = 0;

    frame_check();
    while ((all[k] = frame_alloc(0, FRAME_DIRTY)).raw != 0) {
        uint64_t pfn = all[k++].raw >> PAGE_SHIFT;

        if (pfn >= NFRAMES || !usable[pfn])
            return -5;
        usable[pfn] = false;
    }
    for (size_t i = 0; i < k; i++)
        frame_free(all[i * 16381 % k].raw ? all[i * 16381 % k] : all[0], 0);
    frame_check();
    return frame_stats().free == k ? (long)k : -3;
}

static void (*in_child)(void); // after mm_init, or NULL

static long run_child(struct mm_boot *b)
{
    static struct mm_map_entry map[MM_MAX_RANGES];

    for (unsigned i = 0; i < ntold; i++)
        map[i] = (struct mm_map_entry){told[i].start,
                                       told[i].end - told[i].start, 1, 0};
    mm_read_map(b, map, ntold);
    host_start(RAM);
    const char *wrong = mm_init(b, host_load_root);

    if (wrong != NULL)
        return strstr(wrong, "too little memory") != NULL ? -1 : -6;
    if (check_kept(b) != NULL)
        return -7;
    if (in_child != NULL)
        in_child();
    return take_all();
}

// Runs mm_init in a child, since it is for once. Returns the frames it found,
// or -1 for a message.
static long start_boot(struct mm_boot *b)
{
    int fds[2];
    long n = -2;

    count_usable(b);
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();

    if (pid == 0) {
        n = run_child(b);
        if (write(fds[1], &n, sizeof n) != sizeof n)
            _exit(9);
        if (__gcov_dump != NULL)
            __gcov_dump();
        _exit(0);
    }
    close(fds[1]);
    if (read(fds[0], &n, sizeof n) != sizeof n)
        n = -4;
    close(fds[0]);
    waitpid(pid, NULL, 0);
    return n;
}

struct map {
    struct mm_range ram[6];
    struct mm_range keep[3];
};

static long start_child(const struct map *m)
{
    static struct mm_boot b;

    memset(&b, 0, sizeof b);
    ntold = 0;
    while (ntold < 6 && m->ram[ntold].end != 0)
        tell(m->ram[ntold].start, m->ram[ntold].end);
    while (b.nkeep < 3 && m->keep[b.nkeep].end != 0) {
        b.keep[b.nkeep] = m->keep[b.nkeep];
        b.nkeep++;
    }
    return start_boot(&b);
}

static void overlaps_count_once_and_edges_are_cut(void **state)
{
    const struct map m = {
        .ram = {{0x500000, 0x900800}, {0x1001, 0x9fc00}, {0x400000, 0x600000}},
        .keep = {{0x500000, 0x500001}},
    };
    long n = start_child(&m);

    (void)state;
    // 0x2000..0x9f000 and 0x400000..0x900000 less one kept page, less what the
    // tables and the frame array took.
    long most = (0x9f000 - 0x2000 + 0x500000) / PAGE_SIZE - 1;

    assert_in_range(n, most - 80, most);
}

static void kept_memory_outside_ram_is_mapped(void **state)
{
    const struct map m = {
        .ram = {{0x1000, 0x9f000}, {0x100000, 0x1fff000}},
        .keep = {{0x1ffd352, 0x2000123}},
    };

    (void)state;
    assert_true(start_child(&m) > 7000);
}

static void many_small_pieces(void **state)
{
    const struct map m = {
        .ram = {{0x1000, 0x4000},
                {0x10000, 0x11000},
                {0x80000, 0x9f000},
                {0x100000, 0x280000},
                {0x2ff000, 0x301000},
                {0x1000000, 0x1001000}},
    };

    (void)state;
    assert_true(start_child(&m) > 200);
}

static void nothing_usable_is_a_message(void **state)
{
    const struct map none = {.ram = {{0x1000, 0x1fff}}};
    const struct map tiny = {.ram = {{0x1000, 0x6000}}};
    const struct map kept = {.ram = {{0x1000, 0x800000}},
                             .keep = {{0, 0x900000}}};

    (void)state;
    assert_int_equal(start_child(&none), -1);
    assert_int_equal(start_child(&tiny), -1);
    assert_int_equal(start_child(&kept), -1);
}

// Ranges as firmware might give them: of any size and order, over each other,
// empty, the wrong way round, beyond what there is, at the end of everything.
static struct mm_range random_range(bool small)
{
    uint64_t a = support_below(RAM), n = support_below(RAM / 3);

    switch (support_below(small ? 10 : 6)) {
    case 0:
        return (struct mm_range){a, a};
    case 1:
        return (struct mm_range){a + 1, a};
    case 2:
        return (struct mm_range){UINT64_MAX - a, UINT64_MAX};
    case 3:
        return (struct mm_range){ARCH_DIRECT_SIZE - PAGE_SIZE,
                                 ARCH_DIRECT_SIZE + a};
    case 4:
        n = support_below(RAM - a);
        break;
    case 5:
        n = support_below(3 * PAGE_SIZE);
        break;
    default:
        n = support_below(40 * PAGE_SIZE);
        break;
    }
    return (struct mm_range){a, min_u64(a + n, RAM)};
}

static void random_maps_hand_out_what_is_usable(void **state)
{
    static struct mm_boot b;
    unsigned started = 0;

    (void)state;
    for (int i = 0; i < 300; i++) {
        bool small = i % 2 != 0;

        memset(&b, 0, sizeof b);
        unsigned nram = 1 + (unsigned)support_below(small ? MM_MAX_RANGES : 8);

        for (ntold = 0; ntold < nram;)
            told[ntold++] = random_range(small);
        b.nkeep = (unsigned)support_below(ARRAY_LEN(b.keep) + 1);
        for (unsigned k = 0; k < b.nkeep; k++) {
            uint64_t a = support_below(RAM);

            b.keep[k] = (struct mm_range){a, a + 1 + support_below(0x20000)};
        }
        long n = start_boot(&b);
        size_t most = count_usable(&b);

        if (n < -1 || n > (long)most)
            fail_msg("map %d: %ld of %zu", i, n, most);
        // Tables, the frame array and the array pages of edges, beside those
        // 512 KiB without which there is a message.
        if (n > 0 && (size_t)n + 300 + 40 * nram + most / 100 < most)
            fail_msg("map %d: only %ld of %zu", i, n, most);
        if (n == -1 && nram < 9 && most > 8192)
            fail_msg("map %d: a message, with %zu frames", i, most);
        started += n > 0;
    }
    assert_true(started > 100);
}

static struct mm_boot *with_image(void)
{
    static struct mm_boot b;

    // As x86-64's: text, rodata, data, bss, the part given back.
    memset(&b, 0, sizeof b);
    ntold = 0;
    tell(0x1000, 0x9f000);
    tell(0x100000, RAM);
    b.keep[b.nkeep++] = (struct mm_range){0x200000, 0x20a000};
    b.nimage = 3;
    for (unsigned i = 0; i < b.nimage; i++) {
        b.image[i] = (struct mm_image_part){
            .va = 0xffffffff80000000 + 0x2000 * i,
            .pa = 0x200000 + 0x2000 * i,
            .size = 0x2000,
            .name = i == 0 ? "text of the image" : "more of it"};
    }
    b.image[0].prot = PROT_R | PROT_X;
    b.image[1].prot = PROT_R;
    b.image[2].prot = PROT_R | PROT_W;
    return &b;
}

static void must(bool good)
{
    if (!good)
        abort();
}

static void check_image(void)
{
    const uintptr_t va = 0xffffffff80000000;
    char buf[100];
    int level;

    mm_check_wx();
    must(pte_prot(*pt_find(va, &level)) == (PROT_R | PROT_X));
    must(pte_prot(*pt_find(va + 0x2000, &level)) == PROT_R);
    must(!(*pt_find(ARCH_DIRECT_BASE + 0x200000, &level) & PTE_WRITE));
    must((*pt_find(ARCH_DIRECT_BASE + 0x204000, &level) & PTE_WRITE) != 0);
    must(strcmp(mm_describe(va + 5, buf, sizeof buf), "text of the image") ==
         0);
    // Data of the start-up is given back, its neighbours are not.
    uint64_t before = frame_stats().free;

    mm_free_image(va + 0x5000, PAGE_SIZE);
    must(frame_stats().free == before + 1);
    must(!mm_readable(va + 0x5000, 1) && mm_readable(va + 0x4000, 1));
    usable[0x205] = true;
    frame_check();
    // A second translation that may write to text is found, by its frame.
    must(pt_map(ARCH_REGION_BASE, paddr(0x201000), PAGE_SIZE, PROT_R | PROT_W,
                1) == 0);
    assert_panics("text of the image, is writable", mm_check_wx());
    pt_set(pt_find(ARCH_REGION_BASE, &level), 0);
    must(pt_map(ARCH_REGION_BASE, paddr(0x204000), PAGE_SIZE,
                PROT_R | PROT_W | PROT_X, 1) == 0);
    assert_panics("writable and executable", mm_check_wx());
    pt_set(pt_find(ARCH_REGION_BASE, &level), 0);
    mm_check_wx();
}

static void an_image_is_mapped_and_described(void **state)
{
    (void)state;
    in_child = check_image;
    assert_true(start_boot(with_image()) > 15000);
    in_child = NULL;
}

static void a_kept_part_that_is_partly_ram_is_cut_out(void **state)
{
    const struct map m = {
        .ram = {{0x1000, 0x9f000}, {0x100000, 0x800000}},
        .keep = {{0x7ff123, 0x900000}, {0x50000, 0x51000}, {0x9e001, 0x180000}},
    };

    (void)state;
    assert_in_range(start_child(&m), 1600, 1800);
}

static void no_zero_frame_is_a_message(void **state)
{
    (void)state;
    mm_fail_at(1, false);
    assert_int_equal(start_boot(with_image()), -1);
    mm_fail_at(0, false);
}

// From nothing to enough: a message, and no other end, until it starts.
static void little_memory_is_a_message_or_enough(void **state)
{
    static struct mm_boot b;
    bool started = false;

    (void)state;
    for (uint64_t n = 1; n < 200; n += 3) {
        memset(&b, 0, sizeof b);
        ntold = 0;
        tell(0x100000, 0x100000 + n * PAGE_SIZE);
        tell(0x3000000, 0x3000000 + 5 * PAGE_SIZE);
        long frames = start_boot(&b);

        if (frames < -1 || (started && frames < 0))
            fail_msg("%lu pages: %ld", n, frames);
        started = frames > 0;
    }
    assert_true(started);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlaps_count_once_and_edges_are_cut),
        cmocka_unit_test(kept_memory_outside_ram_is_mapped),
        cmocka_unit_test(many_small_pieces),
        cmocka_unit_test(nothing_usable_is_a_message),
        cmocka_unit_test(random_maps_hand_out_what_is_usable),
        cmocka_unit_test(an_image_is_mapped_and_described),
        cmocka_unit_test(a_kept_part_that_is_partly_ram_is_cut_out),
        cmocka_unit_test(no_zero_frame_is_a_message),
        cmocka_unit_test(little_memory_is_a_message_or_enough),
    };

    return cmocka_run_group_tests_name("init", tests, NULL, NULL);
}
