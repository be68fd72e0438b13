// From the PVH boot protocol to the first line of C.
//
// QEMU enters pvh_entry in 32-bit protected mode, paging off, with the physical
// address of struct hvm_start_info in %ebx. We map the first GiB with 2 MiB
// pages at 0 (we run there), at the direct map and at the image's address, switch to long
// mode, point %gs at the boot CPU's block and call boot_main(start_info) on the
// boot stack. These tables live in .boot.bss and are given back once the real
// ones are loaded; nobody else uses the low half of them but the AP start.
//
// Source: Xen's PVH boot ABI (docs/misc/pvh.pandoc); Intel SDM vol. 3, 9.8.5.

#include "arch/x86_64/percpu.h"

#define IMAGE_BASE    0xffffffff80000000
#define PTE_P_W       0x3
#define PTE_P_W_PS    0x83
#define CR0_PE_WP_PG  0x80010033 // PG | WP | NE | ET | MP | PE
#define CR4_BOOT      0x6a0      // PAE | PGE | OSFXSR | OSXMMEXCPT
#define MSR_EFER      0xc0000080
#define EFER_LME      0x100
#define MSR_GS_BASE   0xc0000101
#define BOOT_STACK    6144

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long pvh_entry - IMAGE_BASE

    .section .boot.text, "ax"
    .code32
    .globl pvh_entry
pvh_entry:
    cld
    cli
    // The clock's first stamp: how long the boot took counts from here.
    rdtsc
    movl %eax, boot_entry_tsc - IMAGE_BASE
    movl %edx, boot_entry_tsc + 4 - IMAGE_BASE
    movl $boot_stack_top - IMAGE_BASE, %esp

    // Not every loader clears bss, and the tables below are in it.
    xorl %eax, %eax
    movl $bss_start - IMAGE_BASE, %edi
    movl $bss_end - IMAGE_BASE + 3, %ecx
    subl $bss_start - IMAGE_BASE, %ecx
    shrl $2, %ecx
    rep stosl
    movl $boot_vars_start - IMAGE_BASE, %edi
    movl $boot_pml4 - IMAGE_BASE + 4096 * 3 + 3, %ecx
    subl %edi, %ecx
    shrl $2, %ecx
    rep stosl

    // One table for all three: entry 0 is the first GiB of the identity and the
    // direct map, entry 510 that of the image.
    movl $boot_pdpt - IMAGE_BASE + PTE_P_W, %eax
    movl %eax, boot_pml4 - IMAGE_BASE
    movl %eax, boot_pml4 + 256 * 8 - IMAGE_BASE
    movl %eax, boot_pml4 + 511 * 8 - IMAGE_BASE
    movl $boot_pd - IMAGE_BASE + PTE_P_W, boot_pdpt - IMAGE_BASE
    movl $boot_pd - IMAGE_BASE + PTE_P_W, boot_pdpt + 510 * 8 - IMAGE_BASE
    movl $boot_pd - IMAGE_BASE, %edi
    movl $PTE_P_W_PS, %eax
1:  movl %eax, (%edi)
    addl $8, %edi
    addl $0x200000, %eax
    cmpl $0x40000000 + PTE_P_W_PS, %eax
    jne 1b

    movl $CR4_BOOT, %eax
    movl %eax, %cr4
    movl $boot_pml4 - IMAGE_BASE, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $EFER_LME, %eax
    wrmsr
    movl $CR0_PE_WP_PG, %eax
    movl %eax, %cr0
    lgdt boot_gdt_ptr - IMAGE_BASE
    ljmp $8, $entry64 - IMAGE_BASE

    .code64
entry64:
    movq $1f, %rax
    jmp *%rax
1:  xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl %eax, %fs
    movl %eax, %gs
    movq $boot_stack_top, %rsp
    movl $MSR_GS_BASE, %ecx
    movq $boot_cpu, %rax
    movq %rax, %rdx
    shrq $32, %rdx
    wrmsr
    fninit
    xorl %ebp, %ebp
    movl %ebx, %edi
    pushq $0
    call boot_main
    ud2

    .section .boot.data, "aw"
    .balign 8
    .globl boot_gdt
boot_gdt:
    .quad 0
    .quad 0x00af9b000000ffff // code, ring 0, long
    .quad 0x00cf93000000ffff // data, ring 0
boot_gdt_ptr:
    .word 23
    .long boot_gdt - IMAGE_BASE

    .section .boot.bss, "aw", @nobits
    .balign 4096
    .globl boot_pml4
boot_pml4:      .skip 4096
boot_pdpt:      .skip 4096
boot_pd:        .skip 4096
    .skip BOOT_STACK
boot_stack_top:
    .skip 2048 // for the report of a trap before the real stacks exist
    .globl boot_trap_stack_top
boot_trap_stack_top:
    .section .note.GNU-stack, "", @progbits
