// The C library as start-up and the scheduler see it.
#pragma once

#include <stddef.h>

struct _reent;

// Sets up files, descriptors, the environment and stdio. Ends the program
// (status 2, with a line on stderr) if the initial files can't be read.
//   initrd, size  the archive of the initial files, which stays; or NULL
//   envp          the environment, NULL-terminated; it stays
// Context: once, before any thread of execution. Needs libc_sbrk() and the
// console.
void libc_init(const void *initrd, size_t size, char **envp);

// Runs the constructors and main(), and ends the program with its status.
// Context: the first thread of execution.
int libc_run_main(int argc, char **argv);

// The C library's state of one thread of execution: errno and the like.
// libc_thread_new() sets one up in storage of libc_thread_size() bytes, aligned
// as malloc aligns; it allocates nothing. libc_thread_exit() gives back what
// the thread's calls have allocated for it since; the storage is the caller's.
// Context: libc_thread_exit() runs in the thread that ends, or for one that
// does not run any more.
size_t libc_thread_size(void);
struct _reent *libc_thread_new(void *storage);
void libc_thread_exit(struct _reent *state);

// Writes what stdio's streams hold, but for those in use by others for long. Context:
// a thread of execution.
void libc_flush(void);

// A new array of the n strings that follow each other from p on, NULL at the end.
// NULL: no memory. Context: the first thread of execution.
char **libc_list_args(char *p, int n);

// Reads arguments, each ended by NUL, from a file of the initial tree. The
// array and the strings are new and stay. Returns 0 or a negative errno.
// Context: the first thread of execution.
int libc_read_args(const char *path, int *argc, char ***argv);
