// Directory streams.
//
// A stream is a descriptor and the name it has got to (fs.h, struct
// fs_dirpos): nothing of the directory is copied, and no change to it can make
// a stream skip or repeat an entry that stays. A position is thus no number;
// telldir() keeps the positions it was asked for in a table and returns their
// index, as BSD's does.

#define _GNU_SOURCE

#include "runtime/libc/errors.h"
#include "runtime/libc/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

struct gn_dir {
    int fd;
    struct fs_dirpos pos;
    struct dirent entry;    // what readdir() returned last
    struct fs_dirpos *told; // positions given out by telldir()
    size_t ntold;
};

// The values of DT_* are the type bits of st_mode, shifted.
enum {
    TYPE_SHIFT = 12,
};

static DIR *new_stream(int fd)
{
    DIR *dir = calloc(1, sizeof(*dir));

    if (dir)
        dir->fd = fd;
    return dir;
}

DIR *opendir(const char *path)
{
    int fd = (int)libc_result(fs_open(path, O_RDONLY | O_DIRECTORY, 0));
    DIR *dir;

    if (fd < 0)
        return NULL;
    dir = new_stream(fd);
    if (!dir)
        fs_close(fd);
    return dir;
}

DIR *fdopendir(int fd)
{
    struct fs_stat st;
    int r = fs_fstat(fd, &st);

    if (r == 0 && (st.mode & FS_TYPE_MASK) != FS_TYPE_DIR)
        r = -ENOTDIR;
    return libc_result(r) < 0 ? NULL : new_stream(fd);
}

// Returns 1, 0 at the end, or a negative errno.
static int read_entry(DIR *dir, struct dirent *to)
{
    struct fs_dirent from;
    int r = fs_readdir(dir->fd, &dir->pos, &from);

    if (r <= 0)
        return r;
    to->d_ino = (ino_t)(1 + (from.ino - 1) % 65535); // as in struct stat
    to->d_type = (unsigned char)(from.mode >> TYPE_SHIFT);
    strcpy(to->d_name, from.name);
    return 1;
}

struct dirent *readdir(DIR *dir)
{
    return libc_result(read_entry(dir, &dir->entry)) > 0 ? &dir->entry : NULL;
}

int readdir_r(DIR *dir, struct dirent *entry, struct dirent **result)
{
    int r = read_entry(dir, entry);

    *result = r > 0 ? entry : NULL;
    return r < 0 ? -r : 0;
}

int closedir(DIR *dir)
{
    int r = (int)libc_result(fs_close(dir->fd));

    free(dir->told);
    free(dir);
    return r;
}

void rewinddir(DIR *dir)
{
    dir->pos = (struct fs_dirpos){0};
}

long telldir(DIR *dir)
{
    struct fs_dirpos *told;
    size_t n = dir->ntold;

    if (n > 0 && memcmp(&dir->told[n - 1], &dir->pos, sizeof(dir->pos)) == 0)
        return (long)n - 1;
    told = realloc(dir->told, (n + 1) * sizeof(*told));
    if (!told)
        return -1;
    told[n] = dir->pos;
    dir->told = told;
    dir->ntold++;
    return (long)n;
}

void seekdir(DIR *dir, long where)
{
    if (where >= 0 && (size_t)where < dir->ntold)
        dir->pos = dir->told[where];
}

int dirfd(DIR *dir)
{
    return dir->fd;
}

int alphasort(const struct dirent **a, const struct dirent **b)
{
    return strcoll((*a)->d_name, (*b)->d_name);
}

static void free_list(struct dirent **list, size_t n)
{
    while (n > 0)
        free(list[--n]);
    free(list);
}

// Adds a copy of the entry. Returns false if memory is out.
static bool append(struct dirent ***list, size_t *n, const struct dirent *e)
{
    struct dirent *copy = malloc(sizeof(*copy));
    struct dirent **longer = *list;

    // Doubles at powers of two.
    if (copy && (*n & (*n - 1)) == 0)
        longer = realloc(*list, (*n ? 2 * *n : 1) * sizeof(*longer));
    if (!copy || !longer) {
        free(copy);
        return false;
    }
    *copy = *e;
    *list = longer;
    longer[(*n)++] = copy;
    return true;
}

int scandir(const char *path, struct dirent ***list,
            int (*select)(const struct dirent *),
            int (*compare)(const struct dirent **, const struct dirent **))
{
    DIR *dir = opendir(path);
    struct dirent **all = NULL;
    size_t n = 0;
    int r;

    if (!dir)
        return -1;
    while ((r = read_entry(dir, &dir->entry)) > 0)
        if (!select || select(&dir->entry))
            if (!append(&all, &n, &dir->entry)) {
                r = -ENOMEM;
                break;
            }
    closedir(dir);
    if (r < 0) {
        free_list(all, n);
        return (int)libc_result(r);
    }
    if (compare && n > 1)
        qsort(all, n, sizeof(*all),
              (int (*)(const void *, const void *))(void *)compare);
    *list = all;
    return (int)n;
}
