// newlib's <sys/stat.h>, which leaves out lstat() for this target. There are
// no symbolic links, so it is stat().
#pragma once

#include_next <sys/stat.h>

#ifdef __cplusplus
extern "C" {
#endif

int lstat(const char *path, struct stat *st);

#ifdef __cplusplus
}
#endif
