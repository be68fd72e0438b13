// Programs that end as Go's do: an unrecovered panic, a deadlock. After
// src/runtime/crash_test.go; go.sh says what each prints.
//
// usage: go_die WHAT

#include <gneiss/chan.h>
#include <gneiss/context.h>
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

static void panic_same(void *arg)
{
    struct gn_panic p;

    (void)arg;
    if (gn_recover(&p))
        gn_panic("%s", p.text);
}

static void repanic_same(void *arg)
{
    gn_defer(panic_same, NULL);
    panic_now(arg);
}

static void panic_value(void *value)
{
    gn_panic_with(value, "a value");
}

// The same value goes on, another with the same text is another.
static void repanic_value(void *arg)
{
    gn_defer(panic_value, &c);
    gn_defer(panic_value, &c);
    panic_value(arg);
}

static void panic_text(void *text)
{
    struct gn_panic p;

    if (gn_recover(&p) || text != NULL)
        gn_panic("%s", (char *)text);
}

// The inner one is recovered, and what comes of it panics with what the outer had.
static void sandwich(void *arg)
{
    (void)arg;
    gn_defer(panic_text, "outer");
    gn_defer(panic_text, "inner");
    gn_panic("outer");
}

static void middle(void *arg)
{
    (void)arg;
    gn_defer(panic_text, "outer");
    gn_defer(panic_same, NULL);
    gn_defer(panic_text, "middle");
    gn_panic("inner");
}

static void panic_lines(void *arg)
{
    (void)arg;
    gn_panic("one line\n\ngoroutine 1 [running]:\nand two");
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
    printf("printed before");
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

static struct gn_mutex m;
static struct gn_rwmutex rw;
static struct gn_cond cond;

static void recovers(void *arg)
{
    struct gn_panic p;

    (void)arg;
    gn_recover(&p);
}

// All of them: nobody recovers from these.
static void misuse(void *arg)
{
    const char *how = arg != NULL ? arg : "Mutex.Unlock";

    gn_defer(recovers, NULL);
    if (strcmp(how, "Mutex.Unlock2") == 0) {
        gn_mutex_lock(&m);
        gn_mutex_unlock(&m);
        printf("printed before");
    } else if (strcmp(how, "RWMutex.Unlock2") == 0 ||
               strcmp(how, "RWMutex.RUnlock3") == 0) {
        gn_rwmutex_rlock(&rw);
        if (how[8] == 'R')
            gn_rwmutex_runlock(&rw);
    } else if (strcmp(how, "RWMutex.Unlock3") == 0) {
        gn_rwmutex_lock(&rw);
        gn_rwmutex_unlock(&rw);
    } else if (strcmp(how, "RWMutex.RUnlock2") == 0) {
        gn_rwmutex_lock(&rw);
    }
    if (strcmp(how, "Cond.Wait") == 0)
        gn_cond_wait(&cond, &m);
    else if (how[0] == 'M')
        gn_mutex_unlock(&m);
    else if (how[8] == 'R')
        gn_rwmutex_runlock(&rw);
    else
        gn_rwmutex_unlock(&rw);
    say("not reached");
}

static void reads(void *arg)
{
    (void)arg;
    gn_rwmutex_rlock(&rw);
}

static void locks(void *arg)
{
    (void)arg;
    gn_mutex_lock(&m);
}

static void writes(void *arg)
{
    (void)arg;
    gn_rwmutex_lock(&rw);
}

static void waits_for_signal(void *arg)
{
    static struct gn_mutex of;

    (void)arg;
    gn_mutex_lock(&of);
    gn_cond_wait(&cond, &of);
}

static void acquires(void *arg)
{
    static struct gn_sem s = GN_SEM(1);

    (void)arg;
    gn_sem_acquire(&s, 2);
}

// All that somebody can wait for.
static void deadlock_sync(void *arg)
{
    static struct gn_rwmutex read;

    (void)arg;
    gn_mutex_lock(&m);
    gn_go(locks, NULL);
    gn_rwmutex_lock(&rw);
    gn_go(reads, NULL);
    gn_go(waits_for_signal, NULL);
    gn_go(acquires, NULL);
    gn_rwmutex_rlock(&read);
    gn_rwmutex_lock(&read);
}

static void deadlock_writers(void *arg)
{
    gn_rwmutex_lock(&rw);
    writes(arg);
}

static void once_again(void *o)
{
    gn_once_do(o, once_again, o);
}

static void deadlock_once(void *arg)
{
    static struct gn_once o;

    (void)arg;
    once_again(&o);
}

static void panics_late(void *arg)
{
    gn_sleep(10 * GN_MILLISECOND);
    panic_now(arg);
}

static void task_panics(void *arg)
{
    static struct gn_wg w;

    if (gn_wg_go(&w, panics_late, arg) == 0)
        gn_wg_wait(&w);
    say("not reached");
    exit(0);
}

static int fails_late(void *arg)
{
    panics_late(arg);
    return 0;
}

static void group_panics(void *arg)
{
    static struct gn_group g;

    gn_group_set_limit(&g, 1);
    if (gn_group_go(&g, fails_late, arg) == 0)
        gn_group_wait(&g);
    say("not reached");
    exit(0);
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

static void unused_timer(void *arg)
{
    (void)arg;
    gn_timer_new(3600 * GN_SECOND);
    (void)gn_next(c);
}

static void unused_deadline(void *arg)
{
    struct gn_ctx *p = gn_ctx_cancelable(gn_ctx_background());

    (void)arg;
    gn_ctx_timeout(p, 3600 * GN_SECOND);
    gn_ctx_cancel(p);
    (void)gn_next(c);
}

static const struct {
    const char *name;
    void (*fn)(void *);
} ways[] = {
    {"panic", panic_now},
    {"double", double_panic},
    {"repanic", repanic},
    {"repanic-same", repanic_same},
    {"repanic-value", repanic_value},
    {"sandwich", sandwich},
    {"middle", middle},
    {"lines", panic_lines},
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
    {"deadlock-unused", unused_timer},
    {"deadlock-deadline", unused_deadline},
    {"recursive", recursive},
    {"goexit-panic", goexit_panic},
    {"recovered", recovered},
    {"misuse", misuse},
    {"deadlock-sync", deadlock_sync},
    {"deadlock-writers", deadlock_writers},
    {"deadlock-once", deadlock_once},
    {"wg-go", task_panics},
    {"group-go", group_panics},
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
