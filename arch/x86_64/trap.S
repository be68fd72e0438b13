// Exception and interrupt entries (R2, R3).
//
// Every vector enters on an IST stack of its class, because the interrupted
// stack may not be mapped: pushing there would turn a page fault into a double
// fault and lose an external interrupt for good. Interrupts are off. The stub
// saves the state on the IST page, copies it to the CPU's system stack and goes
// on there, so the IST page is free again before the first C instruction. Where
// it continues:
//
//   interrupted on the system stack    below the interrupted rsp - 128
//   ... with less than SYS_MARGIN left the emergency stack
//   anywhere else                      at %gs:CPU_SYS_SP
//
// NMI, #DF and #MC stay where they are: they may have interrupted the copying
// itself. NMI handlers never fault and take no lock.
//
// Source: Intel SDM vol. 3, 6.14 (64-bit interrupt handling, IST).

#include "arch/x86_64/percpu.h"
#include "arch/x86_64/switch.inc"

    .text

    // One 16-byte entry per vector; idt.c computes the addresses.
    .balign 16
    .globl trap_entries
trap_entries:
    .set v, 0
    .rept VECTORS
    .balign 16
    // The CPU pushes an error code for these; for the others we push 0.
    .if (v == 8) || (v >= 10 && v <= 14) || (v == 17) || (v == 21) || (v == 29) || (v == 30)
    .else
    pushq $0
    .endif
    .byte 0x68 // pushq $v, always the long form
    .long v
    .if (v == 2) || (v == 8) || (v == 18)
    jmp trap_stay
    .else
    jmp trap_move
    .endif
    .set v, v + 1
    .endr

    .macro save_registers
    pushq %rax
    pushq %rcx
    pushq %rdx
    pushq %rbx
    pushq %rbp
    pushq %rsi
    pushq %rdi
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    pushq $0
    movq %cr2, %rax
    pushq %rax
    cld
    .endm

    .globl trap_move
    .type trap_move, @function
trap_move:
    save_registers
    movq %rsp, %rsi
    movq TF_RSP(%rsi), %rax
    movq %gs:CPU_SYS_LOW, %rdx
    leaq -4096(%rdx), %rcx        // the guard page below it
    cmpq %rcx, %rax
    jb 1f
    cmpq %gs:CPU_SYS_TOP, %rax
    ja 1f
    leaq -(RED_ZONE + TF_WORDS * 8)(%rax), %rdi
    addq $SYS_MARGIN, %rdx
    cmpq %rdx, %rdi
    jae 2f
    movq %gs:CPU_EMERGENCY_TOP, %rdi
    subq $TF_WORDS * 8, %rdi
    jmp 2f
1:  movq %gs:CPU_SYS_SP, %rdi
    subq $TF_WORDS * 8, %rdi
2:  andq $-16, %rdi
    movl $TF_WORDS, %ecx
    movq %rdi, %rdx
    rep movsq
    movq %rdx, %rsp
trap_call:
    movq %rsp, %rdi
    xorl %ebp, %ebp
    call trap_dispatch
    .globl trap_return
trap_return:
    return_to_frame
    .size trap_move, . - trap_move

    .type trap_stay, @function
trap_stay:
    save_registers
    jmp trap_call
    .size trap_stay, . - trap_stay

// void arch_ctx_leave(const struct arch_ctx *to)
    .globl arch_ctx_leave
    .type arch_ctx_leave, @function
arch_ctx_leave:
    movq (%rdi), %rsp
    restore_callee
    sti
    ret
    .size arch_ctx_leave, . - arch_ctx_leave

// void cpu_enter_system(void (*entry)(void))
    .globl cpu_enter_system
    .type cpu_enter_system, @function
cpu_enter_system:
    movq %gs:CPU_SYS_TOP, %rsp
    movq %rsp, %gs:CPU_SYS_SP
    xorl %ebp, %ebp
    pushq $0
    pushq $0
    call *%rdi
    ud2
    .size cpu_enter_system, . - cpu_enter_system

    .section .note.GNU-stack, "", @progbits
