// The file system: descriptors, and the operations of POSIX on the tree.
//
// Other parts: fs_attr.c what is known of nodes, fs_names.c making, removing and
// renaming, fs_tree.c the first tree and the one that an archive brings.
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
// Invariants (fs_check, F2 and F3 as lower bounds), over fs_node.c's:
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
    IO_BUFFER_MASK = FS_IO_BUFFER - 1,
    FIRST_FDS = 16,
    // What fcntl(F_SETFL) may change.
    SETTABLE_FLAGS = O_APPEND | O_NONBLOCK | O_SYNC,
    OPEN_MODE_FLAGS = SETTABLE_FLAGS | O_ACCMODE,
};

struct fs_state fs_state;

// Open files and descriptors.

struct fs_open_file *fs_get(int fd)
{
    return fd >= 0 && fd < fs_state.nfds ? fs_state.fds[fd] : NULL;
}

static bool readable(const struct fs_open_file *f)
{
    return (f->flags & O_ACCMODE) != O_WRONLY;
}

bool fs_writable(const struct fs_open_file *f)
{
    return (f->flags & O_ACCMODE) != O_RDONLY;
}

static void release(struct fs_open_file *f)
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
    int fd = lowest > fs_state.lowest_free ? lowest : fs_state.lowest_free;

    while (fd < fs_state.nfds && fs_state.fds[fd])
        fd++;
    if (fd >= FS_OPEN_MAX)
        return -EMFILE;
    if (fd >= fs_state.nfds) {
        int n = fs_state.nfds;
        struct fs_open_file **fds;

        while (n <= fd)
            n = n ? 2 * n : FIRST_FDS;
        fds = realloc(fs_state.fds, (size_t)n * sizeof(*fds));
        if (!fds)
            return -ENOMEM;
        memset(fds + fs_state.nfds, 0,
               (size_t)(n - fs_state.nfds) * sizeof(*fds));
        fs_state.fds = fds;
        fs_state.nfds = n;
    }
    return fd;
}

static void set_fd(int fd, struct fs_open_file *f)
{
    fs_state.fds[fd] = f;
    if (fd == fs_state.lowest_free)
        fs_state.lowest_free++;
}

static void clear_fd(int fd)
{
    struct fs_open_file *f = fs_state.fds[fd];

    fs_state.fds[fd] = NULL;
    if (fd < fs_state.lowest_free)
        fs_state.lowest_free = fd;
    release(f);
}

// An open file on the node, with the first free descriptor.
static int open_node(struct fs_node *node, int flags)
{
    int fd = find_free(0);
    struct fs_open_file *f;

    if (fd < 0)
        return fd;
    f = malloc(sizeof(*f));
    if (!f)
        return -ENOMEM;
    *f = (struct fs_open_file){.node = node, .flags = flags, .nfds = 1};
    fs_node_ref(node);
    set_fd(fd, f);
    return fd;
}

static int dup_to_free(struct fs_open_file *f, int lowest)
{
    int fd = find_free(lowest);

    if (fd < 0)
        return fd;
    f->nfds++;
    set_fd(fd, f);
    return fd;
}

// Start and end.

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
    fs_state.umask = 022;
    fs_state.root = fs_state.cwd = fs_new_tree();
    if (fs_state.root) {
        fs_node_ref(fs_state.cwd);
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
    for (int fd = 0; fd < fs_state.nfds; fd++)
        if (fs_state.fds[fd])
            clear_fd(fd);
    free(fs_state.fds);
    fs_state.fds = NULL;
    fs_state.nfds = fs_state.lowest_free = 0;
    if (fs_state.cwd)
        fs_node_unref(fs_state.cwd);
    if (fs_state.root)
        fs_node_free_tree(fs_state.root);
    if (fs_state.stage)
        fs_node_free_tree(fs_state.stage);
    fs_state.root = fs_state.cwd = fs_state.stage = NULL;
    fs_unlock();
}

void fs_check(void)
{
    fs_lock();
    ASSERT(fs_state.lowest_free <= fs_state.nfds);
    for (int fd = 0; fd < fs_state.lowest_free; fd++)
        ASSERT(fs_state.fds[fd]);
    for (int fd = 0; fd < fs_state.nfds; fd++) {
        struct fs_open_file *f = fs_state.fds[fd];
        unsigned nfds = 0;

        if (!f)
            continue;
        for (int other = 0; other < fs_state.nfds; other++)
            nfds += fs_state.fds[other] == f;
        ASSERT(f->nfds >= nfds);
        ASSERT(f->node->nrefs > 0);
        ASSERT(f->position >= 0);
        fs_node_check(f->node);
    }
    ASSERT(fs_state.cwd->nrefs > 0);
    ASSERT(fs_state.root->dir.parent == fs_state.root);
    fs_node_check(fs_state.root);
    fs_unlock();
}

// Open.

// Opening /dev/stdin and the like is dup(): one position, as the user expects
// after "sort /dev/stdin" read half of a file.
static int open_fd_device(int of, int flags)
{
    struct fs_open_file *f = fs_get(of);

    if (!f)
        return -ENXIO;
    if ((flags & O_ACCMODE) != O_WRONLY && !readable(f))
        return -EACCES;
    if ((flags & O_ACCMODE) != O_RDONLY && !fs_writable(f))
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
    if (fs_node_is_device(node)) {
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
    r = fs_create(w, FS_TYPE_FILE | (mode & FS_MODE_BITS), &node);
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
    r = fs_walk_from(path, &w);
    if (r == 0)
        r = w.node ? open_existing(&w, flags) : open_new(&w, flags, mode);
    fs_unlock();
    return r;
}

int fs_close(int fd)
{
    int r = -EBADF;

    fs_lock();
    if (fs_get(fd)) {
        clear_fd(fd);
        r = 0;
    }
    fs_unlock();
    return r;
}

int fs_dup(int fd, int lowest)
{
    struct fs_open_file *f;
    int r = -EBADF;

    fs_lock();
    f = fs_get(fd);
    if (f)
        r = lowest < 0 || lowest >= FS_OPEN_MAX ? -EINVAL
                                                : dup_to_free(f, lowest);
    fs_unlock();
    return r;
}

static int dup2_locked(int fd, int to)
{
    struct fs_open_file *f = fs_get(fd);
    int r;

    if (!f || to < 0 || to >= FS_OPEN_MAX)
        return -EBADF;
    if (fd == to)
        return to;
    if (!fs_get(to)) {
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
    struct fs_open_file *f;
    int r = -EBADF;

    fs_lock();
    f = fs_get(fd);
    if (f)
        r = f->flags;
    fs_unlock();
    return r;
}

int fs_set_flags(int fd, int flags)
{
    struct fs_open_file *f;
    int r = -EBADF;

    fs_lock();
    f = fs_get(fd);
    if (f) {
        f->flags = (f->flags & ~SETTABLE_FLAGS) | (flags & SETTABLE_FLAGS);
        r = 0;
    }
    fs_unlock();
    return r;
}

static bool is_console(const struct fs_node *node)
{
    return fs_node_is_device(node) && node->device >= FS_DEV_TTY;
}

bool fs_isatty(int fd)
{
    struct fs_open_file *f;
    bool console;

    fs_lock();
    f = fs_get(fd);
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
    return min_u64(n, INT32_MAX & ~(uint64_t)IO_BUFFER_MASK);
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
static int64_t device_io(struct fs_open_file *f, void *in, const void *out,
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
    struct fs_open_file *f = fs_get(fd);

    if (!f || !readable(f))
        return -EBADF;
    if (fs_node_is_dir(f->node))
        return -EISDIR;
    if (fs_node_is_device(f->node))
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
    struct fs_open_file *f = fs_get(fd);
    int64_t r;

    if (!f || !fs_writable(f))
        return -EBADF;
    if (fs_node_is_device(f->node))
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
    struct fs_open_file *f = fs_get(fd);
    int64_t base;

    if (!f)
        return -EBADF;
    if (fs_node_is_device(f->node))
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
    struct fs_open_file *f;
    int r = -EBADF;

    fs_lock();
    f = fs_get(fd);
    if (f)
        r = fs_node_is_dir(f->node) ? next_entry(f->node, pos, out) : -ENOTDIR;
    fs_unlock();
    return r;
}
