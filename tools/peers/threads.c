// What a thread of the system costs: create, run, join. Prints nanoseconds of CPU time.

#include <pthread.h>
#include <stdio.h>
#include <time.h>

enum { CREATED = 20000, NS_PER_S = 1000000000 };

static long long cpu_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (long long)t.tv_sec * NS_PER_S + t.tv_nsec;
}

static void *nothing(void *arg)
{
    return arg;
}

int main(void)
{
    long long start = cpu_ns();
    pthread_t t;

    for (int i = 0; i < CREATED; i++) {
        if (pthread_create(&t, NULL, nothing, NULL) != 0 ||
            pthread_join(t, NULL) != 0)
            return 1;
    }
    printf("pthread_create %.1f\nend\n", (double)(cpu_ns() - start) / CREATED);
    return 0;
}
