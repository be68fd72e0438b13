// sources: runtime/libc/fs.c runtime/libc/fs_attr.c runtime/libc/fs_names.c runtime/libc/fs_tree.c runtime/libc/fs_node.c runtime/libc/fs_data.c host-tests/runtime/libc/stub_port.c
//
// The file system against a naive model, by random operations.
//
// The model is as unlike the real thing as possible: a flat table from whole
// path strings to objects; a file is one array of bytes; renaming a directory
// rewrites the strings. Every result code is predicted, and now and then all
// of both trees is compared. TEST_SEED=n repeats a run.

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

enum {
    NOPS = 60000,
    NPATHS = 400,
    FULL = 100, // paths; beyond it, more is removed than made
    NFDS = 12,
    FILE_BYTES = 40000,
    PATH_BYTES = 256,
    MAX_DEPTH = 4,
};

struct object {
    bool dir;
    unsigned nlinks; // paths
    unsigned nopens;
    size_t size;
    unsigned char *bytes; // FILE_BYTES
};

static struct {
    struct {
        char path[PATH_BYTES]; // "/a/b"; the root is not in the table
        struct object *object;
    } entry[NPATHS];
    int nentries;
    struct {
        struct object *object;
        int *position; // shared by dup
        int *nusers;
        int flags;
    } fd[NFDS];
} model;

static uint64_t random_state;

static unsigned below(unsigned n)
{
    return (unsigned)(stub_random(&random_state) % n);
}

static bool one_in(unsigned n)
{
    return below(n) == 0;
}

// Model: objects.

static struct object root = {.dir = true};

static struct object *new_object(bool dir)
{
    struct object *o = calloc(1, sizeof(*o));

    o->dir = dir;
    if (!dir)
        o->bytes = calloc(1, FILE_BYTES);
    return o;
}

static void drop(struct object *o)
{
    if (o == &root || o->nlinks || o->nopens)
        return;
    free(o->bytes);
    free(o);
}

static int find(const char *path)
{
    for (int i = 0; i < model.nentries; i++)
        if (strcmp(model.entry[i].path, path) == 0)
            return i;
    return -1;
}

static struct object *object_at(const char *path)
{
    int i = find(path);

    return !*path ? &root : i < 0 ? NULL : model.entry[i].object;
}

static void add(const char *path, struct object *o)
{
    strcpy(model.entry[model.nentries].path, path);
    model.entry[model.nentries++].object = o;
    o->nlinks++;
}

static void take(int i)
{
    struct object *o = model.entry[i].object;

    model.entry[i] = model.entry[--model.nentries];
    o->nlinks--;
    drop(o);
}

static bool has_prefix(const char *path, const char *dir)
{
    size_t n = strlen(dir);

    return strncmp(path, dir, n) == 0 && path[n] == '/';
}

static bool is_empty(const char *dir)
{
    for (int i = 0; i < model.nentries; i++)
        if (has_prefix(model.entry[i].path, dir))
            return false;
    return true;
}

// Model: a path, resolved on strings.
struct where {
    char parent[PATH_BYTES], path[PATH_BYTES];
    bool slash, dots, dot;
    struct object *object;
};

static void up(char *path)
{
    char *slash = strrchr(path, '/');

    if (slash)
        *slash = '\0';
}

static int resolve(const char *given, struct where *w)
{
    char copy[PATH_BYTES], *save = NULL, *name, *next;

    memset(w, 0, sizeof(*w));
    strcpy(copy, given);
    w->slash = given[strlen(given) - 1] == '/';
    name = strtok_r(copy, "/", &save);
    w->object = &root;
    for (; name; name = next) {
        next = strtok_r(NULL, "/", &save);
        if (!w->object)
            return -ENOENT;
        if (!w->object->dir)
            return -ENOTDIR;
        strcpy(w->parent, w->path);
        w->dot = strcmp(name, ".") == 0;
        w->dots = w->dot || strcmp(name, "..") == 0;
        if (!w->dot && w->dots)
            up(w->path);
        else if (!w->dots)
            strcat(strcat(w->path, "/"), name);
        w->object = object_at(w->path);
    }
    return 0;
}

// Random paths over few names, so that operations meet.
static const char *random_path(void)
{
    static char paths[2][PATH_BYTES];
    static int turn;
    static const char *const names[] = {"a", "b", "c", "dd", "e"};
    char *p = paths[turn ^= 1];
    unsigned depth = 1 + below(MAX_DEPTH - 1);

    *p = '\0';
    if (model.nentries > 0 && one_in(3)) {
        strcpy(p, model.entry[below((unsigned)model.nentries)].path);
        depth = strlen(p) < PATH_BYTES / 2 ? below(2) : 0;
    }
    for (unsigned i = 0; i < depth; i++) {
        strcat(p, one_in(30) ? "//" : "/");
        strcat(p, one_in(40)   ? ".."
                  : one_in(40) ? "."
                               : names[below(sizeof(names) / sizeof(*names))]);
    }
    if (one_in(15))
        strcat(p, "/");
    return p;
}

// Operations: each predicts, calls, compares.

static void expect(int64_t got, int64_t want, const char *what,
                   const char *path)
{
    if (got != want)
        fail_msg("%s %s: got %lld, want %lld", what, path, (long long)got,
                 (long long)want);
}

static int free_fd(void)
{
    for (int fd = 3; fd < NFDS; fd++)
        if (!model.fd[fd].object)
            return fd;
    return -1;
}

static int random_fd(void)
{
    return 3 + (int)below(NFDS - 3);
}

static int model_open(const struct where *w, int flags)
{
    bool writes = (flags & O_ACCMODE) != O_RDONLY;

    if (w->object) {
        if ((flags & O_CREAT) && (flags & O_EXCL))
            return -EEXIST;
        if (w->object->dir)
            return writes || (flags & (O_CREAT | O_TRUNC)) ? -EISDIR : 0;
        return w->slash ? -ENOTDIR : 0;
    }
    if (!(flags & O_CREAT))
        return -ENOENT;
    return w->slash ? -EISDIR : 0;
}

static void op_open(void)
{
    static const int modes[] = {O_RDONLY, O_WRONLY, O_RDWR};
    const char *path = random_path();
    int flags = modes[below(3)], fd = free_fd();
    struct where w;
    int want = resolve(path, &w);

    flags |= one_in(2) ? O_CREAT : 0;
    flags |= one_in(6) ? O_EXCL : 0;
    flags |= one_in(6) ? O_TRUNC : 0;
    flags |= one_in(6) ? O_APPEND : 0;
    if (fd < 0 || model.nentries == NPATHS)
        return;
    if (want == 0)
        want = model_open(&w, flags);
    expect(fs_open(path, flags, 0666), want ? want : fd, "open", path);
    if (want)
        return;
    if (!w.object)
        add(w.path, w.object = new_object(false));
    else if ((flags & O_TRUNC) && !w.object->dir)
        w.object->size = 0;
    w.object->nopens++;
    model.fd[fd].object = w.object;
    model.fd[fd].position = calloc(1, sizeof(int));
    model.fd[fd].nusers = malloc(sizeof(int));
    *model.fd[fd].nusers = 1;
    model.fd[fd].flags = flags;
}

static void model_close(int fd)
{
    struct object *o = model.fd[fd].object;

    o->nopens--;
    if (--*model.fd[fd].nusers == 0) {
        free(model.fd[fd].nusers);
        free(model.fd[fd].position);
    }
    model.fd[fd].object = NULL;
    drop(o);
}

static void op_close(void)
{
    int fd = random_fd();

    expect(fs_close(fd), model.fd[fd].object ? 0 : -EBADF, "close", "");
    if (model.fd[fd].object)
        model_close(fd);
}

static void op_dup2(void)
{
    int fd = random_fd(), to = random_fd();

    expect(fs_dup2(fd, to), model.fd[fd].object ? to : -EBADF, "dup2", "");
    if (!model.fd[fd].object || fd == to)
        return;
    if (model.fd[to].object)
        model_close(to);
    model.fd[to] = model.fd[fd];
    ++*model.fd[to].nusers;
    model.fd[to].object->nopens++;
}

static void op_write(void)
{
    static unsigned char data[6000];
    int fd = random_fd(), at;
    int n = one_in(3) ? (int)below(sizeof(data)) : (int)below(50);
    struct object *o = model.fd[fd].object;
    bool positioned = one_in(3);

    for (int i = 0; i < n; i++)
        data[i] = (unsigned char)below(256);
    if (!o || (model.fd[fd].flags & O_ACCMODE) == O_RDONLY) {
        expect(fs_write(fd, data, (size_t)n), -EBADF, "write", "");
        return;
    }
    at = positioned                        ? (int)below(FILE_BYTES)
         : (model.fd[fd].flags & O_APPEND) ? (int)o->size
                                           : *model.fd[fd].position;
    if (at + n > FILE_BYTES)
        return;
    expect(positioned ? fs_pwrite(fd, data, (size_t)n, at)
                      : fs_write(fd, data, (size_t)n),
           n, "write", "");
    if (!positioned)
        *model.fd[fd].position = at + n;
    if (n == 0)
        return;
    if (o->size < (size_t)at)
        memset(o->bytes + o->size, 0, (size_t)at - o->size);
    memcpy(o->bytes + at, data, (size_t)n);
    if (o->size < (size_t)(at + n))
        o->size = (size_t)(at + n);
}

static void op_read(void)
{
    static unsigned char data[9000];
    int fd = random_fd(), n = (int)below(sizeof(data)), at;
    struct object *o = model.fd[fd].object;
    bool positioned = one_in(3);
    int64_t got, want;

    at = positioned || !o ? (int)below(FILE_BYTES) : *model.fd[fd].position;
    got = positioned ? fs_pread(fd, data, (size_t)n, at)
                     : fs_read(fd, data, (size_t)n);
    if (!o || (model.fd[fd].flags & O_ACCMODE) == O_WRONLY)
        want = -EBADF;
    else if (o->dir)
        want = -EISDIR;
    else
        want = (size_t)at >= o->size         ? 0
               : (size_t)(at + n) <= o->size ? n
                                             : (int64_t)o->size - at;
    expect(got, want, "read", "");
    if (want > 0)
        assert_memory_equal(data, o->bytes + at, (size_t)want);
    if (want > 0 && !positioned)
        *model.fd[fd].position += (int)want;
}

static void op_seek(void)
{
    int fd = random_fd(), whence = (int)below(3);
    int offset = (int)below(FILE_BYTES) - (whence ? FILE_BYTES / 2 : 0);
    struct object *o = model.fd[fd].object;
    int base;

    if (!o) {
        expect(fs_lseek(fd, offset, whence), -EBADF, "lseek", "");
        return;
    }
    base = whence == SEEK_SET   ? 0
           : whence == SEEK_CUR ? *model.fd[fd].position
                                : (int)o->size;
    if (base + offset > FILE_BYTES)
        return;
    expect(fs_lseek(fd, offset, whence),
           base + offset < 0 ? -EINVAL : base + offset, "lseek", "");
    if (base + offset >= 0)
        *model.fd[fd].position = base + offset;
}

static void model_truncate(struct object *o, size_t size)
{
    if (size > o->size)
        memset(o->bytes + o->size, 0, size - o->size);
    o->size = size;
}

static void op_truncate(void)
{
    const char *path = random_path();
    size_t size = below(FILE_BYTES);
    struct where w;
    int want = resolve(path, &w);

    if (want == 0)
        want = !w.object       ? -ENOENT
               : w.object->dir ? -EISDIR
               : w.slash       ? -ENOTDIR
                               : 0;
    expect(fs_truncate(path, (int64_t)size), want, "truncate", path);
    if (want == 0)
        model_truncate(w.object, size);
}

static void op_ftruncate(void)
{
    int fd = random_fd();
    struct object *o = model.fd[fd].object;
    size_t size = below(FILE_BYTES);
    int want = !o                                             ? -EBADF
               : (model.fd[fd].flags & O_ACCMODE) == O_RDONLY ? -EINVAL
                                                              : 0;

    expect(fs_ftruncate(fd, (int64_t)size), want, "ftruncate", "");
    if (want == 0)
        model_truncate(o, size);
}

static void op_mkdir(void)
{
    const char *path = random_path();
    struct where w;
    int want = resolve(path, &w);

    if (model.nentries == NPATHS)
        return;
    if (want == 0 && w.object)
        want = -EEXIST;
    expect(fs_mkdir(path, 0777), want, "mkdir", path);
    if (want == 0)
        add(w.path, new_object(true));
}

static void op_rmdir(void)
{
    const char *path = random_path();
    struct where w;
    int want = resolve(path, &w);

    if (want == 0)
        want = !w.object           ? -ENOENT
               : !w.object->dir    ? -ENOTDIR
               : w.object == &root ? -EBUSY
               : w.dot             ? -EINVAL
               : w.dots            ? -ENOTEMPTY
               : !is_empty(w.path) ? -ENOTEMPTY
                                   : 0;
    expect(fs_rmdir(path), want, "rmdir", path);
    if (want == 0)
        take(find(w.path));
}

static void op_unlink(void)
{
    const char *path = random_path();
    struct where w;
    int want = resolve(path, &w);

    if (want == 0)
        want = !w.object ? -ENOENT : w.object->dir ? -EISDIR : 0;
    if (want == 0 && w.slash)
        want = -ENOTDIR;
    expect(fs_unlink(path), want, "unlink", path);
    if (want == 0)
        take(find(w.path));
}

static void op_link(void)
{
    const char *from = random_path(), *to = random_path();
    struct where a, b;
    int want = resolve(from, &a);

    if (model.nentries == NPATHS)
        return;
    if (want == 0)
        want = !a.object                   ? -ENOENT
               : a.slash && !a.object->dir ? -ENOTDIR
                                           : resolve(to, &b);
    if (want == 0)
        want = b.object        ? -EEXIST
               : a.object->dir ? -EPERM
               : b.slash       ? -ENOENT
                               : 0;
    expect(fs_link(from, to), want, "link", from);
    if (want == 0)
        add(b.path, a.object);
}

static int model_rename(const struct where *a, const struct where *b)
{
    bool dir;

    if (!a->object)
        return -ENOENT;
    // A path of slashes and nothing else, as no random path is.
    if (a->dots || b->dots)
        return -EINVAL;
    dir = a->object->dir;
    if (a->object == b->object)
        return (a->slash || b->slash) && !dir ? -ENOTDIR : 0;
    if (!dir && (a->slash || (b->slash && !b->object)))
        return -ENOTDIR;
    if (dir && has_prefix(b->path, a->path))
        return -EINVAL;
    if (!b->object)
        return 0;
    if (dir != b->object->dir)
        return dir ? -ENOTDIR : -EISDIR;
    if (!dir && b->slash)
        return -ENOTDIR;
    return dir && !is_empty(b->path) ? -ENOTEMPTY : 0;
}

static void op_rename(void)
{
    char from[PATH_BYTES], tail[PATH_BYTES];
    const char *to;
    struct where a, b;
    int want;

    strcpy(from, random_path());
    to = random_path();
    want = resolve(from, &a);
    if (want == 0)
        want = resolve(to, &b);
    if (want == 0)
        want = model_rename(&a, &b);
    if (want == 0 && strlen(b.path) + 100 > PATH_BYTES)
        return;
    expect(fs_rename(from, to), want, "rename", from);
    if (want || a.object == b.object)
        return;
    if (b.object)
        take(find(b.path));
    for (int i = 0; i < model.nentries; i++) {
        char *path = model.entry[i].path;

        if (strcmp(path, a.path) && !has_prefix(path, a.path))
            continue;
        strcpy(tail, path + strlen(a.path));
        strcat(strcpy(path, b.path), tail);
    }
}

// Comparing everything.

static unsigned subdirs(const char *dir)
{
    unsigned n = 0;

    for (int i = 0; i < model.nentries; i++) {
        char parent[PATH_BYTES];

        strcpy(parent, model.entry[i].path);
        up(parent);
        n += model.entry[i].object->dir && strcmp(parent, dir) == 0;
    }
    return n;
}

static void compare_entry(int i)
{
    static unsigned char data[FILE_BYTES + 1];
    const char *path = model.entry[i].path;
    struct object *o = model.entry[i].object;
    struct fs_stat st;
    int fd;

    expect(fs_stat(path, &st), 0, "stat", path);
    assert_int_equal((st.mode & 0170000) == 0040000, o->dir);
    assert_int_equal(st.nlink, o->dir ? 2 + subdirs(path) : o->nlinks);
    if (o->dir)
        return;
    assert_int_equal(st.size, o->size);
    fd = fs_open(path, O_RDONLY, 0);
    assert_true(fd >= 0);
    expect(fs_read(fd, data, sizeof(data)), (int64_t)o->size, "read", path);
    assert_memory_equal(data, o->bytes, o->size);
    fs_close(fd);
}

// Counts the tree's entries, below a directory, by readdir.
static int count(const char *dir)
{
    struct fs_dirpos pos = {0};
    struct fs_dirent e;
    char last[FS_NAME_MAX + 1] = "", path[1024];
    int n = 0, fd = fs_open(dir, O_RDONLY | O_DIRECTORY, 0);

    assert_true(fd >= 0);
    while (fs_readdir(fd, &pos, &e) == 1) {
        if (strcmp(e.name, ".") == 0 || strcmp(e.name, "..") == 0)
            continue;
        assert_true(strcmp(last, e.name) < 0);
        strcpy(last, e.name);
        snprintf(path, sizeof(path), "%s/%s", dir, e.name);
        n += 1 + ((e.mode & 0170000) == 0040000 ? count(path) : 0);
    }
    fs_close(fd);
    return n;
}

static void compare_all(void)
{
    for (int i = 0; i < model.nentries; i++)
        compare_entry(i);
    assert_int_equal(count("/"), model.nentries);
    fs_check();
}

static void random_operations_do_what_the_model_does(void **state)
{
    static void (*const ops[])(void) = {
        op_open,     op_open,   op_open,  op_close,     op_close,  op_dup2,
        op_write,    op_write,  op_write, op_read,      op_read,   op_seek,
        op_truncate, op_mkdir,  op_mkdir, op_rmdir,     op_unlink, op_link,
        op_rename,   op_rename, op_read,  op_ftruncate,
    };
    static unsigned char mapped[3][20000];

    (void)state;
    random_state = stub_seed("fs_model");
    assert_int_equal(fs_init(), 0);
    assert_int_equal(fs_stage_begin(), 0);
    for (int i = 0; i < 3; i++) {
        char path[] = "/a/b";
        struct object *o = new_object(false);

        path[3] = (char)('a' + i);
        for (size_t k = 0; k < sizeof(mapped[i]); k++)
            mapped[i][k] = (unsigned char)below(256);
        memcpy(o->bytes, mapped[i], o->size = 5000u * (unsigned)(i + 1));
        fs_stage_file(path + 1, 0644, (struct fs_time){0}, mapped[i], o->size);
        add(path, o);
    }
    fs_stage_commit();
    add("/a", new_object(true));
    // The standard directories are in the way of a comparison.
    for (const char *const *p =
             (const char *const[]){"full", "null", "random", "stderr", "stdin",
                                   "stdout", "tty", "urandom", "zero", NULL};
         *p; p++) {
        char path[32];

        snprintf(path, sizeof(path), "/dev/%s", *p);
        assert_int_equal(fs_unlink(path), 0);
    }
    assert_int_equal(fs_rmdir("/dev"), 0);
    assert_int_equal(fs_rmdir("/tmp"), 0);

    for (int i = 0; i < NOPS; i++) {
        ops[below(sizeof(ops) / sizeof(*ops))]();
        for (int k = 0; model.nentries > FULL && k < 20; k++)
            one_in(2) ? op_unlink() : op_rmdir();
        if (i % 500 == 0)
            compare_all();
    }
    compare_all();
    for (int fd = 3; fd < NFDS; fd++)
        if (model.fd[fd].object)
            model_close(fd);
    while (model.nentries > 0)
        take(0);
    fs_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_do_what_the_model_does),
    };

    return cmocka_run_group_tests_name("fs_model", tests, NULL, NULL);
}
