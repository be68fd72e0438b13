// Merge sort with goroutines.
#pragma once

#include <stddef.h>
#include <stdint.h>

// Sorts n numbers; spare has room for as many. A half that is large enough is sorted
// by a goroutine of its own.
void sort(uint32_t *v, size_t n, uint32_t *spare);
