// How the C library's glue reports errors, for runtime/libc/ only.
#pragma once

#include <stdatomic.h>
#include <stdint.h>

// Turns a result of the file system (a count, or a negative errno) into what
// POSIX returns: -1 and errno.
int64_t libc_result(int64_t r);

// For a call that is not implemented: a line on stderr the first time; sets
// errno to ENOSYS and returns -1.
int libc_nosys(const char *name, atomic_flag *said);

// One line on stderr: "gneiss: a b". NULLs are left out. Uses no stdio.
void libc_say(const char *a, const char *b);
