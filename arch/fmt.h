// A printf of our own for reports: no locks, no allocation, no floating point.
//
// %d %u %x %c %s %p %% with -, 0, width, precision for %s, and the lengths l,
// ll, z. Unknown conversions are printed as they stand.
#pragma once

#include <stdarg.h>

#include "arch/base.h"

// Formats into buf (always ends with NUL if size > 0). Returns the length that
// the whole text has. Context: any.
size_t fmt_string(char *buf, size_t size, const char *fmt, ...) PRINTF(3, 4);
size_t fmt_vstring(char *buf, size_t size, const char *fmt, va_list ap);

// Formats at most 512 bytes to stderr, unbuffered. Context: any, NMI too.
void fmt_err(const char *fmt, ...) PRINTF(1, 2);
void fmt_verr(const char *fmt, va_list ap);
