// Calls that are not there: processes, users, pipes, links by name.
//
// Each says so on stderr the first time, sets errno to ENOSYS and returns -1,
// so that a port links and shows what it needs. docs/libc.md lists them.

#define _GNU_SOURCE

#include "runtime/libc/errors.h"
#include "runtime/libc/fs.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

void libc_say(const char *a, const char *b)
{
    const char *const part[] = {"gneiss: ", a, b, "\n"};
    char line[512];
    size_t len = 0;

    // In one piece, so that lines of several threads do not mix.
    for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
        size_t n = part[i] ? strlen(part[i]) : 0;

        if (n > sizeof(line) - 1 - len)
            n = sizeof(line) - 1 - len;
        memcpy(line + len, part[i], n);
        len += n;
    }
    line[len - 1] = '\n';
    fs_write(STDERR_FILENO, line, len);
}

int libc_nosys(const char *name, atomic_flag *said)
{
    if (!atomic_flag_test_and_set_explicit(said, memory_order_relaxed))
        libc_say(name, ": not implemented, returns ENOSYS");
    errno = ENOSYS;
    return -1;
}

pid_t fork(void)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    return libc_nosys("fork", &said);
}

// NULL asks whether there is a command processor: there is none.
int system(const char *command)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    return command == NULL ? 0 : libc_nosys("system", &said);
}

pid_t vfork(void)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    return libc_nosys("vfork", &said);
}

int execve(const char *path, char *const argv[], char *const envp[])
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)path;
    (void)argv;
    (void)envp;
    return libc_nosys("execve", &said);
}

int execv(const char *path, char *const argv[])
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)path;
    (void)argv;
    return libc_nosys("execv", &said);
}

int execvp(const char *file, char *const argv[])
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)file;
    (void)argv;
    return libc_nosys("execvp", &said);
}

pid_t wait(int *status)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)status;
    return libc_nosys("wait", &said);
}

pid_t waitpid(pid_t pid, int *status, int options)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)pid;
    (void)status;
    (void)options;
    return libc_nosys("waitpid", &said);
}

int pipe(int fds[2])
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)fds;
    return libc_nosys("pipe", &said);
}

int symlink(const char *from, const char *to)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)from;
    (void)to;
    return libc_nosys("symlink", &said);
}

int chown(const char *path, uid_t user, gid_t group)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)path;
    (void)user;
    (void)group;
    return libc_nosys("chown", &said);
}

int lchown(const char *path, uid_t user, gid_t group)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)path;
    (void)user;
    (void)group;
    return libc_nosys("lchown", &said);
}

int fchown(int fd, uid_t user, gid_t group)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)fd;
    (void)user;
    (void)group;
    return libc_nosys("fchown", &said);
}

int mkfifo(const char *path, mode_t mode)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)path;
    (void)mode;
    return libc_nosys("mkfifo", &said);
}

int setuid(uid_t user)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)user;
    return libc_nosys("setuid", &said);
}

int setgid(gid_t group)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)group;
    return libc_nosys("setgid", &said);
}

pid_t setsid(void)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    return libc_nosys("setsid", &said);
}

int setpgid(pid_t pid, pid_t group)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)pid;
    (void)group;
    return libc_nosys("setpgid", &said);
}

int pause(void)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    return libc_nosys("pause", &said);
}

int sigsuspend(const sigset_t *mask)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)mask;
    return libc_nosys("sigsuspend", &said);
}

int clock_settime(clockid_t id, const struct timespec *t)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)id;
    (void)t;
    return libc_nosys("clock_settime", &said);
}

int settimeofday(const struct timeval *t, const struct timezone *zone)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)t;
    (void)zone;
    return libc_nosys("settimeofday", &said);
}

int setitimer(int which, const struct itimerval *restrict t,
              struct itimerval *restrict old)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)which;
    (void)t;
    (void)old;
    return libc_nosys("setitimer", &said);
}

// Has no error return: says so, and returns "no alarm was set".
unsigned alarm(unsigned seconds)
{
    static atomic_flag said = ATOMIC_FLAG_INIT;

    (void)seconds;
    libc_nosys("alarm", &said);
    return 0;
}
