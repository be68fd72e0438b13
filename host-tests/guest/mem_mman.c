// <sys/mman.h>: every call, what it does and how it fails.

#include <gneiss/cpu.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "host-tests/guest/mem_test.h"
#include "host-tests/guest/settle.h"

#include "mm/mm.h"

// True if it failed with this error.
static bool failed(const void *p, int expected)
{
    return fails(p == MAP_FAILED ? NULL : p, expected);
}

static bool failed_int(int r, int expected)
{
    return fails(r == -1 ? NULL : (void *)16, expected);
}

enum { ANON = MAP_PRIVATE | MAP_ANONYMOUS };

static void *anon(size_t npages)
{
    return mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE, ANON, -1, 0);
}

static void test_mmap(void)
{
    char *p = anon(4), *q;
    const int rw = PROT_READ | PROT_WRITE;

    ok(p != MAP_FAILED && get(p) == 0, "mmap: anonymous");
    memset(p, 3, 4 * PAGE);
    q = mmap(p + PAGE, PAGE, rw, ANON | MAP_FIXED, -1, 0);
    ok(q == p + PAGE && get(q) == 0 && get(p) == 3 && get(p + 2 * PAGE) == 3,
       "mmap: MAP_FIXED replaces");
    ok(failed(mmap(p, PAGE, rw, ANON | MAP_FIXED_NOREPLACE, -1, 0), EEXIST),
       "mmap: MAP_FIXED_NOREPLACE, EEXIST");
    IS(munmap(p, 4 * PAGE), 0, "munmap");
    q = mmap(p, PAGE, rw, ANON | MAP_FIXED_NOREPLACE, -1, 0);
    ok(q == p, "mmap: MAP_FIXED_NOREPLACE");
    munmap(q, PAGE);
    q = mmap(p + 3, PAGE, rw, ANON, -1, 0);
    ok(q == p, "mmap: a hint is rounded down");
    munmap(q, PAGE);
    q = mmap((void *)-(intptr_t)PAGE, 2 * PAGE, rw, ANON, -1, 0);
    ok(q != MAP_FAILED, "mmap: a hint that nothing fits at");
    munmap(q, 2 * PAGE);
    q = mmap(NULL, 10, rw, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    ok(q != MAP_FAILED && look(q).mapped, "mmap: shared, populated");
    munmap(q, 10);
    q = mmap(NULL, (size_t)1 << 40, PROT_NONE, ANON, -1, 0);
    ok(q != MAP_FAILED, "mmap: PROT_NONE, 1 TiB");
    IS(mprotect(q + 7 * PAGE, PAGE, rw), 0, "mprotect: a page of it");
    put(q + 7 * PAGE, 1);
    munmap(q, (size_t)1 << 40);
    q = mmap(NULL, stats().frames_total * 2 * PAGE, rw, ANON | MAP_NORESERVE,
             -1, 0);
    ok(q != MAP_FAILED, "mmap: MAP_NORESERVE");
    munmap(q, stats().frames_total * 2 * PAGE);
    IS(getpagesize(), PAGE, "getpagesize");
}

static void test_mmap_errors(void)
{
    const int rw = PROT_READ | PROT_WRITE;
    char *p = anon(1);

    ok(failed(mmap(NULL, 0, rw, ANON, -1, 0), EINVAL), "mmap: length 0");
    ok(failed(mmap(NULL, PAGE, rw, MAP_ANONYMOUS, -1, 0), EINVAL),
       "mmap: neither private nor shared");
    ok(failed(mmap(p + 1, PAGE, rw, ANON | MAP_FIXED, -1, 0), EINVAL),
       "mmap: MAP_FIXED, unaligned");
    ok(failed(mmap(NULL, PAGE, rw, MAP_PRIVATE, 0, 1), EINVAL),
       "mmap: offset unaligned");
    ok(failed(mmap(NULL, SIZE_MAX - 10, rw, ANON, -1, 0), ENOMEM),
       "mmap: SIZE_MAX");
    ok(failed(mmap(NULL, stats().frames_total * 2 * PAGE, rw, ANON, -1, 0),
              ENOMEM),
       "mmap: more than there is");
    ok(failed(mmap((void *)PAGE, PAGE, rw, ANON | MAP_FIXED, -1, 0), ENOMEM),
       "mmap: MAP_FIXED at 4096");
    ok(failed(mmap((void *)look(malloc(1)).start, PAGE, rw, ANON | MAP_FIXED,
                   -1, 0),
              EPERM),
       "mmap: MAP_FIXED over malloc's heap");
    ok(failed(mmap(NULL, PAGE, rw | PROT_EXEC, ANON, -1, 0), EACCES),
       "mmap: W^X");
    ok(failed(mmap(NULL, PAGE, rw, MAP_PRIVATE, 77, 0), EBADF), "mmap: EBADF");
    ok(failed_int(munmap(p + 1, PAGE), EINVAL), "munmap: unaligned");
    ok(failed_int(munmap(p, 0), EINVAL), "munmap: length 0");
    ok(failed_int(mprotect(p + 1, PAGE, rw), EINVAL), "mprotect: unaligned");
    ok(failed_int(mprotect(p, PAGE, 64), EINVAL), "mprotect: rights");
    ok(failed_int(mprotect(p, PAGE, rw | PROT_EXEC), EACCES), "mprotect: W^X");
    IS(mprotect(p, 0, rw), 0, "mprotect: length 0");
    munmap(p, PAGE);
    ok(failed_int(mprotect(p, PAGE, rw), ENOMEM), "mprotect: a hole");
    ok(failed_int(mprotect((void *)PAGE, PAGE, rw), ENOMEM), "mprotect: low");
}

static void test_mmap_file(void)
{
    int fd = open("/tmp/mapped", O_RDWR | O_CREAT | O_TRUNC, 0644), ro, wo;
    char *p, *q;

    lseek(fd, PAGE, SEEK_SET);
    (void)!write(fd, "second page", 11);
    p = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    ok(p != MAP_FAILED && get(p) == 0 && strcmp(p + PAGE, "second page") == 0,
       "mmap: a file");
    ok(get(p + 2 * PAGE) == 0, "mmap: zeros behind its end");
    put(p + PAGE, 'S');
    q = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, PAGE);
    ok(q != MAP_FAILED && strcmp(q, "second page") == 0 && !look(q).writable,
       "mmap: with an offset; stores did not reach the file");
    munmap(q, PAGE);
    munmap(p, 3 * PAGE);
    q = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE, fd, PAGE);
    ok(q != MAP_FAILED && mprotect(q, PAGE, PROT_READ) == 0 && q[0] == 's',
       "mmap: a file without rights, given later");
    munmap(q, PAGE);
    ro = open("/tmp/mapped", O_RDONLY);
    wo = open("/tmp/mapped", O_WRONLY);
    ok(failed(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, wo, 0), EACCES),
       "mmap: not open for reading");
    ok(failed(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, ro, 0), EACCES),
       "mmap: shared and writable, not open for writing");
    ok(failed(mmap(NULL, PAGE, PROT_WRITE, MAP_SHARED, fd, 0), ENODEV),
       "mmap: shared and writable is refused");
    close(ro);
    close(wo);
    close(fd);
    fd = open("/tmp", O_RDONLY);
    ok(failed(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), ENODEV),
       "mmap: a directory");
    close(fd);
    fd = open("/dev/zero", O_RDWR);
    p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    ok(p != MAP_FAILED && get(p) == 0, "mmap: /dev/zero");
    munmap(p, PAGE);
    close(fd);
    unlink("/tmp/mapped");
}

static void test_mremap(void)
{
    char *p = anon(4), *q, *to;

    fill(p, 4);
    q = mremap(p, 4 * PAGE, 30 * PAGE, MREMAP_MAYMOVE);
    ok(q != MAP_FAILED && filled(q, 4) && get(q + 29 * PAGE) == 0,
       "mremap: grows");
    ok(mremap(q, 30 * PAGE, 4 * PAGE, 0) == q && filled(q, 4) &&
           look(q + 4 * PAGE).kind == GN_KIND_NOTHING,
       "mremap: shrinks in place");
    to = anon(4);
    memset(to, 1, 4 * PAGE);
    p = mremap(q, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    ok(p == to && filled(p, 4), "mremap: MREMAP_FIXED replaces");
    ok(failed(mremap(p, 4 * PAGE, PAGE, MREMAP_FIXED, p + 8 * PAGE), EINVAL),
       "mremap: MREMAP_FIXED alone");
    ok(failed(mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                     p + PAGE),
              EINVAL),
       "mremap: overlap");
    ok(failed(mremap(p + 1, PAGE, PAGE, 0), EINVAL), "mremap: unaligned");
    ok(failed(mremap(p, PAGE, 0, 0), EINVAL), "mremap: new length 0");
    ok(failed(mremap(p, PAGE, PAGE, 64), EINVAL), "mremap: flags");
    ok(failed(mremap(p + 8 * PAGE, PAGE, PAGE, 0), EFAULT), "mremap: nothing");
    ok(failed(mremap(p, 8 * PAGE, PAGE, 0), EFAULT), "mremap: past the end");
    ok(failed(mremap(p, 4 * PAGE, (size_t)1 << 45, MREMAP_MAYMOVE), ENOMEM) &&
           filled(p, 4),
       "mremap: too much");
    munmap(p, 4 * PAGE);
}

static void test_madvise(void)
{
    bool large = has_large(2);
    char *p = anon(4), *q = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE,
                                 large ? ANON : ANON | MAP_NORESERVE, -1, 0);
    unsigned char vec[4];

    fill(p, 4);
    IS(madvise(p + PAGE, PAGE, MADV_DONTNEED), 0, "madvise: DONTNEED");
    ok(*(size_t *)(p + PAGE) == 0 && *(size_t *)(p + 2 * PAGE) == 2,
       "madvise: reads as zero");
    IS(madvise(p, 4 * PAGE, MADV_FREE), 0, "madvise: FREE");
    IS(madvise(p, 4 * PAGE, MADV_WILLNEED), 0, "madvise: WILLNEED");
    put(p + 2 * PAGE, 1);
    ok(mincore(p, 4 * PAGE, vec) == 0 && !(vec[0] & 1) && (vec[2] & 1),
       "mincore");
    IS(madvise(p, 4 * PAGE, MADV_POPULATE_WRITE), 0, "madvise: POPULATE");
    ok(look(p + 3 * PAGE).writable, "madvise: has frames");
    IS(madvise(q, 2 * HUGE, MADV_HUGEPAGE), 0, "madvise: HUGEPAGE");
    IS(look(q).page_bytes, large ? HUGE : 0, "madvise: 2 MiB pages");
    ok(failed_int(madvise(p + 1, PAGE, MADV_NORMAL), EINVAL),
       "madvise: unaligned");
    ok(failed_int(madvise(p, PAGE, 12345), EINVAL), "madvise: unknown");
    IS(posix_madvise(p, PAGE, POSIX_MADV_DONTNEED), 0, "posix_madvise");
    IS(posix_madvise(p, PAGE, 77), EINVAL, "posix_madvise: returns the error");
    IS(msync(p, PAGE, MS_SYNC), 0, "msync");
    ok(failed_int(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL), "msync: EINVAL");
    IS(mlock(p + 5, PAGE), 0, "mlock");
    IS(munlock(p, PAGE), 0, "munlock");
    IS(mlockall(MCL_CURRENT), 0, "mlockall");
    ok(failed_int(mlockall(0), EINVAL), "mlockall: EINVAL");
    IS(munlockall(), 0, "munlockall");
    munmap(p, 4 * PAGE);
    ok(failed_int(madvise(p, PAGE, MADV_NORMAL), ENOMEM), "madvise: a hole");
    ok(failed_int(madvise(p, PAGE, MADV_DONTNEED), ENOMEM), "madvise: a hole");
    ok(failed_int(msync(p, PAGE, MS_SYNC), ENOMEM), "msync: a hole");
    ok(failed_int(mlock(p, PAGE), ENOMEM), "mlock: a hole");
    ok(failed_int(mincore(p, PAGE, vec), ENOMEM), "mincore: a hole");
    munmap(q, 2 * HUGE);
}

static void test_all(void)
{
    test_mmap();
    test_mmap_errors();
    test_mmap_file();
    test_mremap();
    test_madvise();
}

int main(void)
{
    struct accounts before;

    gn_cpu_stay(0);
    // What is made once: the heap's pages, the file system, the program's stack.
    grow_stack();
    test_all();
    before = settle();
    test_all();
    mm_check();
    is_settled(&before, "all calls");
    return tap_end();
}
