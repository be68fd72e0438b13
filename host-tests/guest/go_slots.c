// The area of the stacks is used up: as many goroutines of 16 GiB as there is room
// for, and the next call says so and changes nothing, though there is memory left.
// When they have ended it works again, as often as before.

#include "host-tests/guest/room.h"
#include "host-tests/guest/settle.h"

#include <gneiss/cpu.h>
#include <gneiss/go.h>
#include <gneiss/sync.h>

#include <errno.h>

enum { MANY = 2000 };

static struct gn_wg gate, waiting;

static void wait_at_gate(void *arg)
{
    (void)arg;
    gn_wg_wait(&gate);
    gn_wg_done(&waiting);
}

static int go_16g(void)
{
    int err =
        gn_go_with(&(struct gn_go_options){.stack_limit = STACK_LIMIT_MAX},
                   wait_at_gate, NULL);

    if (err == 0)
        gn_wg_add(&waiting, 1);
    return err;
}

static size_t slots_used(void)
{
    size_t n = 0;

    while (stack_nth(n) != NULL)
        n++;
    return n;
}

static unsigned use_up(void)
{
    unsigned n = 0;
    int err;

    gn_wg_add(&gate, 1);
    while ((err = go_16g()) == 0)
        n++;
    IS(err, -ENOMEM, "there comes an end");
    return n;
}

static void end_all(size_t others)
{
    gn_wg_done(&gate);
    gn_wg_wait(&waiting);
    while (gn_go_count() > others)
        gn_yield();
}

static void nothing_changes(void)
{
    struct accounts before = settle();
    size_t n = gn_go_count();
    unsigned made = 0;

    for (int i = 0; i < 100; i++)
        made += go_16g() == 0;
    IS(made, 0, "an end for good");
    IS(gn_go_count(), n, "no goroutine comes of it");
    is_settled(&before, "refused");
}

int main(void)
{
    const size_t all = (ARCH_STACK_END - ARCH_STACK_BASE) / STACK_SLOT_BYTES;
    const size_t each =
        (STACK_LIMIT_MAX + STACK_SLOT_BYTES - 1) / STACK_SLOT_BYTES;

    gn_cpu_stay(0);
    puts("# and the output's buffer");
    (void)settle(); // the caretakers take slots, too
    size_t fit = (all - slots_used()) / each, others = gn_go_count();
    struct accounts before = settle();

    IS(use_up(), fit, "all of the area is used");
    ok(room() > 1000 && mm_free_frames() > 1000, "and memory is left");
    nothing_changes();
    end_all(others);
    is_settled(&before, "used up once");
    before = settle();
    IS(use_up(), fit, "it works again");
    end_all(others);
    is_settled(&before, "used up twice");
    // Address space is left nowhere: a goroutine gets more than it asks for.
    gn_wg_add(&gate, 1);
    gn_wg_add(&waiting, MANY);
    unsigned made = 0;

    for (unsigned i = 0; i < MANY; i++)
        made += gn_go(wait_at_gate, NULL) == 0;
    IS(made, MANY, "and goroutines that need less begin");
    gn_wg_add(&waiting, (int)made - MANY);
    end_all(others);
    is_settled(&before, "others");
    mm_check();
    return tap_end();
}
