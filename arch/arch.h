// The machine, as mm/ and runtime/ see it.
//
// Two implementations: arch/x86_64, the product, and arch/host, a Linux process
// (for unit tests, sanitizers and benchmarks). Nothing above this header knows
// which one it runs on; what would need an #ifdef there is missing here.
//
// arch_types.h of the chosen implementation supplies, as inline functions:
//
//   preempt_disable/enable/count, preempt_set_pending/clear_pending      (R6)
//   arch_critical_begin/end, ARCH_CRITICAL: the same for a few instructions
//   arch_cpu_id, arch_current, arch_set_current, arch_local/local_at/set_local (R10)
//   arch_bit_set/clear
//   arch_irq_disable/enable/restore, arch_irqs_enabled
//   arch_pause, arch_cycles, arch_direct, arch_direct_to_paddr
//   struct arch_ctx, ARCH_MAX_CPUS, the bases of the address space, pte_*
#pragma once

#include "arch/base.h"
#include "arch_types.h"

struct trap_frame;

// ---- CPUs -------------------------------------------------------------------

// CPUs that run, 1..ARCH_MAX_CPUS; constant once boot/main.c started them.
unsigned arch_cpu_count(void);

// Runs fn(arg) on this CPU's system stack with no-preempt raised, and returns;
// if the caller stands on it already, calls it directly. fn must not fault and
// must not park (R5). Context: any but NMI.
void arch_on_system_stack(void (*fn)(void *), void *arg);

// True on a system stack (or in the scheduler), false on a goroutine's.
bool arch_on_system(void);

// Called in every wait loop: pauses and serves this CPU's shootdown mailbox, so
// that a CPU which spins with interrupts off still acknowledges (R7).
// Context: no-preempt above zero, or interrupts off.
void arch_relax(void);

// Waits for an interrupt unless wake() is already true, checked with interrupts
// off, so that no wake-up falls between check and halt. Interrupts are on when
// it returns. While it halts, shootdowns don't interrupt this CPU: it flushes
// when it leaves (R13). Context: scheduler, on the system stack.
void arch_idle(bool (*wake)(void));

// Rings another CPU's doorbell; harmless if it is not idle.
void arch_kick(unsigned cpu);

// Runs fn(arg) in interrupt context on every other running CPU and waits until
// all have returned. Context: no locks held; no-preempt or not.
void arch_call_others(void (*fn)(void *), void *arg);

// Makes every other running CPU stop for good; waits for none (R13). For panic.
void arch_stop_others(void);

// Stops this CPU for good: another one reports.
NORETURN void arch_stop_this(void);

// True if va lies in the guard below a CPU's system stack.
bool arch_is_system_guard(uintptr_t va);

// What a trap was, free of the machine's encoding.
struct arch_trap {
    const char *name; // "divide error" and so on
    enum { TRAP_PAGE_FAULT, TRAP_DIVIDE, TRAP_OTHER } kind;
    uintptr_t va;    // page fault: the address
    unsigned access; // page fault: one prot bit
    bool present;    // page fault: something is mapped there
    uintptr_t pc, fp, sp;
    unsigned vector;
    uint64_t error;
};

struct arch_trap arch_trap_read(const struct trap_frame *tf);

// The return address of the function that starts at `start` and was interrupted
// at tf, if it has no frame: a leaf, or before its prologue. Else 0, and the
// frame pointer is its own.
uintptr_t arch_trap_frameless_caller(const struct trap_frame *tf,
                                     uintptr_t start,
                                     bool (*readable)(uintptr_t, size_t));

// Has the interrupted code call fn(a, b, pc) when the handler returns, from where it
// stands, pc: on its stack, below what it may use there. False: it cannot, since
// interrupts are off there.
MUST_USE bool arch_trap_call(struct trap_frame *tf,
                             void (*fn)(uintptr_t a, uintptr_t b, uintptr_t pc),
                             uintptr_t a, uintptr_t b);

// Prints the registers to stderr, some to a line. Context: report.
void arch_trap_print_registers(const struct trap_frame *tf);

// The same for the caller itself, where no trap has saved them.
void arch_print_registers_here(void);

// ---- contexts ---------------------------------------------------------------

// Prepares ctx so that a switch to it calls entry(arg) on the stack that ends
// at stack_top (16-byte aligned; the top page must be mapped).
void arch_ctx_init(struct arch_ctx *ctx, void *stack_top, void (*entry)(void *),
                   void *arg);

// Frees what arch_ctx_init took beside the stack (on the host). Context:
// scheduler; nobody stands on ctx or switches to it again.
void arch_ctx_free(struct arch_ctx *ctx);

// Scheduler -> goroutine: leaves the system stack, which faults and
// arch_on_system_stack reuse from this depth on. Returns when someone switches
// back to `from`. Restores the callee-saved registers, MXCSR and x87 control word.
void arch_ctx_enter(struct arch_ctx *from, const struct arch_ctx *to);

// Goroutine -> scheduler. Saves what arch_ctx_enter restores. no-preempt must be 1.
void arch_ctx_switch(struct arch_ctx *from, const struct arch_ctx *to);

// Bytes that arch_ctx_interrupt needs, a multiple of 64.
size_t arch_full_size(void);

// Puts the whole state of who was interrupted with frame tf into area (64-byte
// aligned, zeroed before its first use), for ctx: who switches to it lets the
// interrupted code go on. The area is in use until then. Context: hooks.preempt.
void arch_ctx_interrupt(struct arch_ctx *ctx, void *area,
                        const struct trap_frame *tf);

// Where whoever switches to ctx goes on: its pc and frame pointer. False: that
// can't be read. *tf: what arch_ctx_interrupt got, or NULL if it left by a call.
// Context: any; ctx may change meanwhile.
bool arch_ctx_where(const struct arch_ctx *ctx,
                    bool (*readable)(uintptr_t va, size_t n), uintptr_t *pc,
                    uintptr_t *fp, const struct trap_frame **tf);

// What a collector has to look at of who left ctx: returns the lowest address of its
// stack that it uses (0: it has ended, or is not yet made), and sets the memory where the registers of who was
// interrupted are kept (*bytes 0: on the stack). Context: it is at rest.
uintptr_t arch_ctx_saved(const struct arch_ctx *ctx, const void **registers,
                         size_t *bytes);

// Goes to a context and forgets where it is. Interrupts are on afterwards.
NORETURN void arch_ctx_leave(const struct arch_ctx *to);

// Points %fs at a TCB; the switch of a goroutine does it (R9).
void arch_set_tls(void *tcb);

// Bytes that arch_fpu_save needs (XSAVE or FXSAVE area), multiple of 64.
size_t arch_fpu_size(void);

// Saves or restores the whole FPU/SSE/AVX state; area is 64-byte aligned.
void arch_fpu_save(void *area);
void arch_fpu_restore(const void *area);

// ---- page tables and TLB ----------------------------------------------------

// The root table of the only address space.
pte_t *arch_pt_root(void);

// Drops this CPU's translations of npages from va, or all (npages 0).
void arch_tlb_flush_local(uintptr_t va, size_t npages);

// Drops them on every CPU and returns when all have acknowledged (R13). npages
// above a threshold, or 0, flushes everything. Serves its own mailbox while it
// waits. Context: no lock held that a fault can need; no-preempt or not.
void arch_tlb_shootdown(uintptr_t va, size_t npages);

// ---- time -------------------------------------------------------------------

// Nanoseconds since the boot entry: monotonic, the same on all CPUs. The first
// call finishes the calibration; none waits. Context: any.
uint64_t arch_mono_ns(void);

// The same, as cheaply as can be: up to 10 ms behind. Context: any.
uint64_t arch_mono_coarse_ns(void);

// Nanoseconds since 1970-01-01 UTC. Context: any but NMI.
uint64_t arch_wall_ns(void);

// Makes this CPU's timer interrupt once at mono_ns, or as soon after as the
// hardware can; UINT64_MAX disarms. Context: no-preempt above zero.
void arch_timer_set(uint64_t mono_ns);

// ---- console and power ------------------------------------------------------

enum arch_stream { ARCH_STDOUT = 1, ARCH_STDERR = 2 };

// Writes all of it, unbuffered. Context: any, NMI too.
void arch_console_write(enum arch_stream s, const void *p, size_t n);

// Input that has arrived, at most n bytes. Returns the count, 0 if there is
// none yet, -1 at end of file (again and again on a pipe, once on a terminal).
// Context: one caller at a time.
int arch_console_read(void *p, size_t n);

// Called in interrupt context whenever console input may have arrived.
void arch_console_on_input(void (*fn)(void));

// Called in interrupt context when the key that asks for a report was pressed:
// Ctrl-\, at a terminal or through the runner.
void arch_console_on_key(void (*fn)(void));

// Ends the machine; status 0..255 becomes the runner's exit status.
NORETURN void arch_power_off(int status);

// ---- random -----------------------------------------------------------------

// 64 random bits: of the stream that seed=N names, else from the CPU's generator
// (RDRAND), else from timing jitter. Never blocks, never fails. Context: any.
uint64_t arch_random(void);

// What arch_random asks without a seed; each implementation has its own.
uint64_t arch_entropy(void);

// ---- call-backs that the layers above register ------------------------------

struct arch_hooks {
    // A page fault at va. access: prot bits. Returns true if it was served and
    // the instruction should run again. Runs on the system stack, interrupts
    // off, and must not fault.
    bool (*fault)(uintptr_t va, unsigned access, uintptr_t rsp);
    // The timer set by arch_timer_set went off. Interrupt context (R8).
    void (*tick)(void);
    // no-preempt became zero while something was pending. Returns true if who runs
    // is to leave the CPU: then `preempt` is called where it was interrupted, with
    // no-preempt 1, and may leave for good; or `leave` on its stack.
    bool (*pending)(void);
    void (*preempt)(const struct trap_frame *tf);
    void (*leave)(void);
    // Another CPU rang. Interrupt context (R8).
    void (*kick)(void);
    // A fault that nobody served, or a trap: report and end. On the system or
    // emergency stack; never returns.
    void (*fatal)(struct trap_frame *tf);
};

extern struct arch_hooks arch_hooks;

#include "arch/spinlock.h"
