// sources:
// The size classes against the rule, and against Go's.

#include "host-tests/support.h"

#include "arch/base.h"
#include "runtime/heap/classes/classes.h"

enum { HEAP_PAGE = 8192, MOST = 32768 };

struct class
{
    unsigned size, pages;
};

#define ROW(size, pages) {size, pages},
static const struct class ours[] = {{0, 0}, HEAP_CLASS_TABLE(ROW)};

// Go 1.27's, sizes and 8 KiB pages of a span (sizeclasses.go).
static const struct class go[] = {
    {0, 0},     {8, 1},     {16, 1},    {24, 1},    {32, 1},    {48, 1},
    {64, 1},    {80, 1},    {96, 1},    {112, 1},   {128, 1},   {144, 1},
    {160, 1},   {176, 1},   {192, 1},   {208, 1},   {224, 1},   {240, 1},
    {256, 1},   {288, 1},   {320, 1},   {352, 1},   {384, 1},   {416, 1},
    {448, 1},   {480, 1},   {512, 1},   {576, 1},   {640, 1},   {704, 1},
    {768, 1},   {896, 1},   {1024, 1},  {1152, 1},  {1280, 1},  {1408, 2},
    {1536, 1},  {1792, 2},  {2048, 1},  {2304, 2},  {2688, 1},  {3072, 3},
    {3200, 2},  {3456, 3},  {4096, 1},  {4864, 3},  {5376, 2},  {6144, 3},
    {6528, 4},  {6784, 5},  {6912, 6},  {8192, 1},  {9472, 7},  {9728, 6},
    {10240, 5}, {10880, 4}, {12288, 3}, {13568, 5}, {14336, 7}, {16384, 2},
    {18432, 9}, {19072, 7}, {20480, 5}, {21760, 8}, {24576, 3}, {27264, 10},
    {28672, 7}, {32768, 4}};

// The share of a span that is lost when it is full of objects of n bytes.
static double waste(const struct class *c, unsigned n)
{
    unsigned span = c->pages * HEAP_PAGE;

    return 1 - (double)(span / c->size * n) / span;
}

static const struct class *class_for(const struct class *all, unsigned n)
{
    while (all->size < n)
        all++;
    return all;
}

static void sizes_rise_to_the_largest(void **state)
{
    (void)state;
    assert_int_equal(ARRAY_LEN(ours), HEAP_CLASSES);
    assert_int_equal(ours[HEAP_CLASSES - 1].size, MOST);
    for (size_t i = 1; i < HEAP_CLASSES; i++) {
        assert_true(ours[i].size > ours[i - 1].size);
        assert_int_equal(ours[i].size % (ours[i].size < 32 ? 8U : 16U), 0);
    }
}

static void at_most_an_eighth_lies_behind_the_last_object(void **state)
{
    (void)state;
    for (size_t i = 1; i < HEAP_CLASSES; i++) {
        unsigned span = ours[i].pages * HEAP_PAGE;

        assert_true(span % ours[i].size <= span / 8);
    }
}

// For each of Go's classes the worst size that falls into it wastes no less there.
static void no_class_wastes_more_than_gos(void **state)
{
    (void)state;
    for (size_t i = 1; i < ARRAY_LEN(go); i++) {
        double worst = 0, theirs = waste(&go[i], go[i - 1].size + 1);

        for (unsigned n = go[i - 1].size + 1; n <= go[i].size; n++) {
            double w = waste(class_for(ours, n), n);

            worst = w > worst ? w : worst;
        }
        if (worst > theirs + 1e-9)
            print_message("# up to %u bytes: %.2f %%, Go %.2f %%\n", go[i].size,
                          100 * worst, 100 * theirs);
        assert_true(worst <= theirs + 1e-9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_rise_to_the_largest),
        cmocka_unit_test(at_most_an_eighth_lies_behind_the_last_object),
        cmocka_unit_test(no_class_wastes_more_than_gos),
    };

    return cmocka_run_group_tests_name("classes", tests, NULL, NULL);
}
