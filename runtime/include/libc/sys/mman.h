// Memory mappings, as POSIX and Linux have them, over <gneiss/mem.h>.
//
// Numbers are Linux's. There is one program and no fork, so private and shared
// anonymous memory are the same, with one difference: MADV_DONTNEED discards
// both. Files are not mapped but read: a mapping of a file is a copy of what the
// file held when mmap was called, zeros behind its end, and stores don't reach
// the file. So a writable MAP_SHARED mapping of a file is refused (ENODEV).
// mmap promises memory (no overcommit): ENOMEM comes from mmap, or pass
// MAP_NORESERVE or PROT_NONE. Writable and executable together is refused
// (EACCES). Errors are those of Linux's manual pages; a call that failed has changed
// nothing, but for MAP_FIXED and MREMAP_FIXED: as on Linux, what lay there may be
// unmapped when ENOMEM comes.
#ifndef _SYS_MMAN_H
#define _SYS_MMAN_H

#include <sys/cdefs.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PROT_NONE  0
#define PROT_READ  1
#define PROT_WRITE 2
#define PROT_EXEC  4

#define MAP_SHARED          0x01
#define MAP_PRIVATE         0x02
#define MAP_SHARED_VALIDATE 0x03
#define MAP_TYPE            0x0f
#define MAP_FIXED           0x10
#define MAP_ANONYMOUS       0x20
#define MAP_ANON            MAP_ANONYMOUS
#define MAP_FILE            0
#define MAP_LOCKED          0x2000 // no effect: nothing is ever paged out
#define MAP_NORESERVE       0x4000
#define MAP_POPULATE        0x8000
#define MAP_NONBLOCK        0x10000 // no effect
#define MAP_STACK           0x20000 // no effect
#define MAP_FIXED_NOREPLACE 0x100000

#define MAP_FAILED ((void *)-1)

#define MREMAP_MAYMOVE 1
#define MREMAP_FIXED   2

#define MS_ASYNC      1
#define MS_INVALIDATE 2
#define MS_SYNC       4

#define MCL_CURRENT 1
#define MCL_FUTURE  2
#define MCL_ONFAULT 4

#define MADV_NORMAL         0
#define MADV_RANDOM         1
#define MADV_SEQUENTIAL     2
#define MADV_WILLNEED       3 // checks its arguments only
#define MADV_DONTNEED       4
#define MADV_FREE           8 // as MADV_DONTNEED
#define MADV_DONTFORK       10
#define MADV_DOFORK         11
#define MADV_MERGEABLE      12
#define MADV_UNMERGEABLE    13
#define MADV_HUGEPAGE       14 // 2 MiB pages at once, where whole ones fit
#define MADV_NOHUGEPAGE     15
#define MADV_DONTDUMP       16
#define MADV_DODUMP         17
#define MADV_COLD           20
#define MADV_PAGEOUT        21
#define MADV_POPULATE_READ  22
#define MADV_POPULATE_WRITE 23

#define POSIX_MADV_NORMAL     MADV_NORMAL
#define POSIX_MADV_RANDOM     MADV_RANDOM
#define POSIX_MADV_SEQUENTIAL MADV_SEQUENTIAL
#define POSIX_MADV_WILLNEED   MADV_WILLNEED
#define POSIX_MADV_DONTNEED   4 // no effect: it must not change contents

void *mmap(void *addr, size_t length, int prot, int flags, int fd,
           off_t offset);
int munmap(void *addr, size_t length);
int mprotect(void *addr, size_t length, int prot);
void *mremap(void *addr, size_t old_length, size_t new_length, int flags, ...);
int madvise(void *addr, size_t length, int advice);
int posix_madvise(void *addr, size_t length, int advice);
int mincore(void *addr, size_t length, unsigned char *vec);

// Nothing is ever paged out or written back: these check their arguments.
int msync(void *addr, size_t length, int flags);
int mlock(const void *addr, size_t length);
int munlock(const void *addr, size_t length);
int mlockall(int flags);
int munlockall(void);

#ifdef __cplusplus
}
#endif

#endif
