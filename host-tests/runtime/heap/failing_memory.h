// runtime/heap/memory.c, each of whose calls can be made to fail.
#pragma once

#include <stdbool.h>
#include <stdint.h>

// Fails the nth call from now on, 1 being the next; on: and all after it. nth 0:
// none.
void heap_memory_fail_at(uint64_t nth, bool on);

// True if the nth call has come, and failed.
bool heap_memory_has_failed(void);
