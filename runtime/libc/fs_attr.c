// What is known of a node: attributes, size, and which one is the current
// directory. By path or by descriptor, the operation is the same: it is a
// function on a node, and on_path() or on_fd() finds that node.

#define _POSIX_C_SOURCE 200809L // R_OK

#include "runtime/libc/fs_impl.h"

#include "runtime/libc/lock.h"

#include <errno.h>
#include <unistd.h>

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
    struct fs_open_file *f;
    int r = -EBADF;

    fs_lock();
    f = fs_get(fd);
    if (f)
        r = fs_writable(f) ? truncate_node(f->node, size) : -EINVAL;
    fs_unlock();
    return r;
}

int fs_truncate(const char *path, int64_t size)
{
    struct fs_node *node;
    int r;

    fs_lock();
    r = fs_walk_to(path, &node);
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
        .block_size = FS_IO_BUFFER,
        .mtime = node->mtime,
        .ctime = node->ctime,
    };
    if (fs_node_is_file(node)) {
        st->size = node->data.size;
        st->blocks = node->data.npages * (FS_PAGE_SIZE / 512);
    } else if (fs_node_is_device(node)) {
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
    struct fs_open_file *f;
    int r = -EBADF;

    fs_lock();
    f = fs_get(fd);
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
    r = fs_walk_to(path, &node);
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
    fs_node_unref(fs_state.cwd);
    fs_state.cwd = node;
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
    old = fs_state.umask;
    fs_state.umask = mask & 0777;
    fs_unlock();
    return old;
}
