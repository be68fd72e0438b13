// Panics, deferred calls, recovery, after Go's own tests: test/recover*.go,
// test/defer*.go, test/nilptr.go, test/zerodivide.go, src/runtime/defer_test.go,
// crash_test.go. Each point begins with the name of the test that it answers. What ends
// the program is in go_die.c.

#include "host-tests/guest/tap.h"

#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

// What the calls of a test have noted, in order.
static char notes[256];

static void note(void *text)
{
    strcat(notes, text);
}

static bool noted(const char *expected)
{
    bool same = strcmp(notes, expected) == 0;

    if (!same)
        printf("# noted: %s, expected %s\n", notes, expected);
    notes[0] = '\0';
    return same;
}

static void go_and_wait(void (*fn)(void *), void *arg)
{
    size_t before = gn_go_count();

    if (gn_go(fn, arg) != 0)
        abort();
    while (gn_go_count() > before)
        gn_yield();
}

static void recover_and_note(void *arg)
{
    struct gn_panic p;

    (void)arg;
    if (gn_recover(&p)) {
        strcat(notes, "recovered ");
        strcat(notes, p.text);
        strcat(notes, ".");
    }
}

static void panic_with_text(void *text)
{
    gn_panic("%s", (const char *)text);
}

// ---- deferred calls ----

static void ten_deferred(void *arg)
{
    (void)arg;
    gn_defer(note, "0");
    gn_defer(note, "1");
    gn_defer(note, "2");
    note("3");
}

static int leave_early(int how)
{
    gn_defer(note, "a");
    if (how == 0)
        return 1;
    {
        gn_defer(note, "b");
        if (how == 1)
            return 2;
    }
    gn_defer(note, "c");
    for (int i = 0; i < 3; i++) {
        gn_defer(note, "l");
        if (i == 1)
            continue;
        if (how == 2)
            break;
    }
    return 3;
}

static void defers(void)
{
    ten_deferred(NULL);
    ok(noted("3210"), "test/defer.go: the last is called first");
    leave_early(0);
    ok(noted("a"), "test/defer.go: only what was deferred");
    leave_early(1);
    ok(noted("ba"), "test/defer.go: by return out of a block");
    leave_early(2);
    ok(noted("blca"), "test/defer.go: by break");
    leave_early(3);
    ok(noted("blllca"), "test/defer.go: in every round, by continue");
}

static void defer_and_panic(void *arg)
{
    gn_defer(note, "A");
    gn_defer(note, "B");
    panic_with_text(arg);
}

static void runs_on_panic(void)
{
    struct gn_panic p;

    ok(!gn_try(defer_and_panic, "x", &p) && noted("BA") &&
           strcmp(p.text, "x") == 0,
       "TestUnconditionalPanic: deferred calls are made, the text comes");
    ok(!gn_try(defer_and_panic, "y", NULL) && noted("BA"),
       "gn_try: without wanting to know");
    ok(gn_try(ten_deferred, NULL, &p) && noted("3210"),
       "gn_try: of what does not panic");
}

static bool cond;

static void defer_if(void *arg)
{
    if (arg != NULL) {
        gn_defer(note, "in");
        cond = true;
    }
    gn_defer(note, "out");
    gn_panic("z");
}

static void conditional(void)
{
    gn_try(defer_if, notes, NULL);
    bool good = noted("inout"); // its block was left before

    gn_try(defer_if, NULL, NULL);
    ok(good && noted("out"), "TestConditionalDefers: as far as was come");
}

// ---- recovering ----

static void recovers(void *arg)
{
    gn_defer(note, "end.");
    gn_defer(recover_and_note, NULL);
    panic_with_text(arg);
}

static void recover_simple(void)
{
    struct gn_panic p;

    ok(gn_try(recovers, "oops", &p) && noted("recovered oops.end."),
       "test/recover.go: a deferred call recovers");
    ok(!gn_recover(&p), "test/recover.go: without a panic there is nothing");
    recover_and_note(NULL);
    ok(noted(""), "test/recover.go: also in an ordinary call");
}

static void recovers_while_none(void *arg)
{
    (void)arg;
    gn_defer(recover_and_note, NULL);
}

static void panic_then_ordinary_defer(void *arg)
{
    gn_defer(recovers_while_none, NULL);
    panic_with_text(arg);
}

// A deferred call that an ordinary return makes, within one that the panic makes.
static void recover_of_outer(void)
{
    struct gn_panic p;

    ok(!gn_try(panic_then_ordinary_defer, "q", &p) && noted(""),
       "TestRecoverMatching: what an ordinary return calls recovers nothing");
}

static void recover_twice(void *arg)
{
    (void)arg;
    recover_and_note(NULL);
    recover_and_note(NULL);
}

static void twice(void *arg)
{
    gn_defer(recover_twice, NULL);
    panic_with_text(arg);
}

static void recover_only_once(void)
{
    ok(gn_try(twice, "t", NULL) && noted("recovered t."),
       "test/recover.go: it is recovered once");
}

static void outer_frame(void *arg)
{
    gn_defer(recover_and_note, NULL);
    gn_defer(note, "outer ");
    defer_and_panic(arg);
    note("never");
}

static void through_frames(void)
{
    ok(gn_try(outer_frame, "deep", NULL) && noted("BAouter recovered deep."),
       "test/recover.go: calls of all frames, the innermost first");
}

static void panics_again(void *arg)
{
    (void)arg;
    note("again ");
    gn_panic("second");
}

static void panic_in_defer(void *arg)
{
    gn_defer(note, "first ");
    gn_defer(panics_again, NULL);
    panic_with_text(arg);
}

static void repanic(void *arg)
{
    struct gn_panic p;

    (void)arg;
    if (gn_recover(&p))
        gn_panic("%s again", p.text);
}

static void repanics(void *arg)
{
    gn_defer(repanic, NULL);
    panic_with_text(arg);
}

static void recovered_then_panic(void *arg)
{
    gn_defer(recover_and_note, NULL);
    gn_defer(panics_again, NULL);
    panic_with_text(arg);
}

static void tries_inside(void *arg)
{
    struct gn_panic p;

    (void)arg;
    if (!gn_try(panic_with_text, "inner", &p))
        strcat(notes, p.text);
}

static void panic_with_try_in_defer(void *arg)
{
    gn_defer(tries_inside, NULL);
    panic_with_text(arg);
}

static void recovers_inside(void *arg)
{
    (void)arg;
    gn_defer(recover_and_note, NULL);
    gn_panic("within");
}

static void panic_recovered_in_defer(void *arg)
{
    gn_defer(note, " on");
    gn_defer(recovers_inside, NULL);
    panic_with_text(arg);
}

static void nested(void)
{
    struct gn_panic p;

    ok(!gn_try(panic_in_defer, "one", &p) && noted("again first ") &&
           strcmp(p.text, "second") == 0,
       "TestDoublePanic: the second takes the place of the first");
    ok(!gn_try(repanics, "one", &p) && strcmp(p.text, "one again") == 0,
       "TestDeferWithRepeatedRepanics: recovered, and panicked again");
    ok(gn_try(recovered_then_panic, "one", &p) &&
           noted("again recovered second."),
       "TestAbortedPanic: the second is recovered, the first is over");
    ok(!gn_try(panic_with_try_in_defer, "outer", &p) && noted("inner") &&
           strcmp(p.text, "outer") == 0,
       "test/recover4.go: a panic tried within a deferred call");
    ok(!gn_try(panic_recovered_in_defer, "outer", &p) &&
           noted("recovered within. on") && strcmp(p.text, "outer") == 0,
       "TestIssue43921: who recovers the inner leaves the outer");
}

static volatile int bottom;

static NOINLINE void recurse(int n)
{
    gn_defer(note, n % 10 == 0 ? "." : "");
    if (n == bottom)
        gn_panic("bottom");
    recurse(n - 1);
}

static void recurse_hundred(void *arg)
{
    (void)arg;
    recurse(99);
}

static void try_nested(void *arg)
{
    uintptr_t n = (uintptr_t)arg;
    struct gn_panic p;

    if (n == 0)
        gn_panic("n");
    if (!gn_try(try_nested, (void *)(n - 1), &p))
        gn_panic("%sn", p.text);
}

static void deep(void)
{
    struct gn_panic p;

    ok(!gn_try(recurse_hundred, NULL, &p) && noted(".........."),
       "TestIssue37688: deferred calls of 100 frames");
    ok(!gn_try(try_nested, (void *)20, &p) &&
           strcmp(p.text, "nnnnnnnnnnnnnnnnnnnnn") == 0,
       "gn_try: 20 within each other");
    unsigned bad = 0;

    for (int i = 0; i < 10000; i++)
        bad += gn_try(panic_with_text, "r", &p);
    IS(bad, 0, "test/recover.go: 10,000 times");
}

// ---- values ----

static int thing;

static void panic_value(void *arg)
{
    gn_panic_with(arg, "a value");
}

static void long_text(void *arg)
{
    char text[500];

    (void)arg;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    gn_panic("%s", text);
}

static void values(void)
{
    struct gn_panic p;

    ok(!gn_try(panic_value, &thing, &p) && p.value == &thing && !p.runtime &&
           strcmp(p.text, "a value") == 0,
       "test/recover3.go: any value comes along");
    ok(!gn_try(long_text, NULL, &p) && strlen(p.text) == GN_PANIC_TEXT - 1,
       "gn_panic: a text of any length");
}

// ---- faults ----

static volatile int zero;
static volatile int *volatile nil;

static void nil_read(void *arg)
{
    (void)arg;
    zero = *nil;
}

static void nil_write(void *arg)
{
    gn_defer(note, "d");
    ((volatile char *)(uintptr_t)arg)[0] = 1;
}

static void nil_call(void *arg)
{
    void (*volatile fn)(void) = NULL;

    (void)arg;
    fn();
}

static void divide(void *arg)
{
    volatile int n = 5;

    (void)arg;
    zero = (int)(n / (zero - zero)) + 2;
}

static void divide_min(void *arg)
{
    volatile int n = INT_MIN, by = -1;

    (void)arg;
    zero = n % by;
}

static void recover_fault(void *arg)
{
    gn_defer(recover_and_note, NULL);
    nil_read(arg);
}

static void nil_in_libc(void *arg)
{
    (void)arg;
    zero = (int)strlen((const char *)(uintptr_t)nil);
}

#define NIL "runtime error: invalid memory address or nil pointer dereference"

static bool faults(void (*fn)(void *), void *arg, const char *text)
{
    struct gn_panic p;

    return !gn_try(fn, arg, &p) && p.runtime && strcmp(p.text, text) == 0;
}

static void faults_become_panics(void)
{
    ok(faults(nil_read, NULL, NIL), "test/nilptr.go: a read of nil");
    ok(faults(nil_write, (void *)4095, NIL) && noted("d"),
       "test/nilptr.go: a write of the last byte of the page");
    ok(faults(nil_call, NULL, NIL), "test/nilptr.go: a call of nil");
    ok(faults(divide, NULL, "runtime error: integer divide by zero"),
       "test/zerodivide.go: by zero");
    ok(faults(divide_min, NULL, "runtime error: integer divide by zero"),
       "test/zerodivide.go: INT_MIN %% -1");
    ok(gn_try(recover_fault, NULL, NULL) && noted("recovered " NIL "."),
       "test/nilptr2.go: a deferred call recovers");
    unsigned bad = 0;

    for (int i = 0; i < 1000; i++)
        bad += !faults(nil_read, NULL, NIL);
    IS(bad, 0, "test/nilptr3.go: 1,000 times");
}

static void faults_in_libc(void)
{
    ok(faults(nil_in_libc, NULL, NIL), "test/nilptr.go: strlen of nil");
}

// The FPU's state, and what is in registers, does not matter to who tries.
static void keeps_values(void)
{
    unsigned bad = 0;

    for (int i = 0; i < 1000; i++) {
        double d = i * 0.5;
        uint64_t a = (uint64_t)i * 3, b = (uint64_t)i * 5, c = (uint64_t)i * 7;

        gn_try(i % 2 ? nil_read : panic_with_text, "v", NULL);
        bad += d != i * 0.5 || a + b + c != (uint64_t)i * 15;
    }
    IS(bad, 0, "gn_try: variables of who tries keep their values");
}

// ---- other goroutines, gn_goexit ----

static _Atomic int passed;

static void panics_and_recovers(void *arg)
{
    struct gn_panic p;

    for (int i = 0; i < 200; i++) {
        if (i % 5 == 0)
            gn_yield();
        passed += !gn_try(i % 2 ? panic_with_text : nil_read, arg, &p) &&
                  p.runtime == (i % 2 == 0);
    }
}

static void many_at_once(void)
{
    size_t before = gn_go_count();

    for (int i = 0; i < 20; i++) {
        if (gn_go(panics_and_recovers, "many") != 0)
            abort();
    }
    while (gn_go_count() > before)
        gn_yield();
    IS(passed, 4000, "test/recover.go: in 20 goroutines at once");
}

static void exits(void *arg)
{
    (void)arg;
    gn_defer(note, "x");
    gn_defer(note, "y");
    gn_goexit();
}

static void tries_exit(void *arg)
{
    gn_defer(note, "z");
    gn_try(exits, arg, NULL);
    note("never");
}

static void recover_in_exit(void *arg)
{
    struct gn_panic p;

    (void)arg;
    note(gn_recover(&p) ? "wrong" : "nothing ");
}

static void exits_and_recovers(void *arg)
{
    (void)arg;
    gn_defer(note, "end");
    gn_defer(recover_in_exit, NULL);
    gn_goexit();
}

static void exit_in_defer(void *arg)
{
    (void)arg;
    note("exit ");
    gn_goexit();
}

static void panic_then_exit(void *arg)
{
    gn_defer(note, "rest");
    gn_defer(exit_in_defer, NULL);
    panic_with_text(arg);
}

static void panics_in_exit(void *arg)
{
    (void)arg;
    gn_defer(note, " last");
    gn_defer(recover_and_note, NULL);
    gn_defer(panics_again, NULL);
    gn_goexit();
}

static void recovered_ends_goroutine(void *arg)
{
    gn_defer(note, "done");
    gn_defer(recover_and_note, NULL);
    panic_with_text(arg);
}

static void tries_panic_in_exit(void *arg)
{
    gn_defer(note, " all");
    gn_try(panics_in_exit, arg, NULL);
    note("never");
}

static void goexits(void)
{
    go_and_wait(exits, NULL);
    ok(noted("yx"), "TestGoexitDefer: deferred calls are made");
    go_and_wait(tries_exit, NULL);
    ok(noted("yxz"), "gn_try: gn_goexit goes past it");
    go_and_wait(exits_and_recovers, NULL);
    ok(noted("nothing end"), "TestGoexitDefer: there is nothing to recover");
    go_and_wait(panic_then_exit, "p");
    ok(noted("exit rest"), "TestGoexitInPanic: it ends the panic, too");
    go_and_wait(panics_in_exit, NULL);
    ok(noted("again recovered second. last"),
       "TestRecoveredPanicAfterGoexit: the exit goes on");
    go_and_wait(tries_panic_in_exit, NULL);
    ok(noted("again recovered second. last all"),
       "TestRecoverBeforePanicAfterGoexit: past gn_try");
    go_and_wait(recovered_ends_goroutine, "g");
    ok(noted("recovered g.done"),
       "test/recover.go: without gn_try the goroutine ends");
}

// ---- panic itself deferred ----

static char seen[32];
static unsigned nseen;

static void panic_of(void *digit)
{
    gn_panic("%s", (char *)digit);
}

static void step_of(void *digit)
{
    seen[nseen++] = *(char *)digit;
}

// What it is that it recovers.
static void recovers_one(void *arg)
{
    struct gn_panic p;

    (void)arg;
    if (gn_recover(&p))
        seen[nseen++] = p.text[0];
}

static void ends_five(void *arg)
{
    gn_defer(recovers_one, NULL);
    gn_defer(panic_of, "5");
    panic_of(arg);
}

static void five_then_three(void *arg)
{
    (void)arg;
    gn_defer(ends_five, "4");
    gn_defer(recovers_one, NULL);
    gn_defer(panic_of, "3");
}

static void steps_and_panics(void *arg)
{
    gn_defer(step_of, "s");
    panic_of(arg);
}

static void issue_43920(void *arg)
{
    (void)arg;
    gn_defer(recovers_one, NULL);
    gn_defer(five_then_three, NULL);
    steps_and_panics("1");
}

static void ends_two(void *arg)
{
    gn_defer(recovers_one, NULL);
    gn_defer(panic_of, "3");
    panic_of(arg);
}

static void one_then_three(void *arg)
{
    (void)arg;
    gn_defer(ends_two, "2");
    gn_defer(recovers_one, NULL);
    gn_defer(panic_of, "1");
}

static void steps_in_order(void *arg)
{
    // In Go a function returns that has deferred the recover: a gn_try.
    gn_try(one_then_three, arg, NULL);
    gn_defer(step_of, "c");
    gn_defer(step_of, "b");
    step_of("a");
}

static void steps_before_panic(void *arg)
{
    (void)arg;
    gn_defer(step_of, "f");
    gn_defer(step_of, "e");
    steps_and_panics("4");
}

static void issue_43941(void *arg)
{
    gn_defer(recovers_one, NULL);
    gn_defer(step_of, "g");
    steps_in_order(arg);
    steps_before_panic(arg);
}

static bool has_seen(void (*fn)(void *), const char *what)
{
    nseen = 0;
    memset(seen, 0, sizeof seen);
    bool good = gn_try(fn, NULL, NULL) && strcmp(seen, what) == 0;

    if (!good)
        printf("# %s, not %s\n", seen, what);
    return good;
}

static void deferred_panics(void)
{
    ok(has_seen(issue_43920, "s351"),
       "TestIssue43920: each is recovered by what was deferred before it");
    ok(has_seen(issue_43941, "13abcsefg4"),
       "TestIssue43941: and what was deferred is called, in its order");
}

// ---- in loops ----

static void recovers_text(void *text)
{
    struct gn_panic p;

    if (gn_recover(&p) && strcmp(p.text, text) == 0)
        step_of("r");
}

static void in_loop_then_open(void *arg)
{
    for (int i = 0; i < 3; i++) {
        gn_defer(step_of, "l"); // of the block: in each round
    }
    gn_defer(recovers_text, "first");
    if (arg == NULL) {
        gn_defer(step_of, "x");
    }
    gn_panic("first");
}

static void open_then_in_loop(void *arg)
{
    (void)arg;
    gn_defer(recovers_text, "second");
    for (int i = 0;; i++) {
        gn_defer(step_of, "l");
        if (i == 2)
            gn_panic("second");
    }
}

static void defers_in_loops(void)
{
    ok(has_seen(in_loop_then_open, "lllxr"),
       "TestNonOpenAndOpenDefers: in a loop, and after it");
    ok(has_seen(open_then_in_loop, "lllr"),
       "TestOpenAndNonOpenDefers: before a loop, and in it");
}

int main(int argc, char **argv)
{
    bool on_host = argc > 1 && strcmp(argv[1], "host") == 0;

    defers();
    runs_on_panic();
    conditional();
    recover_simple();
    recover_of_outer();
    recover_only_once();
    through_frames();
    nested();
    deep();
    values();
    faults_become_panics();
    if (!on_host)
        faults_in_libc();
    keeps_values();
    many_at_once();
    goexits();
    deferred_panics();
    defers_in_loops();
    return tap_end();
}
