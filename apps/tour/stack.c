// A stack that grows by page faults.

#include <stdio.h>

#include "apps/tour/tour.h"

enum { MAX_DEPTH = 2000, FRAME_BYTES = 1000 };

static uintptr_t deepest;

// Writes to its caller's variable from far below it.
static NOINLINE unsigned descend(unsigned depth, volatile unsigned *local)
{
    volatile char frame[FRAME_BYTES];

    frame[0] = (char)depth;
    deepest = (uintptr_t)&frame[0];
    *local += 1;
    if (depth > 1)
        return descend(depth - 1, local) + (frame[0] == (char)depth);
    return frame[0] == (char)depth;
}

static size_t stack_bytes(const struct gn_where *w)
{
    return gn_resident((void *)w->start, w->end - w->start);
}

static void draw(const struct gn_where *w, size_t before, size_t after)
{
    say("0x%012llx  +------+", (unsigned long long)w->start - PAGE);
    say("                | stop |  the guard: \"stack overflow\"");
    say("0x%012llx  +------+", (unsigned long long)w->start);
    say("                |      |  %s of addresses, which cost nothing",
        size_text(w->end - w->start - after));
    say("0x%012llx  +------+", (unsigned long long)(w->end - after));
    say("                | #### |  %s, mapped by faults just now",
        size_text(after - before));
    say("0x%012llx  +------+", (unsigned long long)(w->end - before));
    say("                | #### |  %s, there before", size_text(before));
    say("0x%012llx  +------+  top of the stack\n", (unsigned long long)w->end);
}

// Calls that take a quarter of the free memory at most.
static unsigned choose_depth(void)
{
    uint64_t most = stats().frames_free * PAGE / 4 / FRAME_BYTES;

    return most < MAX_DEPTH ? (unsigned)most : MAX_DEPTH;
}

void chapter_stack(void)
{
    unsigned depth = choose_depth(), need = depth * FRAME_BYTES;
    volatile unsigned local = 0;
    struct gn_where w = look((const void *)&local);
    const volatile unsigned *address = &local;
    size_t before = stack_bytes(&w);
    uint64_t faults = stats().faults;
    unsigned right = descend(depth, &local);
    size_t after = stack_bytes(&w);

    faults = stats().faults - faults;
    say("%u calls deep, %d bytes and more in each frame:\n", depth,
        FRAME_BYTES);
    draw(&w, before, after);
    claim(deepest + need < (uintptr_t)address,
          "the deepest frame was %s below this one",
          size_text((uintptr_t)address - deepest));
    claim(after >= need, "%u page faults gave the stack %u frames",
          (unsigned)faults, (unsigned)((after - before) / PAGE));
    claim(address == &local && local == depth && right == depth,
          "a local variable stayed at %p, and all %u saw it there",
          (const void *)address, depth);
    claim(look((void *)(w.start - 1)).kind == GN_KIND_GUARD,
          "at the far end is the guard, %s away",
          size_text((uintptr_t)address - w.start));
}
