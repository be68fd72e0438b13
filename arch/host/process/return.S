// Returning to interrupted code without a system call, and leaving for the loop.
//
// In a section of its own: who is interrupted here is about to be the goroutine that
// it returns to, whose area is still in use, and can't leave (signal.c).

#include "arch/x86_64/percpu.h"
#include "arch/x86_64/switch.inc"

    .section gn_critical, "ax", @progbits

// rsp: a struct trap_frame, whose pad is the address of the FPU state.
    .globl trap_return
    .type trap_return, @function
trap_return:
    movq 8(%rsp), %rdi
    movl $-1, %eax
    movl $-1, %edx
    cmpb $0, signal_xsave(%rip)
    je 1f
    xrstor64 (%rdi)
    jmp 2f
1:  fxrstor64 (%rdi)
2:  return_to_frame
    .size trap_return, . - trap_return

// void ctx_leave(const struct arch_ctx *to)
    .globl ctx_leave
    .type ctx_leave, @function
ctx_leave:
    movq (%rdi), %rsp
    restore_callee
    ret
    .size ctx_leave, . - ctx_leave

    .section .note.GNU-stack, "", @progbits
