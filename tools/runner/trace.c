// Adds file:line to the frames of a backtrace.
//
// The guest knows the symbols of its image but not its debug information, so a
// frame arrives as "  #2 0xffffffff80001234 main+0x1c" and leaves with
// " apps/hello/main.c:12" behind it. One addr2line, started at the first such
// line, answers all of them. Without addr2line, or if it takes too long, lines
// stay as they are: this is an extra, never a reason to fail.
//
// Frame #0 is where the fault happened. All others are return addresses, which
// may belong to the next line or even function: the call is one byte before.
#include "runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST_ANSWER_MS 10000 // reads all debug information
#define LATER_ANSWER_MS 2000

struct trace {
    const char *image;
    char *root; // of the source tree, with a slash at its end, or ""
    pid_t pid;
    int to, from;
    bool started, dead;
    char answer[4096 + 2];
};

// The runner lies at <root>/build/tools/run.
static char *source_root(void)
{
    static const char place[] = "/build/tools/run";
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

    if (n < 0)
        return xstrdup("");
    path[n] = '\0';
    size_t suffix = sizeof(place) - 1;
    if ((size_t)n < suffix || strcmp(path + n - suffix, place))
        return xstrdup("");
    path[(size_t)n - suffix] = '\0';
    return xasprintf("%s/", path);
}

struct trace *trace_create(const char *image)
{
    struct trace *t = xrealloc(NULL, sizeof(*t));

    *t = (struct trace){.image = image, .to = -1, .from = -1};
    t->root = source_root();
    return t;
}

static void start(struct trace *t)
{
    int to[2], from[2];
    pid_t parent = getpid();

    t->started = true;
    t->dead = true;
    if (pipe2(to, O_CLOEXEC))
        return;
    if (pipe2(from, O_CLOEXEC)) {
        close(to[0]);
        close(to[1]);
        return;
    }
    t->pid = fork();
    if (t->pid == 0) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(0);
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execlp("addr2line", "addr2line", "-e", t->image, (char *)NULL);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    t->to = to[1];
    t->from = from[0];
    t->dead = t->pid < 0;
}

static long now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

// Reads one line into t->answer + 1, without the newline.
static bool read_answer(struct trace *t, long patience_ms)
{
    long deadline = now_ms() + patience_ms;
    char *line = t->answer + 1;
    size_t len = 0, room = sizeof(t->answer) - 1;

    for (;;) {
        struct pollfd p = {.fd = t->from, .events = POLLIN};
        long left = deadline - now_ms();

        if (left <= 0 || (poll(&p, 1, (int)left) < 0 && errno != EINTR))
            return false;
        if (!p.revents)
            continue;
        ssize_t n = read(t->from, line + len, room - len);
        if (n <= 0)
            return false;
        len += (size_t)n;
        if (line[len - 1] == '\n') {
            line[len - 1] = '\0';
            return true;
        }
        if (len == room)
            return false;
    }
}

// "  #N 0xADDRESS ...". Returns 0 for any other line.
static uint64_t frame_address(const char *line)
{
    unsigned number;
    unsigned long long address;
    int end = 0;

    line += strspn(line, " \t");
    if (*line != '#' ||
        sscanf(line, "#%u 0x%llx%n", &number, &address, &end) < 2 ||
        (line[end] && line[end] != ' '))
        return 0;
    return number ? address - 1 : address;
}

const char *trace_annotate(struct trace *t, const char *line)
{
    uint64_t address = frame_address(line);
    char question[32];

    if (!address)
        return NULL;
    long patience = t->started ? LATER_ANSWER_MS : FIRST_ANSWER_MS;
    if (!t->started)
        start(t);
    if (t->dead)
        return NULL;
    int n = snprintf(question, sizeof(question), "%#llx\n",
                     (unsigned long long)address);
    if (write(t->to, question, (size_t)n) != n || !read_answer(t, patience)) {
        t->dead = true;
        return NULL;
    }

    char *place = t->answer + 1;
    char *extra = strstr(place, " (discriminator");
    if (extra)
        *extra = '\0';
    size_t len = strlen(place);
    if (*place == '?' || (len > 2 && (!strcmp(place + len - 2, ":?") ||
                                      !strcmp(place + len - 2, ":0"))))
        return NULL;
    size_t root = strlen(t->root);
    if (root && !strncmp(place, t->root, root))
        place += root;
    else if (!strncmp(place, "/newlib/", 8)) // what tools/newlib maps it to
        place++;
    *--place = ' ';
    return place;
}

void trace_end(struct trace *t)
{
    if (t->started && t->pid > 0) {
        kill(t->pid, SIGKILL);
        waitpid(t->pid, NULL, 0);
    }
    if (t->to >= 0) {
        close(t->to);
        close(t->from);
    }
    free(t->root);
    free(t);
}
