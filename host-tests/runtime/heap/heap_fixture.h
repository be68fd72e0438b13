// A machine with a heap on it, for the tests of runtime/heap.
//
// The heap lives as long as the machine, so a test that wants a fresh one runs
// in a process of its own.
#pragma once

#include "host-tests/mm/mm_fixture.h"
#include "runtime/heap/heap.h"
#include "runtime/heap/memory.h"

// Includers say: // sources: $(heap)

// Ends the process unless `good`: for children and threads, where cmocka's own
// assertions don't work.
#define MUST(good) heap_must((good), __FILE__, __LINE__, #good)

void heap_must(bool good, const char *file, int line, const char *what);

// Runs stmt, which must panic; as assert_panics of support.h, for children.
#define MUST_PANIC(text, stmt)                                                 \
    do {                                                                       \
        bool panicked = setjmp(support_panic_jump) != 0;                       \
                                                                               \
        support_panic_expected = !panicked;                                    \
        if (!panicked) {                                                       \
            stmt;                                                              \
        }                                                                      \
        support_panic_expected = 0;                                            \
        heap_must(panicked &&strstr(support_panic_text, text) != NULL,         \
                  __FILE__, __LINE__, "panic of \"" text "\"");                \
    } while (0)

// mm and the heap on a PC with so much RAM; the caller is CPU 0.
void heap_machine(uint64_t ram_bytes);

// Runs fn in a process of its own, where no machine has started yet. The test
// fails if that does not end well.
void heap_alone(void (*fn)(void));

// What mm has left, equal before and after when nothing is lost: free frames, page
// tables counted as free, and what is charged for anything but heap pages.
struct heap_accounts {
    uint64_t frames, committed;
};

struct heap_accounts heap_accounts(void);

// Sets boot options, as the command line does; before heap_machine. NULL, or what
// is wrong.
const char *heap_options(const char *line);
