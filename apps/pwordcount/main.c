// The most frequent words of its files, counted on all CPUs: prints what
// apps/wordcount prints, and takes the same arguments.
//
// main() reads the input into blocks, each of which ends where a word does, and
// starts a goroutine for each. There are two places for a CPU, used in turn: one is
// filled while the others are counted. Who counts takes a table that nobody uses, at
// best the one that its CPU had last: that is in its cache. At the end the tables are
// added up.
//
//   input --> | block 0 | block 1 | ... | block 2 * CPUs - 1 |
//                  |         |                   |
//                table 0   table 1     ...     (as many as count at a time)  --> one

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/wordcount/input.h"
#include "apps/wordcount/words.h"

const char program[] = "pwordcount";

enum { BLOCK = 65536, PLACES_PER_CPU = 2 };

// [m]: main's while `busy` is 0, then the goroutine's.
struct place {
    struct gn_wg busy;       // one thing to be done: to count the block
    unsigned char *block;    // [m]
    size_t length, capacity; // [m] bytes
};

struct table {
    struct words words;
    struct table *next; // of all; set once
};

static struct table *_Atomic all_tables;
static struct table *_Atomic
    *unused; // by the CPU that had it last, or anywhere
static size_t nunused;

static struct table *take_table(void)
{
    size_t cpu = gn_cpu_id();
    struct table *t = NULL;

    for (size_t i = 0; t == NULL && i < nunused; i++)
        t = atomic_exchange(&unused[(cpu + i) % nunused], NULL);
    if (t == NULL) {
        t = words_check(calloc(1, sizeof *t), 0);
        t->next = all_tables;
        while (!atomic_compare_exchange_weak(&all_tables, &t->next, t))
            ;
    }
    return t;
}

// There is room: as many may be in use as there are places.
static void give_table(struct table *t)
{
    size_t i = gn_cpu_id();
    struct table *none = NULL;

    while (!atomic_compare_exchange_strong(&unused[i % nunused], &none, t)) {
        none = NULL;
        i++;
    }
}

struct counter {
    struct place *places;
    size_t nplaces, at; // at: the one that is being filled
};

// Has room for n bytes more.
static void reserve(struct place *p, size_t n)
{
    size_t capacity = p->capacity == 0 ? BLOCK : p->capacity;

    while (capacity - p->length < n)
        capacity *= 2;
    if (capacity != p->capacity)
        p->block = words_check(realloc(p->block, capacity), 0);
    p->capacity = capacity;
}

static void append(struct place *p, const unsigned char *bytes, size_t n)
{
    reserve(p, n);
    memcpy(p->block + p->length, bytes, n);
    p->length += n;
}

static void count_block(void *arg)
{
    struct place *p = arg;
    struct table *t = take_table();

    words_count(&t->words, p->block, p->length);
    words_end(&t->words);
    give_table(t);
    p->length = 0;
    gn_wg_done(&p->busy);
}

// Starts counting the first n bytes of the block. The rest goes on in the next
// place, once that one is counted.
static void hand_over(struct counter *c, size_t n)
{
    struct place *p = &c->places[c->at];

    c->at = (c->at + 1) % c->nplaces;
    gn_wg_wait(&c->places[c->at].busy);
    append(&c->places[c->at], p->block + n, p->length - n);
    p->length = n;
    gn_wg_add(&p->busy, 1);
    // Without memory for a goroutine it is done here.
    if (gn_go_with(&(struct gn_go_options){.name = "counter"}, count_block,
                   p) != 0)
        count_block(p);
}

// How many bytes of the block can be counted without what follows: those before
// the word that its end may have cut.
static size_t whole_words(const struct place *p)
{
    size_t n = p->length;

    while (n > 0 && words_is_letter(p->block[n - 1]))
        n--;
    return n;
}

static void take(const unsigned char *bytes, size_t n, void *arg)
{
    struct counter *c = arg;

    while (n > 0) {
        struct place *p = &c->places[c->at];
        size_t room, whole;

        reserve(p, 1);
        room = p->capacity - p->length;
        room = n < room ? n : room;
        append(p, bytes, room);
        bytes += room;
        n -= room;
        // A word that fills a block makes it larger.
        if (p->length == p->capacity && (whole = whole_words(p)) > 0)
            hand_over(c, whole);
    }
}

int main(int argc, char **argv)
{
    struct counter c = {.nplaces = (size_t)PLACES_PER_CPU * gn_cpu_count()};
    static struct words all;

    c.places = words_check(calloc(c.nplaces, sizeof *c.places), 0);
    nunused = c.nplaces;
    unused = words_check(calloc(nunused, sizeof *unused), 0);
    bool ok = input_read(argc, argv, take, &c);

    hand_over(&c, c.places[c.at].length);
    for (size_t i = 0; i < c.nplaces; i++) {
        struct place *p = &c.places[i];

        gn_wg_wait(&p->busy);
        free(p->block);
    }
    for (struct table *t = all_tables, *next; t != NULL; t = next) {
        next = t->next;
        words_merge(&all, &t->words);
        free(t);
    }
    free(unused);
    free(c.places);
    words_print_top(&all);
    return ok && fflush(stdout) == 0 ? 0 : 1;
}
