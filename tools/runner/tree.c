// The file tree the guest starts with.
//
// What --file names is walked once into a list of entries; the list is sorted
// by guest path, which puts parents before children and makes the archive the
// same whatever order the directories were read in. Then the archive, cpio's
// "newc" form, is streamed into a file without a name that QEMU opens as the
// initrd; contents are copied by the kernel and never held by us.
//
// Guest paths: "/" + path, normalised lexically: "a/b" lies at /a/b, "../x" at
// /x, an absolute path keeps its place. Links are followed: the guest sees
// files and directories only.
//
// Invariants of the archive:
//   I1  entries are in order of path, '/' sorting before any other byte, and
//       no path stands twice; every entry's parent stands before it
//   I2  the data of a file of a page or more begins on a page boundary of the
//       archive (by NULs at the end of its name), so the guest can map it
//   I3  no inode numbers, owners or devices of this machine are in it
#include "runner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES   4096u
#define HEADER_BYTES 110u
#define TRAILER_NAME "TRAILER!!!"
// An archive up to this size is kept in memory, a larger one on disk, from
// where the system may drop pages that QEMU has read.
#define MEMORY_ARCHIVE_MAX (64u << 20)

struct entry {
    char *guest;      // without the leading '/'
    char *source;     // path on this machine; NULL for data
    const void *data; // neither: a directory that only links others together
    uint64_t size;
    mode_t mode;
    int64_t mtime;
    dev_t dev;
    ino_t ino;
};

struct tree {
    struct entry *v;
    size_t n, room;
    bool sorted;
};

// The directories we are inside of, to notice links that lead in circles.
struct ancestor {
    const struct ancestor *up;
    dev_t dev;
    ino_t ino;
};

struct tree *tree_create(void)
{
    struct tree *t = xrealloc(NULL, sizeof(*t));

    *t = (struct tree){0};
    return t;
}

bool tree_is_empty(const struct tree *t)
{
    return t->n == 0;
}

static struct entry *tree_new_entry(struct tree *t, const char *guest)
{
    if (t->n == t->room) {
        t->room = t->room ? 2 * t->room : 64;
        t->v = xrealloc(t->v, t->room * sizeof(*t->v));
    }
    struct entry *e = &t->v[t->n++];
    *e = (struct entry){.guest = xstrdup(guest)};
    t->sorted = false;
    return e;
}

// Drops ".", "..", and repeated slashes. ".." at the root stays there.
static char *normalise(const char *path)
{
    char *out = xrealloc(NULL, strlen(path) + 1);
    size_t len = 0;

    while (*path) {
        size_t n = strcspn(path, "/");

        if (n == 2 && !memcmp(path, "..", 2)) {
            while (len && out[--len] != '/')
                ;
        } else if (n && !(n == 1 && *path == '.')) {
            if (len)
                out[len++] = '/';
            memcpy(out + len, path, n);
            len += n;
        }
        path += n;
        path += *path == '/';
    }
    out[len] = '\0';
    return out;
}

static void add_file(struct tree *t, const char *source, const char *guest,
                     const struct stat *st)
{
    struct entry *e = tree_new_entry(t, guest);

    e->source = xstrdup(source);
    e->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
    e->mode = st->st_mode;
    e->mtime = st->st_mtime;
    e->dev = st->st_dev;
    e->ino = st->st_ino;
}

static void walk(struct tree *t, const char *source, const char *guest,
                 const struct ancestor *up);

static void walk_directory(struct tree *t, const char *source,
                           const char *guest, const struct stat *st,
                           const struct ancestor *up)
{
    const struct ancestor here = {up, st->st_dev, st->st_ino};
    struct dirent *d;

    for (const struct ancestor *a = up; a; a = a->up) {
        if (a->dev == st->st_dev && a->ino == st->st_ino) {
            warn("left out: %s: leads back to a directory it lies in", source);
            return;
        }
    }
    DIR *dir = opendir(source);
    if (!dir) {
        if (!up)
            die(STATUS_FAILED, "cannot read %s: %s", source, strerror(errno));
        warn("left out: %s: %s", source, strerror(errno));
        return;
    }
    if (*guest)
        add_file(t, source, guest, st);
    while ((d = readdir(dir))) {
        if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, ".."))
            continue;
        char *s = xasprintf("%s/%s", source, d->d_name);
        char *g = xasprintf("%s%s%s", guest, *guest ? "/" : "", d->d_name);
        walk(t, s, g, &here);
        free(s);
        free(g);
    }
    closedir(dir);
}

// up is NULL for what the user named himself: that must be there.
static void walk(struct tree *t, const char *source, const char *guest,
                 const struct ancestor *up)
{
    const char *problem = NULL;
    struct stat st;

    if (stat(source, &st)) {
        problem = strerror(errno);
        if (errno == ENOENT && !lstat(source, &st))
            problem = "a link to nowhere";
    } else if (S_ISDIR(st.st_mode)) {
        walk_directory(t, source, guest, &st, up);
        return;
    } else if (!S_ISREG(st.st_mode)) {
        problem = "neither a file nor a directory";
    } else if (access(source, R_OK)) {
        problem = strerror(errno);
    } else if (st.st_size > UINT32_MAX) {
        problem = "a file can have 4 GiB at most";
    }
    if (!problem)
        add_file(t, source, guest, &st);
    else if (up)
        warn("left out: %s: %s", source, problem);
    else
        die(STATUS_FAILED, "cannot take %s: %s", source, problem);
}

void tree_add_path(struct tree *t, const char *path)
{
    char *guest = normalise(path);

    walk(t, path, guest, NULL);
    free(guest);
}

void tree_add_data(struct tree *t, const char *guest_path, const void *data,
                   size_t size)
{
    char *guest = normalise(guest_path);
    struct entry *e = tree_new_entry(t, guest);

    e->data = data;
    e->size = size;
    e->mode = S_IFREG | 0644;
    e->mtime = ICOUNT_EPOCH;
    free(guest);
}

// Byte order, but '/' before all else.
static int compare_paths(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    unsigned char x = (unsigned char)(*a == '/' ? 1 : *a);
    unsigned char y = (unsigned char)(*b == '/' ? 1 : *b);
    if (x == 1 && *a != '/')
        x = 2;
    if (y == 1 && *b != '/')
        y = 2;
    return x < y ? -1 : x > y;
}

// Entries of the same path: real ones before those that only link others
// together, so that the first one is the one to keep.
static int compare_entries(const void *pa, const void *pb)
{
    const struct entry *a = pa, *b = pb;
    int order = compare_paths(a->guest, b->guest);

    return order ? order : !a->source - !b->source;
}

static void add_parents(struct tree *t)
{
    size_t n = t->n;

    for (size_t i = 0; i < n; i++) {
        const char *guest = t->v[i].guest;

        for (const char *slash = guest; (slash = strchr(slash, '/')); slash++) {
            char *parent = xasprintf("%.*s", (int)(slash - guest), guest);
            // neighbours in the list mostly have the same parents
            if (t->n > n && !strcmp(t->v[t->n - 1].guest, parent)) {
                free(parent);
                continue;
            }
            struct entry *e = tree_new_entry(t, parent);
            e->mode = S_IFDIR | 0755;
            e->mtime = ICOUNT_EPOCH;
            free(parent);
        }
    }
}

static void sort_and_merge(struct tree *t)
{
    size_t kept = 0;

    if (t->sorted)
        return;
    add_parents(t);
    qsort(t->v, t->n, sizeof(*t->v), compare_entries);
    for (size_t i = 0; i < t->n; i++) {
        struct entry *e = &t->v[i];
        struct entry *last = kept ? &t->v[kept - 1] : NULL;

        if (!last || strcmp(last->guest, e->guest)) {
            t->v[kept++] = *e;
            continue;
        }
        bool both_dirs = S_ISDIR(last->mode) && S_ISDIR(e->mode);
        bool same_file = last->source && e->source && last->dev == e->dev &&
                         last->ino == e->ino;
        if (!both_dirs && !same_file) {
            die(STATUS_FAILED, "two files would lie at /%s: %s and %s",
                e->guest, last->source ? last->source : "one of ours",
                e->source ? e->source : "a directory");
        }
        free(e->guest);
        free(e->source);
    }
    t->n = kept;
    t->sorted = true;
}

// --- the archive

static uint64_t align_up(uint64_t n, uint64_t align)
{
    return (n + align - 1) & ~(align - 1);
}

// Length of the name field, with at least one NUL: with its NULs the data of a
// mappable file begins on a page boundary (I2).
static uint64_t name_field_bytes(const struct entry *e, uint64_t offset)
{
    uint64_t n = strlen(e->guest) + 1;

    if (S_ISREG(e->mode) && e->size >= PAGE_BYTES) {
        uint64_t name = offset + HEADER_BYTES;
        n = align_up(name + n, PAGE_BYTES) - name;
    }
    return n;
}

static uint64_t entry_end(const struct entry *e, uint64_t offset)
{
    uint64_t n = offset + HEADER_BYTES + name_field_bytes(e, offset);

    return align_up(align_up(n, 4) + e->size, 4);
}

static const struct entry trailer = {.guest = (char *)TRAILER_NAME};

uint64_t tree_archive_bytes(struct tree *t)
{
    uint64_t offset = 0;

    sort_and_merge(t);
    for (size_t i = 0; i < t->n; i++)
        offset = entry_end(&t->v[i], offset);
    return entry_end(&trailer, offset);
}

static int open_archive(uint64_t size)
{
    if (size > MEMORY_ARCHIVE_MAX) {
        const char *dir = getenv("TMPDIR");
        int fd = open(dir && *dir ? dir : "/var/tmp",
                      O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd >= 0)
            return fd;
    }
    int fd = memfd_create("gneiss-files", MFD_CLOEXEC);
    if (fd < 0)
        die(STATUS_FAILED, "cannot make a temporary file: %s", strerror(errno));
    return fd;
}

static void write_all(int fd, const void *data, uint64_t size)
{
    for (const char *p = data; size;) {
        ssize_t n = write(fd, p, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            die(STATUS_FAILED, "cannot write the guest's files: %s",
                strerror(errno));
        }
        p += n;
        size -= (uint64_t)n;
    }
}

// The kernel copies, except from file systems that can't do that.
static void copy_file(int out, const struct entry *e)
{
    uint64_t left = e->size;
    bool by_kernel = true;
    struct stat st;
    int in = open(e->source, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (in < 0 || fstat(in, &st))
        die(STATUS_FAILED, "cannot read %s: %s", e->source, strerror(errno));
    while (left) {
        static char buffer[1 << 16];
        ssize_t n;

        if (by_kernel) {
            n = sendfile(out, in, NULL, left < 1u << 30 ? left : 1u << 30);
            if (n < 0 && (errno == EINVAL || errno == ENOSYS)) {
                by_kernel = false;
                continue;
            }
        } else {
            n = read(in, buffer, left < sizeof(buffer) ? left : sizeof(buffer));
            if (n > 0)
                write_all(out, buffer, (uint64_t)n);
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            die(STATUS_FAILED, "cannot copy %s: %s", e->source,
                strerror(errno));
        }
        if (n == 0)
            break;
        left -= (uint64_t)n;
    }
    if (left || (uint64_t)st.st_size != e->size)
        die(STATUS_FAILED, "%s changed while it was read", e->source);
    close(in);
}

// magic, inode number, mode, uid, gid, links, mtime, size, four device
// numbers, name size, checksum. Source: cpio(5), "New ASCII Format".
static uint64_t write_header(int fd, const struct entry *e, uint64_t offset,
                             unsigned number, int64_t mtime)
{
    static const char zeros[PAGE_BYTES + 4];
    char header[HEADER_BYTES + 1];
    uint64_t name_bytes = name_field_bytes(e, offset);
    uint64_t text = strlen(e->guest);
    uint64_t end = offset + HEADER_BYTES + name_bytes;

    if (mtime < 0)
        mtime = 0;
    if (mtime > UINT32_MAX)
        mtime = UINT32_MAX;
    snprintf(header, sizeof(header),
             "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
             number, (unsigned)e->mode, 0u, 0u, 1u, (unsigned)mtime,
             (unsigned)e->size, 0u, 0u, 0u, 0u, (unsigned)name_bytes, 0u);
    write_all(fd, header, HEADER_BYTES);
    write_all(fd, e->guest, text);
    write_all(fd, zeros, name_bytes - text + align_up(end, 4) - end);
    return align_up(end, 4);
}

int tree_write(struct tree *t, bool same_time)
{
    static const char zeros[4];
    int fd = open_archive(tree_archive_bytes(t));
    uint64_t offset = 0;

    for (size_t i = 0; i < t->n; i++) {
        const struct entry *e = &t->v[i];
        uint64_t end = entry_end(e, offset);

        offset = write_header(fd, e, offset, (unsigned)i + 1,
                              same_time ? ICOUNT_EPOCH : e->mtime);
        if (e->data)
            write_all(fd, e->data, e->size);
        else if (e->source && S_ISREG(e->mode))
            copy_file(fd, e);
        write_all(fd, zeros, end - offset - e->size);
        offset = end;
    }
    write_header(fd, &trailer, offset, 0, 0);
    return fd;
}
