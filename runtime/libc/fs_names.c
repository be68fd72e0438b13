// Names: making, removing, linking and renaming, and the path of an object.
//
// Each call walks its paths first, checks everything that can be wrong, and
// only then changes the tree, so that a failure leaves no trace.

#define _POSIX_C_SOURCE 200809L

#include "runtime/libc/fs_impl.h"

#include "runtime/libc/lock.h"

#include <errno.h>
#include <string.h>

// Makes a node at the end of a walk where nothing is.
int fs_create(const struct fs_where *w, uint32_t mode, struct fs_node **node)
{
    int r;

    if (w->dir->nlink == 0) // removed while somebody stands in it
        return -ENOENT;
    r = fs_make(w->dir, w->name, w->len, mode & ~fs_state.umask, node);
    if (r)
        return r;
    fs_node_touch(*node);
    fs_node_touch(w->dir);
    return 0;
}

static int mkdir_locked(const char *path, unsigned mode)
{
    struct fs_where w;
    struct fs_node *node;
    int r = fs_walk_from(path, &w);

    if (r)
        return r;
    if (w.node)
        return -EEXIST;
    if (w.dir->nlink >= FS_LINK_MAX)
        return -EMLINK;
    return fs_create(&w, FS_TYPE_DIR | (mode & FS_MODE_BITS), &node);
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
    int r = fs_walk_from(path, &w);

    if (r)
        return r;
    if (!w.node)
        return -ENOENT;
    if (!fs_node_is_dir(w.node))
        return -ENOTDIR;
    if (w.node == fs_state.root)
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
    int r = fs_walk_from(path, &w);

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
    int r = fs_walk_to(from, &node);

    if (r)
        return r;
    r = fs_walk_from(to, &w);
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
    int r = fs_walk_from(from, &old);

    if (r)
        return r;
    r = fs_walk_from(to, &new);
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
    r = path_of(fs_state.cwd, NULL, 0, p, size);
    fs_unlock();
    return r;
}

int fs_realpath(const char *path, char *p, size_t size)
{
    struct fs_where w;
    int r;

    fs_lock();
    r = fs_walk_from(path, &w);
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
