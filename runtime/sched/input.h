// Console input for goroutines.
#pragma once

#include <sys/types.h>

// Reads 1..n bytes; 0 at end of file. Parks the caller until there is some.
// Several callers take turns. Context: goroutine, no spinlock held.
ssize_t input_read(void *p, size_t n);

// Context: boot.
void input_init(void);
