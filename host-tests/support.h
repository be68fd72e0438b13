// What every host test needs: cmocka, a random stream with a printed seed, and
// panics that can be expected.
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// Runs stmt, which must panic; the message must contain text.
#define assert_panics(text, stmt)                                              \
    do {                                                                       \
        if (setjmp(support_panic_jump) == 0) {                                 \
            support_panic_expected = 1;                                        \
            stmt;                                                              \
            support_panic_expected = 0;                                        \
            fail_msg("no panic: %s", #stmt);                                   \
        }                                                                      \
        support_panic_expected = 0;                                            \
        if (strstr(support_panic_text, text) == NULL)                          \
            fail_msg("panic says \"%s\", not \"%s\"", support_panic_text,      \
                     text);                                                    \
    } while (0)

extern jmp_buf support_panic_jump;
extern int support_panic_expected;
extern char support_panic_text[512];

// Repeatable random numbers; the seed is printed once, and read from $SEED.
uint64_t support_random(void);

// 0..n-1
uint64_t support_below(uint64_t n);
