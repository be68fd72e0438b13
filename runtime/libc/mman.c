// <sys/mman.h>, over <gneiss/mem.h>.
//
// The errors are those of Linux's manual pages. Where a call of Linux works on
// memory that belongs to the runtime here (malloc's heap, stacks, the image), it
// fails with the error for an address that is not the caller's.

#include <sys/mman.h>

#include "arch/base.h"
#include "runtime/libc/errors.h"
#include "runtime/libc/fs.h"
#include "runtime/libc/fs_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <gneiss/mem.h>
#include <stdarg.h>

_Static_assert(PROT_READ == (int)GN_READ && PROT_WRITE == (int)GN_WRITE &&
                   PROT_EXEC == (int)GN_EXEC,
               "rights pass as they are");

static int result(long r)
{
    return (int)libc_result(r);
}

static void *failed(int err)
{
    errno = err;
    return MAP_FAILED;
}

static bool aligned(const void *p)
{
    return (uintptr_t)p % PAGE_SIZE == 0;
}

// True if the length, rounded up to pages, wraps around.
static bool wraps(const void *p, size_t n)
{
    uintptr_t end = (uintptr_t)p + align_up(n, PAGE_SIZE);

    return align_up(n, PAGE_SIZE) < n || end < (uintptr_t)p;
}

// True if something is mapped at every page of the range.
static bool no_hole(const void *p, size_t n)
{
    uintptr_t at = (uintptr_t)p, end = at + n;

    while (at < end) {
        struct gn_where w;

        gn_where((const void *)at, &w);
        if (w.kind == GN_KIND_NOTHING || w.kind == GN_KIND_NIL)
            return false;
        if (w.end == 0)
            break;
        at = w.end;
    }
    return true;
}

// ---- mmap ----

// Can this file be mapped so? 0, or a negative errno; *zeros: it is /dev/zero,
// which is anonymous memory.
static int check_file(int fd, int prot, int type, bool *zeros)
{
    struct fs_stat st;
    int flags = fs_get_flags(fd), err = fs_fstat(fd, &st);

    if (flags < 0 || err < 0)
        return -EBADF;
    *zeros = (st.mode & FS_TYPE_MASK) == FS_TYPE_CHAR && st.rdev == FS_DEV_ZERO;
    if ((st.mode & FS_TYPE_MASK) != FS_TYPE_FILE && !*zeros)
        return -ENODEV;
    if ((flags & O_ACCMODE) == O_WRONLY)
        return -EACCES;
    if (type == MAP_PRIVATE || !(prot & PROT_WRITE) || *zeros)
        return 0;
    return (flags & O_ACCMODE) == O_RDWR ? -ENODEV : -EACCES;
}

// Reads the file into fresh memory; what lies behind its end stays zero.
static int read_file(int fd, char *to, size_t n, off_t offset)
{
    while (n > 0) {
        int64_t r = fs_pread(fd, to, n, offset);

        if (r <= 0)
            return (int)r;
        to += r;
        n -= (size_t)r;
        offset += r;
    }
    return 0;
}

static int map_flags(int flags)
{
    return (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE) ? GN_FIXED : 0) |
           (flags & MAP_NORESERVE ? GN_NORESERVE : 0);
}

// Makes room for MAP_FIXED. 0 or an errno.
static int make_room(void *addr, size_t n, int flags)
{
    if (!(flags & MAP_FIXED) || (flags & MAP_FIXED_NOREPLACE))
        return 0;
    int err = gn_unmap(addr, n);

    // Out of the part of the address space where mappings lie.
    return err == -EINVAL ? ENOMEM : -err;
}

static void *map_anonymous(void *addr, size_t n, int prot, int flags)
{
    int err = make_room(addr, n, flags);

    if (err != 0)
        return failed(err);
    if (!(flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)))
        addr = (void *)align_down((uintptr_t)addr, PAGE_SIZE); // a hint
    void *p = gn_map_named(addr, n, prot, map_flags(flags), "mmap");

    if (p == NULL)
        return failed(errno == EINVAL ? ENOMEM : errno);
    // As on Linux, it is no error if that does not succeed.
    if ((flags & MAP_POPULATE) && prot != PROT_NONE)
        (void)gn_advise(p, n, GN_POPULATE);
    return p;
}

static void *map_file(void *addr, size_t n, int prot, int flags, int fd,
                      off_t offset)
{
    // At its final place, so that what lay there is replaced only once.
    char *p =
        map_anonymous(addr, n, PROT_READ | PROT_WRITE, flags & ~MAP_POPULATE);

    if (p == MAP_FAILED)
        return p;
    int err = read_file(fd, p, n, offset);

    if (err == 0 && prot != (PROT_READ | PROT_WRITE))
        err = gn_protect(p, n, prot);
    if (err == 0)
        return p;
    (void)gn_unmap(p, n);
    return failed(-err);
}

void *mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset)
{
    int type = flags & MAP_TYPE, err = 0;
    bool fixed = (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) != 0;
    bool zeros = true;

    if (length == 0 || offset % PAGE_SIZE != 0 || (fixed && !aligned(addr)) ||
        (type != MAP_PRIVATE && type != MAP_SHARED &&
         type != MAP_SHARED_VALIDATE))
        return failed(EINVAL);
    if (wraps(fixed ? addr : NULL, length)) // a hint need not fit
        return failed(ENOMEM);
    if (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC))
        return failed(EINVAL);
    if ((prot & PROT_WRITE) && (prot & PROT_EXEC))
        return failed(EACCES);
    if (!(flags & MAP_ANONYMOUS))
        err = check_file(fd, prot, type, &zeros);
    if (err == 0 && !zeros && offset < 0)
        err = -EOVERFLOW;
    if (err != 0)
        return failed(-err);
    return zeros ? map_anonymous(addr, length, prot, flags)
                 : map_file(addr, length, prot, flags, fd, offset);
}

int munmap(void *addr, size_t length)
{
    int err = gn_unmap(addr, length);

    return result(err == -EPERM ? -EINVAL : err);
}

int mprotect(void *addr, size_t length, int prot)
{
    if (!aligned(addr) || (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)))
        return result(-EINVAL);
    if (length == 0)
        return 0;
    if (wraps(addr, length))
        return result(-ENOMEM);
    int err = gn_protect(addr, length, prot);

    if (err == -EINVAL)
        err = -ENOMEM; // no place for mappings
    return result(err == -EPERM ? -EACCES : err);
}

// ---- mremap ----

// Is [p, p + n) (a part of) one mapping of the program?
static bool one_mapping(const void *p, size_t n)
{
    struct gn_where w;

    gn_where(p, &w);
    return (w.kind == GN_KIND_REGION || w.kind == GN_KIND_ALIAS ||
            w.kind == GN_KIND_SNAPSHOT) &&
           align_up(n, PAGE_SIZE) <= w.end - (uintptr_t)p;
}

static int check_target(const void *from, size_t old, const void *to,
                        size_t new)
{
    uintptr_t a = (uintptr_t)from, b = (uintptr_t)to;

    if (!aligned(to) || wraps(to, new))
        return -EINVAL;
    if (a < b + align_up(new, PAGE_SIZE) && b < a + align_up(old, PAGE_SIZE))
        return -EINVAL;
    return 0;
}

void *mremap(void *addr, size_t old_length, size_t new_length, int flags, ...)
{
    void *to = NULL;

    if (flags & MREMAP_FIXED) {
        va_list ap;

        va_start(ap, flags);
        to = va_arg(ap, void *);
        va_end(ap);
    }
    if ((flags & ~(MREMAP_MAYMOVE | MREMAP_FIXED)) || !aligned(addr) ||
        flags == MREMAP_FIXED || new_length == 0 || old_length == 0 ||
        wraps(addr, old_length))
        return failed(EINVAL);
    if ((flags & MREMAP_FIXED) &&
        check_target(addr, old_length, to, new_length) != 0)
        return failed(EINVAL);
    if (!one_mapping(addr, old_length))
        return failed(EFAULT);
    if (flags & MREMAP_FIXED) {
        int err = gn_unmap(to, new_length);

        if (err != 0)
            return failed(err == -EINVAL ? ENOMEM : -err);
        to = gn_remap(addr, old_length, new_length, GN_FIXED, to);
    } else {
        to = gn_remap(addr, old_length, new_length,
                      flags & MREMAP_MAYMOVE ? GN_MAYMOVE : 0, NULL);
    }
    return to != NULL ? to : MAP_FAILED;
}

// ---- advice ----

int madvise(void *addr, size_t length, int advice)
{
    long err = 0;

    if (!aligned(addr) || wraps(addr, length))
        return result(-EINVAL);
    switch (advice) {
    case MADV_DONTNEED:
    case MADV_FREE:
        err = length > 0 ? gn_advise(addr, length, GN_DISCARD) : 0;
        break;
    case MADV_HUGEPAGE:
        if (!no_hole(addr, length))
            return result(-ENOMEM);
        err = length > 0 ? gn_advise(addr, length, GN_PROMOTE) : 0;
        return err == -EINVAL ? result(err) : 0; // it is advice
    case MADV_POPULATE_READ:
    case MADV_POPULATE_WRITE:
        err = length > 0 ? gn_advise(addr, length, GN_POPULATE) : 0;
        if (err == -EACCES)
            err = -EINVAL; // no such rights
        break;
    case MADV_NORMAL:
    case MADV_RANDOM:
    case MADV_SEQUENTIAL:
    case MADV_WILLNEED:
    case MADV_DONTFORK:
    case MADV_DOFORK:
    case MADV_MERGEABLE:
    case MADV_UNMERGEABLE:
    case MADV_NOHUGEPAGE:
    case MADV_DONTDUMP:
    case MADV_DODUMP:
    case MADV_COLD:
    case MADV_PAGEOUT:
        return no_hole(addr, length) ? 0 : result(-ENOMEM);
    default:
        return result(-EINVAL);
    }
    return result(err == -EPERM ? -EINVAL : err);
}

// Returns an errno, and leaves errno alone.
int posix_madvise(void *addr, size_t length, int advice)
{
    if (!aligned(addr) || advice < POSIX_MADV_NORMAL ||
        advice > POSIX_MADV_DONTNEED)
        return EINVAL;
    return !wraps(addr, length) && no_hole(addr, length) ? 0 : ENOMEM;
}

int mincore(void *addr, size_t length, unsigned char *vec)
{
    if (!aligned(addr))
        return result(-EINVAL);
    if (wraps(addr, length) || !no_hole(addr, length))
        return result(-ENOMEM);
    for (size_t i = 0; i < length; i += PAGE_SIZE)
        vec[i / PAGE_SIZE] = gn_resident((char *)addr + i, PAGE_SIZE) != 0;
    return 0;
}

// ---- without effect ----

int msync(void *addr, size_t length, int flags)
{
    if (!aligned(addr) || (flags & ~(MS_ASYNC | MS_SYNC | MS_INVALIDATE)) ||
        ((flags & MS_ASYNC) && (flags & MS_SYNC)))
        return result(-EINVAL);
    return !wraps(addr, length) && no_hole(addr, length) ? 0 : result(-ENOMEM);
}

int mlock(const void *addr, size_t length)
{
    uintptr_t start = align_down((uintptr_t)addr, PAGE_SIZE);

    length += (uintptr_t)addr - start;
    if (wraps((const void *)start, length))
        return result(-EINVAL);
    return no_hole((const void *)start, length) ? 0 : result(-ENOMEM);
}

int munlock(const void *addr, size_t length)
{
    return mlock(addr, length);
}

int mlockall(int flags)
{
    bool bad = flags == 0 || flags == MCL_ONFAULT ||
               (flags & ~(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) != 0;

    return bad ? result(-EINVAL) : 0;
}

int munlockall(void)
{
    return 0;
}
