// Whole trees: the one a program starts with, and the one beside it that the
// archive reader fills and then puts in its place.

#define _POSIX_C_SOURCE 200809L

#include "runtime/libc/fs_impl.h"

#include "arch/base.h"
#include "runtime/libc/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// A node with a name in dir; -ENOSPC: no memory.
int fs_make(struct fs_node *dir, const char *name, size_t len, uint32_t mode,
            struct fs_node **made)
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
struct fs_node *fs_new_tree(void)
{
    struct fs_node *root = fs_node_new(FS_TYPE_DIR | 0755);
    struct fs_node *dev, *node;

    if (!root)
        return NULL;
    root->dir.parent = root;
    root->nlink = 2;
    if (fs_make(root, "tmp", 3, FS_TYPE_DIR | 01777, &node) ||
        fs_make(root, "dev", 3, FS_TYPE_DIR | 0755, &dev))
        goto fail;
    for (size_t i = 0; i < ARRAY_LEN(dev_nodes); i++) {
        if (fs_make(dev, dev_nodes[i].name, strlen(dev_nodes[i].name),
                    FS_TYPE_CHAR | 0666, &node))
            goto fail;
        node->device = dev_nodes[i].device;
    }
    return root;

fail:
    fs_node_free_tree(root);
    return NULL;
}

int fs_stage_begin(void)
{
    int r;

    fs_lock();
    ASSERT(!fs_state.stage);
    fs_state.stage = fs_new_tree();
    r = fs_state.stage ? 0 : -ENOMEM;
    fs_unlock();
    return r;
}

// Walks to the directory of the last component; missing ones are made.
static int stage_walk(const char *path, struct fs_where *w)
{
    int r;

    *w = (struct fs_where){.dir = fs_state.stage, .node = fs_state.stage};
    for (const char *p = path; *p; p += *p == '/') {
        if (w->len > 0) {
            if (!w->node) {
                r = fs_make(w->dir, w->name, w->len, FS_TYPE_DIR | 0755,
                            &w->node);
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
        r = fs_make(w.dir, w.name, w.len, FS_TYPE_DIR, &w.node);
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
    return fs_make(w.dir, w.name, w.len, FS_TYPE_FILE, node);
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
    fs_node_unref(fs_state.cwd);
    fs_node_free_tree(fs_state.root);
    fs_state.root = fs_state.cwd = fs_state.stage;
    fs_state.stage = NULL;
    fs_node_ref(fs_state.cwd);
    fs_unlock();
}

void fs_stage_abort(void)
{
    fs_lock();
    fs_node_free_tree(fs_state.stage);
    fs_state.stage = NULL;
    fs_unlock();
}
