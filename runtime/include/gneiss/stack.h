// The caller's stack: a goroutine's, main's too.
//
// It grows by itself, in place; nothing on it ever moves. What it once took stays
// until gn_stack_trim, or until the goroutine ends.
//
// Context of all calls: any goroutine, not interrupt handlers.
#pragma once

#include <stddef.h>

// Bytes between its top and the caller's frame.
size_t gn_stack_used(void);

// Bytes down to the deepest page that it has, or once had since the last
// gn_stack_trim: a high-water mark, rounded up to pages.
size_t gn_stack_high(void);

// Bytes that it may have; the next one is Go's fatal error "stack overflow". 64 MiB,
// or as the boot option stack.limit or gn_go_options.stack_limit says.
size_t gn_stack_limit(void);

// Gives the pages below the caller's frame back. Returns how many bytes. What was
// there is gone; growing down there again costs faults, as the first time.
size_t gn_stack_trim(void);
