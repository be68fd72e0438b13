// Fields of the file system's structures, for runtime/libc/fs*.c and tests.
#pragma once

#include "runtime/libc/fs.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Contents of a regular file; see fs_data.c.
struct fs_data {
    const uint8_t *mapped; // the archive's bytes, read-only; or NULL
    uint64_t nmapped;      // so many of them still show, <= size
    uint64_t size;
    void *root;      // tree of own pages
    unsigned height; // levels of the tree, 0: none, 1: root is a page
    uint64_t npages; // own pages
};

#define FS_PAGE_SIZE 4096u

void fs_data_init(struct fs_data *d, const void *mapped, size_t size);
void fs_data_free(struct fs_data *d);
size_t fs_data_read(const struct fs_data *d, uint64_t at, void *p, size_t n);

// Returns how many bytes were written, fewer than n only if memory ran out.
// at + n <= FS_FILE_MAX.
size_t fs_data_write(struct fs_data *d, uint64_t at, const void *p, size_t n);

// Cuts or extends to size, 0..FS_FILE_MAX.
void fs_data_truncate(struct fs_data *d, uint64_t size);
void fs_data_check(const struct fs_data *d);

enum fs_device {
    FS_DEV_NULL = 1,
    FS_DEV_ZERO,
    FS_DEV_FULL,
    FS_DEV_RANDOM,
    FS_DEV_TTY,
    FS_DEV_CONSOLE, // of descriptors 0, 1, 2; with the descriptor added
    FS_DEV_FD = FS_DEV_CONSOLE + 3, // /dev/stdin and the like; likewise
    FS_DEV_END = FS_DEV_FD + 3,
};

struct fs_node;

// A name in a directory.
struct fs_entry {
    struct fs_node *node;
    char name[]; // 1..FS_NAME_MAX bytes and a NUL
};

struct fs_dir {
    struct fs_entry **entries; // sorted by strcmp of their names
    size_t nentries;
    size_t capacity;
    struct fs_node *parent; // counted in its nrefs; the root's is itself, not
};

// All fields are under the file system lock.
struct fs_node {
    uint64_t ino;
    uint32_t mode;  // S_IFMT bits are constant
    uint32_t nlink; // directories: 2 + subdirectories; 0 once removed
    size_t nrefs;   // open files, current directory, subdirectories' parent
    struct fs_time mtime;
    struct fs_time ctime;
    union {
        struct fs_dir dir;
        struct fs_data data;
        enum fs_device device;
    };
};

bool fs_node_is_dir(const struct fs_node *node);
bool fs_node_is_file(const struct fs_node *node);
bool fs_node_is_device(const struct fs_node *node);

// A node without a name and without a reference, or NULL: no memory.
struct fs_node *fs_node_new(uint32_t mode);
void fs_node_ref(struct fs_node *node);
void fs_node_unref(struct fs_node *node);     // frees it if no link is left
void fs_node_free_tree(struct fs_node *root); // links and all, below root too
void fs_node_touch(struct fs_node *node);     // contents changed now
void fs_node_touch_meta(struct fs_node *node);

// Directories. The names' lengths are 1..FS_NAME_MAX.
struct fs_node *fs_dir_find(struct fs_node *dir, const char *name, size_t len);

// Gives node a name that dir does not have. Counts links and parents.
// Returns 0 or -ENOSPC.
int fs_dir_add(struct fs_node *dir, const char *name, size_t len,
               struct fs_node *node);
// Takes a name away that dir has; the node is freed if nothing holds it.
void fs_dir_remove(struct fs_node *dir, const char *name, size_t len);
// Gives the node of an existing name its second name, in to or anywhere, and
// drops the first; an existing second name is replaced.
int fs_dir_move(struct fs_node *from, const char *from_name, size_t from_len,
                struct fs_node *to, const char *to_name, size_t to_len);
// Index of the first entry whose name is behind name.
size_t fs_dir_after(const struct fs_node *dir, const char *name);
const char *fs_dir_name_of(const struct fs_node *dir,
                           const struct fs_node *node);
void fs_node_check(const struct fs_node *node);

// The end of a path: a name in a directory, which may or may not exist.
struct fs_where {
    struct fs_node *dir;
    const char *name;     // the last component; not terminated
    size_t len;           // 0: the path is "/", node is the root
    bool dots;            // the last component is "." or ".."
    bool slash;           // something of slashes follows it
    struct fs_node *node; // what is there, or NULL
};

// Walks a path up to its last component. Returns 0 or a negative errno.
int fs_walk(struct fs_node *root, struct fs_node *cwd, const char *path,
            struct fs_where *w);

// Walks to an existing object. Returns 0 or a negative errno.
int fs_walk_node(struct fs_node *root, struct fs_node *cwd, const char *path,
                 struct fs_node **node);

// The file system as it is. All under its lock.
struct fs_open_file {
    struct fs_node *node;
    int64_t position;
    int flags;
    unsigned nfds; // descriptors, and operations that run without the lock
};

extern struct fs_state {
    struct fs_node *root;
    struct fs_node *cwd;
    struct fs_node *stage; // the new root between stage_begin and commit
    struct fs_open_file **fds;
    int nfds;        // length of fds
    int lowest_free; // no free descriptor is below
    unsigned umask;
} fs_state;

#define FS_IO_BUFFER 4096 // st_blksize, which stdio takes for its buffers

// The open file of a descriptor, or NULL.
struct fs_open_file *fs_get(int fd);
bool fs_writable(const struct fs_open_file *f);

// fs_walk() and fs_walk_node() from where the program stands.
int fs_walk_from(const char *path, struct fs_where *w);
int fs_walk_to(const char *path, struct fs_node **node);

// A new node with a name that dir does not have. Returns 0 or -ENOSPC.
int fs_make(struct fs_node *dir, const char *name, size_t len, uint32_t mode,
            struct fs_node **made);

// Makes a node at the end of a walk where nothing is, as a program's call does:
// umask, times, and no node in a removed directory (-ENOENT).
int fs_create(const struct fs_where *w, uint32_t mode, struct fs_node **node);

// A tree as every program finds it, or NULL: no memory.
struct fs_node *fs_new_tree(void);
