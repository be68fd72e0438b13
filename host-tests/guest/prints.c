// Two CPUs print to stdout at the same time, and main ends with text that
// nobody has flushed: all of it has to arrive.

#include <stdio.h>

#include "host-tests/guest/par.h"

enum { LINES = 5000 };

static void print_lines(unsigned cpu, void *arg)
{
    (void)arg;
    for (int i = 0; i < LINES; i++)
        printf("cpu %u line %d\n", cpu, i);
}

int main(void)
{
    par_run(print_lines, NULL);
    printf("the end, without a newline");
    return 0;
}
