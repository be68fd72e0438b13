// The file system of a program: one tree in memory, and descriptors on it.
//
// Paths and flags are those of POSIX; see fs.c for how it is built. Results
// are 0 or a count, or a negative errno; nothing here sets errno, and nothing
// depends on one C library.
//
// Context: a thread of execution (or start-up); every function takes the one
// file system lock (lock.h). Calls that reach a console or the random source
// do so without that lock.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FS_NAME_MAX 255  // bytes of one name
#define FS_PATH_MAX 4096 // bytes of a path, its NUL included
#define FS_OPEN_MAX 4096 // descriptors of the program
#define FS_LINK_MAX 32767
#define FS_FILE_MAX ((int64_t)1 << 47) // bytes of one file

// The type bits of a mode, and the rest; as S_IFMT and the like.
enum {
    FS_TYPE_MASK = 0170000,
    FS_TYPE_CHAR = 0020000,
    FS_TYPE_DIR = 0040000,
    FS_TYPE_FILE = 0100000,
    FS_TYPE_LINK = 0120000,
    FS_MODE_BITS = 07777,
};

struct fs_time {
    int64_t sec;
    uint32_t nsec;
};

struct fs_stat {
    uint64_t ino;  // never used twice
    uint32_t mode; // type and permissions, as st_mode
    uint32_t nlink;
    uint64_t size;
    uint64_t blocks;      // 512-byte units of memory that the file itself owns
    uint32_t block_size;  // good size for a buffer
    uint32_t rdev;        // devices: which one
    struct fs_time mtime; // last change of the contents
    struct fs_time ctime; // last change of the node
};

struct fs_dirent {
    uint64_t ino;
    uint32_t mode;
    char name[FS_NAME_MAX + 1];
};

// A place in a directory: behind the entry that was read last. Zero is the
// beginning. It stays good whatever is added to or removed from the directory.
struct fs_dirpos {
    uint8_t step; // 0 ".", 1 "..", 2 the first name, 3 the name behind `name`
    char name[FS_NAME_MAX + 1];
};

// Sets up the tree (/, /dev, /tmp) and descriptors 0, 1 and 2.
// Returns 0 or -ENOMEM.
int fs_init(void);

// Gives back everything, open files too. For tests and the end of a process.
void fs_fini(void);

// Panics if an invariant of the tree or the descriptors does not hold.
void fs_check(void);

// Open files. flags are the O_* of <fcntl.h>.
int fs_open(const char *path, int flags, unsigned mode);
int fs_close(int fd);
int64_t fs_read(int fd, void *p, size_t n);
int64_t fs_write(int fd, const void *p, size_t n);
int64_t fs_pread(int fd, void *p, size_t n, int64_t offset);
int64_t fs_pwrite(int fd, const void *p, size_t n, int64_t offset);
int64_t fs_lseek(int fd, int64_t offset, int whence);
int fs_ftruncate(int fd, int64_t size);
int fs_fstat(int fd, struct fs_stat *st);
int fs_fchmod(int fd, unsigned mode);
int fs_futime(int fd, struct fs_time mtime);
int fs_fchdir(int fd);
int fs_dup(int fd, int lowest); // the first free descriptor from lowest on
int fs_dup2(int fd, int to);
int fs_get_flags(int fd); // access mode and O_APPEND, O_NONBLOCK, O_SYNC
int fs_set_flags(int fd, int flags);
bool fs_isatty(int fd);

// Reads the next entry of an open directory.
// Returns 1, 0 at the end, or a negative errno.
int fs_readdir(int fd, struct fs_dirpos *pos, struct fs_dirent *out);

// Paths.
int fs_stat(const char *path, struct fs_stat *st);
int fs_access(const char *path, int amode);
int fs_chmod(const char *path, unsigned mode);
int fs_utime(const char *path, struct fs_time mtime);
int fs_truncate(const char *path, int64_t size);
int fs_mkdir(const char *path, unsigned mode);
int fs_rmdir(const char *path);
int fs_unlink(const char *path);
int fs_link(const char *from, const char *to);
int fs_rename(const char *from, const char *to);
int fs_chdir(const char *path);
unsigned fs_umask(unsigned mask); // returns the old one

// Writes the absolute path of the current directory, or of an existing object.
// Returns the length without the NUL, -ERANGE if size is too small, -ENOENT if
// the place has no path any more.
int fs_getcwd(char *p, size_t size);
int fs_realpath(const char *path, char *p, size_t size);

// A new tree beside the one in use, for the archive reader: either it becomes
// the tree as a whole (begin ... commit) or nothing happens (begin ... abort).
// Paths are relative to the new root, without "." and "..", with single
// slashes; missing directories on the way are made. commit replaces the tree:
// open files stay open, the current directory becomes the new root.
int fs_stage_begin(void);
int fs_stage_dir(const char *path, unsigned mode, struct fs_time mtime);
// The file's bytes are those at data, which must stay; they are never written.
int fs_stage_file(const char *path, unsigned mode, struct fs_time mtime,
                  const void *data, size_t size);
void fs_stage_commit(void);
void fs_stage_abort(void);
