// What runtime/libc/port.h asks for, over arch/, mm/ and the scheduler.

#include "runtime/libc/port.h"

#include <errno.h>
#include <string.h>

#include "arch/arch.h"
#include "arch/fmt.h"
#include "arch/option.h"
#include "mm/mm.h"
#include "runtime/debug/debug.h"
#include "runtime/sched/g_impl.h"
#include "runtime/sched/input.h"

static bool tty;
OPTION_BOOL(opt_tty, "console.tty", tty,
            "stdin and stdout are a person's terminal (set by the runner)");

size_t console_write(int stream, const void *p, size_t n)
{
    arch_console_write(stream == 1 ? ARCH_STDOUT : ARCH_STDERR, p, n);
    return n;
}

ssize_t console_read(void *p, size_t n)
{
    return input_read(p, n);
}

bool console_is_tty(void)
{
    return tty;
}

uint64_t clock_mono_ns(void)
{
    return arch_mono_ns();
}

uint64_t clock_wall_ns(void)
{
    return arch_wall_ns();
}

void clock_sleep_until(uint64_t mono_ns)
{
    if (g_current() != NULL)
        g_sleep_until(mono_ns);
}

int random_bytes(void *p, size_t n)
{
    unsigned char *out = p;

    while (n > 0) {
        uint64_t v = arch_random();
        size_t k = n < sizeof v ? n : sizeof v;

        memcpy(out, &v, k);
        out += k;
        n -= k;
    }
    return 0;
}

// ---- memory for newlib's malloc: one demand-zero region ----

static struct region brk_region = {
    .start = ARCH_REGION_BASE,
    .end = ARCH_REGION_BASE,
    .ops = &region_anon_ops,
    .name = "the heap of malloc",
    .prot = PROT_R | PROT_W,
    .flags = REGION_FIXED,
};

// Called under malloc's lock.
void *libc_sbrk(ptrdiff_t incr)
{
    static uintptr_t brk = ARCH_REGION_BASE;
    static bool added;
    uintptr_t old = brk, end = brk + (uintptr_t)incr;

    if (!added && region_add(&brk_region) != 0)
        return (void *)-1;
    added = true;
    if ((incr > 0 && (end < old || end > ARCH_REGION_END)) ||
        (incr < 0 && (end > old || end < ARCH_REGION_BASE)))
        return (void *)-1;
    uint64_t before = align_up(old, PAGE_SIZE) - ARCH_REGION_BASE;
    uint64_t after = align_up(end, PAGE_SIZE) - ARCH_REGION_BASE;

    // R14: what is promised here can be touched.
    uint64_t had = mm_mapping_cost(before), has = mm_mapping_cost(after);

    if (has > had && !mm_charge(has - had))
        return (void *)-1;
    if (after != before &&
        region_resize(&brk_region, ARCH_REGION_BASE + after) != 0) {
        mm_uncharge(has - had);
        return (void *)-1;
    }
    if (has < had)
        mm_uncharge(had - has);
    brk = end;
    return (void *)old;
}

// What newlib's ldtoa prints exponents with (see tools/newlib).
int libc_small_sprintf(char *out, const char *fmt, ...) PRINTF(2, 3);

int libc_small_sprintf(char *out, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    size_t n = fmt_vstring(out, 32, fmt, ap);
    va_end(ap);
    return (int)n;
}

// ---- threads and the end ----

struct _reent **g_reent_slot(void)
{
    static struct _reent *none;
    struct g *g = g_current();

    return g != NULL ? &g->reent : &none;
}

void gn_exit_status(int status)
{
    arch_power_off(status);
}

enum { STATUS_ABORT = 134 }; // 128 + SIGABRT, as a shell shows it

void gn_abort(void)
{
    panic_status(STATUS_ABORT, "panic: abort() called");
}

void gn_panic_assert(const char *file, int line, const char *func,
                     const char *expr)
{
    char text[256];

    fmt_string(text, sizeof text, "panic: assertion failed: %s (%s, %s:%d)",
               expr, func != NULL ? func : "?", file, line);
    panic_status(STATUS_ABORT, text);
}
