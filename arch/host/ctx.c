// Contexts of the host by ucontext, told to the sanitizers.
//
// Slower than the few instructions of arch/x86_64 (swapcontext saves the signal
// mask by a system call), but known to every tool.

#define _GNU_SOURCE

#include <stdlib.h>
#include <ucontext.h>

#include "arch/host/host.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#ifndef HAVE_ASAN
#define HAVE_ASAN 0
#endif

#if HAVE_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

struct host_ctx {
    ucontext_t uc;
    void (*entry)(void *);
    void *arg;
    const void *bottom; // of the stack, for ASan
    size_t size;
    void *fake_stack;              // ASan's, while switched away
    struct host_ctx *next, **link; // [list_lock]
};

// All contexts, findable for LeakSanitizer even if a test drops its goroutines.
static struct host_ctx *all_ctx;
static struct spinlock list_lock;

static _Thread_local struct host_ctx *came_from, *going_to;

// After a switch: tell ASan that we have arrived, and learn the bounds of the
// stack we came from.
static void arrived(struct host_ctx *self)
{
#if HAVE_ASAN
    __sanitizer_finish_switch_fiber(self->fake_stack, &came_from->bottom,
                                    &came_from->size);
#else
    (void)self;
#endif
}

static void start(void)
{
    struct host_ctx *self = going_to;

    arrived(self);
    self->entry(self->arg);
    abort();
}

static struct host_ctx *new_ctx(void)
{
    struct host_ctx *c = calloc(1, sizeof *c);

    if (c == NULL)
        panic("host: no memory for a context");
    spin_lock(&list_lock);
    c->next = all_ctx;
    c->link = &all_ctx;
    if (c->next != NULL)
        c->next->link = &c->next;
    all_ctx = c;
    spin_unlock(&list_lock);
    return c;
}

void arch_ctx_free(struct arch_ctx *ctx)
{
    struct host_ctx *c = ctx->impl;

    if (c == NULL)
        return;
    spin_lock(&list_lock);
    *c->link = c->next;
    if (c->next != NULL)
        c->next->link = c->link;
    spin_unlock(&list_lock);
    free(c);
    ctx->impl = NULL;
}

enum { FIRST_STACK = 64 * 1024 };

void arch_ctx_init(struct arch_ctx *ctx, void *stack_top, void (*entry)(void *),
                   void *arg)
{
    struct host_ctx *c = new_ctx();

    getcontext(&c->uc);
    c->uc.uc_stack.ss_sp = (char *)stack_top - FIRST_STACK;
    c->uc.uc_stack.ss_size = FIRST_STACK;
    c->uc.uc_link = NULL;
    c->entry = entry;
    c->arg = arg;
    c->bottom = (char *)stack_top - FIRST_STACK;
    c->size = FIRST_STACK;
    makecontext(&c->uc, start, 0);
    ctx->impl = c;
}

__attribute__((noinline)) static void switch_to(struct arch_ctx *from,
                                                const struct arch_ctx *to)
{
    if (from->impl == NULL)
        from->impl = new_ctx();
    struct host_ctx *f = from->impl, *t = to->impl;

    came_from = f;
    going_to = t;
#if HAVE_ASAN
    __sanitizer_start_switch_fiber(&f->fake_stack, t->bottom, t->size);
#endif
    swapcontext(&f->uc, &t->uc);
    arrived(f);
}

void arch_ctx_enter(struct arch_ctx *from, const struct arch_ctx *to)
{
    host_look_at_timer();
    switch_to(from, to);
}

void arch_ctx_switch(struct arch_ctx *from, const struct arch_ctx *to)
{
    switch_to(from, to);
}

// Nobody is interrupted here.

size_t arch_full_size(void)
{
    return 64;
}

void arch_ctx_interrupt(struct arch_ctx *ctx, void *area,
                        const struct trap_frame *tf)
{
    (void)ctx, (void)area, (void)tf;
}

bool arch_ctx_where(const struct arch_ctx *ctx,
                    bool (*readable)(uintptr_t va, size_t n), uintptr_t *pc,
                    uintptr_t *fp, const struct trap_frame **tf)
{
    (void)ctx, (void)readable, (void)pc, (void)fp, (void)tf;
    return false;
}

void arch_ctx_leave(const struct arch_ctx *to)
{
    (void)to;
    abort();
}

void arch_set_tls(void *tcb)
{
    (void)tcb; // %fs is glibc's
}

size_t arch_fpu_size(void)
{
    return 64; // swapcontext keeps what the ABI asks for
}

void arch_fpu_save(void *area)
{
    (void)area;
}

void arch_fpu_restore(const void *area)
{
    (void)area;
}

void arch_call_others(void (*fn)(void *), void *arg)
{
    (void)fn, (void)arg; // no interrupts between threads
}
