// newlib's limits, with those of our file system.
#pragma once

#include_next <sys/syslimits.h>

#undef LINK_MAX
#undef OPEN_MAX
#undef PATH_MAX
#define LINK_MAX 32767
#define OPEN_MAX 4096
#define PATH_MAX 4096
