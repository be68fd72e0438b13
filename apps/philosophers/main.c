// Dining philosophers: each needs the fork on either side to eat. Nobody starves and
// nobody waits for ever, since everybody takes the lower fork first.
//
// usage: philosophers [PHILOSOPHERS [MEALS]]      default: 5, who eat 1000 times each
//
// Checks that no two neighbours ever eat at once, and that all have eaten.

#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST = 10000, MOST_MEALS = 1000000 };

static struct place {
    struct gn_mutex fork; // on the left
    _Atomic bool eats;
    int meals;
} * table;

static int n, meals;
static _Atomic unsigned wrong;
static struct gn_wg all;

static void eat(int i)
{
    struct place *left = &table[(i + n - 1) % n], *right = &table[(i + 1) % n];

    table[i].eats = true;
    if (left->eats || right->eats)
        wrong++;
    table[i].meals++;
    if (table[i].meals % 7 == 0)
        gn_yield(); // slowly
    table[i].eats = false;
}

static void dine(void *arg)
{
    int i = (int)(long)arg, next = (i + 1) % n;
    struct gn_mutex *first = &table[i < next ? i : next].fork;
    struct gn_mutex *second = &table[i < next ? next : i].fork;

    for (int meal = 0; meal < meals; meal++) {
        gn_mutex_lock(first);
        gn_mutex_lock(second);
        eat(i);
        gn_mutex_unlock(second);
        gn_mutex_unlock(first);
        gn_yield(); // think
    }
    gn_wg_done(&all);
}

static int number(const char *s, int min, int max)
{
    char *end;
    long v = strtol(s, &end, 10);

    if (*s == '\0' || *end != '\0' || v < min || v > max) {
        fprintf(stderr,
                "usage: philosophers [PHILOSOPHERS [MEALS]]      2 to %d, 1 to "
                "%d\n",
                MOST, MOST_MEALS);
        exit(2);
    }
    return (int)v;
}

int main(int argc, char **argv)
{
    long eaten = 0;

    n = argc > 1 ? number(argv[1], 2, MOST) : 5;
    meals = argc > 2 ? number(argv[2], 1, MOST_MEALS) : 1000;
    table = calloc((size_t)n, sizeof *table);
    if (table == NULL) {
        fprintf(stderr, "philosophers: no memory for the table\n");
        return 1;
    }
    for (long i = 0; i < n; i++) {
        gn_wg_add(&all, 1);
        if (gn_go(dine, (void *)i) != 0) {
            fprintf(stderr, "philosophers: no memory for a philosopher: run "
                            "with more MEM\n");
            return 1;
        }
    }
    gn_wg_wait(&all);
    for (int i = 0; i < n; i++)
        eaten += table[i].meals;
    printf("%d philosophers have eaten %ld times, neighbours at once: %u\n", n,
           eaten, (unsigned)wrong);
    return wrong != 0 || eaten != (long)n * meals;
}
