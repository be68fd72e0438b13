// sources: runtime/libc/fs.c runtime/libc/fs_attr.c runtime/libc/fs_names.c runtime/libc/fs_tree.c runtime/libc/fs_node.c runtime/libc/fs_data.c host-tests/runtime/libc/stub_port.c
//
// The file system's behaviours, by name.

#define _GNU_SOURCE

#include "host-tests/runtime/libc/stub_port.h"
#include "runtime/libc/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static int set_up(void **state)
{
    (void)state;
    stub_reset();
    return fs_init();
}

static int tear_down(void **state)
{
    (void)state;
    fs_check();
    fs_fini();
    return 0;
}

static void put(const char *path, const char *text)
{
    int fd = fs_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);

    assert_true(fd >= 0);
    assert_int_equal(fs_write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fs_close(fd), 0);
    fs_check();
}

static const char *get(const char *path)
{
    static char text[256];
    int fd = fs_open(path, O_RDONLY, 0);
    int64_t n;

    assert_true(fd >= 0);
    n = fs_read(fd, text, sizeof(text) - 1);
    assert_true(n >= 0);
    text[n] = '\0';
    assert_int_equal(fs_close(fd), 0);
    return text;
}

static uint64_t size_of(const char *path)
{
    struct fs_stat st;

    assert_int_equal(fs_stat(path, &st), 0);
    return st.size;
}

static unsigned nlink_of(const char *path)
{
    struct fs_stat st;

    assert_int_equal(fs_stat(path, &st), 0);
    return st.nlink;
}

// The names of a directory, each followed by a blank.
static const char *list(const char *path)
{
    static char names[512];
    struct fs_dirpos pos = {0};
    struct fs_dirent e;
    int fd = fs_open(path, O_RDONLY | O_DIRECTORY, 0);

    assert_true(fd >= 0);
    names[0] = '\0';
    while (fs_readdir(fd, &pos, &e) == 1)
        strcat(strcat(names, e.name), " ");
    fs_close(fd);
    return names;
}

static void stage(const char *path, const char *text)
{
    assert_int_equal(fs_stage_begin(), 0);
    assert_int_equal(fs_stage_file(path, 0644, (struct fs_time){.sec = 7}, text,
                                   strlen(text)),
                     0);
    fs_stage_commit();
}

// Opening.

static void first_descriptors_are_the_console(void **state)
{
    char c[8];

    (void)state;
    stub_input = "in";
    assert_int_equal(fs_write(1, "out", 3), 3);
    assert_int_equal(fs_write(2, "err", 3), 3);
    assert_int_equal(fs_read(0, c, sizeof(c)), 2);
    assert_int_equal(fs_read(0, c, sizeof(c)), 0);
    assert_string_equal(stub_output[1], "out");
    assert_string_equal(stub_output[2], "err");
    assert_int_equal(fs_write(0, "x", 1), -EBADF);
    assert_int_equal(fs_read(1, c, 1), -EBADF);
    assert_int_equal(fs_lseek(0, 0, SEEK_CUR), -ESPIPE);
    assert_int_equal(fs_pread(0, c, 1, 0), -ESPIPE);
}

static void open_takes_the_lowest_free_descriptor(void **state)
{
    (void)state;
    assert_int_equal(fs_open("/f", O_CREAT | O_RDWR, 0666), 3);
    assert_int_equal(fs_open("/f", O_RDONLY, 0), 4);
    assert_int_equal(fs_open("/f", O_RDONLY, 0), 5);
    assert_int_equal(fs_close(4), 0);
    assert_int_equal(fs_close(3), 0);
    assert_int_equal(fs_open("/f", O_RDONLY, 0), 3);
    assert_int_equal(fs_dup(3, 0), 4);
    assert_int_equal(fs_dup(3, 10), 10);
    assert_int_equal(fs_dup(3, 5), 6);
    assert_int_equal(fs_close(99), -EBADF);
    assert_int_equal(fs_close(-1), -EBADF);
}

static void open_reports_what_is_wrong(void **state)
{
    (void)state;
    put("/f", "x");
    assert_int_equal(fs_mkdir("/d", 0777), 0);
    assert_int_equal(fs_open("/none", O_RDONLY, 0), -ENOENT);
    assert_int_equal(fs_open("", O_RDONLY, 0), -ENOENT);
    assert_int_equal(fs_open("/none/f", O_CREAT | O_WRONLY, 0), -ENOENT);
    assert_int_equal(fs_open("/f/x", O_RDONLY, 0), -ENOTDIR);
    assert_int_equal(fs_open("/f/..", O_RDONLY, 0), -ENOTDIR);
    assert_int_equal(fs_open("/f/", O_RDONLY, 0), -ENOTDIR);
    assert_int_equal(fs_open("/new/", O_CREAT | O_WRONLY, 0), -EISDIR);
    assert_int_equal(fs_open("/f", O_DIRECTORY, 0), -ENOTDIR);
    assert_int_equal(fs_open("/d", O_WRONLY, 0), -EISDIR);
    assert_int_equal(fs_open("/d", O_RDWR, 0), -EISDIR);
    assert_int_equal(fs_open("/d", O_CREAT, 0), -EISDIR);
    assert_int_equal(fs_open("/f", O_CREAT | O_EXCL, 0), -EEXIST);
    assert_int_equal(fs_open("/d", O_CREAT | O_EXCL, 0), -EEXIST);
    assert_int_equal(fs_open("/f", O_ACCMODE, 0), -EINVAL);
    assert_string_equal(get("/f"), "x");
}

static void names_and_paths_have_a_longest_length(void **state)
{
    char path[FS_PATH_MAX + 2];

    (void)state;
    memset(path, 'n', sizeof(path));
    path[0] = '/';
    path[1 + FS_NAME_MAX] = '\0';
    put(path, "x");
    path[1 + FS_NAME_MAX] = 'n';
    path[2 + FS_NAME_MAX] = '\0';
    assert_int_equal(fs_mkdir(path, 0777), -ENAMETOOLONG);

    for (size_t i = 0; i < sizeof(path); i++)
        path[i] = i % 2 ? '.' : '/';
    path[FS_PATH_MAX - 1] = '\0';
    assert_int_equal(fs_access(path, F_OK), 0);
    path[FS_PATH_MAX - 1] = '/';
    path[FS_PATH_MAX] = '\0';
    assert_int_equal(fs_access(path, F_OK), -ENAMETOOLONG);
}

static void too_many_open_files_is_emfile(void **state)
{
    (void)state;
    put("/f", "");
    for (int fd = 3; fd < FS_OPEN_MAX; fd++)
        assert_int_equal(fs_open("/f", O_RDONLY, 0), fd);
    assert_int_equal(fs_open("/f", O_RDONLY, 0), -EMFILE);
    assert_int_equal(fs_open("/g", O_CREAT | O_RDWR, 0), -EMFILE);
    assert_int_equal(fs_access("/g", F_OK), -ENOENT);
    assert_int_equal(fs_dup(0, 0), -EMFILE);
    assert_int_equal(fs_dup2(0, FS_OPEN_MAX), -EBADF);
    assert_int_equal(fs_close(77), 0);
    assert_int_equal(fs_open("/f", O_RDONLY, 0), 77);
}

static void append_writes_at_the_end_whatever_the_position(void **state)
{
    int fd;

    (void)state;
    put("/f", "one");
    fd = fs_open("/f", O_RDWR | O_APPEND, 0);
    assert_int_equal(fs_lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(fs_write(fd, "two", 3), 3);
    assert_int_equal(fs_lseek(fd, 0, SEEK_CUR), 6);
    assert_int_equal(fs_set_flags(fd, 0), 0);
    assert_int_equal(fs_lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(fs_write(fd, "O", 1), 1);
    assert_string_equal(get("/f"), "Onetwo");
    assert_int_equal(fs_get_flags(fd) & O_ACCMODE, O_RDWR);
}

static void dup_shares_the_position(void **state)
{
    char c;
    int fd, copy;

    (void)state;
    put("/f", "abc");
    fd = fs_open("/f", O_RDONLY, 0);
    copy = fs_dup2(fd, 9);
    assert_int_equal(copy, 9);
    assert_int_equal(fs_read(fd, &c, 1), 1);
    assert_int_equal(fs_read(copy, &c, 1), 1);
    assert_int_equal(c, 'b');
    assert_int_equal(fs_dup2(fd, fd), fd);
    assert_int_equal(fs_dup2(50, 9), -EBADF);
    assert_int_equal(fs_dup2(1, 9), 9);
    assert_int_equal(fs_write(9, "hi", 2), 2);
    assert_string_equal(stub_output[1], "hi");
}

// Contents.

static void a_hole_reads_as_zeros_and_owns_no_memory(void **state)
{
    struct fs_stat st;
    char c[4] = "xxx";
    int fd;

    (void)state;
    fd = fs_open("/f", O_RDWR | O_CREAT, 0666);
    assert_int_equal(fs_lseek(fd, (int64_t)1 << 40, SEEK_SET),
                     (int64_t)1 << 40);
    assert_int_equal(fs_write(fd, "end", 3), 3);
    fs_check();
    assert_int_equal(fs_fstat(fd, &st), 0);
    assert_true(st.size == ((uint64_t)1 << 40) + 3);
    assert_true(st.blocks == 8);
    assert_int_equal(fs_pread(fd, c, 4, ((int64_t)1 << 40) - 1), 4);
    assert_memory_equal(c, "\0end", 4);
    assert_int_equal(fs_pread(fd, c, 4, 12345), 4);
    assert_memory_equal(c, "\0\0\0", 4);
    assert_int_equal(fs_ftruncate(fd, 1), 0);
    fs_check();
    assert_int_equal(fs_fstat(fd, &st), 0);
    assert_true(st.blocks == 0);
}

static void seek_refuses_what_is_no_position(void **state)
{
    int fd;

    (void)state;
    put("/f", "abc");
    fd = fs_open("/f", O_RDWR, 0);
    assert_int_equal(fs_lseek(fd, -1, SEEK_SET), -EINVAL);
    assert_int_equal(fs_lseek(fd, -4, SEEK_END), -EINVAL);
    assert_int_equal(fs_lseek(fd, 0, 77), -EINVAL);
    assert_int_equal(fs_lseek(fd, 1, SEEK_SET), 1);
    assert_int_equal(fs_lseek(fd, INT64_MAX, SEEK_CUR), -EOVERFLOW);
    assert_int_equal(fs_lseek(fd, FS_FILE_MAX + 1, SEEK_SET), -EINVAL);
    assert_int_equal(fs_lseek(fd, -1, SEEK_END), 2);
    assert_true(fs_lseek(fd, FS_FILE_MAX, SEEK_SET) == FS_FILE_MAX);
    assert_int_equal(fs_write(fd, "x", 1), -EFBIG);
    assert_int_equal(fs_pread(fd, &(char){0}, 1, -1), -EINVAL);
    assert_int_equal(fs_ftruncate(fd, -1), -EINVAL);
    assert_int_equal(fs_ftruncate(fd, FS_FILE_MAX + 1), -EFBIG);
    assert_int_equal(size_of("/f"), 3);
}

static void what_was_cut_off_does_not_come_back(void **state)
{
    (void)state;
    put("/f", "secret");
    assert_int_equal(fs_truncate("/f", 2), 0);
    assert_int_equal(fs_truncate("/f", 6), 0);
    get("/f");
    assert_memory_equal(get("/f"), "se\0\0\0\0", 6);

    stage("m", "mapped bytes");
    assert_int_equal(fs_truncate("/m", 3), 0);
    assert_int_equal(fs_truncate("/m", 12), 0);
    assert_memory_equal(get("/m"), "map\0\0\0\0\0\0\0\0\0", 12);
}

static void a_mapped_file_is_copied_by_the_page_when_written(void **state)
{
    size_t size = 3 * 4096 + 5;
    char *archive = malloc(size), c[2];
    struct fs_stat st;
    int fd;

    (void)state;
    memset(archive, 'a', size);
    assert_int_equal(fs_stage_begin(), 0);
    assert_int_equal(
        fs_stage_file("dir/m", 0400, (struct fs_time){.sec = 7}, archive, size),
        0);
    fs_stage_commit();
    assert_int_equal(fs_stat("/dir/m", &st), 0);
    assert_true(st.size == size && st.blocks == 0 && st.mtime.sec == 7);
    fd = fs_open("/dir/m", O_RDWR, 0);
    assert_int_equal(fs_pwrite(fd, "X", 1, 4096), 1);
    assert_int_equal(fs_pwrite(fd, "Y", 1, (int64_t)size), 1);
    fs_check();
    assert_int_equal(archive[4096], 'a');
    assert_int_equal(fs_fstat(fd, &st), 0);
    assert_true(st.blocks == 16 && st.size == size + 1 && st.mtime.sec == 1);
    assert_int_equal(fs_pread(fd, c, 2, 4096), 2);
    assert_memory_equal(c, "Xa", 2);
    assert_int_equal(fs_pread(fd, c, 2, (int64_t)size - 1), 2);
    assert_memory_equal(c, "aY", 2);
    assert_int_equal(fs_close(fd), 0);
    fd = fs_open("/dir/m", O_WRONLY | O_TRUNC, 0);
    assert_int_equal(size_of("/dir/m"), 0);
    assert_int_equal(fs_unlink("/dir/m"), 0);
    assert_int_equal(fs_close(fd), 0);
    free(archive);
}

// Links.

static void an_unlinked_file_lives_until_its_last_close(void **state)
{
    char c[4];
    struct fs_stat st;
    int fd, copy;

    (void)state;
    put("/f", "text");
    fd = fs_open("/f", O_RDWR, 0);
    copy = fs_dup(fd, 0);
    assert_int_equal(fs_unlink("/f"), 0);
    assert_int_equal(fs_access("/f", F_OK), -ENOENT);
    put("/f", "new");
    assert_int_equal(fs_close(fd), 0);
    assert_int_equal(fs_pread(copy, c, 4, 0), 4);
    assert_memory_equal(c, "text", 4);
    assert_int_equal(fs_fstat(copy, &st), 0);
    assert_int_equal(st.nlink, 0);
    assert_int_equal(fs_close(copy), 0);
    assert_string_equal(get("/f"), "new");
}

static void links_are_one_file(void **state)
{
    (void)state;
    put("/a", "1");
    assert_int_equal(fs_link("/a", "/b"), 0);
    assert_int_equal(nlink_of("/b"), 2);
    put("/b", "22");
    assert_string_equal(get("/a"), "22");
    assert_int_equal(fs_rename("/a", "/b"), 0); // POSIX: does nothing
    assert_int_equal(nlink_of("/a"), 2);
    assert_int_equal(fs_unlink("/a"), 0);
    assert_string_equal(get("/b"), "22");
    assert_int_equal(fs_link("/tmp", "/t"), -EPERM);
    assert_int_equal(fs_link("/b", "/tmp"), -EEXIST);
    assert_int_equal(fs_link("/none", "/x"), -ENOENT);
}

static void unlink_refuses_directories(void **state)
{
    (void)state;
    assert_int_equal(fs_mkdir("/d", 0777), 0);
    assert_int_equal(fs_unlink("/d"), -EISDIR);
    assert_int_equal(fs_unlink("/"), -EISDIR);
    assert_int_equal(fs_unlink("/none"), -ENOENT);
    put("/f", "");
    assert_int_equal(fs_unlink("/f/"), -ENOTDIR);
    assert_int_equal(fs_unlink("/f/x"), -ENOTDIR);
}

static void rename_replaces_an_existing_file(void **state)
{
    char c[3];
    int fd;

    (void)state;
    put("/a", "aaa");
    put("/b", "bbb");
    fd = fs_open("/b", O_RDONLY, 0);
    assert_int_equal(fs_rename("/a", "/b"), 0);
    assert_string_equal(get("/b"), "aaa");
    assert_int_equal(fs_access("/a", F_OK), -ENOENT);
    assert_int_equal(fs_read(fd, c, 3), 3);
    assert_memory_equal(c, "bbb", 3);
    assert_int_equal(fs_rename("/b", "/tmp/c"), 0);
    assert_string_equal(get("/tmp/c"), "aaa");
}

static void rename_moves_a_directory_onto_an_empty_one(void **state)
{
    (void)state;
    assert_int_equal(fs_mkdir("/from", 0777), 0);
    assert_int_equal(fs_mkdir("/to", 0777), 0);
    assert_int_equal(fs_mkdir("/to/sub", 0777), 0);
    put("/from/f", "x");
    assert_int_equal(fs_rename("/from", "/to"), -ENOTEMPTY);
    assert_int_equal(fs_rename("/from", "/to/sub/"), 0);
    assert_string_equal(get("/to/sub/f"), "x");
    assert_int_equal(nlink_of("/to"), 3);
    assert_int_equal(nlink_of("/to/sub"), 2);
    assert_string_equal(get("/to/sub/../sub/f"), "x");
    assert_int_equal(nlink_of("/"), 5);
    assert_int_equal(fs_rename("/to/sub", "/sub"), 0);
    assert_int_equal(nlink_of("/"), 6);
    assert_int_equal(nlink_of("/to"), 2);
}

static void rename_refuses_what_makes_no_tree(void **state)
{
    (void)state;
    assert_int_equal(fs_mkdir("/d", 0777), 0);
    assert_int_equal(fs_mkdir("/d/e", 0777), 0);
    put("/f", "");
    assert_int_equal(fs_rename("/d", "/d/e/x"), -EINVAL);
    assert_int_equal(fs_rename("/d", "/d/x"), -EINVAL);
    assert_int_equal(fs_rename("/d/e", "/d"), -ENOTEMPTY);
    assert_int_equal(fs_rename("/d", "/f"), -ENOTDIR);
    assert_int_equal(fs_rename("/f", "/d"), -EISDIR);
    assert_int_equal(fs_rename("/f", "/d/e/"), -EISDIR);
    assert_int_equal(fs_rename("/f", "/new/"), -ENOTDIR);
    assert_int_equal(fs_rename("/f/", "/new"), -ENOTDIR);
    assert_int_equal(fs_rename("/none", "/new"), -ENOENT);
    assert_int_equal(fs_rename("/f", "/none/new"), -ENOENT);
    assert_int_equal(fs_rename("/", "/new"), -EBUSY);
    assert_int_equal(fs_rename("/d/.", "/new"), -EINVAL);
    assert_int_equal(fs_rename("/d", "/f/.."), -ENOTDIR);
    assert_int_equal(fs_rename("/d", "/d"), 0);
    assert_int_equal(fs_rename("/d", "/new/"), 0);
    assert_int_equal(fs_access("/new/e", F_OK), 0);
}

static void rmdir_refuses_what_is_in_use(void **state)
{
    (void)state;
    assert_int_equal(fs_mkdir("/d", 0777), 0);
    assert_int_equal(fs_mkdir("/d/e", 0777), 0);
    assert_int_equal(fs_rmdir("/d"), -ENOTEMPTY);
    assert_int_equal(fs_rmdir("/d/e/."), -EINVAL);
    assert_int_equal(fs_rmdir("/d/e/.."), -ENOTEMPTY);
    assert_int_equal(fs_rmdir("/"), -EBUSY);
    assert_int_equal(fs_rmdir("/none"), -ENOENT);
    put("/f", "");
    assert_int_equal(fs_rmdir("/f"), -ENOTDIR);
    assert_int_equal(fs_rmdir("/d/e/"), 0);
    assert_int_equal(fs_rmdir("/d"), 0);
    assert_int_equal(fs_mkdir("/", 0777), -EEXIST);
    assert_int_equal(fs_mkdir("/f", 0777), -EEXIST);
    assert_int_equal(fs_mkdir("/f/x", 0777), -ENOTDIR);
    assert_int_equal(fs_mkdir("/none/x", 0777), -ENOENT);
}

// Directories.

static void a_removed_directory_can_still_be_stood_in(void **state)
{
    char path[64];
    struct fs_stat st, root;

    (void)state;
    assert_int_equal(fs_mkdir("/p", 0777), 0);
    assert_int_equal(fs_mkdir("/p/d", 0777), 0);
    assert_int_equal(fs_chdir("/p/d"), 0);
    assert_int_equal(fs_rmdir("/p/d"), 0);
    assert_int_equal(fs_rmdir("/p"), 0);
    assert_int_equal(fs_open("f", O_CREAT | O_WRONLY, 0666), -ENOENT);
    assert_int_equal(fs_mkdir("x", 0777), -ENOENT);
    assert_int_equal(fs_link("/dev/null", "x"), -ENOENT);
    assert_int_equal(fs_rename("/dev/null", "x"), -ENOENT);
    assert_int_equal(fs_getcwd(path, sizeof(path)), -ENOENT);
    assert_string_equal(list("."), "");
    assert_int_equal(fs_stat("../..", &st), 0);
    assert_int_equal(fs_stat("/", &root), 0);
    assert_int_equal(st.ino, root.ino);
    assert_int_equal(fs_chdir(".."), 0);
    assert_int_equal(fs_chdir("/"), 0);
}

static void getcwd_names_the_current_directory(void **state)
{
    char path[16];

    (void)state;
    assert_int_equal(fs_getcwd(path, sizeof(path)), 1);
    assert_string_equal(path, "/");
    assert_int_equal(fs_mkdir("/d", 0777), 0);
    assert_int_equal(fs_mkdir("/d/e", 0777), 0);
    assert_int_equal(fs_chdir("d//./e/"), 0);
    assert_int_equal(fs_getcwd(path, sizeof(path)), 4);
    assert_string_equal(path, "/d/e");
    assert_int_equal(fs_getcwd(path, 5), 4);
    assert_int_equal(fs_getcwd(path, 4), -ERANGE);
    assert_int_equal(fs_getcwd(path, 1), -ERANGE);
    assert_int_equal(fs_rename("/d", "/long"), 0);
    assert_int_equal(fs_getcwd(path, sizeof(path)), 7);
    assert_string_equal(path, "/long/e");
    put("f", "");
    assert_int_equal(fs_realpath("./../e/f", path, sizeof(path)), 9);
    assert_string_equal(path, "/long/e/f");
    assert_int_equal(fs_realpath("none", path, sizeof(path)), -ENOENT);
    assert_int_equal(fs_chdir("f"), -ENOTDIR);
    assert_int_equal(fs_chdir("../.././../.."), 0);
    assert_int_equal(fs_getcwd(path, 2), 1);
    assert_string_equal(path, "/");
}

static void directories_list_sorted_by_name(void **state)
{
    (void)state;
    put("/tmp/b", "");
    put("/tmp/!", "");
    put("/tmp/ab", "");
    put("/tmp/a", "");
    put("/tmp/\xff", "");
    put("/tmp/..a", "");
    assert_string_equal(list("/tmp"), ". .. ! ..a a ab b \xff ");
}

static void reading_survives_changes_of_the_directory(void **state)
{
    struct fs_dirpos pos = {0};
    struct fs_dirent e;
    char path[300];
    int fd, seen = 0;

    (void)state;
    for (int i = 10; i < 60; i++) {
        snprintf(path, sizeof(path), "/tmp/%d", i);
        put(path, "");
    }
    fd = fs_open("/tmp", O_RDONLY, 0);
    while (fs_readdir(fd, &pos, &e) == 1) {
        if (e.name[0] == '.')
            continue;
        // Removes what was read, and adds in front of and behind it.
        snprintf(path, sizeof(path), "/tmp/%s", e.name);
        assert_int_equal(fs_unlink(path), 0);
        snprintf(path, sizeof(path), "/tmp/0%d", seen);
        put(path, "");
        seen++;
    }
    assert_int_equal(seen, 50);
    assert_int_equal(fs_readdir(fd, &pos, &e), 0);
    assert_int_equal(fs_readdir(1, &pos, &e), -ENOTDIR);
    assert_int_equal(fs_readdir(50, &pos, &e), -EBADF);
    assert_int_equal(fs_read(fd, &e, 1), -EISDIR);
}

static void ten_thousand_entries_are_quick(void **state)
{
    uint64_t random = 1;
    struct fs_dirpos pos = {0};
    struct fs_dirent e;
    char path[32];
    int fd, n = 0;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        snprintf(path, sizeof(path), "/tmp/%llx",
                 (unsigned long long)stub_random(&random));
        fd = fs_open(path, O_CREAT | O_EXCL | O_WRONLY, 0666);
        assert_int_equal(fd, 3);
        fs_close(fd);
    }
    fd = fs_open("/tmp", O_RDONLY, 0);
    while (fs_readdir(fd, &pos, &e) == 1)
        n++;
    assert_int_equal(n, 10002);
}

// Attributes.

static void stat_tells_type_size_links_and_times(void **state)
{
    struct fs_stat st, other;

    (void)state;
    fs_umask(027);
    stub_wall_ns = 5000000007u;
    put("/f", "12345");
    assert_int_equal(fs_stat("/f", &st), 0);
    assert_int_equal(st.mode, 0100640);
    assert_int_equal(st.size, 5);
    assert_int_equal(st.mtime.sec, 5);
    assert_int_equal(st.mtime.nsec, 7);
    assert_int_equal(fs_chmod("/f", 0755), 0);
    assert_int_equal(fs_utime("/f", (struct fs_time){.sec = 3}), 0);
    assert_int_equal(fs_stat("/f", &other), 0);
    assert_int_equal(other.ino, st.ino);
    assert_int_equal(other.mode, 0100755);
    assert_int_equal(other.mtime.sec, 3);
    assert_int_equal(fs_mkdir("/d", 0777), 0);
    assert_int_equal(fs_stat("/d", &st), 0);
    assert_int_equal(st.mode, 0040750);
    assert_int_equal(st.nlink, 2);
    assert_int_not_equal(st.ino, other.ino);
    assert_int_equal(fs_stat("/dev/null", &st), 0);
    assert_int_equal(st.mode & 0170000, 0020000);
    assert_int_equal(fs_stat("/f/", &st), -ENOTDIR);
    assert_int_equal(fs_umask(022), 027);
}

static void access_refuses_only_to_execute_plain_files(void **state)
{
    (void)state;
    put("/f", "");
    assert_int_equal(fs_access("/f", R_OK | W_OK), 0);
    assert_int_equal(fs_access("/f", X_OK), -EACCES);
    assert_int_equal(fs_access("/tmp", X_OK), 0);
    assert_int_equal(fs_chmod("/f", 0100), 0);
    assert_int_equal(fs_access("/f", X_OK), 0);
    assert_int_equal(fs_access("/f", 64), -EINVAL);
}

// Devices.

static void devices_behave_as_everywhere(void **state)
{
    char c[4] = "xxx";
    int null, zero, full, random;

    (void)state;
    null = fs_open("/dev/null", O_RDWR | O_TRUNC, 0);
    zero = fs_open("/dev/zero", O_RDWR, 0);
    full = fs_open("/dev/full", O_RDWR, 0);
    random = fs_open("/dev/urandom", O_RDONLY, 0);
    assert_int_equal(fs_write(null, "abc", 3), 3);
    assert_int_equal(fs_read(null, c, 3), 0);
    assert_int_equal(fs_write(full, "abc", 3), -ENOSPC);
    assert_int_equal(fs_read(random, c, 2), 2);
    assert_memory_equal(c, "\x5a\x5ax", 4);
    assert_int_equal(fs_read(zero, c, 3), 3);
    assert_memory_equal(c, "\0\0\0", 4);
    assert_int_equal(fs_lseek(zero, 100, SEEK_SET), 0);
    assert_int_equal(fs_ftruncate(null, 0), -EINVAL);
    assert_int_equal(fs_truncate("/dev", 0), -EISDIR);
}

static void the_terminal_is_there_only_if_there_is_one(void **state)
{
    int fd;

    (void)state;
    assert_int_equal(fs_open("/dev/tty", O_RDWR, 0), -ENXIO);
    assert_false(fs_isatty(1));
    stub_tty = true;
    fd = fs_open("/dev/tty", O_RDWR, 0);
    assert_true(fs_isatty(fd) && fs_isatty(0) && fs_isatty(2));
    assert_int_equal(fs_write(fd, "x", 1), 1);
    assert_string_equal(stub_output[1], "x");
    fd = fs_open("/dev/null", O_RDWR, 0);
    assert_false(fs_isatty(fd) || fs_isatty(99));
}

static void dev_stdin_is_descriptor_0_whatever_that_is(void **state)
{
    char c[4];
    int fd;

    (void)state;
    put("/f", "abcd");
    fd = fs_open("/f", O_RDONLY, 0);
    assert_int_equal(fs_dup2(fd, 0), 0);
    assert_int_equal(fs_read(0, c, 2), 2);
    fd = fs_open("/dev/stdin", O_RDONLY, 0);
    assert_int_equal(fs_read(fd, c, 4), 2);
    assert_memory_equal(c, "cd", 2);
    assert_int_equal(fs_open("/dev/stdin", O_WRONLY, 0), -EACCES);
    assert_int_equal(fs_close(0), 0);
    assert_int_equal(fs_open("/dev/stdin", O_RDONLY, 0), -ENXIO);
    fd = fs_open("/dev/stderr", O_WRONLY, 0);
    assert_int_equal(fs_write(fd, "e", 1), 1);
    assert_string_equal(stub_output[2], "e");
}

// The new tree.

static void an_aborted_new_tree_leaves_no_trace(void **state)
{
    (void)state;
    put("/f", "old");
    assert_int_equal(fs_stage_begin(), 0);
    assert_int_equal(fs_stage_file("g", 0644, (struct fs_time){0}, "new", 3),
                     0);
    fs_stage_abort();
    assert_string_equal(get("/f"), "old");
    assert_int_equal(fs_access("/g", F_OK), -ENOENT);
}

static void a_new_tree_has_implied_directories_and_devices(void **state)
{
    struct fs_time t = {.sec = 1};

    (void)state;
    assert_int_equal(fs_stage_begin(), 0);
    assert_int_equal(fs_stage_file("a/b/c", 0644, t, "1", 1), 0);
    assert_int_equal(fs_stage_file("a/b/c", 0644, t, "22", 2), 0);
    assert_int_equal(fs_stage_dir("a/b", 0700, t), 0);
    assert_int_equal(fs_stage_dir("a/b/c", 0700, t), -ENOTDIR);
    assert_int_equal(fs_stage_file("a/b/c/d", 0600, t, "", 0), -ENOTDIR);
    assert_int_equal(fs_stage_file("a", 0600, t, "", 0), -EISDIR);
    assert_int_equal(fs_stage_dir("", 0711, t), 0);
    fs_stage_commit();
    assert_string_equal(list("/"), ". .. a dev tmp ");
    assert_string_equal(get("/a/b/c"), "22");
    assert_int_equal(fs_access("/dev/null", F_OK), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(first_descriptors_are_the_console),
        T(open_takes_the_lowest_free_descriptor),
        T(open_reports_what_is_wrong),
        T(names_and_paths_have_a_longest_length),
        T(too_many_open_files_is_emfile),
        T(append_writes_at_the_end_whatever_the_position),
        T(dup_shares_the_position),
        T(a_hole_reads_as_zeros_and_owns_no_memory),
        T(seek_refuses_what_is_no_position),
        T(what_was_cut_off_does_not_come_back),
        T(a_mapped_file_is_copied_by_the_page_when_written),
        T(an_unlinked_file_lives_until_its_last_close),
        T(links_are_one_file),
        T(unlink_refuses_directories),
        T(rename_replaces_an_existing_file),
        T(rename_moves_a_directory_onto_an_empty_one),
        T(rename_refuses_what_makes_no_tree),
        T(rmdir_refuses_what_is_in_use),
        T(a_removed_directory_can_still_be_stood_in),
        T(getcwd_names_the_current_directory),
        T(directories_list_sorted_by_name),
        T(reading_survives_changes_of_the_directory),
        T(ten_thousand_entries_are_quick),
        T(stat_tells_type_size_links_and_times),
        T(access_refuses_only_to_execute_plain_files),
        T(devices_behave_as_everywhere),
        T(the_terminal_is_there_only_if_there_is_one),
        T(dev_stdin_is_descriptor_0_whatever_that_is),
        T(an_aborted_new_tree_leaves_no_trace),
        T(a_new_tree_has_implied_directories_and_devices),
    };

    return cmocka_run_group_tests_name("fs", tests, NULL, NULL);
}
