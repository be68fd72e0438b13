// See support.h.

#include "host-tests/support.h"

#include <signal.h>

#include "arch/base.h"

jmp_buf support_panic_jump;
int support_panic_expected;
char support_panic_text[512];

void panic(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(support_panic_text, sizeof support_panic_text, fmt, ap);
    va_end(ap);
    if (support_panic_expected)
        longjmp(support_panic_jump, 1);
    fprintf(stderr, "panic: %s\n", support_panic_text);
    abort();
}

// Of runtime/debug and runtime/libc, for the scheduler.
NORETURN void panic_deadlock(void);
void libc_flush(void);

__attribute__((weak)) void libc_flush(void)
{
}

void panic_deadlock(void)
{
    panic("fatal error: all goroutines are asleep - deadlock!");
}

// cmocka takes SIGSEGV for itself before each test; here it belongs to the
// machine (arch/host) and to the sanitizers.
void (*signal(int sig, void (*handler)(int)))(int)
{
    struct sigaction sa = {.sa_handler = handler}, old;

    if (sig == SIGSEGV || sigaction(sig, &sa, &old) != 0)
        return SIG_DFL;
    return old.sa_handler;
}

static uint64_t state;

// splitmix64.
uint64_t support_random(void)
{
    if (state == 0) {
        const char *s = getenv("SEED");

        state = s != NULL ? strtoull(s, NULL, 0) : 20261121;
        fprintf(stderr, "SEED=%llu\n", (unsigned long long)state);
    }
    uint64_t z = state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint64_t support_below(uint64_t n)
{
    return support_random() % n;
}
