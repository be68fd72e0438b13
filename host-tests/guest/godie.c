// What a report says of the other goroutines.
//
// usage: godie panic | negative | watch | overflow | read

#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct gn_wg never;

static void wait_for_ever(void *arg)
{
    (void)arg;
    gn_wg_wait(&never);
    puts("never"); // else the call is a jump, and we are in no backtrace
}

static void sleep_long(void *arg)
{
    (void)arg;
    sleep(1000);
    puts("late");
}

static void loop(void *arg)
{
    (void)arg;
    for (;;)
        ;
}

static int deep(int n)
{
    volatile char frame[1000];

    frame[0] = (char)n;
    return deep(n + 1) + frame[0];
}

static void overflow(void *arg)
{
    (void)arg;
    printf("%d\n", deep(0));
}

static void start(const char *name, void (*fn)(void *))
{
    if (gn_go_with(&(struct gn_go_options){.name = name}, fn, NULL) != 0)
        _exit(1);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    gn_wg_add(&never, 1);
    start("waiter", wait_for_ever);
    start("sleeper", sleep_long);
    start("looper", loop);
    // The looper has the CPU taken from it, or another one.
    usleep(50000);
    puts("still here");
    fflush(stdout);
    if (strcmp(what, "panic") == 0)
        *(volatile int *)NULL = 1;
    if (strcmp(what, "negative") == 0)
        gn_wg_add(&never, -2);
    if (strcmp(what, "overflow") == 0 &&
        gn_go_with(
            &(struct gn_go_options){.name = "deep", .stack_limit = 1 << 20},
            overflow, NULL) == 0)
        sleep(100);
    if (strcmp(what, "watch") == 0)
        sleep(3);
    if (strcmp(what, "read") == 0) {
        char line[80];

        if (fgets(line, sizeof line, stdin) == NULL)
            return 1;
        printf("read: %s", line);
    }
    return 0;
}
