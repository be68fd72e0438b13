// Runs commands in turns and prints what each run took.
//
//   bench-times [-n ROUNDS] [-t SECONDS] %% NAME EXIT OUT MARK COMMAND...
//                                       [%% NAME EXIT OUT MARK COMMAND...]...
//
// A round runs every command once, the next round begins one further on, so
// that whatever else the machine does hits all alike. The CPU time is the
// kernel's account of the child (wait4): nothing of ours is in it. Commands are
// QEMU's as `tools/run --dry-run` prints them: descriptors 3 (stdout), 4
// (stderr), 5 (status) and 6 (COM1) are open; pipes that are read only when the
// run is over, so they must hold what it writes. Standard output of the command
// itself goes where descriptor 3 goes.
//
//   EXIT   what the command must exit with
//   OUT    text that must be in its output (empty: any)
//   MARK   text before a number in its stderr or output (empty: none)
//
// One row per run: name, round, CPU ms, wall ms, the number or "-", the most KiB
// that were resident. A run that ended otherwise prints why on stderr, and the
// status is 1.
#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_COMMANDS = 32, OUTPUT_BYTES = 1 << 20, FIRST_FREE = 16 };

struct command {
    const char *name, *out, *mark;
    int exit;
    char **argv;
};

struct run {
    int wait_status;
    double cpu_ms, wall_ms;
    long peak_kib;
    char *out, *err; // what it wrote, NUL at the end
};

static double timeout_s = 20;
static pid_t child;

static void die(const char *what)
{
    fprintf(stderr, "bench-times: %s: %s\n", what, strerror(errno));
    exit(2);
}

static double now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

// Both ends above the descriptors that the child is given.
static void make_pipe(int *ends)
{
    int fd[2];

    if (pipe2(fd, O_CLOEXEC))
        die("pipe");
    for (int i = 0; i < 2; i++) {
        ends[i] = fcntl(fd[i], F_DUPFD_CLOEXEC, FIRST_FREE);
        close(fd[i]);
    }
    fcntl(ends[1], F_SETPIPE_SZ, OUTPUT_BYTES);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
}

static char *drain(int fd)
{
    size_t n = 0;
    ssize_t got;
    char *s = malloc(OUTPUT_BYTES + 1);

    if (s == NULL)
        die("malloc");
    while (n < OUTPUT_BYTES && (got = read(fd, s + n, OUTPUT_BYTES - n)) > 0)
        n += (size_t)got;
    // Serial consoles send NULs; a text search should not stop there.
    for (size_t i = 0; i < n; i++)
        s[i] = s[i] ? s[i] : ' ';
    s[n] = '\0';
    return s;
}

static void on_alarm(int signal)
{
    (void)signal;
    kill(child, SIGKILL);
}

static void become(char **argv, int out, int err)
{
    int com1[2], null = open("/dev/null", O_RDWR);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (null < 0 || socketpair(AF_UNIX, SOCK_STREAM, 0, com1))
        _exit(126);
    int theirs = fcntl(com1[0], F_DUPFD, FIRST_FREE);

    // The other end stays open, or QEMU would see a line that hung up.
    fcntl(com1[1], F_DUPFD, FIRST_FREE);
    dup2(null, 0);
    dup2(out, 1);
    dup2(out, 3);
    dup2(err, 4);
    dup2(err, 5);
    dup2(theirs, 6);
    execvp(argv[0], argv);
    fprintf(stderr, "bench-times: %s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static struct run run(const struct command *c)
{
    struct run r;
    struct rusage ru;
    int out[2], err[2];

    make_pipe(out);
    make_pipe(err);
    double start = now_ms();

    child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        become(c->argv, out[1], err[1]);
    alarm((unsigned)timeout_s);
    while (wait4(child, &r.wait_status, 0, &ru) < 0) {
        if (errno != EINTR)
            die("wait4");
    }
    alarm(0);
    r.wall_ms = now_ms() - start;
    r.cpu_ms = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) * 1e3 +
               (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e3;
    r.peak_kib = ru.ru_maxrss;
    close(out[1]);
    close(err[1]);
    r.out = drain(out[0]);
    r.err = drain(err[0]);
    close(out[0]);
    close(err[0]);
    return r;
}

// Prints the row. Returns false, and says why, if the run went wrong.
static bool report(const struct command *c, const struct run *r, int round)
{
    bool ok =
        WIFEXITED(r->wait_status) && WEXITSTATUS(r->wait_status) == c->exit;
    const char *at = *c->mark ? strstr(r->err, c->mark) : NULL;

    if (*c->mark && at == NULL)
        at = strstr(r->out, c->mark);

    if (!ok)
        fprintf(stderr, "bench-times: %s: %s %d, not %d\n%s", c->name,
                WIFEXITED(r->wait_status) ? "exit" : "signal",
                WIFEXITED(r->wait_status) ? WEXITSTATUS(r->wait_status)
                                          : WTERMSIG(r->wait_status),
                c->exit, r->err);
    else if (strstr(r->out, c->out) == NULL)
        fprintf(stderr, "bench-times: %s: no \"%s\" in its output\n", c->name,
                c->out);
    else {
        printf("%s\t%d\t%.3f\t%.3f\t", c->name, round, r->cpu_ms, r->wall_ms);
        if (at != NULL)
            printf("%.9g", strtod(at + strlen(c->mark), NULL));
        else
            printf("-");
        printf("\t%ld\n", r->peak_kib);
        fflush(stdout);
        return true;
    }
    return false;
}

static size_t read_commands(char **argv, int from, struct command *all)
{
    size_t n = 0;

    for (char **a = argv + from; *a != NULL;) {
        if (strcmp(*a, "%%") != 0 || n == MAX_COMMANDS || !a[1] || !a[2] ||
            !a[3] || !a[4] || !a[5]) {
            fputs("usage: bench-times [-n rounds] [-t seconds] "
                  "%% name exit out mark command...\n",
                  stderr);
            exit(2);
        }
        *a = NULL; // ends the arguments of the one before
        all[n++] = (struct command){a[1], a[3], a[4], atoi(a[2]), a + 5};
        for (a += 5; *a != NULL && strcmp(*a, "%%") != 0;)
            a++;
    }
    return n;
}

int main(int argc, char **argv)
{
    static struct command all[MAX_COMMANDS];
    int rounds = 1, opt, wrong = 0;

    while ((opt = getopt(argc, argv, "+n:t:")) != -1) {
        if (opt == 'n')
            rounds = atoi(optarg);
        else if (opt == 't')
            timeout_s = atof(optarg);
        else
            return 2;
    }
    size_t n = read_commands(argv, optind, all);

    signal(SIGALRM, on_alarm);
    for (int round = 0; round < rounds; round++) {
        for (size_t i = 0; i < n; i++) {
            const struct command *c = &all[(i + (size_t)round) % n];
            struct run r = run(c);

            wrong |= !report(c, &r, round);
            free(r.out);
            free(r.err);
        }
    }
    return wrong;
}
