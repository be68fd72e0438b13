// sources: $(mm)
// Memory maps of firmware, of any length, against a naive model: one flag for
// each 512 bytes.

#include "host-tests/support.h"

#include "mm/mm.h"

enum { UNIT = 512, NUNITS = 32768, MOST = 600, PER_PAGE = PAGE_SIZE / UNIT };
enum { RAM = 1, RESERVED = 2, ACPI = 3, BROKEN = 5 };

static struct mm_boot boot;
static struct mm_map_entry map[MOST];
static size_t nmap;

static void put(uint64_t addr, uint64_t size, uint32_t type)
{
    map[nmap++] = (struct mm_map_entry){addr, size, type, 0};
}

static void read_map(void)
{
    memset(&boot, 0xff, sizeof boot);
    mm_read_map(&boot, map, nmap);
    nmap = 0;
}

static void is_range(unsigned i, uint64_t start, uint64_t end)
{
    assert_true(i < boot.nram);
    assert_int_equal(boot.ram[i].start, start);
    assert_int_equal(boot.ram[i].end, end);
}

// ---- one by one ----

static void an_empty_map_has_no_memory(void **state)
{
    (void)state;
    read_map();
    assert_int_equal(boot.nram, 0);
    assert_int_equal(boot.ncut, 0);
    put(0x1000, 0, RAM);
    put(0x1000, 0xfff, RAM);
    put(0x2800, 0x1000, RAM);
    read_map();
    assert_int_equal(boot.nram, 0);
}

static void pieces_are_sorted_and_what_touches_is_one(void **state)
{
    (void)state;
    put(0x500000, 0x100000, RAM);
    put(0x10000, 0x8000, RAM);
    put(0x600000, 0x100800, RAM);
    put(0x700800, 0x800, RAM);
    put(0x12000, 0x2000, RAM);
    read_map();
    assert_int_equal(boot.nram, 2);
    is_range(0, 0x10000, 0x18000);
    is_range(1, 0x500000, 0x701000);
}

static void what_is_reserved_is_no_memory(void **state)
{
    (void)state;
    put(0x10000, 0x10000, RAM);
    put(0x14800, 0x10, RESERVED);
    put(0x18000, 0x1000, ACPI);
    put(0x1f000, 0x10000, BROKEN);
    put(0x1f000, 0x1000, RAM);
    read_map();
    assert_int_equal(boot.nram, 3);
    is_range(0, 0x10000, 0x14000);
    is_range(1, 0x15000, 0x18000);
    is_range(2, 0x19000, 0x1f000);
}

static void what_wraps_around_is_no_memory_but_is_reserved(void **state)
{
    (void)state;
    put(UINT64_MAX - 0xfff, 0x2000, RAM);
    put(ARCH_DIRECT_SIZE - 0x1000, 0x2000, RAM);
    put(0x100000, 0x100000, RAM);
    put(0x180000, UINT64_MAX - 5, RESERVED);
    read_map();
    assert_int_equal(boot.nram, 1);
    is_range(0, 0x100000, 0x180000);
}

static void the_largest_stay(void **state)
{
    (void)state;
    // 100 pieces of 1, 2 ... 100 pages, the largest neither first nor last.
    for (uint64_t i = 0; i < 100; i++)
        put((i + 1) << 20, (1 + i * 37 % 100) * PAGE_SIZE, RAM);
    read_map();
    assert_int_equal(boot.nram, MM_MAX_RANGES);
    assert_int_equal(boot.ncut, 100 - MM_MAX_RANGES);
    assert_int_equal(boot.cut_bytes, 36 * 37 / 2 * PAGE_SIZE);
    for (unsigned i = 0; i < boot.nram; i++)
        assert_true(boot.ram[i].end - boot.ram[i].start > 36 * PAGE_SIZE);
}

// ---- random ----

static uint8_t unit[NUNITS]; // 1: RAM, 2: something else, too

static void put_units(uint64_t first, uint64_t n, uint32_t type)
{
    put(first * UNIT, n * UNIT, type);
    for (uint64_t u = first; u < first + n; u++)
        unit[u] |= type == RAM ? 1 : 2;
}

static void random_map(void)
{
    size_t n = support_below(MOST);
    uint64_t largest = support_below(2) ? 8 * PER_PAGE : 40 * PER_PAGE;

    memset(unit, 0, sizeof unit);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = support_below(NUNITS), size = support_below(largest);
        uint32_t type =
            support_below(4) != 0 ? RAM : RAM + (uint32_t)support_below(5);

        if (support_below(4) == 0)
            at = align_down(at, PER_PAGE);
        if (i > 0 && support_below(4) == 0) // touches what came before
            at = (map[nmap - 1].addr + map[nmap - 1].size) / UNIT;
        if (at >= NUNITS) {
            put(UINT64_MAX - support_below(1 << 20), 1 << 21, RAM);
            continue;
        }
        put_units(at, min_u64(size, NUNITS - at), type);
    }
}

static struct mm_range piece[NUNITS];
static size_t npieces;

// Runs of units that are RAM and nothing else, whole pages of them.
static void find_pieces(void)
{
    npieces = 0;
    for (uint64_t u = 0, end; u < NUNITS; u = end) {
        for (end = u; end < NUNITS && unit[end] == 1; end++)
            ;
        struct mm_range r = {align_up(u * UNIT, PAGE_SIZE),
                             align_down(end * UNIT, PAGE_SIZE)};

        if (r.start < r.end)
            piece[npieces++] = r;
        end += end == u;
    }
}

static int larger_first(const void *a, const void *b)
{
    const struct mm_range *x = a, *y = b;
    uint64_t n = x->end - x->start, m = y->end - y->start;

    return n > m ? -1 : n < m;
}

static bool is_piece(const struct mm_range *r)
{
    for (size_t i = 0; i < npieces; i++) {
        if (piece[i].start == r->start && piece[i].end == r->end)
            return true;
    }
    return false;
}

static void check_against_model(int number)
{
    size_t stay = npieces < MM_MAX_RANGES ? npieces : MM_MAX_RANGES;
    uint64_t cut = 0;

    if (boot.nram != stay || boot.ncut != npieces - stay)
        fail_msg("map %d: %u pieces and %u cut, of %zu", number, boot.nram,
                 boot.ncut, npieces);
    for (unsigned i = 0; i < boot.nram; i++) {
        if (!is_piece(&boot.ram[i]) ||
            (i > 0 && boot.ram[i].start <= boot.ram[i - 1].end))
            fail_msg("map %d: piece %u is wrong", number, i);
    }
    // The sizes that stay are the largest there are.
    qsort(piece, npieces, sizeof piece[0], larger_first);
    qsort(boot.ram, boot.nram, sizeof boot.ram[0], larger_first);
    for (size_t i = 0; i < npieces; i++) {
        if (i >= stay)
            cut += piece[i].end - piece[i].start;
        else if (larger_first(&piece[i], &boot.ram[i]) != 0)
            fail_msg("map %d: one of the largest pieces is cut", number);
    }
    assert_int_equal(boot.cut_bytes, cut);
}

static void random_maps_agree_with_a_model(void **state)
{
    unsigned cut = 0;

    (void)state;
    for (int i = 0; i < 400; i++) {
        random_map();
        read_map();
        find_pieces();
        check_against_model(i);
        cut += boot.ncut > 0;
    }
    printf("# 400 maps, %u of more pieces than there is place for\n", cut);
    assert_in_range(cut, 40, 360);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_map_has_no_memory),
        cmocka_unit_test(pieces_are_sorted_and_what_touches_is_one),
        cmocka_unit_test(what_is_reserved_is_no_memory),
        cmocka_unit_test(what_wraps_around_is_no_memory_but_is_reserved),
        cmocka_unit_test(the_largest_stay),
        cmocka_unit_test(random_maps_agree_with_a_model),
    };

    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
