// sources: runtime/libc/cpio.c runtime/libc/fs.c runtime/libc/fs_attr.c runtime/libc/fs_names.c runtime/libc/fs_tree.c runtime/libc/fs_node.c runtime/libc/fs_data.c host-tests/runtime/libc/stub_port.c host-tests/runtime/libc/archive.c
//
// Fuzz target: any bytes as the boot archive. Whatever comes out is a tree
// whose every file can be read, written and removed.
//
// With clang: add -fsanitize=fuzzer,address. With any compiler: link
// host-tests/fuzz/fuzz_main.c, which replays files or mutates the seed input.

#define _GNU_SOURCE

#include "host-tests/runtime/libc/archive.h"
#include "runtime/libc/cpio.h"
#include "runtime/libc/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t fuzz_seed_input(uint8_t *data, size_t room);

static void check(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "fuzz_cpio: %s\n", what);
    abort();
}

static void use_file(const char *name)
{
    char bytes[4096];
    int fd = fs_open(name, O_RDWR, 0);

    check(fd >= 0, "a file does not open");
    while (fs_read(fd, bytes, sizeof(bytes)) > 0)
        ;
    check(fs_pwrite(fd, "x", 1, 1) == 1, "a file is not writable");
    check(fs_ftruncate(fd, 0) == 0, "a file does not truncate");
    check(fs_close(fd) == 0, "a file does not close");
    check(fs_unlink(name) == 0, "a file cannot be removed");
}

// Empties the current directory: down first, by chdir, as paths may be long.
static void empty_directory(void)
{
    struct fs_dirpos pos = {0};
    struct fs_dirent e;
    int fd = fs_open(".", O_RDONLY | O_DIRECTORY, 0);

    check(fd >= 0, "a directory does not open");
    while (fs_readdir(fd, &pos, &e) == 1) {
        unsigned type = e.mode & FS_TYPE_MASK;

        if (strcmp(e.name, ".") == 0 || strcmp(e.name, "..") == 0)
            continue;
        if (type == FS_TYPE_DIR) {
            if (fs_rmdir(e.name) == 0)
                continue;
            check(fs_chdir(e.name) == 0, "chdir");
            fs_close(fd);
            empty_directory();
            check(fs_chdir("..") == 0, "chdir ..");
            check(fs_rmdir(e.name) == 0, "rmdir of an empty directory");
            fd = fs_open(".", O_RDONLY | O_DIRECTORY, 0);
        } else if (type == FS_TYPE_FILE) {
            use_file(e.name);
        } else {
            check(fs_unlink(e.name) == 0, "a device cannot be removed");
        }
    }
    fs_close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1); // of exactly this size, for ASan
    char err[200];
    int r;

    memcpy(copy, data, size);
    check(fs_init() == 0, "fs_init");
    r = cpio_mount(copy, size, err, sizeof(err));
    check(r >= 0 || r == -EINVAL, "an unexpected error");
    check((r == 0) == (err[0] == '\0'), "an error without a report");
    fs_check();
    empty_directory();
    check(memcmp(copy, data, size) == 0, "the archive was written to");
    fs_check();
    fs_fini();
    free(copy);
    return 0;
}

size_t fuzz_seed_input(uint8_t *data, size_t room)
{
    static struct archive_writer w;

    archive_sample(&w);
    check(w.size <= room, "room");
    memcpy(data, w.bytes, w.size);
    return w.size;
}
