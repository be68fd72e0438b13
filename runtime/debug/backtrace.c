// Backtraces by frame pointers.
//
// Everything is built with -fno-omit-frame-pointer, newlib and ports too, so
// rbp leads from frame to frame: [rbp] is the caller's rbp, [rbp + 8] the
// return address. A frame must lie above the one before it and be mapped, so a
// damaged chain ends the listing and nothing else; only arch_on_system_stack()
// leads down, once, from a system stack to the stack of its caller.

#include "arch/fmt.h"
#include "mm/mm.h"
#include "runtime/debug/debug.h"
#include "runtime/stack/stack.h"

enum { MAX_FRAMES = 48 };

size_t backtrace_collect(uintptr_t fp, uintptr_t *pcs, size_t max)
{
    size_t n = 0;

    while (n < max && fp % sizeof(void *) == 0 && mm_readable(fp, 16)) {
        const uintptr_t *frame = (const uintptr_t *)fp;

        if (frame[1] == 0)
            break;
        pcs[n++] = frame[1];
        // The one way down: from the system stack to the goroutine's.
        if (frame[0] <= fp &&
            (stack_owner(fp) != NULL || stack_owner(frame[0]) == NULL))
            break;
        fp = frame[0];
    }
    return n;
}

// A return address may be the first byte of the next function, if the call was
// the last instruction (of a function that never returns): look before it.
static void print_frame(unsigned n, uintptr_t pc, bool is_return)
{
    size_t offset;
    const char *name = symbol_find(pc - is_return, &offset);

    offset += is_return;
    if (name != NULL)
        fmt_err("  #%u 0x%lx %s+0x%lx\n", n, (unsigned long)pc, name,
                (unsigned long)offset);
    else
        fmt_err("  #%u 0x%lx ?\n", n, (unsigned long)pc);
}

void backtrace_print(uintptr_t pc, uintptr_t ret, uintptr_t fp)
{
    uintptr_t pcs[MAX_FRAMES];
    size_t n = backtrace_collect(fp, pcs, MAX_FRAMES);
    unsigned at = pc == 0; // #0 is where it happened, the others returns

    fmt_err("backtrace:\n");
    if (pc != 0)
        print_frame(at++, pc, false);
    if (ret != 0)
        print_frame(at++, ret, true);
    for (size_t i = 0; i < n; i++)
        print_frame(at++, pcs[i], true);
    if (n == MAX_FRAMES)
        fmt_err("  ... deeper frames left out\n");
}

void backtrace_print_calls(const uintptr_t *calls, size_t n)
{
    for (size_t i = 0; i < n && calls[i] != 0; i++)
        print_frame((unsigned)i, calls[i], true);
}

uintptr_t backtrace_frameless(const struct trap_frame *tf, uintptr_t pc)
{
    size_t offset;

    return symbol_find(pc, &offset) != NULL
               ? arch_trap_frameless_caller(tf, pc - offset, mm_readable)
               : 0;
}

bool backtrace_where(const struct arch_ctx *ctx, struct backtrace_place *b)
{
    const struct trap_frame *tf;

    if (!arch_ctx_where(ctx, mm_readable, &b->pc, &b->fp, &tf))
        return false;
    b->ret = tf != NULL ? backtrace_frameless(tf, b->pc) : 0;
    return true;
}
