// The file system: descriptors, and the operations of POSIX on the tree.
//
// Three structures, as in any Unix: a descriptor is an index into `fds`; it
// points to an open file, which has the position and the flags and may be
// shared by descriptors (dup); that points to a node (fs_node.c), whose
// contents are in fs_data.c.
//
// One lock (lock.h) guards all of it. It is held while bytes are copied, but
// not while a console or the random source is asked: an operation on a device
// takes a reference to the open file, lets the lock go and waits; closing the
// descriptor meanwhile is harmless.
//
// There are no users: every access is allowed, permission bits are only kept.
// Access times are not kept. Out of memory is -ENOSPC where POSIX has that for
// a full disk, else -ENOMEM; whatever fails changes nothing, except that a
// write may be short.
//
// Invariants (fs_check), over fs_node.c's:
//   F1  no free descriptor is below lowest_free
//   F2  an open file's nfds == the descriptors and operations that hold it
//   F3  a node's nrefs == open files on it + current directory + subdirectories

#define _POSIX_C_SOURCE 200809L // O_DIRECTORY

#include "runtime/libc/fs.h"

#include "arch/base.h"
#include "runtime/libc/fs_impl.h"
#include "runtime/libc/lock.h"
#include "runtime/libc/port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FIRST_FDS = 16,
    IO_BUFFER = 4096,
    // What fcntl(F_SETFL) may change.
    SETTABLE_FLAGS = O_APPEND | O_NONBLOCK | O_SYNC,
    OPEN_MODE_FLAGS = SETTABLE_FLAGS | O_ACCMODE,
};

struct open_file {
    struct fs_node *node;
    int64_t position;
    int flags;
    unsigned nfds; // descriptors, and operations that run without the lock
};

// All under the file system lock.
static struct {
    struct fs_node *root;
    struct fs_node *cwd;
    struct fs_node *stage; // the new root between stage_begin and commit
    struct open_file **fds;
    int nfds;        // length of fds
    int lowest_free; // no free descriptor is below
    unsigned umask;
} fs;

// Open files and descriptors.

static struct open_file *get(int fd)
{
    return fd >= 0 && fd < fs.nfds ? fs.fds[fd] : NULL;
}

static bool readable(const struct open_file *f)
{
    return (f->flags & O_ACCMODE) != O_WRONLY;
}

static bool writable(const struct open_file *f)
{
    return (f->flags & O_ACCMODE) != O_RDONLY;
}

static bool is_device(const struct fs_node *node)
{
    return !fs_node_is_dir(node) && !fs_node_is_file(node);
}

static void release(struct open_file *f)
{
    if (--f->nfds > 0)
        return;
    fs_node_unref(f->node);
    free(f);
}

// The first free descriptor from lowest on, with room for it in the table; it
// is not taken yet. Returns -EMFILE or -ENOMEM if there is none.
static int find_free(int lowest)
{
    int fd = lowest > fs.lowest_free ? lowest : fs.lowest_free;

    while (fd < fs.nfds && fs.fds[fd])
        fd++;
    if (fd >= FS_OPEN_MAX)
        return -EMFILE;
    if (fd >= fs.nfds) {
        int n = fs.nfds;
        struct open_file **fds;

        while (n <= fd)
            n = n ? 2 * n : FIRST_FDS;
        fds = realloc(fs.fds, (size_t)n * sizeof(*fds));
        if (!fds)
            return -ENOMEM;
        memset(fds + fs.nfds, 0, (size_t)(n - fs.nfds) * sizeof(*fds));
        fs.fds = fds;
        fs.nfds = n;
    }
    return fd;
}

static void set_fd(int fd, struct open_file *f)
{
    fs.fds[fd] = f;
    if (fd == fs.lowest_free)
        fs.lowest_free++;
}

static void clear_fd(int fd)
{
    struct open_file *f = fs.fds[fd];

    fs.fds[fd] = NULL;
    if (fd < fs.lowest_free)
        fs.lowest_free = fd;
    release(f);
}

// An open file on the node, with the first free descriptor.
static int open_node(struct fs_node *node, int flags)
{
    int fd = find_free(0);
    struct open_file *f;

    if (fd < 0)
        return fd;
    f = malloc(sizeof(*f));
    if (!f)
        return -ENOMEM;
    *f = (struct open_file){.node = node, .flags = flags, .nfds = 1};
    fs_node_ref(node);
    set_fd(fd, f);
    return fd;
}

static int dup_to_free(struct open_file *f, int lowest)
{
    int fd = find_free(lowest);

    if (fd < 0)
        return fd;
    f->nfds++;
    set_fd(fd, f);
    return fd;
}

// Start and end.

// A node with a name in dir; -ENOSPC: no memory.
static int make(struct fs_node *dir, const char *name, size_t len,
                uint32_t mode, struct fs_node **made)
{
    struct fs_node *node = fs_node_new(mode);
    int r;

    if (!node)
        return -ENOSPC;
    r = fs_dir_add(dir, name, len, node);
    if (r) {
        free(node);
        return r;
    }
    *made = node;
    return 0;
}

static const struct {
    const char *name;
    enum fs_device device;
} dev_nodes[] = {
    {"full", FS_DEV_FULL},     {"null", FS_DEV_NULL},
    {"random", FS_DEV_RANDOM}, {"stderr", FS_DEV_FD + 2},
    {"stdin", FS_DEV_FD},      {"stdout", FS_DEV_FD + 1},
    {"tty", FS_DEV_TTY},       {"urandom", FS_DEV_RANDOM},
    {"zero", FS_DEV_ZERO},
};

// A tree as every program finds it. Returns NULL if memory is out.
static struct fs_node *new_tree(void)
{
    struct fs_node *root = fs_node_new(FS_TYPE_DIR | 0755);
    struct fs_node *dev, *node;

    if (!root)
        return NULL;
    root->dir.parent = root;
    root->nlink = 2;
    if (make(root, "tmp", 3, FS_TYPE_DIR | 01777, &node) ||
        make(root, "dev", 3, FS_TYPE_DIR | 0755, &dev))
        goto fail;
    for (size_t i = 0; i < ARRAY_LEN(dev_nodes); i++) {
        if (make(dev, dev_nodes[i].name, strlen(dev_nodes[i].name),
                 FS_TYPE_CHAR | 0666, &node))
            goto fail;
        node->device = dev_nodes[i].device;
    }
    return root;

fail:
    fs_node_free_tree(root);
    return NULL;
}

// The console's node has no name: descriptors 0 to 2 are its only users.
static int open_console(int stream)
{
    struct fs_node *node = fs_node_new(FS_TYPE_CHAR | 0620);
    int fd;

    if (!node)
        return -ENOMEM;
    node->device = FS_DEV_CONSOLE + (unsigned)stream;
    fd = open_node(node, stream == 0 ? O_RDONLY : O_WRONLY);
    if (fd < 0)
        free(node);
    return fd;
}

int fs_init(void)
{
    fs_lock();
    fs.umask = 022;
    fs.root = fs.cwd = new_tree();
    if (fs.root) {
        fs_node_ref(fs.cwd);
        for (int stream = 0; stream < 3; stream++)
            if (open_console(stream) != stream)
                goto fail;
        fs_unlock();
        return 0;
    }
fail:
    fs_unlock();
    fs_fini();
    return -ENOMEM;
}

void fs_fini(void)
{
    fs_lock();
    for (int fd = 0; fd < fs.nfds; fd++)
        if (fs.fds[fd])
            clear_fd(fd);
    free(fs.fds);
    fs.fds = NULL;
    fs.nfds = fs.lowest_free = 0;
    if (fs.cwd)
        fs_node_unref(fs.cwd);
    if (fs.root)
        fs_node_free_tree(fs.root);
    if (fs.stage)
        fs_node_free_tree(fs.stage);
    fs.root = fs.cwd = fs.stage = NULL;
    fs_unlock();
}

void fs_check(void)
{
    fs_lock();
    ASSERT(fs.lowest_free <= fs.nfds);
    for (int fd = 0; fd < fs.lowest_free; fd++)
        ASSERT(fs.fds[fd]);
    for (int fd = 0; fd < fs.nfds; fd++) {
        struct open_file *f = fs.fds[fd];
        unsigned nfds = 0;

        if (!f)
            continue;
        for (int other = 0; other < fs.nfds; other++)
            nfds += fs.fds[other] == f;
        ASSERT(f->nfds >= nfds);
        ASSERT(f->node->nrefs > 0);
        ASSERT(f->position >= 0);
        fs_node_check(f->node);
    }
    ASSERT(fs.cwd->nrefs > 0);
    ASSERT(fs.root->dir.parent == fs.root);
    fs_node_check(fs.root);
    fs_unlock();
}

// Open.

static int walk(const char *path, struct fs_where *w)
{
    return fs_walk(fs.root, fs.cwd, path, w);
}

static int walk_node(const char *path, struct fs_node **node)
{
    return fs_walk_node(fs.root, fs.cwd, path, node);
}

// Makes a node at the end of a walk where nothing is.
static int create(const struct fs_where *w, uint32_t mode,
                  struct fs_node **node)
{
    int r;

    if (w->dir->nlink == 0) // removed while somebody stands in it
        return -ENOENT;
    r = make(w->dir, w->name, w->len, mode & ~fs.umask, node);
    if (r)
        return r;
    fs_node_touch(*node);
    fs_node_touch(w->dir);
    return 0;
}

// Opening /dev/stdin and the like is dup(): one position, as the user expects
// after "sort /dev/stdin" read half of a file.
static int open_fd_device(int of, int flags)
{
    struct open_file *f = get(of);

    if (!f)
        return -ENXIO;
    if ((flags & O_ACCMODE) != O_WRONLY && !readable(f))
        return -EACCES;
    if ((flags & O_ACCMODE) != O_RDONLY && !writable(f))
        return -EACCES;
    return dup_to_free(f, 0);
}

static int open_existing(const struct fs_where *w, int flags)
{
    struct fs_node *node = w->node;
    bool writes = (flags & O_ACCMODE) != O_RDONLY;
    int fd;

    if ((flags & O_CREAT) && (flags & O_EXCL))
        return -EEXIST;
    if (fs_node_is_dir(node)) {
        if (writes || (flags & (O_CREAT | O_TRUNC)))
            return -EISDIR;
        return open_node(node, flags & OPEN_MODE_FLAGS);
    }
    if (w->slash || (flags & O_DIRECTORY))
        return -ENOTDIR;
    if (is_device(node)) {
        if (node->device >= FS_DEV_FD)
            return open_fd_device((int)(node->device - FS_DEV_FD), flags);
        if (node->device == FS_DEV_TTY && !console_is_tty())
            return -ENXIO;
    }
    fd = open_node(node, flags & OPEN_MODE_FLAGS);
    if (fd >= 0 && fs_node_is_file(node) && (flags & O_TRUNC)) {
        fs_data_truncate(&node->data, 0);
        fs_node_touch(node);
    }
    return fd;
}

static int open_new(const struct fs_where *w, int flags, unsigned mode)
{
    struct fs_node *node;
    int fd, r;

    if (!(flags & O_CREAT))
        return -ENOENT;
    if (w->slash)
        return -EISDIR;
    fd = find_free(0); // first what can fail without a trace
    if (fd < 0)
        return fd;
    r = create(w, FS_TYPE_FILE | (mode & FS_MODE_BITS), &node);
    if (r)
        return r;
    fd = open_node(node, flags & OPEN_MODE_FLAGS);
    if (fd < 0)
        fs_dir_remove(w->dir, w->name, w->len);
    return fd;
}

int fs_open(const char *path, int flags, unsigned mode)
{
    struct fs_where w;
    int r;

    if ((flags & O_ACCMODE) == O_ACCMODE ||
        ((flags & O_CREAT) && (flags & O_DIRECTORY)))
        return -EINVAL;
    fs_lock();
    r = walk(path, &w);
    if (r == 0)
        r = w.node ? open_existing(&w, flags) : open_new(&w, flags, mode);
    fs_unlock();
    return r;
}

int fs_close(int fd)
{
    int r = -EBADF;

    fs_lock();
    if (get(fd)) {
        clear_fd(fd);
        r = 0;
    }
    fs_unlock();
    return r;
}

int fs_dup(int fd, int lowest)
{
    struct open_file *f;
    int r = -EBADF;

    fs_lock();
    f = get(fd);
    if (f)
        r = lowest < 0 || lowest >= FS_OPEN_MAX ? -EINVAL
                                                : dup_to_free(f, lowest);
    fs_unlock();
    return r;
}

static int dup2_locked(int fd, int to)
{
    struct open_file *f = get(fd);
    int r;

    if (!f || to < 0 || to >= FS_OPEN_MAX)
        return -EBADF;
    if (fd == to)
        return to;
    if (!get(to)) {
        r = find_free(to); // `to` itself, since it is free
        if (r < 0)
            return r;
    } else {
        clear_fd(to);
    }
    f->nfds++;
    set_fd(to, f);
    return to;
}

int fs_dup2(int fd, int to)
{
    int r;

    fs_lock();
    r = dup2_locked(fd, to);
    fs_unlock();
    return r;
}

int fs_get_flags(int fd)
{
    struct open_file *f;
    int r = -EBADF;

    fs_lock();
    f = get(fd);
    if (f)
        r = f->flags;
    fs_unlock();
    return r;
}

int fs_set_flags(int fd, int flags)
{
    struct open_file *f;
    int r = -EBADF;

    fs_lock();
    f = get(fd);
    if (f) {
        f->flags = (f->flags & ~SETTABLE_FLAGS) | (flags & SETTABLE_FLAGS);
        r = 0;
    }
    fs_unlock();
    return r;
}

static bool is_console(const struct fs_node *node)
{
    return is_device(node) && node->device >= FS_DEV_TTY;
}

bool fs_isatty(int fd)
{
    struct open_file *f;
    bool console;

    fs_lock();
    f = get(fd);
    console = f && is_console(f->node);
    fs_unlock();
    return console && console_is_tty();
}

// Devices: without the lock.

static int64_t device_read(enum fs_device device, void *p, size_t n)
{
    int r;

    if (n == 0)
        return 0;
    switch (device) {
    case FS_DEV_NULL:
        return 0;
    case FS_DEV_ZERO:
    case FS_DEV_FULL:
        memset(p, 0, n);
        return (int64_t)n;
    case FS_DEV_RANDOM:
        r = random_bytes(p, n);
        return r ? r : (int64_t)n;
    default:
        return console_read(p, n);
    }
}

static int64_t device_write(enum fs_device device, const void *p, size_t n)
{
    int stream = device == FS_DEV_CONSOLE + 2 ? 2 : 1;
    size_t done;

    switch (device) {
    case FS_DEV_NULL:
    case FS_DEV_ZERO:
    case FS_DEV_RANDOM:
        return (int64_t)n;
    case FS_DEV_FULL:
        return n ? -ENOSPC : 0;
    default:
        done = console_write(stream, p, n);
        return done > 0 || n == 0 ? (int64_t)done : -EIO;
    }
}

// Read and write. A transfer is at most what its result can tell.
static size_t clip(size_t n)
{
    return min_u64(n, INT32_MAX & ~(uint64_t)(IO_BUFFER - 1));
}

// Writes to a file at an offset. Returns the count or a negative errno.
static int64_t file_write(struct fs_node *node, int64_t at, const void *p,
                          size_t n)
{
    if (n == 0)
        return 0;
    if (at >= FS_FILE_MAX)
        return -EFBIG;
    n = min_u64(n, (uint64_t)(FS_FILE_MAX - at));
    n = fs_data_write(&node->data, (uint64_t)at, p, n);
    if (n == 0)
        return -ENOSPC;
    fs_node_touch(node);
    return (int64_t)n;
}

// Calls a device with the lock let go and the open file held.
static int64_t device_io(struct open_file *f, void *in, const void *out,
                         size_t n)
{
    enum fs_device device = f->node->device;
    int64_t r;

    f->nfds++;
    fs_unlock();
    r = in ? device_read(device, in, n) : device_write(device, out, n);
    fs_lock();
    release(f);
    return r;
}

static int64_t read_locked(int fd, void *p, size_t n, int64_t at, bool seek)
{
    struct open_file *f = get(fd);

    if (!f || !readable(f))
        return -EBADF;
    if (fs_node_is_dir(f->node))
        return -EISDIR;
    if (is_device(f->node))
        return !seek && is_console(f->node) ? -ESPIPE
                                            : device_io(f, p, NULL, n);
    if (!seek)
        return (int64_t)fs_data_read(&f->node->data, (uint64_t)at, p, n);
    n = fs_data_read(&f->node->data, (uint64_t)f->position, p, n);
    f->position += (int64_t)n;
    return (int64_t)n;
}

int64_t fs_read(int fd, void *p, size_t n)
{
    int64_t r;

    fs_lock();
    r = read_locked(fd, p, clip(n), 0, true);
    fs_unlock();
    return r;
}

int64_t fs_pread(int fd, void *p, size_t n, int64_t offset)
{
    int64_t r;

    if (offset < 0)
        return -EINVAL;
    fs_lock();
    r = read_locked(fd, p, clip(n), offset, false);
    fs_unlock();
    return r;
}

static int64_t write_locked(int fd, const void *p, size_t n, int64_t at,
                            bool seek)
{
    struct open_file *f = get(fd);
    int64_t r;

    if (!f || !writable(f))
        return -EBADF;
    if (is_device(f->node))
        return !seek && is_console(f->node) ? -ESPIPE
                                            : device_io(f, NULL, p, n);
    if (seek && (f->flags & O_APPEND))
        f->position = (int64_t)f->node->data.size;
    if (!seek)
        return file_write(f->node, at, p, n);
    r = file_write(f->node, f->position, p, n);
    if (r > 0)
        f->position += r;
    return r;
}

int64_t fs_write(int fd, const void *p, size_t n)
{
    int64_t r;

    fs_lock();
    r = write_locked(fd, p, clip(n), 0, true);
    fs_unlock();
    return r;
}

// As POSIX has it, O_APPEND does not override the offset (it does on Linux).
int64_t fs_pwrite(int fd, const void *p, size_t n, int64_t offset)
{
    int64_t r;

    if (offset < 0)
        return -EINVAL;
    fs_lock();
    r = write_locked(fd, p, clip(n), offset, false);
    fs_unlock();
    return r;
}

static int64_t seek_locked(int fd, int64_t offset, int whence)
{
    struct open_file *f = get(fd);
    int64_t base;

    if (!f)
        return -EBADF;
    if (is_device(f->node))
        return is_console(f->node) ? -ESPIPE : 0;
    switch (whence) {
    case SEEK_SET:
        base = 0;
        break;
    case SEEK_CUR:
        base = f->position;
        break;
    case SEEK_END:
        base = fs_node_is_file(f->node) ? (int64_t)f->node->data.size : 0;
        break;
    default:
        return -EINVAL;
    }
    if (offset > INT64_MAX - base)
        return -EOVERFLOW;
    if (base + offset < 0 || base + offset > FS_FILE_MAX)
        return -EINVAL;
    f->position = base + offset;
    return f->position;
}

int64_t fs_lseek(int fd, int64_t offset, int whence)
{
    int64_t r;

    fs_lock();
    r = seek_locked(fd, offset, whence);
    fs_unlock();
    return r;
}

static int truncate_node(struct fs_node *node, int64_t size)
{
    if (fs_node_is_dir(node))
        return -EISDIR;
    if (!fs_node_is_file(node) || size < 0)
        return -EINVAL;
    if (size > FS_FILE_MAX)
        return -EFBIG;
    fs_data_truncate(&node->data, (uint64_t)size);
    fs_node_touch(node);
    return 0;
}

int fs_ftruncate(int fd, int64_t size)
{
    struct open_file *f;
    int r = -EBADF;

    fs_lock();
    f = get(fd);
    if (f)
        r = writable(f) ? truncate_node(f->node, size) : -EINVAL;
    fs_unlock();
    return r;
}

int fs_truncate(const char *path, int64_t size)
{
    struct fs_node *node;
    int r;

    fs_lock();
    r = walk_node(path, &node);
    if (r == 0)
        r = truncate_node(node, size);
    fs_unlock();
    return r;
}

// Attributes.

static void get_stat(const struct fs_node *node, struct fs_stat *st)
{
    *st = (struct fs_stat){
        .ino = node->ino,
        .mode = node->mode,
        .nlink = node->nlink,
        .block_size = IO_BUFFER,
        .mtime = node->mtime,
        .ctime = node->ctime,
    };
    if (fs_node_is_file(node)) {
        st->size = node->data.size;
        st->blocks = node->data.npages * (FS_PAGE_SIZE / 512);
    } else if (is_device(node)) {
        st->rdev = node->device;
    }
}

// One operation on the node of a descriptor or of a path.
struct node_op {
    int (*fn)(struct fs_node *node, const struct node_op *op);
    struct fs_stat *st;
    struct fs_time time;
    unsigned mode;
};

static int on_fd(int fd, const struct node_op *op)
{
    struct open_file *f;
    int r = -EBADF;

    fs_lock();
    f = get(fd);
    if (f)
        r = op->fn(f->node, op);
    fs_unlock();
    return r;
}

static int on_path(const char *path, const struct node_op *op)
{
    struct fs_node *node;
    int r;

    fs_lock();
    r = walk_node(path, &node);
    if (r == 0)
        r = op->fn(node, op);
    fs_unlock();
    return r;
}

static int do_stat(struct fs_node *node, const struct node_op *op)
{
    get_stat(node, op->st);
    return 0;
}

static int do_chmod(struct fs_node *node, const struct node_op *op)
{
    node->mode =
        (node->mode & ~(unsigned)FS_MODE_BITS) | (op->mode & FS_MODE_BITS);
    fs_node_touch_meta(node);
    return 0;
}

static int do_utime(struct fs_node *node, const struct node_op *op)
{
    node->mtime = op->time;
    fs_node_touch_meta(node);
    return 0;
}

// As root: everything but executing a file that nobody may execute.
static int do_access(struct fs_node *node, const struct node_op *op)
{
    if ((op->mode & X_OK) && !fs_node_is_dir(node) && !(node->mode & 0111))
        return -EACCES;
    return 0;
}

static int do_chdir(struct fs_node *node, const struct node_op *op)
{
    (void)op;
    if (!fs_node_is_dir(node))
        return -ENOTDIR;
    fs_node_ref(node);
    fs_node_unref(fs.cwd);
    fs.cwd = node;
    return 0;
}

int fs_stat(const char *path, struct fs_stat *st)
{
    return on_path(path, &(struct node_op){.fn = do_stat, .st = st});
}

int fs_fstat(int fd, struct fs_stat *st)
{
    return on_fd(fd, &(struct node_op){.fn = do_stat, .st = st});
}

int fs_chmod(const char *path, unsigned mode)
{
    return on_path(path, &(struct node_op){.fn = do_chmod, .mode = mode});
}

int fs_fchmod(int fd, unsigned mode)
{
    return on_fd(fd, &(struct node_op){.fn = do_chmod, .mode = mode});
}

int fs_utime(const char *path, struct fs_time mtime)
{
    return on_path(path, &(struct node_op){.fn = do_utime, .time = mtime});
}

int fs_futime(int fd, struct fs_time mtime)
{
    return on_fd(fd, &(struct node_op){.fn = do_utime, .time = mtime});
}

int fs_access(const char *path, int amode)
{
    if (amode & ~(R_OK | W_OK | X_OK))
        return -EINVAL;
    return on_path(path,
                   &(struct node_op){.fn = do_access, .mode = (unsigned)amode});
}

int fs_chdir(const char *path)
{
    return on_path(path, &(struct node_op){.fn = do_chdir});
}

int fs_fchdir(int fd)
{
    return on_fd(fd, &(struct node_op){.fn = do_chdir});
}

unsigned fs_umask(unsigned mask)
{
    unsigned old;

    fs_lock();
    old = fs.umask;
    fs.umask = mask & 0777;
    fs_unlock();
    return old;
}

// Names.

static int mkdir_locked(const char *path, unsigned mode)
{
    struct fs_where w;
    struct fs_node *node;
    int r = walk(path, &w);

    if (r)
        return r;
    if (w.node)
        return -EEXIST;
    if (w.dir->nlink >= FS_LINK_MAX)
        return -EMLINK;
    return create(&w, FS_TYPE_DIR | (mode & FS_MODE_BITS), &node);
}

int fs_mkdir(const char *path, unsigned mode)
{
    int r;

    fs_lock();
    r = mkdir_locked(path, mode);
    fs_unlock();
    return r;
}

static int rmdir_locked(const char *path)
{
    struct fs_where w;
    int r = walk(path, &w);

    if (r)
        return r;
    if (!w.node)
        return -ENOENT;
    if (!fs_node_is_dir(w.node))
        return -ENOTDIR;
    if (w.node == fs.root)
        return -EBUSY;
    if (w.dots)
        return w.len == 1 ? -EINVAL : -ENOTEMPTY;
    if (w.node->dir.nentries > 0)
        return -ENOTEMPTY;
    fs_dir_remove(w.dir, w.name, w.len);
    fs_node_touch(w.dir);
    return 0;
}

int fs_rmdir(const char *path)
{
    int r;

    fs_lock();
    r = rmdir_locked(path);
    fs_unlock();
    return r;
}

static int unlink_locked(const char *path)
{
    struct fs_where w;
    int r = walk(path, &w);

    if (r)
        return r;
    if (!w.node)
        return -ENOENT;
    if (fs_node_is_dir(w.node))
        return -EISDIR;
    if (w.slash)
        return -ENOTDIR;
    fs_node_touch_meta(w.node);
    fs_dir_remove(w.dir, w.name, w.len);
    fs_node_touch(w.dir);
    return 0;
}

int fs_unlink(const char *path)
{
    int r;

    fs_lock();
    r = unlink_locked(path);
    fs_unlock();
    return r;
}

static int link_locked(const char *from, const char *to)
{
    struct fs_node *node;
    struct fs_where w;
    int r = walk_node(from, &node);

    if (r)
        return r;
    r = walk(to, &w);
    if (r)
        return r;
    if (w.node)
        return -EEXIST;
    if (fs_node_is_dir(node))
        return -EPERM;
    if (w.slash || w.dir->nlink == 0)
        return -ENOENT;
    if (node->nlink >= FS_LINK_MAX)
        return -EMLINK;
    r = fs_dir_add(w.dir, w.name, w.len, node);
    if (r)
        return r;
    fs_node_touch_meta(node);
    fs_node_touch(w.dir);
    return 0;
}

int fs_link(const char *from, const char *to)
{
    int r;

    fs_lock();
    r = link_locked(from, to);
    fs_unlock();
    return r;
}

static bool is_below(const struct fs_node *dir, const struct fs_node *above)
{
    while (dir != above) {
        if (dir == dir->dir.parent)
            return false;
        dir = dir->dir.parent;
    }
    return true;
}

// Whether one object may take the place of another, or of nothing.
static int may_replace(const struct fs_where *old, const struct fs_where *new)
{
    bool is_dir = fs_node_is_dir(old->node);

    if (!is_dir && (old->slash || (new->slash && !new->node)))
        return -ENOTDIR;
    if (is_dir && is_below(new->dir, old->node))
        return -EINVAL;
    if (!new->node)
        return 0;
    if (is_dir && !fs_node_is_dir(new->node))
        return -ENOTDIR;
    if (!is_dir && fs_node_is_dir(new->node))
        return -EISDIR;
    if (new->slash && !is_dir)
        return -ENOTDIR;
    if (is_dir && new->node->dir.nentries > 0)
        return -ENOTEMPTY;
    return 0;
}

static int rename_locked(const char *from, const char *to)
{
    struct fs_where old, new;
    int r = walk(from, &old);

    if (r)
        return r;
    r = walk(to, &new);
    if (r)
        return r;
    if (!old.node)
        return -ENOENT;
    if (old.len == 0 || new.len == 0)
        return -EBUSY; // the root
    if (old.dots || new.dots)
        return -EINVAL;
    if (new.dir->nlink == 0)
        return -ENOENT;
    if (old.node == new.node) // two names of one object: nothing to do
        return (old.slash || new.slash) && !fs_node_is_dir(old.node) ? -ENOTDIR
                                                                     : 0;
    r = may_replace(&old, &new);
    if (r)
        return r;
    if (fs_node_is_dir(old.node) && old.dir != new.dir &&
        !new.node &&new.dir->nlink >= FS_LINK_MAX)
        return -EMLINK;
    r = fs_dir_move(old.dir, old.name, old.len, new.dir, new.name, new.len);
    if (r)
        return r;
    fs_node_touch_meta(old.node);
    fs_node_touch(old.dir);
    fs_node_touch(new.dir);
    return 0;
}

int fs_rename(const char *from, const char *to)
{
    int r;

    fs_lock();
    r = rename_locked(from, to);
    fs_unlock();
    return r;
}

// Reading directories.

// Fills out with the entry at pos and moves pos behind it. False: at the end.
static bool next_entry(const struct fs_node *dir, struct fs_dirpos *pos,
                       struct fs_dirent *out)
{
    static const char *const dots[] = {".", ".."};
    const struct fs_node *node;
    const char *name;

    if (pos->step < 2) {
        if (dir->nlink == 0)
            return false;
        node = pos->step == 0 ? dir : dir->dir.parent;
        name = dots[pos->step++];
    } else {
        size_t i = pos->step == 2 ? 0 : fs_dir_after(dir, pos->name);

        if (i >= dir->dir.nentries)
            return false;
        node = dir->dir.entries[i]->node;
        name = dir->dir.entries[i]->name;
        pos->step = 3;
        strcpy(pos->name, name);
    }
    out->ino = node->ino;
    out->mode = node->mode;
    strcpy(out->name, name);
    return true;
}

int fs_readdir(int fd, struct fs_dirpos *pos, struct fs_dirent *out)
{
    struct open_file *f;
    int r = -EBADF;

    fs_lock();
    f = get(fd);
    if (f)
        r = fs_node_is_dir(f->node) ? next_entry(f->node, pos, out) : -ENOTDIR;
    fs_unlock();
    return r;
}

// Paths of objects.

// Writes the absolute path of a directory, built from its end backwards, with
// `/name` appended if name is given. Returns the length or a negative errno.
static int path_of(const struct fs_node *dir, const char *name, size_t len,
                   char *p, size_t size)
{
    size_t at = size;

    if (size == 0)
        return -ERANGE;
    p[--at] = '\0';
    for (;;) {
        if (name) {
            if (at < len + 1)
                return -ERANGE;
            at -= len;
            memcpy(p + at, name, len);
            p[--at] = '/';
        }
        if (dir == dir->dir.parent)
            break;
        if (dir->nlink == 0)
            return -ENOENT;
        name = fs_dir_name_of(dir->dir.parent, dir);
        len = strlen(name);
        dir = dir->dir.parent;
    }
    if (dir->nlink == 0)
        return -ENOENT;
    if (p[at] == '\0') {
        if (at == 0)
            return -ERANGE;
        p[--at] = '/';
    }
    memmove(p, p + at, size - at);
    return (int)(size - at - 1);
}

int fs_getcwd(char *p, size_t size)
{
    int r;

    fs_lock();
    r = path_of(fs.cwd, NULL, 0, p, size);
    fs_unlock();
    return r;
}

int fs_realpath(const char *path, char *p, size_t size)
{
    struct fs_where w;
    int r;

    fs_lock();
    r = walk(path, &w);
    if (r == 0 && !w.node)
        r = -ENOENT;
    if (r == 0 && w.slash && !fs_node_is_dir(w.node))
        r = -ENOTDIR;
    if (r == 0)
        r = fs_node_is_dir(w.node) ? path_of(w.node, NULL, 0, p, size)
                                   : path_of(w.dir, w.name, w.len, p, size);
    fs_unlock();
    return r;
}

// The new tree.

int fs_stage_begin(void)
{
    int r;

    fs_lock();
    ASSERT(!fs.stage);
    fs.stage = new_tree();
    r = fs.stage ? 0 : -ENOMEM;
    fs_unlock();
    return r;
}

// Walks to the directory of the last component; missing ones are made.
static int stage_walk(const char *path, struct fs_where *w)
{
    int r;

    *w = (struct fs_where){.dir = fs.stage, .node = fs.stage};
    for (const char *p = path; *p; p += *p == '/') {
        if (w->len > 0) {
            if (!w->node) {
                r = make(w->dir, w->name, w->len, FS_TYPE_DIR | 0755, &w->node);
                if (r)
                    return r;
            }
            if (!fs_node_is_dir(w->node))
                return -ENOTDIR;
            w->dir = w->node;
        }
        w->name = p;
        w->len = strcspn(p, "/");
        w->node = fs_dir_find(w->dir, w->name, w->len);
        p += w->len;
    }
    return 0;
}

static int stage_dir_locked(const char *path, unsigned mode,
                            struct fs_time mtime)
{
    struct fs_where w;
    int r = stage_walk(path, &w);

    if (r == 0 && !w.node)
        r = make(w.dir, w.name, w.len, FS_TYPE_DIR, &w.node);
    if (r)
        return r;
    if (!fs_node_is_dir(w.node))
        return -ENOTDIR;
    w.node->mode = FS_TYPE_DIR | (mode & FS_MODE_BITS);
    w.node->mtime = w.node->ctime = mtime;
    return 0;
}

int fs_stage_dir(const char *path, unsigned mode, struct fs_time mtime)
{
    int r;

    fs_lock();
    r = stage_dir_locked(path, mode, mtime);
    fs_unlock();
    return r;
}

static int stage_file_locked(const char *path, struct fs_node **node)
{
    struct fs_where w;
    int r = stage_walk(path, &w);

    if (r)
        return r;
    if (w.node && fs_node_is_dir(w.node))
        return -EISDIR;
    if (w.node) // the last one of a name wins
        fs_dir_remove(w.dir, w.name, w.len);
    return make(w.dir, w.name, w.len, FS_TYPE_FILE, node);
}

int fs_stage_file(const char *path, unsigned mode, struct fs_time mtime,
                  const void *data, size_t size)
{
    struct fs_node *node;
    int r;

    fs_lock();
    r = stage_file_locked(path, &node);
    if (r == 0) {
        node->mode = FS_TYPE_FILE | (mode & FS_MODE_BITS);
        node->mtime = node->ctime = mtime;
        fs_data_init(&node->data, data, size);
    }
    fs_unlock();
    return r;
}

void fs_stage_commit(void)
{
    fs_lock();
    fs_node_unref(fs.cwd);
    fs_node_free_tree(fs.root);
    fs.root = fs.cwd = fs.stage;
    fs.stage = NULL;
    fs_node_ref(fs.cwd);
    fs_unlock();
}

void fs_stage_abort(void)
{
    fs_lock();
    fs_node_free_tree(fs.stage);
    fs.stage = NULL;
    fs_unlock();
}
