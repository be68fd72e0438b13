// Programs that end as Go's do: an unrecovered panic, a deadlock. After
// src/runtime/crash_test.go; go.sh says what each prints.
//
// usage: go_die WHAT

#include <gneiss/chan.h>
#include <gneiss/go.h>
#include <gneiss/panic.h>
#include <gneiss/sync.h>
#include <gneiss/time.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef gn_chan(int) ints;

static ints c;

static void say(void *text)
{
    fprintf(stderr, "%s\n", (char *)text);
}

static void panic_now(void *arg)
{
    printf("printed before");
    gn_defer(say, "deferred");
    gn_panic("panic %d of %s", 1, arg != NULL ? (char *)arg : "none");
}

static void panic_again(void *arg)
{
    (void)arg;
    gn_panic("second");
}

static void double_panic(void *arg)
{
    gn_defer(panic_again, NULL);
    panic_now(arg);
}

static void recover_and_panic(void *arg)
{
    struct gn_panic p;

    (void)arg;
    if (gn_recover(&p))
        gn_panic("again");
}

static void repanic(void *arg)
{
    gn_defer(recover_and_panic, NULL);
    panic_now(arg);
}

static void nil_deref(void *arg)
{
    gn_defer(say, "deferred");
    *(volatile int *)arg = 1;
}

static void divide(void *arg)
{
    volatile int zero = 0, one = 1;

    (void)arg;
    gn_defer(say, "deferred");
    printf("%d\n", (one + 41) / zero);
}

static void nil_deref_plain(void *arg)
{
    *((volatile int *)arg + 2) = 1;
}

static void in_goroutine(void *arg)
{
    gn_go(panic_now, arg);
    gn_sleep(10 * GN_SECOND);
}

static void closes_twice(void *arg)
{
    (void)arg;
    gn_close(c);
    gn_close(c);
    say("not reached");
}

static void receives(void *arg)
{
    (void)arg;
    (void)gn_next(c);
}

static void deadlock(void *arg)
{
    (void)arg;
    gn_go(receives, NULL);
    gn_go(receives, NULL);
    (void)gn_next(c);
}

static void deadlock_select(void *arg)
{
    (void)arg;
    gn_select(NULL, 0);
}

static void deadlock_wg(void *arg)
{
    static struct gn_wg w;

    (void)arg;
    gn_wg_add(&w, 1);
    gn_wg_wait(&w);
}

static void sleeps(void *arg)
{
    (void)arg;
    gn_sleep(50 * GN_MILLISECOND);
}

// Not before the others have ended.
static void deadlock_later(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++)
        gn_go(sleeps, NULL);
    (void)gn_next(c);
}

static void exits_main(void *arg)
{
    (void)arg;
    gn_go(receives, NULL);
    gn_goexit();
}

static void exits_alone(void *arg)
{
    (void)arg;
    gn_goexit();
}

static void recursive(void *arg)
{
    (void)arg;
    gn_defer(double_panic, "one");
    gn_defer(panic_again, NULL);
    gn_panic("zero");
}

static void goexit_panic(void *arg)
{
    gn_defer(panic_now, arg);
    gn_goexit();
}

static void recovers_main(void *arg)
{
    struct gn_panic p;

    (void)arg;
    gn_recover(&p);
}

static void recovered(void *arg)
{
    gn_defer(recovers_main, NULL);
    panic_now(arg);
}

static void stopped_timer(void *arg)
{
    struct gn_timer *t = gn_timer_new(GN_SECOND);

    (void)arg;
    gn_timer_stop(t);
    (void)gn_next(gn_timer_channel(t));
}

static const struct {
    const char *name;
    void (*fn)(void *);
} ways[] = {
    {"panic", panic_now},
    {"double", double_panic},
    {"repanic", repanic},
    {"nil", nil_deref},
    {"nil-plain", nil_deref_plain},
    {"divide", divide},
    {"goroutine", in_goroutine},
    {"close", closes_twice},
    {"deadlock", deadlock},
    {"deadlock-select", deadlock_select},
    {"deadlock-wg", deadlock_wg},
    {"deadlock-later", deadlock_later},
    {"deadlock-goexit", exits_main},
    {"deadlock-none", exits_alone},
    {"deadlock-timer", stopped_timer},
    {"recursive", recursive},
    {"goexit-panic", goexit_panic},
    {"recovered", recovered},
};

int main(int argc, char **argv)
{
    c = gn_make_chan(ints, 0);
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        if (argc > 1 && strcmp(argv[1], ways[i].name) == 0)
            ways[i].fn(argc > 2 ? argv[2] : NULL);
    }
    fprintf(stderr, "main returns\n");
    return 3;
}
