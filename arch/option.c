// Parsing of boot options; see option.h.

#include "arch/option.h"

#include <string.h>

#include "arch/fmt.h"

// Takes the next word off *line, in place, quotes removed. NULL at the end.
static char *next_word(char **line, bool *unterminated)
{
    char *p = *line, *out, *word;

    while (*p == ' ' || *p == '\t' || *p == '\n')
        p++;
    if (*p == '\0')
        return NULL;
    word = out = p;
    for (bool quoted = false;; p++) {
        if (*p == '\0') {
            *unterminated = quoted;
            *line = p;
            break;
        }
        if (!quoted && (*p == ' ' || *p == '\t' || *p == '\n')) {
            *line = p + 1;
            break;
        }
        if (*p == '"') {
            quoted = !quoted;
            continue;
        }
        if (quoted && *p == '\\' && (p[1] == '"' || p[1] == '\\'))
            p++;
        *out++ = *p;
    }
    *out = '\0';
    return word;
}

// Decimal or 0x…, with an optional K, M or G. Returns false if it is no number
// or too large.
static bool parse_number(const char *s, bool size, uint64_t *out)
{
    uint64_t v = 0;
    unsigned base = 10, shift = 0;

    if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X')) {
        base = 16;
        s += 2;
    }
    if (*s == '\0')
        return false;
    for (; *s != '\0'; s++) {
        unsigned d;

        if (*s >= '0' && *s <= '9')
            d = (unsigned)(*s - '0');
        else if (base == 16 && (*s | 32) >= 'a' && (*s | 32) <= 'f')
            d = (unsigned)((*s | 32) - 'a') + 10;
        else
            break;
        if (__builtin_mul_overflow(v, base, &v) ||
            __builtin_add_overflow(v, d, &v))
            return false;
    }
    if (size && (*s | 32) == 'k')
        shift = 10;
    else if (size && (*s | 32) == 'm')
        shift = 20;
    else if (size && (*s | 32) == 'g')
        shift = 30;
    s += shift != 0;
    if (*s != '\0' || (shift != 0 && v >> (64 - shift) != 0))
        return false;
    *out = v << shift;
    return true;
}

static const char *set_option(const struct option *o, char *value, char *err,
                              size_t size)
{
    uint64_t v;
    const char *wrong;

    switch (o->type) {
    case OPTION_BOOL:
        if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0) {
            fmt_string(err, size, "option %s=%s: must be 0 or 1", o->name,
                       value);
            return err;
        }
        *(bool *)o->value = value[0] == '1';
        return NULL;
    case OPTION_UINT:
    case OPTION_SIZE:
        if (!parse_number(value, o->type == OPTION_SIZE, &v) || v < o->min ||
            v > o->max) {
            fmt_string(
                err, size, "option %s=%s: must be a number from %lu to %lu",
                o->name, value, (unsigned long)o->min, (unsigned long)o->max);
            return err;
        }
        *(uint64_t *)o->value = v;
        return NULL;
    case OPTION_STRING:
        *(const char **)o->value = value;
        return NULL;
    case OPTION_CALL:
        wrong = o->set(value);
        if (wrong == NULL)
            return NULL;
        fmt_string(err, size, "option %s=%s: %s", o->name, value, wrong);
        return err;
    }
    return NULL;
}

struct name_list {
    char *buf;
    size_t size, at;
};

static void add_name(const struct option *o, void *arg)
{
    struct name_list *l = arg;

    if (l->at < l->size)
        l->at += fmt_string(l->buf + l->at, l->size - l->at, " %s", o->name);
}

static const char *unknown(const char *word, char *err, size_t size)
{
    for (const struct option *o = __start_gn_options; o < __stop_gn_options;
         o++) {
        if (strcmp(o->name, word) == 0) {
            fmt_string(err, size, "option %s: the value is missing (%s=...)",
                       word, word);
            return err;
        }
    }

    struct name_list l = {err, size, 0};

    l.at = fmt_string(err, size, "unknown option \"%s\"; valid are env.NAME",
                      word);
    option_each(add_name, &l);
    return err;
}

// word is NAME=value, n the length of "NAME=". The last one given counts.
static const char *set_env(struct option_words *w, char *word, size_t n,
                           char *err, size_t size)
{
    int i = 0;

    while (i < w->envc && strncmp(w->envp[i], word, n) != 0)
        i++;
    if (i == OPTION_MAX_ENV) {
        fmt_string(err, size, "more than %d env. options", OPTION_MAX_ENV);
        return err;
    }
    w->envp[i] = word;
    w->envc += i == w->envc;
    return NULL;
}

static const char *apply(char *word, struct option_words *w, char *err,
                         size_t size)
{
    char *eq = strchr(word, '=');

    if (eq == NULL)
        return unknown(word, err, size);
    if (strncmp(word, "env.", 4) == 0 && eq > word + 4)
        return set_env(w, word + 4, (size_t)(eq + 1 - (word + 4)), err, size);
    for (const struct option *o = __start_gn_options; o < __stop_gn_options;
         o++) {
        if (strlen(o->name) == (size_t)(eq - word) &&
            strncmp(o->name, word, (size_t)(eq - word)) == 0)
            return set_option(o, eq + 1, err, size);
    }
    return unknown(word, err, size);
}

// The words end where `end` says. Quotes and blanks were between them.
static char *append(struct option_words *w, char *word, char *end)
{
    size_t n = strlen(word) + 1;

    if (w->argc++ == 0)
        w->args = end = word;
    memmove(end, word, n);
    return end + n;
}

const char *option_parse(char *line, struct option_words *w, char *err,
                         size_t size)
{
    bool options = true, unterminated = false;
    char *word, *end = NULL;

    memset(w, 0, sizeof *w);
    while ((word = next_word(&line, &unterminated)) != NULL) {
        const char *wrong = NULL;

        if (unterminated) {
            fmt_string(err, size, "command line: quote without end: \"%s",
                       word);
            return err;
        }
        if (options && strcmp(word, "--") == 0)
            options = false;
        else if (options)
            wrong = apply(word, w, err, size);
        else if (w->argc < OPTION_MAX_ARGS)
            end = append(w, word, end);
        else {
            fmt_string(err, size, "more than %d arguments", OPTION_MAX_ARGS);
            return err;
        }
        if (wrong != NULL)
            return wrong;
    }
    return NULL;
}

void option_each(void (*emit)(const struct option *o, void *arg), void *arg)
{
    const struct option *last = NULL;

    // Selection by name, without memory: there are a few dozen.
    for (;;) {
        const struct option *best = NULL;

        for (const struct option *o = __start_gn_options; o < __stop_gn_options;
             o++) {
            if ((last == NULL || strcmp(o->name, last->name) > 0) &&
                (best == NULL || strcmp(o->name, best->name) < 0))
                best = o;
        }
        if (best == NULL)
            return;
        emit(best, arg);
        last = best;
    }
}
