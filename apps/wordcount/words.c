#include "apps/wordcount/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOP = 20, FIRST_SLOTS = 4096, FIRST_LENGTH = 64 };

void *words_check(void *p, size_t n)
{
    if (p == NULL) {
        fprintf(stderr, "%s: out of memory after %zu words\n", program, n);
        exit(1);
    }
    return p;
}

// FNV-1a.
static uint64_t hash_of(const char *text, size_t length)
{
    uint64_t h = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(1099511628211);
    return h;
}

static struct word *find(const struct words *w, const char *text, size_t length,
                         uint64_t hash)
{
    size_t i = hash & (w->nslots - 1);

    while (w->slots[i].text != NULL &&
           !(w->slots[i].hash == hash && w->slots[i].length == length &&
             memcmp(w->slots[i].text, text, length) == 0))
        i = (i + 1) & (w->nslots - 1);
    return &w->slots[i];
}

// Makes room for one word more.
static void grow_if_full(struct words *w)
{
    struct word *old = w->slots;
    size_t n = w->nslots;

    if (2 * w->nwords < n)
        return;
    w->nslots = n == 0 ? FIRST_SLOTS : 2 * n;
    w->slots = words_check(calloc(w->nslots, sizeof *w->slots), w->nwords);
    for (size_t i = 0; i < n; i++) {
        if (old[i].text != NULL)
            *find(w, old[i].text, old[i].length, old[i].hash) = old[i];
    }
    free(old);
}

void words_end(struct words *w)
{
    size_t length = w->length;

    if (length == 0)
        return;
    grow_if_full(w);
    uint64_t h = hash_of(w->current, length);
    struct word *word = find(w, w->current, length, h);

    if (word->text == NULL) {
        word->text = words_check(malloc(length + 1), w->nwords);
        memcpy(word->text, w->current, length);
        word->text[length] = '\0';
        word->length = length;
        word->hash = h;
        w->nwords++;
    }
    word->count++;
    w->length = 0;
}

static void add_letter(struct words *w, char c)
{
    if (w->length == w->capacity) {
        w->capacity = w->capacity == 0 ? FIRST_LENGTH : 2 * w->capacity;
        w->current = words_check(realloc(w->current, w->capacity), w->nwords);
    }
    w->current[w->length++] = c;
}

void words_count(struct words *w, const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (words_is_letter(p[i]))
            add_letter(w, (char)(p[i] | 0x20));
        else
            words_end(w);
    }
}

void words_merge(struct words *w, struct words *from)
{
    words_end(from);
    for (size_t i = 0; i < from->nslots; i++) {
        struct word *other = &from->slots[i], *word;

        if (other->text == NULL)
            continue;
        grow_if_full(w);
        word = find(w, other->text, other->length, other->hash);
        if (word->text == NULL) {
            *word = *other;
            w->nwords++;
        } else {
            word->count += other->count;
            free(other->text);
        }
    }
    free(from->slots);
    free(from->current);
    *from = (struct words){0};
}

static int by_count(const void *a, const void *b)
{
    const struct word *x = a, *y = b;

    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return strcmp(x->text, y->text);
}

void words_print_top(struct words *w)
{
    size_t n = 0;

    for (size_t i = 0; i < w->nslots; i++) {
        if (w->slots[i].text != NULL)
            w->slots[n++] = w->slots[i];
    }
    qsort(w->slots, n, sizeof *w->slots, by_count);
    for (size_t i = 0; i < n && i < TOP; i++)
        printf("%7lu %s\n", w->slots[i].count, w->slots[i].text);
}
