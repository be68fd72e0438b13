// A ring of goroutines: a token goes round, each wakes the next and waits for its
// turn.
//
// usage: ring [GOROUTINES [ROUNDS]]    (100000, 2)

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/mem.h>
#include <gneiss/sync.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct place {
    struct gn_wg turn; // one thing to be done: that the token comes
    size_t i;
};

static struct place *ring;
static size_t n, rounds, passed;
static struct gn_wg all;

static void stand(void *arg)
{
    struct place *me = arg, *next = &ring[(me->i + 1) % n];

    for (size_t r = 0; r < rounds; r++) {
        gn_wg_wait(&me->turn);
        gn_wg_add(&me->turn, 1);
        passed++; // who has the token is alone
        gn_wg_done(&next->turn);
    }
    gn_wg_done(&all);
}

static double seconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t number(const char *s, size_t most)
{
    char *end;
    unsigned long v = strtoul(s, &end, 10);

    if (*s < '0' || *s > '9' || *end != '\0' || v == 0 || v > most) {
        fprintf(stderr, "ring: %s: must be a number from 1 to %zu\n", s, most);
        exit(2);
    }
    return v;
}

int main(int argc, char **argv)
{
    struct gn_mem_stats before, after;

    if (argc > 3) {
        fprintf(stderr, "usage: ring [GOROUTINES [ROUNDS]]\n");
        return 2;
    }
    n = argc > 1 ? number(argv[1], 1000000) : 100000;
    rounds = argc > 2 ? number(argv[2], 1000000) : 2;
    ring = calloc(n, sizeof *ring);
    if (ring == NULL) {
        perror("ring");
        return 1;
    }
    gn_mem_stats(&before);
    double start = seconds();

    gn_wg_add(&all, (int64_t)n);
    for (size_t i = 0; i < n; i++) {
        ring[i].i = i;
        gn_wg_add(&ring[i].turn, 1);
        if (gn_go(stand, &ring[i]) != 0) {
            fprintf(stderr,
                    "ring: no memory for goroutine %zu of %zu: run with more "
                    "MEM\n",
                    i + 1, n);
            return 1;
        }
    }
    gn_yield();
    double made = seconds();

    gn_mem_stats(&after);
    gn_wg_done(&ring[0].turn);
    gn_wg_wait(&all);
    double end = seconds();

    printf("%zu goroutines on %u CPU%s: %.2f us and %zu bytes each\n", n,
           gn_cpu_count(), gn_cpu_count() == 1 ? "" : "s",
           (made - start) * 1e6 / (double)n,
           (size_t)((before.frames_free - after.frames_free) * 4096 / n));
    printf("the token went round %zu time%s: %.2f us from one to the next\n",
           rounds, rounds == 1 ? "" : "s", (end - made) * 1e6 / (double)passed);
    if (passed != n * rounds) {
        printf("it was passed on %zu times, not %zu\n", passed, n * rounds);
        return 1;
    }
    return 0;
}
