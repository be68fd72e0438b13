// Boot options: one line beside the code they set.
//
// A module declares its knobs with OPTION_*; the linker gathers them in one
// table, so that parsing, checking, help=1 and docs/boot-options.md work from
// the same rows. Names are <module>.<name>; a few shorthands have no module.
#pragma once

#include "arch/base.h"

enum option_type {
    OPTION_BOOL,   // bool: 0, 1
    OPTION_UINT,   // uint64_t, min..max
    OPTION_SIZE,   // uint64_t bytes, with K, M, G
    OPTION_STRING, // const char *, points into the command line
    OPTION_CALL,   // set(value) decides; returns NULL or what is wrong
};

struct option {
    const char *name;
    const char *help; // one line, with the unit and the default
    void *value;
    const char *(*set)(const char *value);
    uint64_t min, max;
    enum option_type type;
};

#define OPTION_ROW(ident, ...)                                                 \
    static const struct option ident __attribute__((                           \
        used, section("gn_options"), aligned(8))) = {__VA_ARGS__}

#define OPTION_BOOL(ident, name, var, help)                                    \
    OPTION_ROW(ident, name, help, &(var), NULL, 0, 1, OPTION_BOOL)
#define OPTION_UINT(ident, name, var, lo, hi, help)                            \
    OPTION_ROW(ident, name, help, &(var), NULL, lo, hi, OPTION_UINT)
#define OPTION_STRING(ident, name, var, help)                                  \
    OPTION_ROW(ident, name, help, &(var), NULL, 0, 0, OPTION_STRING)
#define OPTION_CALL(ident, name, fn, help)                                     \
    OPTION_ROW(ident, name, help, NULL, fn, 0, 0, OPTION_CALL)

extern const struct option __start_gn_options[], __stop_gn_options[];

enum {
    OPTION_MAX_ENV = 64,
    OPTION_MAX_ARGS = 256,
};

// What the command line said besides the options.
struct option_words {
    int argc;   // words after "--"
    char *args; // the first; each follows the one before and its NUL
    int envc;
    char *envp[OPTION_MAX_ENV + 1]; // env.NAME=value as "NAME=value"
};

// Parses the command line in place: words separated by blanks, "quoted" with
// backslash before " and \; options up to the word --, then the program's
// arguments. Sets the options' variables.
// Returns NULL, or a message of one line in err (err_size bytes) naming the
// word that is wrong and what would be right; options before it are set.
const char *option_parse(char *line, struct option_words *words, char *err,
                         size_t err_size);

// Calls emit(row) for every option, sorted by name.
void option_each(void (*emit)(const struct option *o, void *arg), void *arg);

// For options that name the Nth of something, or all from it on: "N" or "N+".
// False: it is neither.
static inline bool option_count(const char *s, uint64_t *n, bool *on)
{
    enum { DIGITS = 18 }; // as many fit

    const char *first = s;

    for (*n = 0; *s >= '0' && *s <= '9' && s < first + DIGITS; s++)
        *n = *n * 10 + (uint64_t)(*s - '0');
    *on = *s == '+';
    return s != first && s[*on] == '\0';
}
