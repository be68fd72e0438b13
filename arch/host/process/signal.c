// Signals as interrupts and traps.
//
// One signal, SIGURG, is timer, doorbell and call of another CPU: nothing relies on
// how many come. The handler runs on a stack of its own, so that nothing is written
// below the interrupted rsp. Until it returns or leaves, the signal is blocked, as
// interrupts are off on the machine.
//
// Who was interrupted can leave its CPU if no-preempt is zero and it stands in the
// program's own text: code of the C library may hold a lock, or an address that
// belongs to its thread. There, and in the few instructions that return to an
// interrupted goroutine, it is asked again a little later.
//
// All registers are in the signal's frame, which Linux wrote in XSAVE's format; they
// are copied to the goroutine's area, and are restored from there without a call of
// Linux (return.S).

#define _GNU_SOURCE

#include "arch/host/process/process.h"

#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { RETRY_NS = 50000 };

bool signal_xsave;               // [c] return.S reads it
static size_t fpu_size;          // [c]
static void (*on_key)(void);     // [c]
static _Atomic bool key_pressed; // and on_key has yet to be called
static _Atomic bool stopping;    // a CPU reports: the others stand still

// ---- contexts ----

// What arch_ctx_interrupt needs more than the frame: it comes right behind.
struct interrupted {
    struct trap_frame tf;
    const void *fpu;
    int error;
};

static void read_frame(struct trap_frame *tf, const ucontext_t *uc)
{
    enum { USER_CS = 0x33, USER_SS = 0x2b };
    const greg_t *r = uc->uc_mcontext.gregs;

    *tf = (struct trap_frame){
        .cr2 = (uint64_t)r[REG_CR2],
        .r15 = (uint64_t)r[REG_R15],
        .r14 = (uint64_t)r[REG_R14],
        .r13 = (uint64_t)r[REG_R13],
        .r12 = (uint64_t)r[REG_R12],
        .r11 = (uint64_t)r[REG_R11],
        .r10 = (uint64_t)r[REG_R10],
        .r9 = (uint64_t)r[REG_R9],
        .r8 = (uint64_t)r[REG_R8],
        .rdi = (uint64_t)r[REG_RDI],
        .rsi = (uint64_t)r[REG_RSI],
        .rbp = (uint64_t)r[REG_RBP],
        .rbx = (uint64_t)r[REG_RBX],
        .rdx = (uint64_t)r[REG_RDX],
        .rcx = (uint64_t)r[REG_RCX],
        .rax = (uint64_t)r[REG_RAX],
        .vector = (uint64_t)r[REG_TRAPNO],
        .error = (uint64_t)r[REG_ERR],
        .rip = (uint64_t)r[REG_RIP],
        .cs = USER_CS,
        .rflags = (uint64_t)r[REG_EFL],
        .rsp = (uint64_t)r[REG_RSP],
        .ss = USER_SS,
    };
}

size_t arch_fpu_size(void)
{
    return fpu_size;
}

// Bytes of the frame's FPU state.
static size_t fpu_bytes(const void *fpu)
{
    // Source: Linux, arch/x86/include/uapi/asm/sigcontext.h (struct _fpx_sw_bytes).
    enum { LEGACY = 512, AT = 464, MAGIC = 0x46505853, SIZE = 4 };
    uint32_t words[SIZE + 1];

    memcpy(words, (const char *)fpu + AT, sizeof words);
    return words[0] == MAGIC ? words[SIZE] : LEGACY;
}

void arch_ctx_interrupt(struct arch_ctx *ctx, void *area,
                        const struct trap_frame *tf)
{
    const struct interrupted *in = container_of(
        (struct trap_frame *)(uintptr_t)tf, struct interrupted, tf);
    struct trap_frame *to = (void *)((char *)area + fpu_size);
    size_t n = fpu_bytes(in->fpu);

    ASSERT(n <= fpu_size);
    memcpy(area, in->fpu, n);
    *to = *tf;
    to->pad = (uint64_t)(uintptr_t)area;
    to->error = (uint64_t)in->error;
    ctx->rsp = tf->rsp;
    ctx->full = area;
}

const struct trap_frame *ctx_resume(struct arch_ctx *to);

// Called by arch_ctx_enter. The area stays its goroutine's, which runs on this CPU
// alone: it can go on from there.
const struct trap_frame *ctx_resume(struct arch_ctx *to)
{
    struct trap_frame *tf = (void *)((char *)to->full + fpu_size);
    struct cpu *c = this_cpu();

    to->full = NULL;
    *c->error = (int)tf->error;
    c->leave = false;
    if (--c->nopreempt == 0)
        signal_send(c); // something is pending: a signal sees to it
    return tf;
}

// errno belongs to the thread; a goroutine takes its own along.
void arch_ctx_switch(struct arch_ctx *from, const struct arch_ctx *to)
{
    struct cpu *c = this_cpu();
    int error = *c->error;

    c->leave = false;
    ctx_switch(from, to);
    *this_cpu()->error = error;
}

static void block(int how)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGURG);
    pthread_sigmask(how, &set, NULL);
}

void arch_ctx_leave(const struct arch_ctx *to)
{
    block(SIG_UNBLOCK);
    ctx_leave(to);
}

void arch_set_tls(void *tcb)
{
    (void)tcb; // %fs is the thread's
}

// ---- handlers ----

static void handle(int number, void (*fn)(int, siginfo_t *, void *), int flags)
{
    struct sigaction a = {.sa_sigaction = fn,
                          .sa_flags = SA_SIGINFO | SA_ONSTACK | flags};

    sigemptyset(&a.sa_mask);
    if (sigaction(number, &a, NULL) != 0)
        panic("process: no handler for signal %d", number);
}

// ---- interrupts ----

extern const char __executable_start[], etext[];
extern const char __start_gn_critical[], __stop_gn_critical[];

static bool within(uintptr_t a, const void *start, const void *end)
{
    return a >= (uintptr_t)start && a < (uintptr_t)end;
}

// One of the registers is where the thread's errno lies: it is about to be used.
static bool uses_errno(const struct cpu *c, const ucontext_t *uc)
{
    for (int i = REG_R8; i <= REG_RCX; i++) {
        if (uc->uc_mcontext.gregs[i] == (greg_t)(uintptr_t)c->error)
            return true;
    }
    return false;
}

static bool can_leave(const struct cpu *c, const ucontext_t *uc)
{
    uintptr_t pc = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    uintptr_t sp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];

    return c->current != NULL && within(pc, __executable_start, etext) &&
           !within(pc, __start_gn_critical, __stop_gn_critical) &&
           !within(sp, (void *)c->sys_low, (void *)c->sys_top) &&
           !within(sp, c->signal_stack, c->signal_stack + SIGNAL_STACK) &&
           !uses_errno(c, uc);
}

static void serve_calls(struct cpu *c)
{
    uint64_t from = atomic_exchange(&c->call_inbox, 0);

    for (; from != 0; from &= from - 1) {
        struct cpu *caller = cpu_table[__builtin_ctzll(from)];

        caller->call_fn(caller->call_arg);
        atomic_fetch_and(&caller->call_waiting, ~(UINT64_C(1) << c->id));
    }
}

static void serve(struct cpu *c)
{
    bool retry;

    if (timer_serve(c, &retry) && arch_hooks.tick != NULL)
        arch_hooks.tick();
    if (retry)
        preempt_set_pending();
    serve_calls(c);
    if (atomic_exchange(&key_pressed, false) && on_key != NULL)
        on_key();
    if (arch_hooks.kick != NULL)
        arch_hooks.kick();
}

static void leave(struct cpu *c, const ucontext_t *uc, int error)
{
    struct interrupted in = {.fpu = uc->uc_mcontext.fpregs, .error = error};

    read_frame(&in.tf, uc);
    c->leave = false;
    *c->error = error;
    arch_hooks.preempt(&in.tf);
}

static void on_signal(int number, siginfo_t *info, void *uc)
{
    struct cpu *c = my_cpu;

    (void)number, (void)info;
    if (c == NULL)
        return; // not from us, to a thread that the program has made
    int error = *c->error;

    atomic_fetch_add(&c->doorbell, 1); // what comes now ends a rest
    if (c->irqs_off) {                 // it reports, for example
        c->missed = true;
        return;
    }
    if (atomic_load(&stopping))
        arch_stop_this();
    c->nopreempt++;
    serve(c);
    // As in arch/x86_64/trap.c: pending, and nothing but this handler is above zero.
    if (c->nopreempt == 1 && arch_hooks.pending != NULL) {
        preempt_clear_pending();
        c->leave |= arch_hooks.pending();
        if (c->leave && can_leave(c, uc))
            leave(c, uc, error);
        if (c->leave)
            timer_retry(c, arch_mono_ns() + RETRY_NS);
    }
    c->nopreempt--;
    *c->error = error;
}

// Ctrl-\ at a terminal. On any thread, anywhere.
static void on_quit(int number, siginfo_t *info, void *uc)
{
    (void)number, (void)info, (void)uc;
    int error = errno;

    atomic_store(&key_pressed, true);
    signal_send(cpu_table[0]);
    errno = error;
}

void arch_console_on_key(void (*fn)(void))
{
    on_key = fn;
    handle(SIGQUIT, on_quit, SA_RESTART);
}

bool arch_leave_asked(void)
{
    return this_cpu()->leave;
}

void signal_send(struct cpu *c)
{
    syscall(SYS_tgkill, getpid(), c->thread, SIGURG);
}

bool arch_irqs_enabled(void)
{
    return !this_cpu()->irqs_off;
}

bool arch_irq_disable(void)
{
    bool was = arch_irqs_enabled();

    this_cpu()->irqs_off = true;
    return was;
}

void arch_irq_enable(void)
{
    struct cpu *c = this_cpu();

    c->irqs_off = false;
    if (c->missed) {
        c->missed = false;
        signal_send(c);
    }
}

void arch_stop_others(void)
{
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < arch_cpu_count(); i++) {
        if (cpu_table[i] != NULL && cpu_table[i] != this_cpu())
            signal_send(cpu_table[i]);
    }
}

void arch_stop_this(void)
{
    for (;;)
        pause();
}

// ---- traps ----

// As arch_trap_call has left it.
static void go_on_at(ucontext_t *uc, const struct trap_frame *tf)
{
    greg_t *r = uc->uc_mcontext.gregs;

    r[REG_RAX] = (greg_t)tf->rax;
    r[REG_RDI] = (greg_t)tf->rdi;
    r[REG_RSI] = (greg_t)tf->rsi;
    r[REG_RDX] = (greg_t)tf->rdx;
    r[REG_RIP] = (greg_t)tf->rip;
    r[REG_RSP] = (greg_t)tf->rsp;
    r[REG_EFL] = (greg_t)tf->rflags;
}

static void on_trap(int number, siginfo_t *info, void *uc)
{
    struct trap_frame tf;

    (void)info;
    if (my_cpu == NULL || arch_hooks.fatal == NULL) {
        signal(number, SIG_DFL); // and again
        return;
    }
    read_frame(&tf, uc);
    // Code of the C library may hold a lock: nobody may go on elsewhere, as if interrupts
    // were off (arch_trap_call).
    if (tf.rip != 0 && !within(tf.rip, __executable_start, etext))
        tf.rflags &= ~(uint64_t)RFLAGS_IF;
    this_cpu()->nopreempt++;
    if (arch_hooks.fault == NULL ||
        !arch_hooks.fault(tf.cr2, arch_trap_read(&tf).access, tf.rsp)) {
        arch_hooks.fatal(&tf);
        go_on_at(uc, &tf);
    }
    this_cpu()->nopreempt--;
}

// ---- start ----

static void find_fpu_size(void)
{
    enum { XSTATE = 0xd, LEGACY = 512 };
    unsigned a, b, c, d;

    __cpuid(1, a, b, c, d);
    signal_xsave = (c & bit_OSXSAVE) != 0;
    b = LEGACY;
    if (signal_xsave)
        __cpuid_count(XSTATE, 0, a, b, c, d);
    fpu_size = align_up(b, 64);
}

void signal_init(void)
{
    find_fpu_size();
    handle(SIGURG, on_signal, SA_RESTART);
    handle(SIGSEGV, on_trap, SA_NODEFER);
    handle(SIGBUS, on_trap, SA_NODEFER);
    handle(SIGFPE, on_trap, SA_NODEFER);
    handle(SIGILL, on_trap, SA_NODEFER);
}

void signal_init_cpu(struct cpu *c)
{
    struct sigevent e = {.sigev_notify = SIGEV_THREAD_ID,
                         .sigev_signo = SIGURG};
    stack_t s = {.ss_size = SIGNAL_STACK};

    c->signal_stack = mmap(NULL, SIGNAL_STACK, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    s.ss_sp = c->signal_stack;
    e._sigev_un._tid = c->thread;
    if (c->signal_stack == MAP_FAILED || sigaltstack(&s, NULL) != 0 ||
        timer_create(CLOCK_MONOTONIC, &e, &c->timer) != 0)
        panic("process: no memory for a CPU");
}
