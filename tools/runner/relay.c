// The run: starts QEMU, moves bytes, finds out how it ended.
//
// One thread and one poll(). The guest's stdout, stderr and status come
// through pipes, its input goes through a socket to COM1:
//
//   stdin --frame--> COM1      stdout --> stdout      stderr --trace--> stderr
//
// The guest writes byte by byte. A runner that answered each byte would cost
// more than the guest does, so when bytes trickle in faster than TRICKLE_US it
// first lets some gather. While it does, order between the two streams is lost;
// reading the one first that spoke last keeps it where it matters, when a
// program's output is followed by a panic. Where stdout and stderr are the same
// file (a terminal, 2>&1) the guest's two channels share one pipe, and the order
// is exact.
//
// Framing of the input: DLE DLE is a byte 0x10, DLE EOT the end of the file,
// which a terminal can send more than once.
//
// Input flows only after the guest has written "input\n" on its status channel,
// which it does when its program first reads. Until then stdin is not touched: a
// program that never reads leaves it to others, and no byte lies in the UART
// when the guest switches its FIFO on, which drops what is there [seen: without
// this the first byte of the input was lost].
//
// Invariants:
//   I1  the runner ends after the last byte of every stream is delivered, or
//       its reader is gone
//   I2  QEMU never outlives the runner, however that ends
//   I3  the terminal's state is never touched. QEMU has the signals blocked
//       that a terminal sends to end us: we end it; one that stops us stops both
//   I4  neither a slow reader nor an idle writer keeps a timeout or a signal
//       from being served
#include "runner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DLE 0x10
#define EOT 0x04
#define FS  0x1c

#define EXIT_CODE      33 // what isa-debug-exit makes of outb(0xf4, 0x10)
#define BUFFER_MAX     (256u << 10) // of output held for a slow reader
#define READ_BYTES     (64u << 10)
#define INPUT_BYTES    2048u // read ahead of the guest, plus what is below
#define SOCKET_BYTES   4096  // what the socket to COM1 may hold
#define PIPE_BYTES     (1 << 20)
#define TRICKLE_US     50
#define GATHER_US      300
#define LAST_WORDS_MS  1000 // for a reader that does not read, once we end
#define FOREGROUND_MS  250  // how often to look whether we are in it
#define LINE_MAX_BYTES 1024 // of a line that may be a frame

struct buffer {
    char *data;
    size_t start, end, room;
};

// From a pipe of the guest to one of our own descriptors.
struct stream {
    int from, to;
    struct buffer buffer;
    bool ended;  // nothing more will come
    bool broken; // nobody reads what we write
};

struct relay {
    const struct config *config;
    pid_t qemu, gdb;
    bool qemu_ended;
    int wait_status;
    struct rusage rusage;
    int64_t start_us, end_us;

    int signals;
    sigset_t old_mask, mask;
    struct stream out, err;
    bool err_spoke_last;
    bool merged; // stdout and stderr are one: both come through err
    int status, com1;
    bool status_ended, com1_ended;

    char record[64]; // the tail of what came on the status channel
    size_t record_len;
    struct trace *trace;
    char line[LINE_MAX_BYTES]; // of stderr, so far
    size_t line_len;

    bool in_wanted, in_ended, in_is_tty;
    char input[2 * INPUT_BYTES];
    size_t input_start, input_end;
    bool key_wanted; // the key that has the guest list its goroutines

    int64_t deadline_us; // of the run, or 0
    int64_t give_up_us;  // when to leave undelivered output, or 0
    bool timed_out;
    int killed_by; // the signal that ended us
    int out_errno; // why stdout can't be written
};

static int64_t now_us(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

// --- starting

static void make_pipe(int *read_end, int *write_end)
{
    int fd[2];

    if (pipe2(fd, O_CLOEXEC))
        die(STATUS_FAILED, "pipe: %s", strerror(errno));
    fcntl(fd[1], F_SETPIPE_SZ, PIPE_BYTES);
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    *read_end = fd[0];
    *write_end = fd[1];
}

static void make_com1(int *ours, int *theirs)
{
    int fd[2], size = SOCKET_BYTES;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
        die(STATUS_FAILED, "socketpair: %s", strerror(errno));
    setsockopt(fd[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    fcntl(fd[0], F_SETFL, O_NONBLOCK);
    *ours = fd[0];
    *theirs = fd[1];
}

// QEMU is handed a socket that listens already: no port can be taken by
// another in between, and gdb need not wait for QEMU.
static int make_gdb_socket(unsigned *port)
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, len) || listen(fd, 1) ||
        getsockname(fd, (struct sockaddr *)&a, &len))
        die(STATUS_FAILED, "no port for gdb: %s", strerror(errno));
    *port = ntohs(a.sin_port);
    return fd;
}

// In the child: puts fds[] to FD_FIRST and up and becomes QEMU.
static void become_qemu(const struct relay *r, struct strings *command,
                        const int *fds, pid_t parent, int report)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(0);
    dup2(null, STDIN_FILENO);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    for (int fd = FD_FIRST; fd <= FD_LAST; fd++) {
        if (fds[fd] >= 0)
            dup2(fds[fd], fd);
    }
    // QEMU's own handlers never see these: the runner decides (I3)
    sigset_t blocked = r->mask;
    sigdelset(&blocked, SIGCHLD);
    sigprocmask(SIG_SETMASK, &blocked, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGTTIN, SIG_DFL);
    execvp(command->v[0], command->v);

    int error = errno;
    (void)!write(report, &error, sizeof(error));
    _exit(127);
}

static void start_qemu(struct relay *r, struct strings *command, int *fds)
{
    int report[2], error;
    pid_t parent = getpid();

    if (pipe2(report, O_CLOEXEC))
        die(STATUS_FAILED, "pipe: %s", strerror(errno));
    r->start_us = now_us();
    r->qemu = fork();
    if (r->qemu == 0)
        become_qemu(r, command, fds, parent, report[1]);
    if (r->qemu < 0)
        die(STATUS_FAILED, "fork: %s", strerror(errno));
    close(report[1]);
    for (int fd = FD_FIRST; fd <= FD_LAST; fd++) {
        if (fds[fd] >= 0)
            close(fds[fd]);
    }
    if (read(report[0], &error, sizeof(error)) == sizeof(error)) {
        die(STATUS_FAILED, "cannot start %s: %s%s", command->v[0],
            strerror(error),
            error == ENOENT ? " (`tools/setup run` installs it)" : "");
    }
    close(report[0]);
}

static void start_gdb(struct relay *r, unsigned port)
{
    char *target = xasprintf("target remote 127.0.0.1:%u", port);
    // The same symbols where the first instructions run, before paging.
    char *low_symbols =
        xasprintf("add-symbol-file '%s' -o 0x80000000", r->config->image);

    fputs(
        "run: the machine stands before its first instruction. `hbreak main`\n"
        "run: and `continue` work from here; `break` also does, once paging\n"
        "run: is on. Leaving gdb ends the machine.\n",
        stderr);
    r->gdb = fork();
    if (r->gdb == 0) {
        sigprocmask(SIG_SETMASK, &r->old_mask, NULL);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_DFL);
        signal(SIGTTIN, SIG_DFL);
        execlp("gdb", "gdb", "-q", "-ex", "set architecture i386:x86-64", "-ex",
               "set trust-readonly-sections on", "-ex", "set confirm off",
               "-ex", low_symbols, "-ex", "set confirm on", "-ex", target,
               r->config->image, (char *)NULL);
        warn("cannot start gdb: %s (`tools/setup debug` installs it)",
             strerror(errno));
        _exit(127);
    }
    free(target);
    free(low_symbols);
}

// A signal that our caller had ignored (nohup, a background job) stays so.
static void take_signals(struct relay *r)
{
    static const int ending[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};

    sigemptyset(&r->mask);
    sigaddset(&r->mask, SIGCHLD);
    for (size_t i = 0; i < sizeof(ending) / sizeof(*ending); i++) {
        struct sigaction old;
        if (!sigaction(ending[i], NULL, &old) && old.sa_handler != SIG_IGN)
            sigaddset(&r->mask, ending[i]);
    }
    signal(SIGCHLD, SIG_DFL);
    signal(SIGPIPE, SIG_IGN); // writes tell
    signal(SIGTTIN, SIG_IGN); // reads tell
    sigprocmask(SIG_BLOCK, &r->mask, &r->old_mask);
    r->signals = signalfd(-1, &r->mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (r->signals < 0)
        die(STATUS_FAILED, "signalfd: %s", strerror(errno));
}

// --- buffers and streams

static size_t buffer_len(const struct buffer *b)
{
    return b->end - b->start;
}

static void buffer_add(struct buffer *b, const char *data, size_t len)
{
    if (!len)
        return;
    if (b->start == b->end)
        b->start = b->end = 0;
    if (b->end + len > b->room) {
        b->room = 2 * (b->end + len);
        b->data = xrealloc(b->data, b->room);
    }
    memcpy(b->data + b->end, data, len);
    b->end += len;
}

// Writes what can be written without waiting; poll() has said that some can.
// A pipe takes PIPE_BUF bytes then, so more than that is never tried at once.
static void stream_flush(struct relay *r, struct stream *s)
{
    struct buffer *b = &s->buffer;
    struct pollfd p = {.fd = s->to, .events = POLLOUT};

    while (buffer_len(b) && !s->broken && poll(&p, 1, 0) == 1) {
        size_t len = buffer_len(b) < 4096 ? buffer_len(b) : 4096;
        ssize_t n = write(s->to, b->data + b->start, len);

        if (n > 0) {
            b->start += (size_t)n;
        } else if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        } else {
            s->broken = true;
            if (s == &r->out || r->merged)
                r->out_errno = n < 0 ? errno : EIO;
        }
    }
    if (s->broken)
        b->start = b->end = 0;
}

// Returns how many bytes came.
static size_t pipe_read(int fd, char *data, size_t size, bool *ended)
{
    ssize_t n = read(fd, data, size);

    if (n > 0)
        return (size_t)n;
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
        *ended = true;
    return 0;
}

static void read_out(struct relay *r)
{
    static char data[READ_BYTES];
    size_t n = pipe_read(r->out.from, data, sizeof(data), &r->out.ended);

    buffer_add(&r->out.buffer, data, n);
    if (n)
        r->err_spoke_last = false;
}

// Copies text to stderr; adds file:line at the end of a frame's line.
static void add_err(struct relay *r, const char *data, size_t n)
{
    struct buffer *b = &r->err.buffer;

    while (n) {
        const char *newline = memchr(data, '\n', n);
        size_t len = newline ? (size_t)(newline - data) : n;
        size_t room = sizeof(r->line) - 1 - r->line_len;

        buffer_add(b, data, len);
        room = len < room ? len : room;
        memcpy(r->line + r->line_len, data, room);
        r->line_len += room;
        if (newline) {
            r->line[r->line_len] = '\0';
            const char *place = trace_annotate(r->trace, r->line);
            if (place)
                buffer_add(b, place, strlen(place));
            buffer_add(b, "\n", 1);
            r->line_len = 0;
            len++;
        }
        data += len;
        n -= len;
    }
}

static void read_err(struct relay *r, int fd, bool *ended)
{
    static char data[READ_BYTES];
    size_t n = pipe_read(fd, data, sizeof(data), ended);

    add_err(r, data, n);
    if (n)
        r->err_spoke_last = true;
}

static void read_status(struct relay *r)
{
    size_t room = sizeof(r->record) - 1 - r->record_len;

    if (!room) { // keep the tail
        r->record_len /= 2;
        memmove(r->record, r->record + sizeof(r->record) - 1 - r->record_len,
                r->record_len);
        room = sizeof(r->record) - 1 - r->record_len;
    }
    r->record_len +=
        pipe_read(r->status, r->record + r->record_len, room, &r->status_ended);
    r->record[r->record_len] = '\0';
    if (strstr(r->record, "input\n"))
        r->in_wanted = true;
}

// --- input

static bool in_background(const struct relay *r)
{
    pid_t group;

    if (!r->in_is_tty)
        return false;
    group = tcgetpgrp(STDIN_FILENO);
    return group >= 0 && group != getpgrp();
}

static void input_add(struct relay *r, char c)
{
    r->input[r->input_end++] = c;
}

static void read_input(struct relay *r)
{
    char data[INPUT_BYTES - 1]; // each byte may take two, and DLE EOT fits
    ssize_t n = read(STDIN_FILENO, data, sizeof(data));

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (n < 0 && errno == EIO && in_background(r))
        return;
    r->input_start = r->input_end = 0;
    for (ssize_t i = 0; i < n; i++) {
        if (data[i] == DLE)
            input_add(r, DLE);
        input_add(r, data[i]);
    }
    if (n <= 0) {
        input_add(r, DLE);
        input_add(r, EOT);
        r->in_ended = n < 0 || !r->in_is_tty;
    }
}

// SIGQUIT, which Ctrl-\ at a terminal sends, is a key of the guest's console.
static void send_key(struct relay *r)
{
    r->key_wanted = false;
    r->input_start = r->input_end = 0;
    input_add(r, DLE);
    input_add(r, FS);
}

static void send_input(struct relay *r)
{
    ssize_t n =
        send(r->com1, r->input + r->input_start, r->input_end - r->input_start,
             MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n > 0) {
        r->input_start += (size_t)n;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        r->input_start = r->input_end = 0; // QEMU is gone
        r->in_ended = true;
    }
}

// --- the loop

static void end_qemu(struct relay *r)
{
    if (!r->qemu_ended)
        kill(r->qemu, SIGKILL);
}

static void reap(struct relay *r)
{
    if (!r->qemu_ended &&
        wait4(r->qemu, &r->wait_status, WNOHANG, &r->rusage) == r->qemu) {
        r->end_us = now_us();
        r->qemu_ended = true;
    }
    if (r->gdb > 0 && waitpid(r->gdb, NULL, WNOHANG) == r->gdb) {
        r->gdb = 0;
        end_qemu(r);
    }
}

static void serve_signals(struct relay *r)
{
    struct signalfd_siginfo si;

    while (read(r->signals, &si, sizeof(si)) == sizeof(si)) {
        int number = (int)si.ssi_signo;

        if (number == SIGCHLD) {
            reap(r);
        } else if (r->gdb > 0 && (number == SIGINT || number == SIGQUIT)) {
            continue; // gdb's
        } else if (number == SIGQUIT && !r->qemu_ended) {
            r->key_wanted = true;
        } else {
            // the second one leaves at once
            r->give_up_us = r->killed_by ? 1 : now_us() + LAST_WORDS_MS * 1000;
            r->killed_by = number;
            end_qemu(r);
        }
    }
}

static void serve_clock(struct relay *r)
{
    if (r->deadline_us && !r->qemu_ended && !r->timed_out &&
        now_us() >= r->deadline_us) {
        r->timed_out = true;
        r->give_up_us = now_us() + LAST_WORDS_MS * 1000;
        end_qemu(r);
    }
}

static bool is_done(const struct relay *r)
{
    if (r->give_up_us && now_us() >= r->give_up_us)
        return true;
    return r->qemu_ended && r->gdb <= 0 && r->out.ended && r->err.ended &&
           r->status_ended && r->com1_ended && !buffer_len(&r->out.buffer) &&
           !buffer_len(&r->err.buffer);
}

static int poll_timeout_ms(const struct relay *r, bool background)
{
    int64_t until = r->give_up_us   ? r->give_up_us
                    : r->qemu_ended ? 0
                                    : r->deadline_us;
    int64_t ms = -1;

    if (until) {
        ms = (until - now_us() + 999) / 1000;
        ms = ms < 0 ? 0 : ms > 1000000 ? 1000000 : ms;
    }
    if (background && (ms < 0 || ms > FOREGROUND_MS))
        ms = FOREGROUND_MS;
    return (int)ms;
}

// Lets bytes gather if they come in one after the other.
static void gather(struct relay *r, int64_t poll_began_us)
{
    static const struct timespec pause = {.tv_nsec = GATHER_US * 1000};

    if (!r->qemu_ended && now_us() - poll_began_us < TRICKLE_US)
        nanosleep(&pause, NULL);
}

enum { P_SIGNALS, P_OUT, P_ERR, P_STATUS, P_COM1, P_IN, P_TO_OUT, P_TO_ERR };

static void step(struct relay *r)
{
    bool reads = r->in_wanted && !r->in_ended;
    bool background = reads && in_background(r);

    if (r->key_wanted && r->input_start == r->input_end)
        send_key(r);
    bool input_waits = r->input_start < r->input_end;
    bool out_waits = buffer_len(&r->out.buffer) > 0;
    bool err_waits = buffer_len(&r->err.buffer) > 0;
    bool want_out = !r->out.ended && buffer_len(&r->out.buffer) < BUFFER_MAX;
    bool want_err = buffer_len(&r->err.buffer) < BUFFER_MAX;
    bool want_in = reads && !input_waits && !background;
    struct pollfd p[] = {
        [P_SIGNALS] = {r->signals, POLLIN, 0},
        [P_OUT] = {want_out ? r->out.from : -1, POLLIN, 0},
        [P_ERR] = {want_err && !r->err.ended ? r->err.from : -1, POLLIN, 0},
        [P_STATUS] = {r->status_ended ? -1 : r->status, POLLIN, 0},
        [P_COM1] = {r->com1_ended || !(want_err || input_waits) ? -1 : r->com1,
                    (short)((want_err ? POLLIN : 0) |
                            (input_waits ? POLLOUT : 0)),
                    0},
        [P_IN] = {want_in ? STDIN_FILENO : -1, POLLIN, 0},
        [P_TO_OUT] = {out_waits ? r->out.to : -1, POLLOUT, 0},
        [P_TO_ERR] = {err_waits ? r->err.to : -1, POLLOUT, 0},
    };
    int64_t began = now_us();

    int n = poll(p, sizeof(p) / sizeof(*p), poll_timeout_ms(r, background));
    if (n < 0 && errno != EINTR)
        die(STATUS_FAILED, "poll: %s", strerror(errno));
    serve_clock(r);
    if (n <= 0)
        return;
    if (p[P_SIGNALS].revents)
        serve_signals(r);
    if (p[P_OUT].revents || p[P_ERR].revents)
        gather(r, began);

    bool err_first = r->err_spoke_last;
    if (err_first && p[P_ERR].fd >= 0)
        read_err(r, r->err.from, &r->err.ended);
    if (err_first)
        stream_flush(r, &r->err);
    if (p[P_OUT].fd >= 0)
        read_out(r);
    stream_flush(r, &r->out);
    if (!err_first && p[P_ERR].fd >= 0)
        read_err(r, r->err.from, &r->err.ended);
    if (p[P_COM1].revents & (POLLIN | POLLHUP | POLLERR))
        read_err(r, r->com1, &r->com1_ended);
    stream_flush(r, &r->err);
    if (p[P_STATUS].revents)
        read_status(r);
    if (p[P_COM1].revents & POLLOUT)
        send_input(r);
    if (p[P_IN].revents)
        read_input(r);
    if (r->out_errno)
        end_qemu(r);
}

// --- the end

// The last whole "status N\n", or -1.
static int guest_status(const struct relay *r)
{
    int status = -1;

    for (const char *p = r->record; (p = strstr(p, "status ")); p += 7) {
        char *end;
        unsigned long n = strtoul(p + 7, &end, 10);

        if (end > p + 7 && *end == '\n' && n <= 255)
            status = (int)n;
    }
    return status;
}

static void print_usage(const struct relay *r)
{
    const struct timeval *u = &r->rusage.ru_utime, *s = &r->rusage.ru_stime;
    double cpu_us = (double)(u->tv_sec + s->tv_sec) * 1e6 +
                    (double)(u->tv_usec + s->tv_usec);

    fprintf(stderr, "usage: wall_ms=%.1f cpu_ms=%.1f maxrss_kib=%ld\n",
            (double)(r->end_us - r->start_us) / 1e3, cpu_us / 1e3,
            r->rusage.ru_maxrss);
}

__attribute__((noreturn)) static void die_by_signal(int number)
{
    static const struct rlimit no_core = {0, 0};
    sigset_t all;

    setrlimit(RLIMIT_CORE, &no_core);
    signal(number, SIG_DFL);
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    raise(number);
    _exit(128 + number);
}

static int verdict(const struct relay *r)
{
    int status = guest_status(r);
    int code = WIFEXITED(r->wait_status) ? WEXITSTATUS(r->wait_status) : -1;

    if (r->killed_by)
        die_by_signal(r->killed_by);
    if (r->out_errno == EPIPE)
        die_by_signal(SIGPIPE);
    if (r->out_errno)
        die(STATUS_FAILED, "cannot write stdout: %s", strerror(r->out_errno));
    if (r->timed_out) {
        die(STATUS_TIMEOUT, "timed out after %g s (--timeout, TIMEOUT=)",
            r->config->timeout_s);
    }
    if (code == EXIT_CODE && status >= 0)
        return status;
    if (r->config->debug && code < 0)
        return 0; // gdb was left
    if (code < 0) {
        die(STATUS_FAILED, "QEMU was killed by signal %d (%s)",
            WTERMSIG(r->wait_status), strsignal(WTERMSIG(r->wait_status)));
    }
    if (code == 0)
        die(STATUS_FAILED, "guest crashed without a status (triple fault?)");
    if (code == EXIT_CODE)
        die(STATUS_FAILED, "guest ended without a status");
    die(STATUS_FAILED, "QEMU failed with status %d; see above", code);
}

static bool same_file(int a, int b)
{
    struct stat x, y;

    return !fstat(a, &x) && !fstat(b, &y) && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

int relay_run(const struct config *c, struct strings *command, int tree_fd)
{
    static struct relay r;
    int fds[FD_LAST + 1] = {-1, -1, -1, -1, -1, -1, -1, -1, -1};
    unsigned port = 0;

    r.config = c;
    r.out.to = STDOUT_FILENO;
    r.err.to = STDERR_FILENO;
    r.trace = trace_create(c->image);
    make_pipe(&r.err.from, &fds[FD_STDERR]);
    r.merged = same_file(STDOUT_FILENO, STDERR_FILENO);
    if (r.merged) {
        fds[FD_STDOUT] = fcntl(fds[FD_STDERR], F_DUPFD_CLOEXEC, 0);
        r.out.from = -1;
        r.out.ended = true;
    } else {
        make_pipe(&r.out.from, &fds[FD_STDOUT]);
    }
    make_pipe(&r.status, &fds[FD_STATUS]);
    make_com1(&r.com1, &fds[FD_COM1]);
    fds[FD_TREE] = tree_fd;
    if (c->debug || c->gdb_server)
        fds[FD_GDB] = make_gdb_socket(&port);
    take_signals(&r);
    start_qemu(&r, command, fds);
    r.in_is_tty = isatty(STDIN_FILENO);
    r.in_ended = c->debug; // the terminal is gdb's
    if (c->timeout_s > 0)
        r.deadline_us = r.start_us + (int64_t)(c->timeout_s * 1e6);
    if (c->debug)
        start_gdb(&r, port);
    if (c->gdb_server)
        fprintf(stderr, "run: gdb port %u\n", port);

    while (!is_done(&r))
        step(&r);

    if (!r.qemu_ended && wait4(r.qemu, &r.wait_status, 0, &r.rusage) == r.qemu)
        r.end_us = now_us();
    trace_end(r.trace);
    bool well = !r.timed_out && !r.killed_by && WIFEXITED(r.wait_status) &&
                WEXITSTATUS(r.wait_status) == EXIT_CODE &&
                strstr(r.record, "status ") != NULL;

    if (r.line_len && !r.err.broken && (c->usage || !well))
        fputc('\n', stderr); // what we say begins on a line of its own
    if (c->usage)
        print_usage(&r);
    return verdict(&r);
}
