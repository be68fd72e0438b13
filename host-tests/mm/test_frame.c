// sources: $(mm)
// The buddy allocator against a map of who owns each frame.

#include "host-tests/support.h"

#include "host-tests/mm/mm_fixture.h"
#include "mm/frame_impl.h"

enum { RAM = 64 * MIB, NFRAMES = RAM / PAGE_SIZE, BLOCKS = 600, STEPS = 30000 };

static int start(void **state)
{
    (void)state;
    const char *wrong = mm_fixture(RAM);

    if (wrong != NULL)
        fprintf(stderr, "%s\n", wrong);
    return wrong != NULL;
}

MM_STOP

static uint8_t owned[NFRAMES];

static void own(paddr_t p, unsigned order, uint8_t from, uint8_t to)
{
    uint64_t pfn = p.raw / PAGE_SIZE;

    for (uint64_t i = 0; i < UINT64_C(1) << order; i++) {
        assert_true(pfn + i < NFRAMES);
        assert_int_equal(owned[pfn + i], from);
        owned[pfn + i] = to;
    }
}

static void random_blocks_never_overlap(void **state)
{
    static struct {
        paddr_t p;
        unsigned order;
    } live[BLOCKS];
    uint64_t before = frame_stats().free;

    (void)state;
    for (int i = 0; i < STEPS; i++) {
        size_t k = support_below(BLOCKS);

        if (live[k].p.raw != 0) {
            own(live[k].p, live[k].order, 1, 0);
            frame_free(live[k].p, live[k].order);
            live[k].p.raw = 0;
        } else {
            unsigned order = (unsigned)support_below(support_below(9) + 1);
            paddr_t p = frame_alloc(order, FRAME_DIRTY);

            if (p.raw == 0)
                continue;
            assert_int_equal(p.raw & (((uint64_t)PAGE_SIZE << order) - 1), 0);
            own(p, order, 0, 1);
            live[k].p = p;
            live[k].order = order;
        }
        if (i % 64 == 0)
            frame_check();
    }
    for (size_t k = 0; k < BLOCKS; k++) {
        if (live[k].p.raw != 0)
            frame_free(live[k].p, live[k].order);
    }
    frame_check();
    assert_int_equal(frame_stats().free, before);
}

static void frames_outside_ram_are_never_given(void **state)
{
    static paddr_t all[NFRAMES];
    size_t n = 0, had = frame_stats().free;

    (void)state;
    while ((all[n] = frame_alloc(0, FRAME_DIRTY)).raw != 0) {
        uint64_t a = all[n].raw;

        assert_true(a >= PAGE_SIZE); // 0 stands for none
        assert_false(a >= 0x9f000 && a < 0x100000);
        assert_false(a >= 0x100000 && a < 0x141000); // kept
        assert_true(a < RAM);
        n++;
    }
    assert_int_equal(n, had);
    assert_int_equal(frame_stats().free, 0);
    assert_int_equal(frame_stats().low_mark, 0);
    while (n > 0)
        frame_free(all[--n], 0);
    frame_check();
}

static void freed_frames_merge_to_large_blocks(void **state)
{
    paddr_t p = frame_alloc(13, FRAME_DIRTY); // 32 MiB of 64

    (void)state;
    assert_true(p.raw != 0);
    frame_free(p, 13);
}

static void zeroed_frames_are_zero(void **state)
{
    paddr_t p = frame_alloc(3, FRAME_DIRTY);
    size_t n = (size_t)PAGE_SIZE << 3;
    static const char zeros[PAGE_SIZE << 3];

    (void)state;
    memset(arch_direct(p), 0xaa, n);
    frame_free(p, 3);
    paddr_t q = frame_alloc(3, FRAME_ZERO);

    assert_int_equal(q.raw, p.raw); // the lowest free block comes back
    assert_memory_equal(arch_direct(q), zeros, n);
    frame_free(q, 3);
}

static void wrong_frees_are_reported(void **state)
{
    paddr_t p = frame_alloc(2, FRAME_DIRTY);

    (void)state;
    assert_panics("order 2", frame_free(p, 1));
    frame_free(p, 2);
    assert_panics("is free", frame_free(p, 2));
    assert_panics("assertion", frame_free(paddr(p.raw + 1), 2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_blocks_never_overlap),
        cmocka_unit_test(frames_outside_ram_are_never_given),
        cmocka_unit_test(freed_frames_merge_to_large_blocks),
        cmocka_unit_test(zeroed_frames_are_zero),
        cmocka_unit_test(wrong_frees_are_reported),
    };

    return cmocka_run_group_tests_name("frame", tests, start, stop);
}
