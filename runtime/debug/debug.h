// Reports: panics, unserved faults, backtraces with names.
#pragma once

#include "arch/arch.h"

// Registers the report as the end of every unserved fault. Context: boot.
void debug_init(void);

// The function that holds addr, and addr's offset in it; NULL if the image's
// symbol table has none. Context: any.
const char *symbol_find(uintptr_t addr, size_t *offset);

// Prints a backtrace to stderr: the code at pc (0: none), then the return
// address `ret` (0: none), then those found from frame pointer fp. Reads only
// memory that is mapped. Context: any.
void backtrace_print(uintptr_t pc, uintptr_t ret, uintptr_t fp);

// Prints up to n return addresses, to the first that is 0. Context: any.
void backtrace_print_calls(const uintptr_t *calls, size_t n);

// The same as values: at most max return addresses. Returns their number.
size_t backtrace_collect(uintptr_t fp, uintptr_t *pcs, size_t max);

// Where a goroutine stands that does not run: what backtrace_print takes. Returns
// false if it can't be read. Context: any; it may go on meanwhile.
struct backtrace_place {
    uintptr_t pc, ret, fp;
};
bool backtrace_where(const struct arch_ctx *ctx, struct backtrace_place *b);

// The return address of what was interrupted at tf, if it has no frame of its own
// from where to find it; else 0.
uintptr_t backtrace_frameless(const struct trap_frame *tf, uintptr_t pc);

// Prints all goroutines to stderr, but for one: state, age in minutes, name,
// backtrace. Context: any.
struct g;
void dump_goroutines(const struct g *but);

// Starts what the option sched.dump asks for. Context: the boot CPU, before the
// first goroutine.
void dump_init(void);

// Prints them if the key was pressed. Context: as sched_on_pending says.
void dump_serve(void);

// As panic(), for the C library: ends with this status, and with no more than
// `what` as the first line.
NORETURN void panic_status(int status, const char *what);

// Has tf go on in a panic of its goroutine if the trap has to become one, and returns
// true. NULL: there is nobody who could want that. Context: hooks.fatal.
extern bool (*panic_of_trap)(struct trap_frame *tf, const struct arch_trap *t);

// The end of a program by a panic of its own: prints what print(arg) does, where, and
// all goroutines. Context: goroutine.
NORETURN void panic_report(void (*print)(const void *), const void *arg);

// The end of a program in which nobody can go on any more. Context: the scheduler's
// loop.
NORETURN void panic_deadlock(void);
