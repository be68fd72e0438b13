// What the word counters read: cat's output, if it took directories.
#pragma once

#include <stdbool.h>
#include <stddef.h>

// Calls take(bytes, n, arg) for all bytes of the files that main's arguments
// name, in their order; of a directory, for every file below it. Without arguments
// it is the working directory (in the guest: what make run FILES=... gave), or
// standard input if no file is there. The bytes are the callee's until it returns.
// Returns false if something can't be read, after a message for each.
bool input_read(int argc, char **argv,
                void (*take)(const unsigned char *p, size_t n, void *arg),
                void *arg);
