// Switching between stacks: contexts, and the system stack of the CPU. Nothing here
// is privileged: a process (arch/host/process) does the same.
//
// Whoever links this defines ctx_resume and trap_return, for interrupted contexts.

#include "arch/x86_64/percpu.h"
#include "arch/x86_64/switch.inc"

    .text

// void arch_on_system_stack(void (*fn)(void *), void *arg)
    .globl arch_on_system_stack
    .type arch_on_system_stack, @function
arch_on_system_stack:
    pushq %rbp
    movq %rsp, %rbp
    movq %rdi, %rax
    movq %rsi, %rdi
    cmpq %gs:CPU_SYS_LOW, %rsp    // a goroutine's rsp lies in no CPU's range,
    jb 1f                         // so a migration between these is harmless
    cmpq %gs:CPU_SYS_TOP, %rsp
    ja 1f
    call *%rax
    popq %rbp
    ret
1:  incl %gs:CPU_NOPREEMPT        // from here on the CPU is fixed
    movq %gs:CPU_SYS_SP, %rsp
    andq $-16, %rsp
    call *%rax
    movq %rbp, %rsp
    popq %rbp
    decl %gs:CPU_NOPREEMPT
    jz 2f
    ret
2:  jmp preempt_pending_slow
    .size arch_on_system_stack, . - arch_on_system_stack

// void arch_ctx_enter(struct arch_ctx *from, const struct arch_ctx *to)
    .globl arch_ctx_enter
    .type arch_ctx_enter, @function
arch_ctx_enter:
    save_callee
    movq %rsp, %gs:CPU_SYS_SP
    movq %rsp, (%rdi)
    cmpq $0, 8(%rsi)              // to->full
    jne 1f
    movq (%rsi), %rsp
    restore_fpu_control
    restore_callee
    ret
1:  movq %rsi, %rdi
    call ctx_resume               // the frame that goes on
    movq %rax, %rsp
    jmp trap_return
    .size arch_ctx_enter, . - arch_ctx_enter

// void arch_ctx_switch(struct arch_ctx *from, const struct arch_ctx *to)
//
// A process has more to keep, and its own arch_ctx_switch before this.
    .globl ctx_switch
    .weak arch_ctx_switch
    .type ctx_switch, @function
    .type arch_ctx_switch, @function
ctx_switch:
arch_ctx_switch:
    save_callee
    save_fpu_control
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    restore_callee
    ret
    .size ctx_switch, . - ctx_switch
    .size arch_ctx_switch, . - arch_ctx_switch

// First instructions of a new context: rbx = entry, r12 = arg, rbp = 0.
    .globl ctx_first
    .type ctx_first, @function
ctx_first:
    movq %r12, %rdi
    call *%rbx
    ud2
    .size ctx_first, . - ctx_first

// Where code that a trap interrupted goes on instead (arch_trap_call): calls rax as if
// the instruction at rdx had.
    .globl trap_called
    .type trap_called, @function
trap_called:
    pushq %rdx
    jmp *%rax
    .size trap_called, . - trap_called

    .section .note.GNU-stack, "", @progbits
