// memcpy, memmove, memset, memcmp in general registers only (R2).
//
// arch/, mm/ and everything that an exception can reach must not touch XMM
// registers, and newlib's versions do. These replace them for the whole image:
// string instructions are what TCG and every CPU since Ivy Bridge (ERMS) copy
// quickest with, and they move aligned pointers as whole words, which the
// collector needs (R24): the bulk goes by movsq when both ends are aligned.

    .text
    .macro func name
    .globl \name
    .type \name, @function
    .balign 16
\name:
    .endm

// void *memcpy(void *dst, const void *src, size_t n)
func memcpy
    movq %rdi, %rax
    movq %rdx, %rcx
    movl %edi, %r8d
    orl %esi, %r8d
    testl $7, %r8d
    jnz 1f
    shrq $3, %rcx
    rep movsq
    movl %edx, %ecx
    andl $7, %ecx
1:  rep movsb
    ret
    .size memcpy, . - memcpy

// void *memmove(void *dst, const void *src, size_t n)
func memmove
    movq %rdi, %rcx
    subq %rsi, %rcx
    cmpq %rdx, %rcx
    jae memcpy                    // dst below src, or no overlap: forwards
    movq %rdi, %rax
    movl %edi, %r8d
    orl %esi, %r8d
    std
    testl $7, %r8d
    jnz 2f
    // Aligned: the odd tail first, then words from the top.
    movq %rdx, %rcx
    andl $7, %ecx
    leaq -1(%rdi, %rdx), %rdi
    leaq -1(%rsi, %rdx), %rsi
    rep movsb
    subq $7, %rdi
    subq $7, %rsi
    movq %rdx, %rcx
    shrq $3, %rcx
    rep movsq
    cld
    ret
2:  movq %rdx, %rcx
    leaq -1(%rdi, %rdx), %rdi
    leaq -1(%rsi, %rdx), %rsi
    rep movsb
    cld
    ret
    .size memmove, . - memmove

// void *memset(void *dst, int c, size_t n)
func memset
    movq %rdi, %r8
    movzbl %sil, %eax
    movabsq $0x0101010101010101, %rcx
    imulq %rcx, %rax
    movq %rdx, %rcx
    shrq $3, %rcx
    rep stosq
    movl %edx, %ecx
    andl $7, %ecx
    rep stosb
    movq %r8, %rax
    ret
    .size memset, . - memset

// int memcmp(const void *a, const void *b, size_t n)
func memcmp
    xorl %eax, %eax
    movq %rdx, %rcx
    cmpq %rcx, %rcx
    repe cmpsb
    je 1f
    movzbl -1(%rdi), %eax
    movzbl -1(%rsi), %ecx
    subl %ecx, %eax
1:  ret
    .size memcmp, . - memcmp

    .section .note.GNU-stack, "", @progbits
