// newlib's <sys/utime.h> has the structure, but not the function.
#pragma once

#include <sys/types.h>

#include_next <sys/utime.h>

#ifdef __cplusplus
extern "C" {
#endif

int utime(const char *path, const struct utimbuf *times);

#ifdef __cplusplus
}
#endif
