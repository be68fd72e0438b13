// errno for programs with goroutines as Linux processes. glibc says that its address
// never changes, so compilers keep it across calls; but it is the thread's, and a
// goroutine goes on on another one.
#include_next <errno.h>

#ifndef GN_ERRNO_H
#define GN_ERRNO_H

int *gn_errno_address(void);

#undef errno
#define errno (*gn_errno_address())

#endif
