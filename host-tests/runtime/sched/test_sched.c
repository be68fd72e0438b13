// sources: $(sched)
// Goroutines on stacks that grow by faults, on the host's machine model.

#include "host-tests/support.h"

#include <setjmp.h>

#include "host-tests/mm/mm_fixture.h"
#include "runtime/libc/libc.h"
#include "runtime/sched/g_impl.h"
#include "runtime/stack/stack.h"

enum { RAM = 128 * MIB };

// The C library here is the host's: its state is not ours to make.
size_t libc_thread_size(void)
{
    return 0;
}

struct _reent *libc_thread_new(void *storage)
{
    return storage;
}

void libc_thread_exit(struct _reent *state)
{
    (void)state;
}

static int start(void **state)
{
    static const struct g_tls_image tls = {.align = 16};

    (void)state;
    if (mm_fixture(RAM) != NULL)
        return 1;
    sched_init(&tls);
    stack_init();
    return 0;
}

MM_STOP

// Runs the scheduler until the goroutines have called done().
static jmp_buf out;
static int running;

static void leave(void *arg)
{
    (void)arg;
    longjmp(out, 1);
}

static void done(void)
{
    if (--running == 0)
        g_park("test", leave, NULL);
    g_exit();
}

static void go(void (*fn)(void *), void *arg)
{
    struct g *g = g_create(fn, arg, "test", G_ANY_CPU);

    assert_non_null(g);
    running++;
    g_ready(g);
}

static void run_all(void)
{
    if (setjmp(out) == 0)
        sched_run();
    host_this_cpu()->nopreempt = 1;
    host_this_cpu()->current = NULL;
}

static char order[64];

static void note(void *arg)
{
    for (int i = 0; i < 3; i++) {
        strcat(order, arg);
        g_yield();
    }
    done();
}

static void yield_takes_turns(void **state)
{
    (void)state;
    go(note, "a");
    go(note, "b");
    go(note, "c");
    run_all();
    assert_string_equal(order, "cabcabcab"); // who was made ready last begins
}

static uintptr_t deepest;

__attribute__((noinline)) static size_t recurse(size_t n)
{
    volatile char frame[1000];

    frame[0] = (char)n;
    if ((uintptr_t)frame < deepest)
        deepest = (uintptr_t)frame;
    if (n == 0)
        return 1;
    return recurse(n - 1) + 1 + (size_t)(frame[0] != (char)n);
}

static void dive(void *arg)
{
    size_t *n = arg;

    *n = recurse(*n);
    done();
}

static void a_stack_grows_to_tens_of_megabytes(void **state)
{
    size_t n = 20000;

    (void)state;
    deepest = UINTPTR_MAX;
    go(dive, &n);
    run_all();
    assert_int_equal(n, 20001);
    struct g *owner = stack_owner(deepest);

    assert_non_null(owner);
    assert_true(stack_top(owner) - deepest > 20 * MIB);
}

static void nothing(void *arg)
{
    (void)arg;
    done();
}

static void slots_and_frames_are_reused(void **state)
{
    (void)state;
    go(nothing, NULL);
    run_all();
    struct frame_stats before = frame_stats();

    for (int i = 0; i < 500; i++) {
        size_t n = 200;

        go(nothing, NULL);
        go(dive, &n); // first: who ends last is never buried
        run_all();
    }
    // Each run keeps one slot.
    assert_true(before.free - frame_stats().free < 500 * 60);
    frame_check();
}

static uint64_t woke[3];

static void sleeper(void *arg)
{
    size_t k = (size_t)arg;

    g_sleep_until(arch_mono_ns() + (3 - k) * 2000000);
    woke[k] = arch_mono_ns();
    done();
}

static void sleepers_wake_in_order_of_time(void **state)
{
    (void)state;
    for (size_t k = 0; k < 3; k++)
        go(sleeper, (void *)k);
    run_all();
    assert_true(woke[2] <= woke[1] && woke[1] <= woke[0]);
}

static void overflow_finds_the_guard(void **state)
{
    struct g *g = g_create(nothing, NULL, "guarded", G_ANY_CPU);
    uintptr_t guard = stack_bottom(g) - PAGE_SIZE;
    char buf[160];

    (void)state;
    assert_false(mm_fault(guard + 8, PROT_W, 0));
    assert_int_equal(mm_last_fault(), FAULT_GUARD);
    assert_non_null(strstr(mm_describe(guard + 8, buf, sizeof buf), "guard of "
                                                                    "the stack "
                                                                    "of "));
    // Far below the stack of a goroutine that is not even running.
    assert_false(mm_fault(guard + PAGE_SIZE, PROT_W, 0));
    assert_int_equal(mm_last_fault(), FAULT_WILD);
    // The slot after the last one ever used.
    assert_false(mm_fault(guard + 200 * STACK_SLOT_BYTES, PROT_W, 0));
    assert_int_equal(mm_last_fault(), FAULT_WILD);
    assert_false(mm_fault(guard + PAGE_SIZE, PROT_X, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(yield_takes_turns),
        cmocka_unit_test(a_stack_grows_to_tens_of_megabytes),
        cmocka_unit_test(slots_and_frames_are_reused),
        cmocka_unit_test(sleepers_wake_in_order_of_time),
        cmocka_unit_test(overflow_finds_the_guard),
    };

    return cmocka_run_group_tests_name("sched", tests, start, stop);
}
