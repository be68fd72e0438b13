// newlib's <sys/resource.h> with the limits that programs ask for.
#pragma once

#include_next <sys/resource.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RLIMIT_STACK  3
#define RLIMIT_NOFILE 7
#define RLIM_INFINITY (~(rlim_t)0)

typedef unsigned long rlim_t;

struct rlimit {
    rlim_t rlim_cur;
    rlim_t rlim_max;
};

int getrlimit(int resource, struct rlimit *limit);

#ifdef __cplusplus
}
#endif
