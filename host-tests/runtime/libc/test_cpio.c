// sources: runtime/libc/cpio.c runtime/libc/fs.c runtime/libc/fs_attr.c runtime/libc/fs_names.c runtime/libc/fs_tree.c runtime/libc/fs_node.c runtime/libc/fs_data.c host-tests/runtime/libc/stub_port.c host-tests/runtime/libc/archive.c host-tests/fuzz/fuzz_cpio.c
//
// The boot archive: good ones, bad ones, and every good one cut off anywhere.

#define _GNU_SOURCE

#include "host-tests/runtime/libc/archive.h"
#include "host-tests/runtime/libc/stub_port.h"
#include "runtime/libc/cpio.h"
#include "runtime/libc/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct archive_writer w;
static char err[256];

static int set_up(void **state)
{
    (void)state;
    w.size = 0;
    memset(err, 'e', sizeof(err) - 1);
    return fs_init();
}

static int tear_down(void **state)
{
    (void)state;
    fs_check();
    fs_fini();
    return 0;
}

// Mounts a copy of exactly these bytes, so that ASan sees any read behind.
static int mount_bytes(const void *bytes, size_t size, void **copy)
{
    *copy = malloc(size ? size : 1);
    memcpy(*copy, bytes, size);
    return cpio_mount(*copy, size, err, sizeof(err));
}

// The tree keeps pointing to w.
static int mount(void)
{
    archive_end(&w);
    return cpio_mount(w.bytes, w.size, err, sizeof(err));
}

static void assert_file(const char *path, const void *text, size_t size)
{
    static char bytes[8192];
    int fd = fs_open(path, O_RDONLY, 0);

    assert_true(fd >= 0);
    assert_int_equal(fs_read(fd, bytes, sizeof(bytes)), size);
    assert_memory_equal(bytes, text, size);
    fs_close(fd);
}

static void assert_error(int r, const char *text)
{
    struct fs_stat st;

    assert_int_equal(r, -EINVAL);
    assert_non_null(strstr(err, text));
    assert_int_equal(strncmp(err, "archive offset ", 15), 0);
    // The old tree is in place.
    assert_int_equal(fs_stat("/dev/null", &st), 0);
    assert_int_equal(fs_stat("/good", &st), -ENOENT);
}

static void a_good_archive_becomes_the_tree(void **state)
{
    struct fs_stat st;
    char page[5000];

    (void)state;
    archive_sample(&w);
    assert_int_equal(cpio_mount(w.bytes, w.size, err, sizeof(err)), 0);
    assert_string_equal(err, "");
    memset(page, 'p', sizeof(page));
    assert_file("/dir/a", "alpha", 5);
    assert_file("/dir/page", page, sizeof(page));
    assert_file("/implied/b", "", 0);
    assert_int_equal(fs_stat("/dir/page", &st), 0);
    assert_int_equal(st.mode, 0100600);
    assert_int_equal(st.mtime.sec, 1234);
    assert_int_equal(st.blocks, 0);
    assert_int_equal(fs_stat("/dir", &st), 0);
    assert_int_equal(st.mode, 0040700);
    assert_int_equal(fs_access("/dev/null", 0), 0);
    assert_int_equal(fs_access("/tmp", 0), 0);
}

static void an_archive_without_entries_is_an_empty_tree(void **state)
{
    (void)state;
    assert_int_equal(mount(), 0);
    assert_int_equal(fs_access("/tmp", 0), 0);
}

static void names_are_normalised(void **state)
{
    (void)state;
    archive_add(&w, "/abs", 0100644, "1", 1, 0);
    archive_add(&w, "./dot", 0100644, "2", 1, 0);
    archive_add(&w, "a/../../up", 0100644, "3", 1, 0);
    archive_add(&w, "x//y/./z/", 0100644, "4", 1, 0);
    archive_add(&w, "..", 0040711, NULL, 0, 0);
    assert_int_equal(mount(), 0);
    assert_file("/abs", "1", 1);
    assert_file("/dot", "2", 1);
    assert_file("/up", "3", 1);
    assert_file("/x/y/z", "4", 1);
    assert_int_equal(fs_access("/a", 0), -ENOENT);
}

static void the_last_entry_of_a_name_wins(void **state)
{
    (void)state;
    archive_add(&w, "f", 0100644, "first", 5, 0);
    archive_add(&w, "./f", 0100644, "last", 4, 0);
    assert_int_equal(mount(), 0);
    assert_file("/f", "last", 4);
}

static void a_name_that_is_file_and_directory_is_an_error(void **state)
{
    (void)state;
    archive_add(&w, "good", 0100644, "x", 1, 0);
    archive_add(&w, "f", 0100644, "x", 1, 0);
    archive_add(&w, "f/g", 0100644, "x", 1, 0);
    assert_error(mount(), "offset 236: a file and a directory at once: "
                          "\"f/g\"");
    w.size = 0;
    archive_add(&w, "d/g", 0100644, "x", 1, 0);
    archive_add(&w, "d", 0100644, "x", 1, 0);
    assert_error(mount(), "a file and a directory at once: \"d\"");
}

static void links_and_special_files_are_left_out(void **state)
{
    (void)state;
    archive_add(&w, "f", 0100644, "x", 1, 0);
    archive_add(&w, "link", 0120777, "f", 1, 0);
    archive_add(&w, "fifo", 0010644, NULL, 0, 0);
    assert_int_equal(mount(), 2);
    assert_string_equal(
        err, "archive offset 116: left out, a symbolic link: \"link\"");
    assert_file("/f", "x", 1);
    assert_int_equal(fs_access("/link", 0), -ENOENT);
}

static void control_characters_do_not_reach_the_report(void **state)
{
    (void)state;
    archive_add(&w, "a\033[2J", 0120777, "f", 1, 0);
    assert_int_equal(mount(), 1);
    assert_non_null(strstr(err, "\"a?[2J\""));
}

static void a_small_report_buffer_is_not_overrun(void **state)
{
    char small[8];

    (void)state;
    for (size_t n = 1; n <= sizeof(small); n++) {
        memset(small, 'e', sizeof(small));
        assert_int_equal(cpio_mount("x", 1, small, n), -EINVAL);
        assert_int_equal(strlen(small), n - 1);
    }
}

// Replaces bytes of the sample's second header and expects an error.
static void assert_bad(size_t offset, const char *bytes, const char *text)
{
    archive_sample(&w);
    memcpy(w.bytes + 112 + offset, bytes, strlen(bytes));
    assert_error(cpio_mount(w.bytes, w.size, err, sizeof(err)), text);
    assert_int_equal(strncmp(err, "archive offset 112: ", 20), 0);
}

static void damaged_headers_are_reported(void **state)
{
    (void)state;
    assert_bad(0, "070707", "no cpio \"newc\" header");
    assert_bad(0,
               "\x7f"
               "ELF",
               "no cpio");
    for (size_t field = 0; field < 13; field++)
        assert_bad(6 + 8 * field, "0000000g", "not hexadecimal");
    assert_bad(6, "-0000001", "not hexadecimal");
    assert_bad(6 + 8 * 11, "00000000", "the name has no end");
    assert_bad(6 + 8 * 11, "00000003", "the name has no end");
    assert_bad(6 + 8 * 11, "00000009", "something follows the name");
    assert_bad(6 + 8 * 11, "FFFFFFFF", "the name is not complete");
    assert_bad(6 + 8 * 6, "FFFFFFFF", "the data is not complete: \"dir\"");
    assert_bad(6 + 8 * 6, "00000004", "a directory with data");
}

static void long_names_are_errors(void **state)
{
    char name[4200];

    (void)state;
    memset(name, 'n', sizeof(name));
    name[256] = '\0';
    archive_add(&w, name, 0100644, "", 0, 0);
    assert_error(mount(), "more than 255");
    for (size_t i = 0; i < sizeof(name); i++)
        name[i] = i % 2 ? '/' : 'd';
    name[4095] = '\0'; // 2048 components and their slashes: "d/d/.../"
    w.size = 0;
    archive_add(&w, name, 0040755, NULL, 0, 0);
    assert_error(mount(), "more than 4094");
    name[4093] = '\0';
    w.size = 0;
    archive_add(&w, name, 0040755, NULL, 0, 0);
    assert_int_equal(mount(), 0);
    w.size = 0;
    archive_add(&w, "", 0100644, "", 0, 0);
    archive_end(&w);
    assert_int_equal(cpio_mount(w.bytes, w.size, err, sizeof(err)), -EINVAL);
    assert_non_null(strstr(err, "a file without a name"));
}

static void an_archive_cut_off_anywhere_is_an_error(void **state)
{
    (void)state;
    archive_sample(&w);
    // The trailer's header and its name have to be there, no padding.
    for (size_t size = 0; size < w.size - 3; size++) {
        void *copy;
        int r = mount_bytes(w.bytes, size, &copy);

        assert_error(r, "archive offset ");
        free(copy);
    }
}

static void damage_at_any_byte_is_survived(void **state)
{
    static const uint8_t values[] = {0, '0', 'F', 0xff, '/', '.'};

    (void)state;
    archive_sample(&w);
    for (size_t i = 0; i < w.size; i++) {
        uint8_t old = w.bytes[i];

        for (size_t k = 0; k < sizeof(values); k++) {
            w.bytes[i] = values[k];
            LLVMFuzzerTestOneInput(w.bytes, w.size);
        }
        w.bytes[i] = old;
    }
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_good_archive_becomes_the_tree),
        T(an_archive_without_entries_is_an_empty_tree),
        T(names_are_normalised),
        T(the_last_entry_of_a_name_wins),
        T(a_name_that_is_file_and_directory_is_an_error),
        T(links_and_special_files_are_left_out),
        T(control_characters_do_not_reach_the_report),
        T(a_small_report_buffer_is_not_overrun),
        T(damaged_headers_are_reported),
        T(long_names_are_errors),
        T(an_archive_cut_off_anywhere_is_an_error),
        cmocka_unit_test(damage_at_any_byte_is_survived),
    };

    return cmocka_run_group_tests_name("cpio", tests, NULL, NULL);
}
