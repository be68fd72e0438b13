// clang's header hands over to newlib's in a hosted program, and that one uses
// the types of <stdint.h> without including it.
#pragma once

#include <stdint.h>

#include_next <stdatomic.h>
