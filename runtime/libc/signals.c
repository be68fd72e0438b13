// Signals, abort and assert.
//
// Signals are what a program sends to itself: newlib keeps the handlers (per
// thread of execution) and calls them from raise(). kill() of the own process
// is raise(); where no handler is set, newlib's raise() calls kill() in turn,
// which then carries out the default action. Faults are not signals: they end
// in a panic report.

#define _GNU_SOURCE

#include "runtime/libc/errors.h"
#include "runtime/libc/port.h"

#include <assert.h>
#include <errno.h>
#include <reent.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static _sig_func_ptr handler_of(int sig)
{
    struct _reent *state = _REENT;

    return state->_sig_func ? state->_sig_func[sig] : SIG_DFL;
}

static int default_action(int sig)
{
    switch (sig) {
    case SIGCHLD:
    case SIGCONT:
    case SIGURG:
    case SIGWINCH:
        return 0;
    case SIGABRT:
        gn_abort();
    default:
        gn_exit_status(128 + sig); // as a shell tells it
    }
}

int kill(pid_t pid, int sig)
{
    if (pid > 0 && pid != getpid())
        return (int)libc_result(-ESRCH);
    if (sig < 0 || sig >= NSIG)
        return (int)libc_result(-EINVAL);
    if (sig == 0 || handler_of(sig) == SIG_IGN)
        return 0;
    return handler_of(sig) == SIG_DFL ? default_action(sig) : raise(sig);
}

// Mask and flags have no meaning: nothing comes asynchronously. As with
// signal(), a handler is gone once it was called.
int sigaction(int sig, const struct sigaction *new, struct sigaction *old)
{
    if (sig <= 0 || sig >= NSIG || sig == SIGKILL || sig == SIGSTOP)
        return (int)libc_result(-EINVAL);
    if (old)
        *old = (struct sigaction){.sa_handler = handler_of(sig)};
    if (new &&signal(sig, new->sa_handler) == SIG_ERR)
        return -1;
    return 0;
}

int sigprocmask(int how, const sigset_t *set, sigset_t *old)
{
    if (set && how != SIG_BLOCK && how != SIG_UNBLOCK && how != SIG_SETMASK)
        return (int)libc_result(-EINVAL);
    if (old)
        *old = 0;
    return 0;
}

// newlib's ends with status 1 if a handler returns.
void abort(void)
{
    raise(SIGABRT);
    gn_abort();
}

void __assert_func(const char *file, int line, const char *func,
                   const char *expr)
{
    gn_panic_assert(file, line, func, expr);
}

void __assert(const char *file, int line, const char *expr)
{
    gn_panic_assert(file, line, NULL, expr);
}
