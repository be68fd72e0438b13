// The compiler's limits, and the system's.
//
// clang's <limits.h> stops at the compiler's when it is told -ffreestanding.
#include_next <limits.h>

#include <sys/syslimits.h>
