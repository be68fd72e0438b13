// A program with goroutines as a Linux process: main() is goroutine 1.
//
// The linker has the C library's start call __wrap_main (--wrap=main). From the
// environment: GN_CPUS, how many threads run goroutines (all that Linux lets us have),
// and GN_OPTS, the options of the guest, as far as they have a meaning here.

#define _GNU_SOURCE

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/fmt.h"
#include "arch/host/process/process.h"
#include "arch/option.h"
#include "runtime/debug/debug.h"
#include "runtime/native/native.h"
#include "runtime/sched/sched.h"
#include "runtime/stack/stack.h"

enum { STATUS_START = 2 };

int __real_main(int argc, char **argv, char **envp);
int __wrap_main(int argc, char **argv, char **envp);

static int main_argc;
static char **main_argv;

static NORETURN void refuse(const char *what, const char *value)
{
    fmt_err("gneiss: %s%s\n", what, value);
    exit(STATUS_START);
}

// ---- start ----

static void read_options(void)
{
    static struct option_words words;
    static char err[640];
    const char *given = getenv("GN_OPTS"), *wrong;
    char *line = given != NULL ? strdup(given) : NULL; // parsed in place: stays

    if (line == NULL)
        return;
    wrong = option_parse(line, &words, err, sizeof err);
    if (wrong != NULL)
        refuse("GN_OPTS: ", wrong);
}

static unsigned count_cpus(void)
{
    const char *s = getenv("GN_CPUS");
    char *end;

    if (s == NULL || *s == '\0')
        return process_cpus();
    unsigned long n = strtoul(s, &end, 10);

    if (*end != '\0' || n < 1 || n > ARCH_MAX_CPUS)
        refuse("GN_CPUS must be a number from 1 to 64, not ", s);
    return (unsigned)n;
}

static void run_main(void *arg)
{
    (void)arg;
    exit(__real_main(main_argc, main_argv, environ));
}

int __wrap_main(int argc, char **argv, char **envp)
{
    static const struct g_tls_image no_tls; // %fs is the thread's

    (void)envp;
    main_argc = argc;
    main_argv = argv;
    read_options();
    process_start(count_cpus());
    sched_init(&no_tls);
    stack_init();
    debug_init();
    arch_hooks.fault = native_fault;
    sched_on_pending(dump_serve);
    process_start_others(sched_run);
    dump_init();
    watchdog_init();
    struct g *g = g_create(run_main, NULL, "main", G_ANY_CPU);

    if (g == NULL)
        refuse("no memory for the first goroutine", "");
    sched_await_others();
    g_ready(g);
    sched_run();
}
