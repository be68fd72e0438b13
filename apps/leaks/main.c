// Five ways to lose memory, and how a report finds each (boot option heap.leaks=1):
//
//   make run APP=leaks OPTS=heap.leaks=1
//
// Two lose what nothing points to any more: it is leaked. Three keep what nobody needs:
// it could still be reached, so it is no leak, and only its place in the list of who
// allocated most gives it away. Each has a function of its own, whose name the report
// shows.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMES = 20 };

static void *need(void *p)
{
    if (p == NULL) {
        fputs("leaks: no memory: run with more MEM\n", stderr);
        exit(1);
    }
    return p;
}

// ---- 1: a free that was forgotten, on the way that is seldom taken ----

__attribute__((noinline)) static int parse(const char *text)
{
    char *copy = need(malloc(100));

    strcpy(copy, text);
    if (strchr(copy, '=') == NULL)
        return -1; // and copy?
    int n = (int)strlen(strchr(copy, '=') + 1);

    free(copy);
    return n;
}

__attribute__((noinline)) static void forgotten_free(void)
{
    int bad = 0;

    for (int i = 0; i < TIMES; i++)
        bad += parse(i % 2 == 0 ? "key=value" : "no value") < 0;
    printf("1 forgotten free: %d lines could not be read\n", bad);
}

// ---- 2: a circle of references that are counted ----

struct person {
    int references;
    struct person *partner;
    char name[48];
};

static void release(struct person *p)
{
    if (p == NULL || --p->references > 0)
        return;
    release(p->partner);
    free(p);
}

__attribute__((noinline)) static struct person *meet(void)
{
    struct person *a = need(calloc(1, sizeof *a));
    struct person *b = need(calloc(1, sizeof *b));

    a->references = b->references = 2; // the caller's, and the partner's
    a->partner = b;
    b->partner = a;
    release(b);
    return a;
}

__attribute__((noinline)) static void cycle(void)
{
    for (int i = 0; i < TIMES; i++)
        release(meet());
    printf("2 cycle: %d pairs were released\n", TIMES);
}

// ---- 3: a listener that was never taken off the list ----

struct listener {
    struct listener *next;
    void (*fn)(struct listener *);
    char state[200];
};

static struct listener *listeners;

static void on_event(struct listener *l)
{
    l->state[0]++;
}

__attribute__((noinline)) static void open_window(void)
{
    struct listener *l = need(calloc(1, sizeof *l));

    l->fn = on_event;
    l->next = listeners;
    listeners = l;
}

__attribute__((noinline)) static void listener(void)
{
    int told = 0;

    for (int i = 0; i < TIMES; i++)
        open_window(); // and closed, but for its listener
    for (struct listener *l = listeners; l != NULL; l = l->next, told++)
        l->fn(l);
    printf("3 listener: an event is told to %d windows, all closed\n", told);
}

// ---- 4: a cache without an end ----

struct answer {
    struct answer *next;
    long question, answer;
    char proof[300];
};

static struct answer *cache[16];

__attribute__((noinline)) static long ask(long question)
{
    struct answer **at = &cache[question % 16], *a = *at;

    while (a != NULL && a->question != question)
        a = a->next;
    if (a == NULL) {
        a = need(calloc(1, sizeof *a));
        a->question = question;
        a->answer = question * question;
        a->next = *at;
        *at = a;
    }
    return a->answer;
}

__attribute__((noinline)) static void unbounded_cache(void)
{
    long sum = 0;

    for (long q = 0; q < 5 * TIMES; q++)
        sum += ask(q); // no question comes twice
    printf("4 unbounded cache: the sum is %ld\n", sum);
}

// ---- 5: a variable that a call-back has captured ----

struct page {
    int number;
    char text[4000];
};

struct callback {
    void (*fn)(const struct page *);
    const struct page *page; // fn needs its number only
};

static struct callback later[TIMES];

static void print_number(const struct page *p)
{
    printf("%s%d", p->number == 0 ? "" : " ", p->number);
}

__attribute__((noinline)) static struct page *read_page(int number)
{
    struct page *p = need(calloc(1, sizeof *p));

    p->number = number;
    return p;
}

__attribute__((noinline)) static void captured_variable(void)
{
    for (int i = 0; i < TIMES; i++)
        later[i] = (struct callback){print_number, read_page(i)};
    printf("5 captured variable: pages ");
    for (int i = 0; i < TIMES; i++)
        later[i].fn(later[i].page);
    printf("\n");
}

int main(void)
{
    forgotten_free();
    cycle();
    listener();
    unbounded_cache();
    captured_variable();
    return 0;
}
