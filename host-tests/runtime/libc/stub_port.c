// What runtime/libc/port.h and lock.h ask for, for host tests: a lock that
// fails when it is taken twice, a clock that stands still until it is set, a
// console in memory that insists on being called without the lock.

#include "host-tests/runtime/libc/stub_port.h"

#include "arch/base.h"
#include "runtime/libc/lock.h"
#include "runtime/libc/port.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t stub_wall_ns = 1000000000u;
bool stub_tty;
const char *stub_input = "";
char stub_output[3][4096];
int stub_lock_depth;

void stub_reset(void)
{
    stub_wall_ns = 1000000000u;
    stub_tty = false;
    stub_input = "";
    memset(stub_output, 0, sizeof(stub_output));
}

void fs_lock(void)
{
    ASSERT(stub_lock_depth == 0);
    stub_lock_depth++;
}

void fs_unlock(void)
{
    ASSERT(stub_lock_depth == 1);
    stub_lock_depth--;
}

size_t console_write(int stream, const void *p, size_t n)
{
    char *to = stub_output[stream];
    size_t used = strlen(to), room = sizeof(stub_output[stream]) - 1 - used;

    ASSERT(stub_lock_depth == 0);
    memcpy(to + used, p, n < room ? n : room);
    return n;
}

ssize_t console_read(void *p, size_t n)
{
    size_t len = strlen(stub_input);

    ASSERT(stub_lock_depth == 0);
    n = n < len ? n : len;
    memcpy(p, stub_input, n);
    stub_input += n;
    return (ssize_t)n;
}

bool console_is_tty(void)
{
    return stub_tty;
}

uint64_t clock_wall_ns(void)
{
    return stub_wall_ns;
}

int random_bytes(void *p, size_t n)
{
    ASSERT(stub_lock_depth == 0);
    memset(p, 0x5a, n);
    return 0;
}

uint64_t stub_seed(const char *test)
{
    const char *given = getenv("TEST_SEED");
    uint64_t seed =
        given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;

    fprintf(stderr, "# %s: TEST_SEED=%llu\n", test, (unsigned long long)seed);
    return seed;
}

// splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
// generators", 2014).
uint64_t stub_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}
