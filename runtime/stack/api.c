// <gneiss/stack.h>.

#include <gneiss/stack.h>

#include "runtime/stack/stack.h"

size_t gn_stack_used(void)
{
    return stack_top(g_current()) - (uintptr_t)__builtin_frame_address(0);
}

size_t gn_stack_high(void)
{
    const struct g *g = g_current();

    return stack_top(g) - stack_low(g);
}

size_t gn_stack_limit(void)
{
    return g_current()->limit;
}

struct trim_call {
    uintptr_t sp;
    uint64_t pages;
};

static void trim_call(void *arg)
{
    struct trim_call *c = arg;

    c->pages = stack_trim(g_current(), c->sp);
}

size_t gn_stack_trim(void)
{
    // The frames of this call, and of what it calls before it leaves the stack.
    enum { OURS = 512 };
    struct trim_call c = {(uintptr_t)__builtin_frame_address(0) - OURS, 0};

    arch_on_system_stack(trim_call, &c);
    return c.pages * PAGE_SIZE;
}
