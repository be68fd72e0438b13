// Start and end of the C library: files, stdio, constructors, main, exit, and
// the state of a thread of execution.
//
// The state (struct _reent: errno, strtok's place, the buffers of asctime) is
// per thread; the standard streams are shared (newlib's global stdio streams),
// so what one thread prints another flushes. Code that runs outside of a
// thread uses newlib's global state.
//
// exit() is our own. newlib's closes every stream, and closing waits for the
// stream's lock: with a thread parked in a read of stdin, which holds that
// lock, the program would end at the next key press. Ours flushes what was
// written, and passes over a stream whose lock it cannot get for a while.

#define _GNU_SOURCE

#include "runtime/libc/libc.h"

#include "runtime/libc/cpio.h"
#include "runtime/libc/errors.h"
#include "runtime/libc/fs.h"
#include "runtime/libc/lock.h"
#include "runtime/libc/port.h"

#include <errno.h>
#include <reent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/lock.h>
#include <unistd.h>

typedef void (*array_fn)(void);

// From the linker script.
extern const array_fn __preinit_array_start[], __preinit_array_end[];
extern const array_fn __init_array_start[], __init_array_end[];
extern const array_fn __fini_array_start[], __fini_array_end[];

// newlib's, without a public header.
void __sinit(struct _reent *state);
void __call_exitprocs(int code, void *dso);

int main(int argc, char **argv, char **envp);

enum {
    START_FAILURE = 2, // status
    FLUSH_TRIES = 100,
    FLUSH_TRY_NS = 1000000,
};

// Held by the first that calls exit(); a second one waits until the end.
static _LOCK_RECURSIVE_T exit_lock;

struct _reent *__getreent(void)
{
    struct _reent **slot = g_reent_slot();

    return slot && *slot ? *slot : _GLOBAL_REENT;
}

size_t libc_thread_size(void)
{
    return sizeof(struct _reent);
}

struct _reent *libc_thread_new(void *storage)
{
    struct _reent *state = storage;

    _REENT_INIT_PTR(state);
    return state;
}

void libc_thread_exit(struct _reent *state)
{
    if (state == _GLOBAL_REENT)
        return;
    // newlib leaves the table of handlers, fearing a signal between.
    if (state->_sig_func != NULL) {
        free(state->_sig_func);
        state->_sig_func = NULL;
    }
    _reclaim_reent(state);
}

static _Noreturn void give_up(const char *what, const char *why)
{
    libc_say(what, why);
    gn_exit_status(START_FAILURE);
}

static void mount_files(const void *initrd, size_t size)
{
    char why[256];
    int r = cpio_mount(initrd, size, why, sizeof(why));

    if (r < 0)
        give_up("the initial files can't be read: ", why);
    if (r > 0)
        libc_say("initial files: ", why);
}

void libc_init(const void *initrd, size_t size, char **envp)
{
    if (fs_init()) {
        static const char why[] =
            "gneiss: no memory for the C library to start: "
            "run with more MEM, or a larger heap.limit\n";

        console_write(STDERR_FILENO, why, sizeof(why) - 1);
        gn_exit_status(START_FAILURE);
    }
    if (initrd)
        mount_files(initrd, size);
    environ = envp;
    __lock_init_recursive(exit_lock);

    // newlib thinks that without fcntl() of its own, stdout is a terminal.
    __sinit(_GLOBAL_REENT);
    if (!console_is_tty())
        stdout->_flags = (short)(stdout->_flags & ~__SLBF);
}

int libc_run_main(int argc, char **argv)
{
    for (const array_fn *f = __preinit_array_start; f < __preinit_array_end;
         f++)
        (*f)();
    for (const array_fn *f = __init_array_start; f < __init_array_end; f++)
        (*f)();
    exit(main(argc, argv, environ));
}

// The lock of a stream, if it can be had soon.
static bool lock_stream(FILE *f)
{
    for (int i = 0; i < FLUSH_TRIES; i++) {
        if (__lock_try_acquire_recursive(f->_lock) == 0)
            return true;
        clock_sleep_until(clock_mono_ns() + FLUSH_TRY_NS);
    }
    return false;
}

static void flush_stream(FILE *f)
{
    // In use, of a descriptor, and written to; as newlib's _fwalk tells it.
    if (f->_flags == 0 || f->_flags == 1 || f->_file == -1 ||
        !(f->_flags & __SWR))
        return;
    if (f->_flags2 & __SNLK) {
        fflush(f);
    } else if (lock_stream(f)) {
        fflush(f);
        __lock_release_recursive(f->_lock);
    }
}

// newlib's list of streams: a global one since version 4.
#if __NEWLIB__ >= 4
#define STREAMS (&__sglue)
#else
#define STREAMS (&_GLOBAL_REENT->__sglue)
#endif

void libc_flush(void)
{
    for (struct _glue *g = STREAMS; g; g = g->_next)
        for (int i = 0; i < g->_niobs; i++)
            flush_stream(&g->_iobs[i]);
}

void exit(int status)
{
    __lock_acquire_recursive(exit_lock);
    __call_exitprocs(status, NULL);
    for (const array_fn *f = __fini_array_end; f > __fini_array_start;)
        (*--f)();
    libc_flush();
    _exit(status);
}
