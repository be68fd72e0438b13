// sources: $(filter-out runtime/heap/memory.c,$(heap))
// sources: host-tests/runtime/heap/failing_memory.c
// sources: host-tests/runtime/heap/libc_malloc.c
// Every call that the heap makes of mm/ failed in turn, once and from then on, and
// every request for a frame in them, in every call of malloc's family: the call
// returns NULL and ENOMEM and has changed nothing, or does without; tried again it
// does what it does without a failure; and nothing is lost.
//
// Each point has a machine of its own, in a child: a heap that has failed once has
// what it needs the next time.

#include "host-tests/support.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host-tests/runtime/heap/failing_memory.h"
#include "host-tests/runtime/heap/heap_fixture.h"
#include "host-tests/runtime/heap/libc_malloc.h"
#include "mm/fail.h"

enum {
    RAM = 48 * MIB,
    RECORDED = 1000, // points that there were when this was written, about
    BIG = 300000,
    CHUNK = 512,       // pages by which the heap grows
    CHUNK_TABLES = 13, // frames that describe and map them, at most
};

enum mode {
    CALLS,      // of memory.h
    FRAMES,     // from mm/
    PAST_POINT, // status of a child that made fewer requests
};

// Stores of the call itself take frames, and are not to fail: what they go to is
// promised.
enum touches {
    NEVER,
    IF_IT_COPIES, // for want of frames to move pages
    ALWAYS,
};

// ---- cases: before, the call, which object it is about ----

static char *object, *other;
static size_t size; // of the object before the call
static size_t want;

static void put(char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 61)
        p[i] = (char)(i * 7 + 1);
}

static bool holds(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 61) {
        if (p[i] != (char)(i * 7 + 1))
            return false;
    }
    return true;
}

static void nothing(void)
{
}

static void make(size_t n)
{
    object = libc_malloc(n);
    MUST(object != NULL);
    size = n;
    put(object, n);
}

static void small_object(void)
{
    make(1000);
}

static void big_object(void)
{
    make(BIG);
}

// With another behind it.
static void big_object_between(void)
{
    big_object();
    other = libc_malloc(BIG);
    MUST(other != NULL);
}

// All of a chunk but some pages: what comes next makes the heap grow.
static void heap_full(void)
{
    other = libc_malloc(4000000);
    MUST(other != NULL);
}

// Every class has a span, and its struct a neighbour: the frames for structs are
// used up some time.
static void half_used(void)
{
    make(100000);
    for (unsigned i = 0; i < 60; i++)
        libc_free(libc_malloc(i * 500));
}

static void *call_malloc(void)
{
    return libc_malloc(100);
}

static void *call_malloc_slow(void)
{
    return libc_malloc(5000);
}

static void *call_malloc_uncached(void)
{
    return libc_malloc(30000);
}

static void *call_malloc_big(void)
{
    return libc_malloc(BIG);
}

static void *call_malloc_chunks(void)
{
    return libc_malloc(20000000);
}

static void *call_calloc(void)
{
    char *p = libc_calloc(50, 20);

    for (unsigned i = 0; p != NULL && i < 1000; i++)
        MUST(p[i] == 0);
    return p;
}

static void *call_calloc_big(void)
{
    return libc_calloc(BIG, 1);
}

static void *call_memalign(void)
{
    return libc_memalign(256, 700);
}

static void *call_aligned_alloc(void)
{
    return libc_aligned_alloc(65536, 10000);
}

static void *call_posix_memalign(void)
{
    void *p = &p;
    int err = libc_posix_memalign(&p, 16384, BIG);

    MUST(err == 0 || (err == ENOMEM && p == &p));
    if (err == 0)
        return p;
    errno = err; // it does not set it
    return NULL;
}

static void *call_pvalloc(void)
{
    return libc_pvalloc(5000);
}

static void *call_noscan(void)
{
    void *p = heap_alloc(333, HEAP_NOSCAN, 16, false);

    if (p == NULL)
        errno = ENOMEM;
    return p;
}

static void *resize(size_t n)
{
    want = n;
    return libc_realloc(object, n);
}

static void *call_realloc_null(void)
{
    return libc_realloc(NULL, 100);
}

static void *call_grow_small(void)
{
    return resize(3000);
}

static void *call_grow_to_big(void)
{
    return resize(BIG);
}

static void *call_grow_big(void)
{
    return resize(4 * BIG);
}

static void *call_grow_into_new_chunks(void)
{
    return resize(20000000);
}

static void *call_shrink_big(void)
{
    return resize(BIG / 3);
}

static void *call_shrink_to_small(void)
{
    return resize(2000);
}

static void *call_shrink_small(void)
{
    return resize(100);
}

static const struct fail_case {
    const char *name;
    void (*prepare)(void);
    void *(*call)(void);
    enum touches touches;
} cases[] = {
    {"malloc", nothing, call_malloc, NEVER},
    {"malloc of a larger class", nothing, call_malloc_slow, NEVER},
    {"malloc of an uncached class", nothing, call_malloc_uncached, NEVER},
    {"malloc of pages", nothing, call_malloc_big, NEVER},
    {"malloc of chunks", nothing, call_malloc_chunks, NEVER},
    {"malloc with a full heap", heap_full, call_malloc, NEVER},
    {"malloc of pages with a full heap", heap_full, call_malloc_big, NEVER},
    {"malloc in a heap in use", half_used, call_malloc_big, NEVER},
    {"malloc of chunks in a heap in use", half_used, call_malloc_chunks, NEVER},
    {"calloc", nothing, call_calloc, ALWAYS},
    {"calloc of pages", nothing, call_calloc_big, NEVER},
    {"memalign", nothing, call_memalign, NEVER},
    {"aligned_alloc", nothing, call_aligned_alloc, NEVER},
    {"aligned_alloc with a full heap", heap_full, call_aligned_alloc, NEVER},
    {"posix_memalign", half_used, call_posix_memalign, NEVER},
    {"pvalloc", half_used, call_pvalloc, NEVER},
    {"noscan memory", half_used, call_noscan, NEVER},
    {"realloc of nothing", nothing, call_realloc_null, NEVER},
    {"realloc of a small object", small_object, call_grow_small, ALWAYS},
    {"realloc of a small object to pages", small_object, call_grow_to_big,
     ALWAYS},
    {"realloc in place", big_object, call_grow_big, NEVER},
    {"realloc in place into new chunks", big_object, call_grow_into_new_chunks,
     IF_IT_COPIES},
    {"realloc by moving pages", big_object_between, call_grow_big,
     IF_IT_COPIES},
    {"realloc by moving pages to new chunks", big_object_between,
     call_grow_into_new_chunks, IF_IT_COPIES},
    {"realloc that shrinks", big_object, call_shrink_big, NEVER},
    {"realloc that shrinks to a small object", big_object, call_shrink_to_small,
     ALWAYS},
    {"realloc of a small object that shrinks", small_object, call_shrink_small,
     ALWAYS},
};

// ---- one point, in a child ----

static const struct fail_case *this_case;
static enum mode this_mode;
static uint64_t this_point; // 0: none fails
static bool from_then_on;

struct accounts {
    struct heap_accounts mm;
    uint64_t chunks;
};

static struct accounts *plain; // shared: after the case without a failure

static void arm(uint64_t nth)
{
    if (this_mode == CALLS)
        heap_memory_fail_at(nth, from_then_on);
    else
        mm_fail_at(nth, from_then_on);
}

static bool has_failed(void)
{
    return this_mode == CALLS ? heap_memory_has_failed() : mm_has_failed();
}

static void end_case(void *p)
{
    if (size > 0 && want > 0)
        MUST(holds(p, size < want ? size : want));
    libc_free(p);
    if (want == 0) // else it was the object
        libc_free(object);
    libc_free(other);
    heap_check();
    heap_trim();
    heap_check();
    MUST(pages_stats.free == pages_stats.total && pages_stats.promised == 0);
    MUST(host_tlb_stale() == 0);
}

// What went another way may have made the heap larger, which costs tables, or
// have done without a structure. What was tried again ends the same.
static void assert_nothing_lost(const struct accounts *a, bool again)
{
    uint64_t more = (a->chunks - plain->chunks) * CHUNK_TABLES;

    MUST(a->chunks >= plain->chunks);
    if (a->mm.frames + more < plain->mm.frames ||
        a->mm.committed > plain->mm.committed + more ||
        (again && more == 0 &&
         (a->mm.frames != plain->mm.frames ||
          a->mm.committed != plain->mm.committed))) {
        fprintf(stderr, "frames %lu, not %lu; committed %lu, not %lu\n",
                a->mm.frames, plain->mm.frames, a->mm.committed,
                plain->mm.committed);
        MUST(false);
    }
}

static void one_point(void)
{
    heap_machine(RAM);
    frame_reserve_refill();
    this_case->prepare();
    errno = 0;
    arm(this_point);
    void *p = this_case->call();
    bool failed = this_point != 0 && has_failed(), again = p == NULL;

    arm(0);
    heap_check();
    MUST(p != NULL || failed);
    if (again) {
        MUST(errno == ENOMEM);
        MUST(size == 0 || holds(object, size));
        p = this_case->call();
        MUST(p != NULL);
    }
    end_case(p);
    frame_reserve_refill();
    struct accounts a = {heap_accounts(), pages_stats.total / CHUNK};

    if (this_point == 0)
        *plain = a;
    else if (failed)
        assert_nothing_lost(&a, again);
    host_stop();
    exit(this_point != 0 && !failed ? PAST_POINT : 0);
}

// Returns false when the call makes fewer requests.
static bool point(uint64_t nth)
{
    int status;

    this_point = nth;
    fflush(NULL);
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0)
        one_point();
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0 &&
        (!WIFEXITED(status) || WEXITSTATUS(status) != PAST_POINT))
        fail_msg("%s, %s %lu%s: status 0x%x", this_case->name,
                 this_mode == CALLS ? "call" : "frame", nth,
                 from_then_on ? "+" : "", status);
    return status == 0;
}

static unsigned points_of(const struct fail_case *c)
{
    unsigned n = 0;

    this_case = c;
    assert_true(point(0));
    for (int m = CALLS; m <= FRAMES; m++) {
        for (int on = 0; on <= 1; on++) {
            uint64_t nth = 1;

            if (m == FRAMES && (int)c->touches >= 2 - on)
                continue;
            this_mode = (enum mode)m;
            from_then_on = on;
            while (point(nth))
                nth++;
            n += (unsigned)nth - 1;
        }
    }
    return n;
}

static void every_call_of_mm_fails_in_turn(void **state)
{
    unsigned points = 0;

    (void)state;
    plain = mmap(NULL, sizeof *plain, PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(plain != MAP_FAILED);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        unsigned n = points_of(&cases[i]);

        fprintf(stderr, "%-44s %u points\n", cases[i].name, n);
        points += n;
    }
    printf("# note: %u points of the heap failed\n", points);
    assert_true(points >= RECORDED);
    munmap(plain, sizeof *plain);
}

// ---- giving back needs nothing ----

static void free_without_memory(void)
{
    static void *p[2000];
    heap_machine(RAM);
    frame_reserve_refill();
    for (size_t i = 0; i < ARRAY_LEN(p); i++) {
        p[i] = libc_malloc(i % 40 == 0 ? 50000 : i % 20 * 300);
        MUST(p[i] != NULL);
        put(p[i], 1);
    }
    mm_fail_at(1, true);
    heap_memory_fail_at(1, true);
    for (size_t i = 0; i < ARRAY_LEN(p); i += 2)
        libc_free(p[i]);
    heap_trim();
    for (size_t i = 1; i < ARRAY_LEN(p); i += 2)
        libc_free(p[i]);
    heap_trim();
    mm_fail_at(0, false);
    heap_memory_fail_at(0, false);
    heap_check();
    MUST(pages_stats.free == pages_stats.total && pages_stats.promised == 0);
}

static void freeing_and_trimming_need_no_memory(void **state)
{
    (void)state;
    heap_alone(free_without_memory);
}

// ---- the start says what is missing ----

static uint64_t starting;

static void start_short(void)
{
    MUST(mm_fixture(RAM) == NULL);
    heap_memory_fail_at(starting, false);
    MUST_PANIC("run with more MEM", (heap_init(), heap_cpu_init()));
    MUST(heap_memory_has_failed());
}

// A CPU whose table of classes has to cover a heap that is there already.
static void start_late(void)
{
    heap_machine(RAM);
    MUST(libc_malloc(100) != NULL);
    host_this_cpu()->id = 1;
    heap_memory_fail_at(starting, false);
    MUST_PANIC("run with more MEM", heap_cpu_init());
    MUST(heap_memory_has_failed());
}

static void the_start_says_what_is_missing(void **state)
{
    (void)state;
    for (starting = 1; starting <= 2; starting++) {
        heap_alone(start_short);
        heap_alone(start_late);
    }
}

// ---- what the family refuses by itself ----

static void refused(void)
{
    void *p = NULL;

    heap_machine(RAM);
    errno = 0;
    MUST(libc_calloc(SIZE_MAX / 2, 3) == NULL && errno == ENOMEM);
    errno = 0;
    MUST(libc_reallocarray(NULL, SIZE_MAX / 2, 3) == NULL && errno == ENOMEM);
    errno = 0;
    MUST(libc_memalign(48, 10) == NULL && errno == EINVAL);
    errno = 0;
    MUST(libc_aligned_alloc(0, 10) == NULL && errno == EINVAL);
    errno = 0;
    MUST(libc_pvalloc(SIZE_MAX - 5) == NULL && errno == ENOMEM);
    MUST(libc_posix_memalign(&p, 4, 10) == EINVAL && p == NULL);
    MUST(libc_posix_memalign(&p, 24, 10) == EINVAL && p == NULL);
    MUST(libc_malloc_usable_size(NULL) == 0);
    p = libc_reallocarray(NULL, 10, 10);
    MUST(p != NULL && libc_malloc_usable_size(p) >= 100);
    libc_free(p);
    p = libc_valloc(10);
    MUST(p != NULL && (uintptr_t)p % PAGE_SIZE == 0);
    libc_free(p);
    MUST(libc_malloc_trim(0) == 1 && libc_malloc_trim(0) == 0);
}

static void wrong_arguments_are_refused(void **state)
{
    (void)state;
    heap_alone(refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_of_mm_fails_in_turn),
        cmocka_unit_test(freeing_and_trimming_need_no_memory),
        cmocka_unit_test(the_start_says_what_is_missing),
        cmocka_unit_test(wrong_arguments_are_refused),
    };

    return cmocka_run_group_tests_name("heap fail", tests, NULL, NULL);
}
