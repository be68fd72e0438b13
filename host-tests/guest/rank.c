// Breaks the order of locks, which a debug build reports: `make DEBUG=1`.
//
// usage: rank order | twice | none

#include <stdio.h>
#include <string.h>

#include "arch/arch.h"

static struct spinlock outer = SPINLOCK_INIT(RANK_OP);
static struct spinlock inner = SPINLOCK_INIT(RANK_MM);
static struct spinlock other = SPINLOCK_INIT(RANK_MM);

static void take(struct spinlock *first, struct spinlock *second)
{
    spin_lock(first);
    spin_lock(second);
    spin_unlock(second);
    spin_unlock(first);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";

    take(&outer, &inner);
    if (strcmp(what, "order") == 0)
        take(&inner, &outer);
    if (strcmp(what, "twice") == 0)
        take(&inner, &other);
    puts("not seen");
    return 0;
}
