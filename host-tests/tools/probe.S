// The guest of run_test.sh: a PVH kernel in 32-bit mode that does one thing,
// chosen by a macro when it is assembled. No paging, no interrupts, no stack.
//
//   STATUS=n    ends with that status
//   QUIET       leaves without a status
//   TRIPLE      triple fault
//   HANG        spins for ever; says "up" first
//   ECHO        copies the decoded input to stdout until its end
//   CMDLINE     prints the command line
//   TREE        prints the archive
//   FLOOD=n     prints n bytes, one by one
//   TRACE       prints lines as a backtrace has them, without a last newline
    .section .note.pvh, "a", @note
    .long 4, 4, 18
    .asciz "Xen"
    .long start

    .bss
    .balign 16
    .skip 64
stack:
    .text
    .code32

// Writes the NUL-terminated text at %esi to port %dx.
print:
    lodsb
    testb %al, %al
    jz 1f
    outb %al, %dx
    jmp print
1:  ret

    .globl start
start:
    cld
    movl $stack, %esp

#if defined(HANG)
    movl $up, %esi
    movw $0xe9, %dx
    call print
    jmp .

#elif defined(TRIPLE)
    lidt nil
    ud2

#elif defined(ECHO)
    xorl %ebx, %ebx // %bl: the byte before was DLE
    movw $0x3fa, %dx // FIFO on, 14 bytes at a time: ten times as quick
    movb $0xc1, %al
    outb %al, %dx
    movl $input, %esi
    movw $0xeb, %dx
    call print
receive:
    movw $0x3fd, %dx // line status: bit 0, a byte is there
1:  inb %dx, %al
    testb $1, %al
    jz 1b
    movw $0x3f8, %dx
    inb %dx, %al
    testb %bl, %bl
    jnz escaped
    cmpb $0x10, %al
    sete %bl
    je receive
emit:
    movw $0xe9, %dx
    outb %al, %dx
    jmp receive
escaped:
    xorl %ebx, %ebx
    cmpb $0x04, %al
    jne emit

#elif defined(CMDLINE)
    movl 24(%ebx), %esi
    movw $0xe9, %dx
    call print

#elif defined(TREE)
    cmpl $0, 12(%ebx) // number of modules
    je leave
    movl 16(%ebx), %eax
    movl (%eax), %esi
    movl 8(%eax), %ecx
    movw $0xe9, %dx
    rep outsb

#elif defined(FLOOD)
    movl $FLOOD, %ecx
    movw $0xe9, %dx
1:  movb %cl, %al
    outb %al, %dx
    loop 1b

#elif defined(TRACE)
    movl $frames, %esi
    movw $0xea, %dx
    call print
#endif

#if !defined(STATUS)
#define STATUS 0
#endif
leave:
#if !defined(QUIET)
    movl $record, %esi
    movw $0xeb, %dx
    call print
#endif
    movw $0xf4, %dx
    movb $0x10, %al
    outb %al, %dx
1:  hlt
    jmp 1b

#ifndef TRACE_TEXT
#define TRACE_TEXT ""
#endif
#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

    .section .rodata
up:
    .asciz "up\n"
input:
    .asciz "input\n"
record:
    .ascii "status "
    .ascii TEXT(STATUS)
    .asciz "\n"
frames:
    .ascii "panic: of a kind\n"
    .asciz TRACE_TEXT
    .balign 8
nil:
    .skip 8
    .section .note.GNU-stack, "", @progbits
