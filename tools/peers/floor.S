// The least kernel that the PVH protocol starts: it leaves at once through the
// exit device, as a program of ours does at its end. What QEMU takes to run it
// is the floor under every boot, measured with the same flags and machine.

    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long floor_entry

    .text
    .code32
    .globl floor_entry
floor_entry:
    movw $0xf4, %dx
    movb $0x10, %al
    outb %al, %dx
1:  hlt
    jmp 1b
    .section .note.GNU-stack, "", @progbits
