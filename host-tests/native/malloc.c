// A program for the heap as the malloc of a Linux process (arch/host/native):
// threads that come and go, blocks that other threads give back, fork, moves.
// Not a cmocka test: nothing but this program shall allocate. Prints "ok", or
// what is wrong.
#define _GNU_SOURCE

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    GENERATIONS = 300, // more threads than there are CPUs
    AT_ONCE = 100,
    BLOCKS = 400,
    FORKS = 20,
};

static char *passed[AT_ONCE][BLOCKS];
static _Atomic int waiting;
static _Atomic int end;

static void must(int ok, const char *what)
{
    if (ok)
        return;
    fprintf(stderr, "malloc.c: %s\n", what);
    _exit(1);
}

static size_t size_of(unsigned i)
{
    return 1 + (size_t)i * i % 5000;
}

static char *take(unsigned i)
{
    char *p = malloc(size_of(i));

    must(p != NULL && (uintptr_t)p % 16 == 0, "malloc");
    must(malloc_usable_size(p) >= size_of(i), "usable size");
    memset(p, (int)i, size_of(i));
    return p;
}

static void give(char *p, unsigned i)
{
    for (size_t k = 0; k < size_of(i); k++)
        must(p[k] == (char)i, "contents");
    free(p);
}

// Gives back what the thread before it took, takes its own.
static void *generation(void *arg)
{
    char **mine = arg;

    for (unsigned i = 0; i < BLOCKS; i++) {
        if (mine[i] != NULL)
            give(mine[i], i);
        mine[i] = take(i);
    }
    return NULL;
}

// The same, and stays.
static void *lasting(void *arg)
{
    generation(arg);
    waiting++;
    while (!end)
        usleep(1000);
    return NULL;
}

static void *busy(void *arg)
{
    (void)arg;
    for (unsigned i = 0; !end; i++)
        give(take(i), i);
    return NULL;
}

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
    must(pthread_create(t, NULL, fn, arg) == 0, "pthread_create");
}

static void threads(void)
{
    pthread_t t[AT_ONCE];

    for (int i = 0; i < GENERATIONS; i++) {
        start(&t[0], generation, passed[0]);
        pthread_join(t[0], NULL);
    }
    for (int i = 0; i < AT_ONCE; i++)
        start(&t[i], lasting, passed[i]);
    while (waiting != AT_ONCE)
        usleep(1000);
    end = 1;
    for (int i = 0; i < AT_ONCE; i++)
        pthread_join(t[i], NULL);
    for (int i = 0; i < AT_ONCE; i++)
        for (unsigned k = 0; k < BLOCKS; k++)
            give(passed[i][k], k);
    memset(passed, 0, sizeof passed);
    end = 0;
}

// A child has what its parent had, and can go on, whatever others were doing.
static void forks(void)
{
    pthread_t t;
    char *p = take(77);

    start(&t, busy, NULL);
    for (int i = 0; i < FORKS; i++) {
        int status;
        pid_t child = fork();

        must(child >= 0, "fork");
        if (child == 0) {
            pthread_t mine;

            give(p, 77);
            start(&mine, generation, passed[1]);
            pthread_join(mine, NULL);
            _exit(0);
        }
        waitpid(child, &status, 0);
        must(status == 0, "a child failed");
    }
    end = 1;
    pthread_join(t, NULL);
    give(p, 77);
}

static void moves(void)
{
    size_t n = 5;
    char *p = NULL;

    for (; n < 64u << 20; n = n * 3 / 2 + 1) {
        p = realloc(p, n);
        must(p != NULL, "realloc");
        p[n - 1] = (char)n;
        p[n / 3] = 'x';
        char *q = realloc(p, n + n / 2);

        must(q != NULL && q[n - 1] == (char)n && q[n / 3] == 'x',
             "contents after realloc");
        p = q;
    }
    p = realloc(p, 100);
    must(p != NULL, "realloc to less");
    free(p);
    for (n = 1; n < 1u << 22; n *= 5) {
        p = calloc(3, n);
        must(p != NULL, "calloc");
        for (size_t i = 0; i < 3 * n; i++)
            must(p[i] == 0, "calloc: not zero");
        memset(p, 1, 3 * n);
        free(p);
    }
    for (size_t align = 16; align <= 1u << 22; align *= 2) {
        must(posix_memalign((void **)&p, align, 3 * align / 2) == 0 &&
                 (uintptr_t)p % align == 0,
             "posix_memalign");
        memset(p, 2, 3 * align / 2);
        free(p);
    }
}

int main(void)
{
    threads();
    forks();
    moves();
    puts("ok");
}
