// Files, as <unistd.h>, <fcntl.h>, <sys/stat.h> and <stdio.h> name them.
//
// Thin: each call turns its arguments into those of fs.c and the result into
// errno. Three of newlib's functions are replaced, since newlib assumes a
// system that has less: rename() (newlib: link and unlink), remove() (newlib:
// files only) and creat().

#define _GNU_SOURCE

// newlib 3 declares these parameters as pointers, newlib 4 as arrays of two.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Warray-parameter"
#endif

#include "runtime/libc/errors.h"
#include "runtime/libc/fs.h"
#include "runtime/libc/port.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <reent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utime.h>

int64_t libc_result(int64_t r)
{
    if (r >= 0)
        return r;
    errno = (int)-r;
    return -1;
}

static int result(int r)
{
    return (int)libc_result(r);
}

int open(const char *path, int flags, ...)
{
    mode_t mode = 0;

    if (flags & O_CREAT) {
        va_list args;

        va_start(args, flags);
        mode = va_arg(args, mode_t);
        va_end(args);
    }
    return result(fs_open(path, flags, mode));
}

int creat(const char *path, mode_t mode)
{
    return result(fs_open(path, O_WRONLY | O_CREAT | O_TRUNC, mode));
}

int close(int fd)
{
    return result(fs_close(fd));
}

_READ_WRITE_RETURN_TYPE read(int fd, void *p, size_t n)
{
    return (_READ_WRITE_RETURN_TYPE)libc_result(fs_read(fd, p, n));
}

_READ_WRITE_RETURN_TYPE write(int fd, const void *p, size_t n)
{
    return (_READ_WRITE_RETURN_TYPE)libc_result(fs_write(fd, p, n));
}

ssize_t pread(int fd, void *p, size_t n, off_t offset)
{
    return libc_result(fs_pread(fd, p, n, offset));
}

ssize_t pwrite(int fd, const void *p, size_t n, off_t offset)
{
    return libc_result(fs_pwrite(fd, p, n, offset));
}

// One transfer per piece; stops behind the first that is short.
static ssize_t transfer(int fd, const struct iovec *iov, int n, bool reads)
{
    int64_t total = 0;

    if (n < 0 || n > IOV_MAX)
        return libc_result(-EINVAL);
    for (int i = 0; i < n; i++) {
        size_t len = iov[i].iov_len;
        int64_t r = reads ? fs_read(fd, iov[i].iov_base, len)
                          : fs_write(fd, iov[i].iov_base, len);

        if (r < 0)
            return total > 0 ? total : libc_result(r);
        total += r;
        if ((size_t)r < len)
            break;
    }
    return total;
}

ssize_t readv(int fd, const struct iovec *iov, int n)
{
    return transfer(fd, iov, n, true);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
    return transfer(fd, iov, n, false);
}

off_t lseek(int fd, off_t offset, int whence)
{
    return libc_result(fs_lseek(fd, offset, whence));
}

int ftruncate(int fd, off_t size)
{
    return result(fs_ftruncate(fd, size));
}

int truncate(const char *path, off_t size)
{
    return result(fs_truncate(path, size));
}

// newlib's ino_t has 16 bits: the number is folded, so it is unique for the
// first 65,535 objects only.
static ino_t fold_ino(uint64_t ino)
{
    return (ino_t)(1 + (ino - 1) % 65535);
}

static int fill_stat(int r, const struct fs_stat *from, struct stat *st)
{
    if (r < 0)
        return result(r);
    *st = (struct stat){
        .st_dev = 1,
        .st_ino = fold_ino(from->ino),
        .st_mode = from->mode,
        .st_nlink = (nlink_t)from->nlink,
        .st_rdev = (dev_t)from->rdev,
        .st_size = (off_t)from->size,
        .st_blksize = (blksize_t)from->block_size,
        .st_blocks = (blkcnt_t)from->blocks,
        .st_mtim = {.tv_sec = from->mtime.sec, .tv_nsec = from->mtime.nsec},
        .st_ctim = {.tv_sec = from->ctime.sec, .tv_nsec = from->ctime.nsec},
    };
    st->st_atim = st->st_mtim;
    return 0;
}

int stat(const char *restrict path, struct stat *restrict st)
{
    struct fs_stat s;
    int r = fs_stat(path, &s);

    return fill_stat(r, &s, st);
}

int lstat(const char *path, struct stat *st)
{
    return stat(path, st);
}

int fstat(int fd, struct stat *st)
{
    struct fs_stat s;
    int r = fs_fstat(fd, &s);

    return fill_stat(r, &s, st);
}

int isatty(int fd)
{
    struct fs_stat s;
    int r = fs_fstat(fd, &s);

    if (r < 0)
        return result(r), 0;
    if (fs_isatty(fd))
        return 1;
    errno = ENOTTY;
    return 0;
}

char *ttyname(int fd)
{
    static char name[] = "/dev/tty";

    return isatty(fd) ? name : NULL;
}

int access(const char *path, int mode)
{
    return result(fs_access(path, mode));
}

int chmod(const char *path, mode_t mode)
{
    return result(fs_chmod(path, mode));
}

int fchmod(int fd, mode_t mode)
{
    return result(fs_fchmod(fd, mode));
}

mode_t umask(mode_t mask)
{
    return (mode_t)fs_umask(mask);
}

static struct fs_time now(void)
{
    uint64_t ns = clock_wall_ns();

    return (struct fs_time){
        .sec = (int64_t)(ns / 1000000000u),
        .nsec = (uint32_t)(ns % 1000000000u),
    };
}

int utime(const char *path, const struct utimbuf *times)
{
    struct fs_time t = now();

    if (times)
        t = (struct fs_time){.sec = times->modtime};
    return result(fs_utime(path, t));
}

int utimes(const char *path, const struct timeval *times)
{
    struct fs_time t = now();

    if (times)
        t = (struct fs_time){.sec = times[1].tv_sec,
                             .nsec = (uint32_t)times[1].tv_usec * 1000};
    return result(fs_utime(path, t));
}

// UTIME_NOW and UTIME_OMIT are not in newlib's headers for this target.
int futimens(int fd, const struct timespec *times)
{
    struct fs_time t = now();

    if (times)
        t = (struct fs_time){.sec = times[1].tv_sec,
                             .nsec = (uint32_t)times[1].tv_nsec};
    return result(fs_futime(fd, t));
}

int mkdir(const char *path, mode_t mode)
{
    return result(fs_mkdir(path, mode));
}

int rmdir(const char *path)
{
    return result(fs_rmdir(path));
}

int unlink(const char *path)
{
    return result(fs_unlink(path));
}

int link(const char *from, const char *to)
{
    return result(fs_link(from, to));
}

int rename(const char *from, const char *to)
{
    return result(fs_rename(from, to));
}

int _rename_r(struct _reent *state, const char *from, const char *to)
{
    (void)state; // the caller's own, where errno lies too
    return rename(from, to);
}

int remove(const char *path)
{
    int r = fs_unlink(path);

    return result(r == -EISDIR ? fs_rmdir(path) : r);
}

int _remove_r(struct _reent *state, const char *path)
{
    (void)state;
    return remove(path);
}

// There are no symbolic links: what exists is none.
ssize_t readlink(const char *restrict path, char *restrict p, size_t n)
{
    struct fs_stat s;
    int r = fs_stat(path, &s);

    (void)p;
    (void)n;
    return libc_result(r ? r : -EINVAL);
}

int chdir(const char *path)
{
    return result(fs_chdir(path));
}

int fchdir(int fd)
{
    return result(fs_fchdir(fd));
}

// With p == NULL the result is malloc'ed, of size bytes or, for 0, as needed.
static char *path_result(char *p, size_t size,
                         int (*get)(const char *path, char *p, size_t size),
                         const char *path)
{
    size_t room = size ? size : FS_PATH_MAX;
    char *to = p ? p : malloc(room);
    int r;

    if (!to) {
        errno = ENOMEM;
        return NULL;
    }
    r = get(path, to, room);
    if (r >= 0)
        return to;
    if (!p)
        free(to);
    result(r);
    return NULL;
}

static int get_cwd(const char *path, char *p, size_t size)
{
    (void)path;
    return fs_getcwd(p, size);
}

char *getcwd(char *p, size_t size)
{
    if (p && size == 0) {
        errno = EINVAL;
        return NULL;
    }
    return path_result(p, size, get_cwd, NULL);
}

char *realpath(const char *restrict path, char *restrict p)
{
    if (!path) {
        errno = EINVAL;
        return NULL;
    }
    return path_result(p, FS_PATH_MAX, fs_realpath, path);
}

int dup(int fd)
{
    return result(fs_dup(fd, 0));
}

int dup2(int fd, int to)
{
    return result(fs_dup2(fd, to));
}

int fcntl(int fd, int command, ...)
{
    va_list args;
    int arg = 0, flags = fs_get_flags(fd);

    if (flags < 0)
        return result(flags);
    va_start(args, command);
    if (command == F_DUPFD || command == F_DUPFD_CLOEXEC ||
        command == F_SETFL || command == F_SETFD)
        arg = va_arg(args, int);
    va_end(args);

    switch (command) {
    case F_DUPFD:
    case F_DUPFD_CLOEXEC:
        return result(fs_dup(fd, arg));
    case F_GETFL:
        return flags;
    case F_SETFL:
        return result(fs_set_flags(fd, arg));
    case F_GETFD: // nothing is ever executed: FD_CLOEXEC has no meaning
    case F_SETFD:
        return 0;
    case F_SETLK: // one program: no lock is ever refused
    case F_SETLKW:
        return 0;
    default:
        return result(-EINVAL);
    }
}

// Everything is in memory.
int fsync(int fd)
{
    int flags = fs_get_flags(fd);

    return flags < 0 ? result(flags) : 0;
}

int fdatasync(int fd)
{
    return fsync(fd);
}

void sync(void)
{
}

int getdtablesize(void)
{
    return FS_OPEN_MAX;
}

static_assert(PATH_MAX == FS_PATH_MAX, "realpath() fills a caller's buffer");
static_assert(OPEN_MAX == FS_OPEN_MAX, "as <limits.h> says");
static_assert(LINK_MAX == FS_LINK_MAX, "as <limits.h> says");
