// Nodes, directories and the walk along a path.
//
// A node is a file, a directory or a device; it has no name. Names are entries
// of directories, so hard links cost nothing extra. A directory is a vector of
// entries sorted by name: looking one up is a binary search, reading goes by
// "the first name behind that one", which needs no copy of the directory and
// stays right while entries come and go, and every listing has one order.
//
// A node lives while it has a link or a reference:
//     links       entries that name it (a directory: 2 + subdirectories)
//     references  open files, the current directory, a subdirectory's parent
// An unlinked file therefore lives until its last close, and a removed
// directory until nobody stands in it; it keeps its parent, so ".." works.
//
// Invariants (fs_node_check, from the root down):
//   N1  a directory's names are strictly ascending and 1..FS_NAME_MAX long
//   N2  every entry's node has a link; a directory's parent is where it stands
//   N3  a directory's nlink == 2 + its subdirectories, or it is removed: 0
//       links, no entries
//
// Everything here runs under the file system lock.

#define _POSIX_C_SOURCE 200809L // strnlen

#include "runtime/libc/fs_impl.h"

#include "arch/base.h"
#include "runtime/libc/port.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    FIRST_CAPACITY = 8,
};

static uint64_t last_ino; // under the file system lock

bool fs_node_is_dir(const struct fs_node *node)
{
    return (node->mode & FS_TYPE_MASK) == FS_TYPE_DIR;
}

bool fs_node_is_file(const struct fs_node *node)
{
    return (node->mode & FS_TYPE_MASK) == FS_TYPE_FILE;
}

bool fs_node_is_device(const struct fs_node *node)
{
    return !fs_node_is_dir(node) && !fs_node_is_file(node);
}

struct fs_node *fs_node_new(uint32_t mode)
{
    struct fs_node *node = calloc(1, sizeof(*node));

    if (!node)
        return NULL;
    node->ino = ++last_ino;
    node->mode = mode;
    return node;
}

void fs_node_ref(struct fs_node *node)
{
    node->nrefs++;
}

// Frees the node if nothing holds it, then its parent, and so on.
static void free_if_dead(struct fs_node *node)
{
    while (node->nlink == 0 && node->nrefs == 0) {
        struct fs_node *parent = NULL;

        if (fs_node_is_dir(node)) {
            ASSERT(node->dir.nentries == 0);
            parent = node->dir.parent;
            free(node->dir.entries);
        } else if (fs_node_is_file(node)) {
            fs_data_free(&node->data);
        }
        free(node);
        if (!parent || parent == node)
            return;
        parent->nrefs--;
        node = parent;
    }
}

void fs_node_unref(struct fs_node *node)
{
    ASSERT(node->nrefs > 0);
    node->nrefs--;
    free_if_dead(node);
}

static struct fs_time now(void)
{
    uint64_t ns = clock_wall_ns();

    return (struct fs_time){
        .sec = (int64_t)(ns / 1000000000u),
        .nsec = (uint32_t)(ns % 1000000000u),
    };
}

void fs_node_touch_meta(struct fs_node *node)
{
    node->ctime = now();
}

void fs_node_touch(struct fs_node *node)
{
    node->mtime = node->ctime = now();
}

// Compares a name that is not terminated with one that is, as strcmp does.
static int compare(const char *name, size_t len, const char *entry_name)
{
    int order = strncmp(name, entry_name, len);

    return order != 0 ? order : entry_name[len] == '\0' ? 0 : -1;
}

// Index of the first entry whose name is not in front of name.
static size_t search(const struct fs_dir *dir, const char *name, size_t len,
                     bool *found)
{
    size_t low = 0, high = dir->nentries;

    *found = false;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = compare(name, len, dir->entries[mid]->name);

        if (order == 0) {
            *found = true;
            return mid;
        }
        if (order > 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct fs_node *fs_dir_find(struct fs_node *dir, const char *name, size_t len)
{
    bool found;
    size_t i = search(&dir->dir, name, len, &found);

    return found ? dir->dir.entries[i]->node : NULL;
}

size_t fs_dir_after(const struct fs_node *dir, const char *name)
{
    bool found;
    size_t i = search(&dir->dir, name, strlen(name), &found);

    return i + found;
}

const char *fs_dir_name_of(const struct fs_node *dir,
                           const struct fs_node *node)
{
    for (size_t i = 0; i < dir->dir.nentries; i++)
        if (dir->dir.entries[i]->node == node)
            return dir->dir.entries[i]->name;
    return NULL;
}

// Makes room for one more entry. Returns false if memory is out.
static bool reserve(struct fs_dir *dir)
{
    size_t capacity = dir->capacity ? 2 * dir->capacity : FIRST_CAPACITY;
    struct fs_entry **entries;

    if (dir->nentries < dir->capacity)
        return true;
    entries = realloc(dir->entries, capacity * sizeof(struct fs_entry *));
    if (!entries)
        return false;
    dir->entries = entries;
    dir->capacity = capacity;
    return true;
}

static void insert(struct fs_dir *dir, size_t i, struct fs_entry *entry)
{
    memmove(&dir->entries[i + 1], &dir->entries[i],
            (dir->nentries - i) * sizeof(struct fs_entry *));
    dir->entries[i] = entry;
    dir->nentries++;
}

static void take_out(struct fs_dir *dir, size_t i)
{
    dir->nentries--;
    memmove(&dir->entries[i], &dir->entries[i + 1],
            (dir->nentries - i) * sizeof(struct fs_entry *));
    if (dir->nentries == 0) {
        free(dir->entries);
        *dir = (struct fs_dir){.parent = dir->parent};
    }
}

// Links node below dir: counts on both sides. unlink_from undoes it.
static void link_to(struct fs_node *dir, struct fs_node *node)
{
    if (fs_node_is_dir(node)) {
        node->nlink += 2;
        node->dir.parent = dir;
        dir->nlink++;
        fs_node_ref(dir);
    } else {
        node->nlink++;
    }
}

// A directory keeps its parent, and the reference to it, until it is freed.
static void unlink_from(struct fs_node *dir, struct fs_node *node)
{
    if (fs_node_is_dir(node)) {
        node->nlink -= 2;
        dir->nlink--;
    } else {
        node->nlink--;
    }
    free_if_dead(node);
}

int fs_dir_add(struct fs_node *dir, const char *name, size_t len,
               struct fs_node *node)
{
    bool found;
    size_t i = search(&dir->dir, name, len, &found);
    struct fs_entry *entry;

    ASSERT(!found);
    if (!reserve(&dir->dir))
        return -ENOSPC;
    entry = malloc(sizeof(*entry) + len + 1);
    if (!entry)
        return -ENOSPC;
    entry->node = node;
    memcpy(entry->name, name, len);
    entry->name[len] = '\0';
    insert(&dir->dir, i, entry);
    link_to(dir, node);
    return 0;
}

void fs_dir_remove(struct fs_node *dir, const char *name, size_t len)
{
    bool found;
    size_t i = search(&dir->dir, name, len, &found);
    struct fs_entry *entry = dir->dir.entries[i];

    ASSERT(found);
    take_out(&dir->dir, i);
    unlink_from(dir, entry->node);
    free(entry);
}

// The node keeps one link or more throughout, so it cannot be freed between.
int fs_dir_move(struct fs_node *from, const char *from_name, size_t from_len,
                struct fs_node *to, const char *to_name, size_t to_len)
{
    struct fs_node *node = fs_dir_find(from, from_name, from_len);
    bool found, is_dir = fs_node_is_dir(node);
    size_t i = search(&to->dir, to_name, to_len, &found);
    int r;

    if (!found) {
        r = fs_dir_add(to, to_name, to_len, node);
        if (r)
            return r;
    } else {
        struct fs_node *old = to->dir.entries[i]->node;

        to->dir.entries[i]->node = node;
        link_to(to, node);
        unlink_from(to, old);
    }
    fs_dir_remove(from, from_name, from_len);
    if (is_dir)
        fs_node_unref(from); // link_to has set the parent to `to`
    return 0;
}

void fs_node_free_tree(struct fs_node *root)
{
    while (root->dir.nentries > 0) {
        struct fs_entry *last = root->dir.entries[root->dir.nentries - 1];

        // Without recursion: go down to a directory that has none below.
        if (fs_node_is_dir(last->node) && last->node->dir.nentries > 0)
            root = last->node;
        else
            fs_dir_remove(root, last->name, strlen(last->name));
        if (root->dir.nentries == 0 && root->dir.parent != root)
            root = root->dir.parent;
    }
    root->nlink = 0;
    free_if_dead(root);
}

void fs_node_check(const struct fs_node *node)
{
    if (fs_node_is_file(node))
        fs_data_check(&node->data);
    if (!fs_node_is_dir(node))
        return;

    const struct fs_dir *dir = &node->dir;
    uint32_t nsubdirs = 0;

    ASSERT(dir->nentries <= dir->capacity);
    for (size_t i = 0; i < dir->nentries; i++) {
        const struct fs_node *below = dir->entries[i]->node;
        size_t len = strlen(dir->entries[i]->name);

        ASSERT(len > 0 && len <= FS_NAME_MAX);
        if (i > 0)
            ASSERT(strcmp(dir->entries[i - 1]->name, dir->entries[i]->name) <
                   0);
        ASSERT(below->nlink > 0);
        if (fs_node_is_dir(below)) {
            ASSERT(below->dir.parent == node);
            nsubdirs++;
        }
        fs_node_check(below);
    }
    ASSERT(node->nlink == 0 ? dir->nentries == 0 : node->nlink == 2 + nsubdirs);
    ASSERT(node->nrefs >= nsubdirs);
}

// Paths.

static size_t component_len(const char *p)
{
    return strcspn(p, "/");
}

static bool is_dots(const char *name, size_t len)
{
    return (len == 1 && name[0] == '.') ||
           (len == 2 && name[0] == '.' && name[1] == '.');
}

// One step down (or up, for ".."). NULL: no such name.
static struct fs_node *step(struct fs_node *dir, const char *name, size_t len)
{
    if (is_dots(name, len))
        return len == 1 ? dir : dir->dir.parent;
    return fs_dir_find(dir, name, len);
}

int fs_walk(struct fs_node *root, struct fs_node *cwd, const char *path,
            struct fs_where *w)
{
    const char *p = path;

    if (!*path)
        return -ENOENT;
    if (strnlen(path, FS_PATH_MAX) == FS_PATH_MAX)
        return -ENAMETOOLONG;

    *w = (struct fs_where){.dir = *p == '/' ? root : cwd};
    p += strspn(p, "/");
    if (!*p) {
        w->node = root;
        w->slash = true;
        return 0;
    }
    for (;;) {
        w->name = p;
        w->len = component_len(p);
        p += w->len;
        w->slash = *p == '/';
        p += strspn(p, "/");
        if (!fs_node_is_dir(w->dir))
            return -ENOTDIR;
        if (w->len > FS_NAME_MAX)
            return -ENAMETOOLONG;
        w->node = step(w->dir, w->name, w->len);
        if (!*p)
            break;
        if (!w->node)
            return -ENOENT;
        w->dir = w->node;
    }
    w->dots = is_dots(w->name, w->len);
    return 0;
}

int fs_walk_node(struct fs_node *root, struct fs_node *cwd, const char *path,
                 struct fs_node **node)
{
    struct fs_where w;
    int r = fs_walk(root, cwd, path, &w);

    if (r)
        return r;
    if (!w.node)
        return -ENOENT;
    if (w.slash && !fs_node_is_dir(w.node))
        return -ENOTDIR;
    *node = w.node;
    return 0;
}

int fs_walk_from(const char *path, struct fs_where *w)
{
    return fs_walk(fs_state.root, fs_state.cwd, path, w);
}

int fs_walk_to(const char *path, struct fs_node **node)
{
    return fs_walk_node(fs_state.root, fs_state.cwd, path, node);
}
