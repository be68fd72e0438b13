// Where the other CPUs start: real mode to long mode in one page below 1 MiB.
//
// smp.c copies ap_start..ap_end to the page and fills in the words at the end.
// Each CPU draws a number; the number picks its per-CPU block, prepared by the
// boot CPU, so several can come up at once without a lock.
//
// Source: Intel SDM vol. 3, 8.4 (MP initialization), 9.8.5.

#include "arch/x86_64/percpu.h"

    .section .boot.text, "ax"
    .globl ap_start, ap_end, ap_far, ap_gdt_ptr, ap_cr3, ap_cr4, ap_efer
    .globl ap_next, ap_limit
    .code16
ap_start:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl ap_gdt_ptr - ap_start
    movl ap_cr4 - ap_start, %eax
    movl %eax, %cr4
    movl ap_cr3 - ap_start, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl ap_efer - ap_start, %eax
    wrmsr
    movl $0x80010033, %eax
    movl %eax, %cr0
    ljmpl *(ap_far - ap_start)

    .code64
    .globl ap_long
ap_long:
    movl $1, %eax
    lock xaddl %eax, ap_next(%rip)
    cmpl ap_limit(%rip), %eax
    jae 2f
    movq $cpu_table, %rbx
    movq 8(%rbx, %rax, 8), %rbx // 0 is the boot CPU
    movq CPU_SYS_TOP(%rbx), %rsp
    movq %rbx, %rdi
    movl $0xc0000101, %ecx
    movq %rbx, %rax
    movq %rbx, %rdx
    shrq $32, %rdx
    wrmsr
    xorl %ebp, %ebp
    movq $ap_main, %rax
    call *%rax
2:  cli
    hlt
    jmp 2b

    .balign 8
ap_far:
    .long 0 // address of ap_long in the page
    .word 8
    .balign 4
ap_gdt_ptr:
    .word 23
    .long 0 // address of ap_gdt in the page
    .balign 8
    .globl ap_gdt
ap_gdt:
    .quad 0
    .quad 0x00af9b000000ffff
    .quad 0x00cf93000000ffff
ap_cr3:   .long 0
ap_cr4:   .long 0
ap_efer:  .long 0
ap_next:  .long 0
ap_limit: .long 0
ap_end:
    .section .note.GNU-stack, "", @progbits
