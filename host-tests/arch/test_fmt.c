// sources: $(host)
// The report formatter against the C library's.

#include "host-tests/support.h"

#include "arch/fmt.h"

static void agrees(const char *fmt, ...)
{
    char ours[128], theirs[128];
    va_list ap;

    for (size_t size = 0; size < sizeof ours; size++) {
        memset(ours, 'x', sizeof ours);
        memset(theirs, 'x', sizeof theirs);
        va_start(ap, fmt);
        size_t n = fmt_vstring(ours, size, fmt, ap);
        va_end(ap);
        va_start(ap, fmt);
        int m = vsnprintf(theirs, size, fmt, ap);
        va_end(ap);
        assert_int_equal(n, m);
        assert_memory_equal(ours, theirs, sizeof ours);
    }
}

static void agrees_with_printf_at_every_buffer_size(void **state)
{
    (void)state;
    agrees("plain");
    agrees("%d %d %d", 0, -1, 2147483647);
    agrees("%5d|%-5d|%05d|%05d", 42, 42, 42, -42);
    agrees("%u %x %08x %lx", 4000000000u, 0xbeefu, 0xbeefu, 0xfeedfacecafeUL);
    agrees("%ld %lu %zu", -9223372036854775807L - 1, 18446744073709551615UL,
           (size_t)7);
    agrees("%s|%10s|%-10s|%.2s|%.*s", "abc", "abc", "abc", "abc", 1, "abc");
    agrees("%*u|%c%c|%%", 6, 7u, 'o', 'k');
    agrees("%p", (void *)0x1234);
}

static void a_null_string_is_named(void **state)
{
    char buf[16];
    const char *volatile none = NULL;

    (void)state;
    fmt_string(buf, sizeof buf, "%s", none);
    assert_string_equal(buf, "(null)");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_printf_at_every_buffer_size),
        cmocka_unit_test(a_null_string_is_named),
    };

    return cmocka_run_group_tests_name("fmt", tests, NULL, NULL);
}
