// Contexts: what switch.S finds on their stacks, or in the areas of those that were
// interrupted; and what makes a goroutine leave its CPU when its count is zero.

#include "arch/arch.h"

void arch_ctx_init(struct arch_ctx *ctx, void *stack_top, void (*entry)(void *),
                   void *arg)
{
    extern void ctx_first(void);
    uint64_t *sp = stack_top;

    *--sp = 0;                               // ends the frame chain
    *--sp = 0;                               // keeps the call 16-byte aligned
    *--sp = (uint64_t)(uintptr_t)ctx_first;  // return address
    *--sp = 0;                               // rbp
    *--sp = (uint64_t)(uintptr_t)entry;      // rbx
    *--sp = (uint64_t)(uintptr_t)arg;        // r12
    *--sp = 0;                               // r13
    *--sp = 0;                               // r14
    *--sp = 0;                               // r15
    *--sp = UINT64_C(0x037f) << 32 | 0x1f80; // x87 control word, MXCSR
    ctx->rsp = (uint64_t)(uintptr_t)sp;
}

void arch_ctx_free(struct arch_ctx *ctx)
{
    ctx->rsp = 0; // all of it lies on the stack
}

static void run_pending(void *arg)
{
    bool *leave = arg;

    preempt_clear_pending();
    *leave = arch_hooks.pending != NULL && arch_hooks.pending();
    *leave |= arch_leave_asked();
}

// The count is zero and something is pending. The work takes locks of mm and of
// the scheduler, so it is done on the system stack, which cannot fault (R5).
void preempt_pending_slow(void)
{
    bool leave;

    arch_on_system_stack(run_pending, &leave);
    if (leave)
        arch_hooks.leave();
}

size_t arch_full_size(void)
{
    return arch_fpu_size() + align_up(sizeof(struct trap_frame), 64);
}

bool arch_ctx_where(const struct arch_ctx *ctx,
                    bool (*readable)(uintptr_t va, size_t n), uintptr_t *pc,
                    uintptr_t *fp, const struct trap_frame **tf)
{
    enum { RBP = 6, RIP = 7 }; // words from where save_callee has left rsp

    const char *area = ctx->full;
    const uint64_t *sp = (const uint64_t *)ctx->rsp;

    *tf = NULL;
    if (area != NULL) {
        *tf = (const struct trap_frame *)(area + arch_fpu_size());
        *pc = (*tf)->rip;
        *fp = (*tf)->rbp;
        return true;
    }
    if (!readable((uintptr_t)sp, (RIP + 1) * sizeof *sp))
        return false;
    *pc = sp[RIP];
    *fp = sp[RBP];
    return true;
}

uintptr_t arch_ctx_saved(const struct arch_ctx *ctx, const void **registers,
                         size_t *bytes)
{
    const char *area = ctx->full;

    *registers = area;
    *bytes = area != NULL ? arch_full_size() : 0;
    return area != NULL
               ? ((const struct trap_frame *)(area + arch_fpu_size()))->rsp -
                     RED_ZONE
               : ctx->rsp;
}

void trap_called(void);

bool arch_trap_call(struct trap_frame *tf,
                    void (*fn)(uintptr_t, uintptr_t, uintptr_t), uintptr_t a,
                    uintptr_t b)
{
    if ((tf->rflags & RFLAGS_IF) == 0)
        return false;
    tf->rax = (uintptr_t)fn;
    tf->rdi = a;
    tf->rsi = b;
    tf->rdx = tf->rip;
    tf->rip = (uintptr_t)trap_called;
    tf->rsp = align_down(tf->rsp - RED_ZONE, 16);
    tf->rflags &= ~(uint64_t)RFLAGS_DF;
    return true;
}
