// sources: host-tests/runtime/libc/stub_port.c
//
// Out of memory: a script of operations runs with its n-th allocation failing,
// for every n. Each operation must then either succeed, or report it and leave
// the tree as it was; the script goes on, and at the end no memory is lost
// (ASan tells).
//
// The sources are included here, so that their malloc() is ours.

#define _GNU_SOURCE

#include "host-tests/runtime/libc/stub_port.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static unsigned nallocations, failing;

static bool fails(void)
{
    return ++nallocations == failing;
}

static void *try_malloc(size_t n)
{
    return fails() ? NULL : malloc(n);
}

static void *try_calloc(size_t n, size_t size)
{
    return fails() ? NULL : calloc(n, size);
}

static void *try_realloc(void *p, size_t n)
{
    return fails() ? NULL : realloc(p, n);
}

#define malloc  try_malloc
#define calloc  try_calloc
#define realloc try_realloc
#include "runtime/libc/fs_data.c"
#include "runtime/libc/fs_node.c"
#include "runtime/libc/fs_attr.c"
#include "runtime/libc/fs_names.c"
#include "runtime/libc/fs_tree.c"
#include "runtime/libc/fs.c"
#undef malloc
#undef calloc
#undef realloc

// Counts of what is in the tree, to see that nothing changed.
struct picture {
    unsigned nnodes;
    unsigned nlinks;
    uint64_t nbytes;
    int nopen;
};

static void draw(const struct fs_node *node, struct picture *p)
{
    p->nnodes++;
    p->nlinks += node->nlink;
    if (fs_node_is_file(node))
        p->nbytes += node->data.size;
    if (fs_node_is_dir(node))
        for (size_t i = 0; i < node->dir.nentries; i++)
            draw(node->dir.entries[i]->node, p);
}

static struct picture picture(void)
{
    struct picture p = {0};

    draw(fs_state.root, &p);
    for (int fd = 0; fd < fs_state.nfds; fd++)
        p.nopen += fs_state.fds[fd] != NULL;
    return p;
}

// After an operation: its failure is for want of memory, and left no trace.
static bool done(int64_t r, const struct picture *before)
{
    struct picture now_ = picture();

    fs_check();
    if (r >= 0)
        return true;
    assert_true(r == -ENOMEM || r == -ENOSPC);
    assert_true(nallocations >= failing);
    assert_memory_equal(&now_, before, sizeof(now_));
    return false;
}

// Twice: an operation that failed once succeeds when it is tried again.
#define TRY(operation)                                                         \
    do {                                                                       \
        struct picture before_ = picture();                                    \
        if (!done(operation, &before_))                                        \
            assert_true(done(operation, &before_));                            \
    } while (0)

static int64_t mount(void)
{
    int64_t r = fs_stage_begin();

    if (r)
        return r;
    r = fs_stage_file("x/y/m", 0644, (struct fs_time){0}, "mapped", 6);
    if (r == 0)
        r = fs_stage_dir("z", 0755, (struct fs_time){0});
    if (r)
        fs_stage_abort();
    else
        fs_stage_commit();
    return r;
}

static void script(void)
{
    static char big[3 * FS_PAGE_SIZE];
    int fd;

    TRY(mount());
    TRY(fd = fs_open("/f", O_CREAT | O_RDWR, 0666));
    fd = 3;
    TRY(fs_pwrite(fd, big, 10, 0));
    TRY(fs_pwrite(fd, big, 10, (int64_t)1 << 33)); // four more tables
    TRY(fs_open("/x/y/m", O_RDWR, 0));
    TRY(fs_write(fd + 1, "M", 1));
    TRY(fs_mkdir("/d", 0777));
    for (int i = 0; i < 20; i++) { // the directory's and descriptors' tables
        char path[] = "/d/a";

        path[3] = (char)('a' + i);
        TRY(fs_open(path, O_CREAT | O_WRONLY, 0666));
    }
    TRY(fs_link("/f", "/d/link"));
    TRY(fs_rename("/f", "/z/g"));
    TRY(fs_rename("/z", "/zz"));
    TRY(fs_rename("/x/y", "/d/y"));
    TRY(fs_dup2(fd, 200));
    TRY(fs_chdir("/d/y"));
}

static void
every_failed_allocation_is_reported_and_changes_nothing(void **state)
{
    unsigned nruns = 0;

    (void)state;
    do {
        nallocations = 0;
        failing = ++nruns;
        if (fs_init()) {
            assert_true(nallocations >= failing);
            assert_null(fs_state.root);
            assert_int_equal(fs_init(), 0);
        }
        script();
        fs_fini();
        assert_null(fs_state.root);
    } while (nallocations >= failing);
    // Every allocation of an undisturbed run has failed once; the count makes
    // sure that the script does allocate.
    assert_true(nruns > 100);
    assert_int_equal(nruns, nallocations + 1);
}

static void a_write_that_runs_out_of_memory_is_short(void **state)
{
    static char data[4 * FS_PAGE_SIZE];
    struct fs_stat st;
    int fd;

    (void)state;
    failing = 0;
    assert_int_equal(fs_init(), 0);
    fd = fs_open("/f", O_CREAT | O_RDWR, 0666);
    memset(data, 'x', sizeof(data));
    assert_int_equal(fs_write(fd, data, 100), 100);
    nallocations = 0;
    failing = 3; // a table, page 1, and not page 2
    assert_int_equal(fs_write(fd, data, sizeof(data)), 2 * FS_PAGE_SIZE - 100);
    assert_int_equal(fs_fstat(fd, &st), 0);
    assert_int_equal(st.size, 2 * FS_PAGE_SIZE);
    nallocations = 0;
    failing = 1;
    assert_int_equal(fs_write(fd, data, sizeof(data)), -ENOSPC);
    fs_check();
    assert_int_equal(fs_write(fd, data, sizeof(data)), sizeof(data));
    fs_check();
    fs_fini();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(
            every_failed_allocation_is_reported_and_changes_nothing),
        cmocka_unit_test(a_write_that_runs_out_of_memory_is_short),
    };

    return cmocka_run_group_tests_name("fs_memory", tests, NULL, NULL);
}
