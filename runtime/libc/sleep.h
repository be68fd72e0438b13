// Spans of time and sleeping, for runtime/libc/.
#pragma once

#include <stdint.h>
#include <time.h>

// Nanoseconds of a time span, UINT64_MAX if it is longer. -EINVAL: no time.
int libc_span_ns(const struct timespec *t, uint64_t *ns);

// Parks the caller for so long; UINT64_MAX is for ever.
void libc_sleep_ns(uint64_t ns);
