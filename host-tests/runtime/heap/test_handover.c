// sources: $(filter-out runtime/heap/cache.c runtime/heap/central.c,$(heap))
// sources: host-tests/runtime/heap/blocks.c
// Spans that change hands: whatever another CPU does the moment a central list's
// lock is given back, or between a remote free's two steps, a span has one owner,
// and nothing is lost or deleted twice (R17, R18).
//
// Both CPUs are this thread, so that every order is one that the test has chosen:
// two sources of the heap are compiled here, with such a moment in them.

#include "host-tests/support.h"

#include <sys/wait.h>
#include <unistd.h>

#include "arch/arch.h"

// The heap's own inline functions use what is under these names; not the moments.
#include "runtime/heap/central.h"
#include "runtime/heap/memory.h"
#include "runtime/heap/owned.h"

static void unlock(struct spinlock *l);
static bool tell(struct cache *c, struct span *s);

#define spin_unlock unlock
#include "runtime/heap/central.c"
#undef spin_unlock
#define owned_tell tell
#include "runtime/heap/cache.c"
#undef owned_tell

#include "host-tests/runtime/heap/blocks.h"
#include "host-tests/runtime/heap/heap_fixture.h"

enum {
    RAM = 8 * MIB,
    SIZE = 1024,
    BLOCKS = 64, // of SIZE: four spans
    MORE = 24,   // taken by the calls
};

// ---- two CPUs ----

static void be(unsigned cpu)
{
    host_this_cpu()->id = cpu;
    arch_set_local(cache_of_cpu(cpu));
}

static void (*between)(void); // what CPU 1 does; NULL: nothing, any more
static unsigned moments, this_moment;

static void moment(void)
{
    void (*fn)(void) = between;

    if (fn == NULL || ++moments != this_moment)
        return;
    between = NULL;
    be(1);
    fn();
    be(0);
}

static void unlock(struct spinlock *l)
{
    spin_unlock(l);
    moment();
}

static bool tell(struct cache *c, struct span *s)
{
    moment();
    return owned_tell(c, s);
}

// ---- blocks that CPU 1 has made ----

static struct block blocks[BLOCKS], more[MORE];
static unsigned nmore;

static void take_one(void)
{
    struct block_request r = {SIZE, 16, HEAP_MANUAL, false};

    unsigned i = nmore++; // the other CPU takes some meanwhile

    MUST(i < MORE && block_new(&more[i], r, i));
}

static void free_every(unsigned step, unsigned first)
{
    for (unsigned i = first; i < BLOCKS; i += step) {
        struct block b = blocks[i];

        blocks[i].p = NULL; // whoever comes meanwhile leaves it alone
        block_free(&b);
    }
}

// Four spans half free; of nobody, if `given_up`, else of CPU 1.
static void prepare(bool given_up)
{
    struct block_request r = {SIZE, 16, HEAP_MANUAL, false};

    heap_machine(RAM);
    host_this_cpu()->id = 1;
    heap_cpu_init();
    for (unsigned i = 0; i < BLOCKS; i++)
        MUST(block_new(&blocks[i], r, i));
    free_every(2, 0);
    if (given_up)
        heap_trim();
    be(0);
}

// ---- what both do ----

static void takes(void)
{
    for (unsigned i = 0; i < 3; i++)
        take_one();
}

static void trims(void)
{
    heap_trim();
}

static void frees_some(void)
{
    free_every(4, 1);
}

static void frees_others(void)
{
    free_every(4, 3);
}

static void frees_all(void)
{
    free_every(1, 0);
}

static void takes_and_trims(void)
{
    takes();
    heap_trim();
}

static void (*const first[])(void) = {takes, trims, frees_some, frees_all};
static void (*const second[])(void) = {takes, trims, takes_and_trims,
                                       frees_others, frees_all};

// ---- one order, in a child ----

enum { NO_SUCH_MOMENT = 2 }; // status of a child

static void (*this_first)(void), (*this_second)(void);
static bool this_given_up;

static void clean_up(void)
{
    free_every(1, 0);
    while (nmore > 0)
        block_free(&more[--nmore]);
    heap_check();
    // Twice: what one gives back may be the other's.
    for (unsigned i = 0; i < 4; i++) {
        be(i % 2);
        heap_trim();
    }
    heap_check();
    MUST(block_totals().number == 0);
    MUST(pages_stats.free == pages_stats.total && pages_stats.promised == 0);
}

static void one_order(void)
{
    prepare(this_given_up);
    between = this_second;
    this_first();
    bool there = between == NULL;

    between = NULL;
    heap_check();
    clean_up();
    host_stop();
    exit(there ? 0 : NO_SUCH_MOMENT);
}

// False: CPU 0's calls have fewer moments.
static bool order(unsigned first_i, unsigned second_i)
{
    int status;

    fflush(NULL);
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        one_order();
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0 &&
        (!WIFEXITED(status) || WEXITSTATUS(status) != NO_SUCH_MOMENT))
        fail_msg("CPU 0 does %u, CPU 1 %u at moment %u: status 0x%x", first_i,
                 second_i, this_moment, status);
    return status == 0;
}

static unsigned orders(bool given_up)
{
    unsigned n = 0;

    this_given_up = given_up;
    for (unsigned i = 0; i < ARRAY_LEN(first); i++) {
        for (unsigned k = 0; k < ARRAY_LEN(second); k++) {
            this_first = first[i];
            this_second = second[k];
            for (this_moment = 1; order(i, k); this_moment++)
                n++;
        }
    }
    return n;
}

static void spans_of_nobody_get_one_owner(void **state)
{
    (void)state;
    unsigned n = orders(true);

    printf("# note: %u orders\n", n);
    assert_true(n >= 50);
}

static void spans_of_another_cpu_keep_theirs(void **state)
{
    (void)state;
    (void)orders(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans_of_nobody_get_one_owner),
        cmocka_unit_test(spans_of_another_cpu_keep_theirs),
    };

    return cmocka_run_group_tests_name("heap handover", tests, NULL, NULL);
}
