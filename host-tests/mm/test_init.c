// sources: $(mm)
// Odd memory maps: every map, started in a process of its own, must end with a
// sound allocator that holds exactly the usable frames, or with a message.

#include "host-tests/support.h"

#include <sys/wait.h>
#include <unistd.h>

#include "host-tests/mm/mm_fixture.h"

enum { RAM = 64 * MIB };

struct map {
    struct mm_range ram[6];
    struct mm_range keep[3];
};

// Runs mm_init in a child, since it is for once. Returns the frames it found,
// or -1 for a message.
static long start_child(const struct map *m)
{
    int fds[2];
    long n = -2;

    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();

    if (pid == 0) {
        static struct mm_boot b;

        host_start(RAM);
        for (unsigned i = 0; i < 6 && m->ram[i].end != 0; i++)
            b.ram[b.nram++] = m->ram[i];
        for (unsigned i = 0; i < 3 && m->keep[i].end != 0; i++)
            b.keep[b.nkeep++] = m->keep[i];
        const char *wrong = mm_init(&b, host_load_root);
        int level;

        // What is kept is mapped, in RAM as the map has it or not.
        for (unsigned i = 0; wrong == NULL && i < b.nkeep; i++) {
            uint64_t last = (b.keep[i].end - 1) & ~(uint64_t)(PAGE_SIZE - 1);

            if (pt_find(ARCH_DIRECT_BASE + last, &level) == NULL ||
                !pte_present(*pt_find(ARCH_DIRECT_BASE + last, &level)))
                wrong = "kept memory is not mapped";
        }

        n = wrong != NULL ? -1 : (long)frame_stats().total;
        if (wrong == NULL) {
            frame_check();
            // Take all and give all back in another order.
            static paddr_t all[RAM / PAGE_SIZE];
            size_t k = 0;

            while ((all[k] = frame_alloc(0, FRAME_DIRTY)).raw != 0)
                k++;
            n = (long)k;
            for (size_t i = 0; i < k; i++)
                frame_free(all[i * 7919 % k].raw ? all[i * 7919 % k] : all[0],
                           0);
            frame_check();
            if (frame_stats().free != k)
                n = -3;
        }
        if (write(fds[1], &n, sizeof n) != sizeof n)
            _exit(9);
        _exit(0);
    }
    close(fds[1]);
    if (read(fds[0], &n, sizeof n) != sizeof n)
        n = -4;
    close(fds[0]);
    waitpid(pid, NULL, 0);
    return n;
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

static void random_maps_never_break_it(void **state)
{
    (void)state;
    for (int i = 0; i < 60; i++) {
        struct map m = {0};

        for (int k = 0; k < 6; k++) {
            uint64_t a = support_below(RAM), n = support_below(RAM / 3);

            if (a + n > RAM)
                n = RAM - a;
            m.ram[k] = (struct mm_range){a, a + n + 1};
            if (m.ram[k].end > RAM)
                m.ram[k].end = RAM;
        }
        for (int k = 0; k < 3; k++) {
            uint64_t a = support_below(RAM);

            m.keep[k] = (struct mm_range){a, a + 1 + support_below(0x20000)};
        }
        long n = start_child(&m);

        if (n < -1)
            fail_msg("map %d: %ld", i, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlaps_count_once_and_edges_are_cut),
        cmocka_unit_test(kept_memory_outside_ram_is_mapped),
        cmocka_unit_test(many_small_pieces),
        cmocka_unit_test(nothing_usable_is_a_message),
        cmocka_unit_test(random_maps_never_break_it),
    };

    return cmocka_run_group_tests_name("init", tests, NULL, NULL);
}
