// The per-CPU block that %gs points at, as offsets shared by C and assembly.
//
// The base of %gs is written once per CPU and never swapped (R9). 0x28 is where
// both compilers read the stack canary under -mcmodel=kernel (R1); it holds the
// same random value on every CPU, because a goroutine may start a function on
// one CPU and return from it on another.
#pragma once

#define CPU_SELF          0x00 // pointer to this block
#define CPU_ID            0x08 // u32, dense index, 0 is the boot CPU
#define CPU_NOPREEMPT     0x0c // u32, see preempt_disable() in arch_types.h
#define CPU_CURRENT       0x10 // the running goroutine, NULL in the scheduler
#define CPU_SYS_SP        0x18 // where the system stack goes on, if not on it
#define CPU_SYS_LOW       0x20 // lowest mapped byte of the system stack
#define CPU_CANARY        0x28
#define CPU_SYS_TOP       0x30 // one past the system stack
#define CPU_EMERGENCY_TOP 0x38 // one past the emergency stack (panic, #DF)
#define CPU_LOCAL         0x40 // arch_local()

// Set while nothing is pending, so that one decrement tests both: the result is
// zero only if the count became zero and something is pending (R6).
#define NOPREEMPT_IDLE 0x80000000

// Interrupt vectors 0..VECTORS-1 are used: exceptions, devices, the LAPIC's own.
#define VECTORS 0x50

// struct trap_frame, from trap.S: 24 words.
#define TF_WORDS 24
#define TF_RSP   (22 * 8) // offset of the interrupted rsp (see the struct)

// A trap that finds less than this of the system stack left continues on the
// emergency stack; a guard hit there is a system stack overflow.
#define SYS_MARGIN 1024

// Bytes below the interrupted rsp that belong to the interrupted code: libgcc
// uses the red zone although nothing else here does (DESIGN 13).
#define RED_ZONE 128
