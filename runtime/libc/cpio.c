// The boot archive: reader for cpio's "newc" format.
//
// An archive is a sequence of entries, each: a header of 110 characters (a
// magic and 13 numbers of 8 hexadecimal digits), the name with its NUL, and
// the data; name and data each end with zeros up to a multiple of 4 bytes. The
// entry "TRAILER!!!" is the last. A name may be padded with further NULs, by
// which a writer can place the data on a page boundary.
//
// Nothing in it is trusted. The archive is read twice by the same code: the
// first pass checks every entry without touching the tree, the second builds a
// new tree beside the one in use, which takes its place when it is complete.
// So an archive is mounted as a whole or not at all.
//
// Names are taken relative to the root: "/a", "./a", "b/../../a" are all "a".
// Directories that a name implies exist. Of two entries of one name the last
// counts; a name that is a file and a directory is an error. Symbolic links,
// devices and the like are left out and counted.
//
// Source: the format as in Linux, Documentation/driver-api/early-userspace/
// buffer-format.rst, and cpio(5) of libarchive.

#define _POSIX_C_SOURCE 200809L // strnlen

#include "runtime/libc/cpio.h"

#include "runtime/libc/fs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAGIC_LEN = 6,
    DIGITS = 8,
    ALIGNMENT = 4,
};

// The header's numbers, in their order.
enum field {
    INO,
    MODE,
    UID,
    GID,
    NLINK,
    MTIME,
    FILE_SIZE,
    DEV_MAJOR,
    DEV_MINOR,
    RDEV_MAJOR,
    RDEV_MINOR,
    NAME_SIZE,
    CHECKSUM,
    NFIELDS,
    HEADER_SIZE = MAGIC_LEN + NFIELDS * DIGITS,
};

struct archive {
    const uint8_t *base;
    size_t size;
    char *err;
    size_t errsize;
    int nskipped;
};

struct entry {
    size_t at;   // of the header
    size_t next; // of the next header
    uint32_t field[NFIELDS];
    const uint8_t *data;
    bool is_trailer;
    char path[FS_PATH_MAX]; // normalised, "" for the root
};

// Appends to the error line what fits of a string; control characters, which
// a hostile name may hold, become '?'.
static void say(struct archive *a, const char *s)
{
    size_t len = strlen(a->err);

    for (; *s && len + 1 < a->errsize; s++)
        a->err[len++] = (unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s;
    a->err[len] = '\0';
}

static void say_number(struct archive *a, uint64_t n)
{
    char digits[24], *p = digits + sizeof(digits) - 1;

    *p = '\0';
    do {
        *--p = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    say(a, p);
}

// Sets the error line: where, what, and the name if there is one. Not by
// printf, which would be most of a small image.
static int fail(struct archive *a, const struct entry *e, const char *what,
                const char *name)
{
    a->err[0] = '\0';
    say(a, "archive offset ");
    say_number(a, e->at);
    say(a, ": ");
    say(a, what);
    if (name) {
        say(a, ": \"");
        say(a, name);
        say(a, "\"");
    }
    return -EINVAL;
}

static bool parse_hex(const uint8_t *p, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < DIGITS; i++) {
        uint8_t c = p[i];
        unsigned digit;

        if (c >= '0' && c <= '9')
            digit = (unsigned)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (unsigned)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            digit = (unsigned)(c - 'A') + 10;
        else
            return false;
        *value = *value << 4 | digit;
    }
    return true;
}

static int read_header(struct archive *a, struct entry *e)
{
    const uint8_t *p = a->base + e->at;

    if (a->size - e->at < HEADER_SIZE)
        return fail(a, e, "cut off: too few bytes for a header", NULL);
    if (memcmp(p, "070701", MAGIC_LEN) && memcmp(p, "070702", MAGIC_LEN))
        return fail(a, e, "no cpio \"newc\" header", NULL);
    for (int i = 0; i < NFIELDS; i++)
        if (!parse_hex(p + MAGIC_LEN + i * DIGITS, &e->field[i]))
            return fail(a, e, "a header field is not hexadecimal", NULL);
    return 0;
}

// Finds the data and the next header. Sets *name, which has a NUL.
static int read_extent(struct archive *a, struct entry *e, const char **name)
{
    size_t left = a->size - e->at - HEADER_SIZE;
    size_t name_size = e->field[NAME_SIZE], data_size = e->field[FILE_SIZE];
    size_t name_end, data_end, len;

    *name = (const char *)a->base + e->at + HEADER_SIZE;
    if (name_size > left)
        return fail(a, e, "cut off: the name is not complete", NULL);
    len = strnlen(*name, name_size);
    if (len == name_size)
        return fail(a, e, "the name has no end", NULL);
    for (size_t i = len; i < name_size; i++)
        if ((*name)[i] != '\0')
            return fail(a, e, "something follows the name", *name);
    e->is_trailer = strcmp(*name, "TRAILER!!!") == 0;
    if (e->is_trailer)
        return 0;

    name_end = (e->at + HEADER_SIZE + name_size + ALIGNMENT - 1) &
               ~(size_t)(ALIGNMENT - 1);
    if (name_end > a->size || data_size > a->size - name_end)
        return fail(a, e, "cut off: the data is not complete", *name);
    e->data = a->base + name_end;
    data_end = name_end + data_size;
    // The last padding may be missing; then no trailer follows, and that is
    // what will be reported.
    e->next = (data_end + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    if (e->next > a->size)
        e->next = a->size;
    return 0;
}

// Resolves "", "." and ".." of the name into e->path.
static int normalise(struct archive *a, struct entry *e, const char *name)
{
    size_t len = 0;

    for (const char *p = name; *p;) {
        size_t n = strcspn(p, "/");

        if (n == 2 && p[0] == '.' && p[1] == '.') {
            while (len > 0 && e->path[--len] != '/')
                ;
        } else if (n > FS_NAME_MAX) {
            return fail(a, e, "a name of more than 255 bytes", name);
        } else if (n > 0 && !(n == 1 && p[0] == '.')) {
            // One byte for the root's slash, which users will write.
            if (len + 1 + n > FS_PATH_MAX - 2)
                return fail(a, e, "a path of more than 4094 bytes", name);
            if (len > 0)
                e->path[len++] = '/';
            memcpy(e->path + len, p, n);
            len += n;
        }
        p += n;
        p += *p == '/';
    }
    e->path[len] = '\0';
    return 0;
}

static uint32_t type_of(const struct entry *e)
{
    return e->field[MODE] & FS_TYPE_MASK;
}

static int read_entry(struct archive *a, struct entry *e, size_t at)
{
    const char *name;
    int r;

    e->at = at;
    r = read_header(a, e);
    if (r)
        return r;
    r = read_extent(a, e, &name);
    if (r || e->is_trailer)
        return r;
    r = normalise(a, e, name);
    if (r)
        return r;
    if (type_of(e) == FS_TYPE_FILE && e->path[0] == '\0')
        return fail(a, e, "a file without a name", name);
    if (type_of(e) == FS_TYPE_FILE && e->field[NLINK] > 1 &&
        e->field[FILE_SIZE] == 0)
        return fail(a, e, "a hard link without data of its own", name);
    if (type_of(e) == FS_TYPE_DIR && e->field[FILE_SIZE] > 0)
        return fail(a, e, "a directory with data", name);
    return 0;
}

static int check_entry(struct archive *a, const struct entry *e)
{
    if (type_of(e) == FS_TYPE_FILE || type_of(e) == FS_TYPE_DIR)
        return 0;
    if (a->nskipped++ == 0)
        fail(a, e,
             type_of(e) == FS_TYPE_LINK ? "left out, a symbolic link"
                                        : "left out, a special file",
             e->path);
    return 0;
}

static int build_entry(struct archive *a, const struct entry *e)
{
    struct fs_time mtime = {.sec = e->field[MTIME]};
    int r = 0;

    if (type_of(e) == FS_TYPE_DIR)
        r = fs_stage_dir(e->path, e->field[MODE], mtime);
    else if (type_of(e) == FS_TYPE_FILE)
        r = fs_stage_file(e->path, e->field[MODE], mtime, e->data,
                          e->field[FILE_SIZE]);
    if (r == -ENOTDIR || r == -EISDIR)
        return fail(a, e, "a file and a directory at once", e->path);
    if (r) {
        fail(a, e, "no memory", e->path);
        return -ENOMEM;
    }
    return 0;
}

static int for_each(struct archive *a, struct entry *e,
                    int (*fn)(struct archive *a, const struct entry *e))
{
    for (size_t at = 0;; at = e->next) {
        int r = read_entry(a, e, at);

        if (r)
            return r;
        if (e->is_trailer)
            return 0;
        r = fn(a, e);
        if (r)
            return r;
    }
}

static int mount_with(struct archive *a, struct entry *e)
{
    int r = for_each(a, e, check_entry);

    if (r)
        return r;
    r = fs_stage_begin();
    if (r) {
        fail(a, e, "no memory", NULL);
        return r;
    }
    r = for_each(a, e, build_entry);
    if (r) {
        fs_stage_abort();
        return r;
    }
    fs_stage_commit();
    return a->nskipped;
}

int cpio_mount(const void *base, size_t size, char *err, size_t errsize)
{
    struct archive a = {
        .base = base, .size = size, .err = err, .errsize = errsize};
    struct entry *e = calloc(1, sizeof *e); // large: its path
    int r = -ENOMEM;

    err[0] = '\0';
    if (e != NULL)
        r = mount_with(&a, e);
    else
        say(&a, "no memory to read the initial files");
    free(e);
    return r;
}
