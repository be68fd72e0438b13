// How often words occur: an open-addressing hash table that doubles.
#pragma once

#include <stddef.h>
#include <stdint.h>

// What messages begin with. Each program defines it.
extern const char program[];

struct word {
    char *text; // NULL: the slot is free
    size_t length;
    uint64_t hash;
    unsigned long count;
};

// All zero: none yet. Used by one thread at a time.
struct words {
    struct word *slots;
    size_t nslots, nwords;

    // The word being read: it goes on from one call to the next.
    char *current;
    size_t length, capacity;
};

// p, or the end of the program with status 1 if it is NULL: out of memory after n
// words.
void *words_check(void *p, size_t n);

// Whether c is a letter; all else ends a word.
static inline int words_is_letter(unsigned char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

// Counts the words of n more bytes, in lower case.
void words_count(struct words *w, const unsigned char *p, size_t n);

// No more bytes come: what was read last is a word, if there is any.
void words_end(struct words *w);

// Adds what `from` has counted, and empties it.
void words_merge(struct words *w, struct words *from);

// Prints the most frequent words. w is not to be used any more.
void words_print_top(struct words *w);
