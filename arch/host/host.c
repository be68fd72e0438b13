// arch/arch.h for a Linux process: the model back end.
//
// Physical memory is a memfd, mapped whole as the direct map. The page tables
// of mm/pt.c are the real thing, in that memory; what the hardware does on an
// access is done here in software: a page without a translation raises SIGSEGV,
// the handler walks the tables, and if the entry allows the access it maps the
// frame there (MAP_FIXED) and sets A and D as a CPU would. So every mmap is one
// entry of a TLB, which stays when the table changes until it is flushed: a
// missing shootdown shows as it does on the hardware. D is set only when a
// write comes, since a clean page is mapped read-only.
//
// The TLB has a size (mappings of a process are limited to 65,530), and a full
// one is emptied, as hardware may at any time.
//
// Locks: tlb_lock makes walk-and-fill and flush exclude each other: a fill that
// read the entry before it was cleared is finished before the flush begins. It
// is a spinlock taken in a synchronous signal handler only, never while held.

#define _GNU_SOURCE

#include "arch/host/host.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "arch/fmt.h"

enum { TLB_ENTRIES = 16384, SIGNAL_STACK = 256 * 1024, KICK_NS = 1000000 };

// The interrupted state, as the signal handler got it.
struct trap_frame {
    ucontext_t *uc;
    uintptr_t va;
    unsigned access;
    bool present;
};

struct arch_layout arch_layout;
struct arch_hooks arch_hooks;
_Thread_local struct host_cpu host_cpu = {.nopreempt = 1};
void (*host_power_off_hook)(int status);
void (*host_relax_hook)(void);
void (*host_shootdown_hook)(void);
char *host_stderr_copy;
size_t host_stderr_copy_size;

static int ram_fd = -1;
static uintptr_t reserved_base;
static size_t reserved_size;
static pte_t *root;
static unsigned ncpus = 1;
static struct sigaction old_segv;

static _Atomic bool tlb_busy;
static struct {
    uintptr_t page;
    uint64_t pa;
    bool write;
} tlb[TLB_ENTRIES]; // pages mapped, in no order
static size_t ntlb;
static struct host_tlb_stats stats;

static void tlb_lock(void)
{
    while (atomic_exchange_explicit(&tlb_busy, true, memory_order_acquire))
        arch_pause();
}

static void tlb_unlock(void)
{
    atomic_store_explicit(&tlb_busy, false, memory_order_release);
}

__attribute__((noinline)) struct host_cpu *host_this_cpu(void)
{
    return &host_cpu;
}

// ---- the software walker ----

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "host: %s: %s\n", what, strerror(errno));
        abort();
    }
}

// By the system call itself: for TSan the C library's mmap is a store to the
// page by this thread, which a translation is not.
static void map_page(uintptr_t page, int prot, int flags, int fd, uint64_t pa)
{
    must(syscall(SYS_mmap, page, (size_t)PAGE_SIZE, prot, flags | MAP_FIXED, fd,
                 pa) == (long)page,
         "map a page");
}

static void unmap_page(uintptr_t page)
{
    map_page(page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
             0);
}

static void flush_all_locked(void)
{
    for (size_t i = 0; i < ntlb; i++)
        unmap_page(tlb[i].page);
    ntlb = 0;
    stats.flushes++;
}

static void map_frame(uintptr_t page, uint64_t pa, bool write)
{
    map_page(page, PROT_READ | (write ? PROT_WRITE : 0), MAP_SHARED, ram_fd,
             pa);
}

static pte_t load_entry(pte_t *e)
{
    return atomic_load_explicit((_Atomic pte_t *)e, memory_order_acquire);
}

// The leaf for va, tables only; NULL if there is none.
static pte_t *walk(uintptr_t va, int *level)
{
    pte_t *t = root;

    for (int l = PT_LEVELS; t != NULL; l--) {
        pte_t *e = &t[pte_index(va, l)];
        pte_t v = load_entry(e);

        if (!pte_present(v))
            return NULL;
        if (pte_is_leaf(v, l)) {
            *level = l;
            return e;
        }
        t = arch_direct(pte_paddr(v));
    }
    return NULL;
}

// Returns true if the access is allowed and now translated.
static bool fill(uintptr_t va, unsigned access, bool *present)
{
    int level;
    uintptr_t page = align_down(va, PAGE_SIZE);
    bool ok = false;

    tlb_lock();
    pte_t *e = walk(va, &level);

    *present = e != NULL;
    if (e != NULL && (pte_prot(load_entry(e)) & access) == access) {
        pte_t set = PTE_ACCESSED | (access == PROT_W ? PTE_DIRTY : 0);
        pte_t v = atomic_fetch_or((_Atomic pte_t *)e, set) | set;
        uint64_t pa = (v & PTE_ADDR_MASK & ~(pte_span(level) - 1)) +
                      (page & (pte_span(level) - 1));

        if (ntlb == TLB_ENTRIES)
            flush_all_locked();
        tlb[ntlb].page = page;
        tlb[ntlb].pa = pa;
        tlb[ntlb].write = (v & PTE_DIRTY) && (v & PTE_WRITE);
        map_frame(page, pa, tlb[ntlb].write);
        ntlb++;
        stats.fills++;
        ok = true;
    }
    tlb_unlock();
    return ok;
}

static bool managed(uintptr_t va)
{
    return va >= reserved_base && va < reserved_base + reserved_size;
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    uintptr_t va = (uintptr_t)info->si_addr;
    unsigned access = uc->uc_mcontext.gregs[REG_ERR] & 2 ? PROT_W : PROT_R;
    int saved = errno;
    bool present = false, served;

    if (!managed(va) || root == NULL) {
        sigaction(sig, &old_segv, NULL); // not ours: the report of before
        return;
    }
    host_this_cpu()->nopreempt++;
    served = fill(va, access, &present);
    if (!served && arch_hooks.fault != NULL) {
        served = arch_hooks.fault(va, access,
                                  (uintptr_t)uc->uc_mcontext.gregs[REG_RSP]);
    }
    if (!served) {
        struct trap_frame tf = {uc, va, access, present};

        if (arch_hooks.fatal != NULL)
            arch_hooks.fatal(&tf);
        abort();
    }
    host_this_cpu()->nopreempt--;
    errno = saved;
}

static void give_signal_stack(void)
{
    stack_t s = {.ss_sp = malloc(SIGNAL_STACK), .ss_size = SIGNAL_STACK};

    must(s.ss_sp != NULL && sigaltstack(&s, NULL) == 0, "sigaltstack");
}

static void take_signal_stack(void)
{
    stack_t s = {.ss_flags = SS_DISABLE}, old;

    if (sigaltstack(&s, &old) == 0)
        free(old.ss_sp);
}

void arch_pte_installed(uintptr_t va, pte_t leaf, int level)
{
    uint64_t pa = leaf & PTE_ADDR_MASK & ~(pte_span(level) - 1);

    // The direct map is a mapping of its own; the rest of what is global (the
    // frame array, descriptors) is read by the fault path itself.
    if (!(leaf & PTE_GLOBAL) || !managed(va) || level != 1)
        return;
    map_frame(va, pa, (leaf & PTE_WRITE) != 0);
}

pte_t *arch_pt_root(void)
{
    return root;
}

void host_load_root(paddr_t r)
{
    root = arch_direct(r);
}

void arch_tlb_flush_local(uintptr_t va, size_t npages)
{
    tlb_lock();
    if (npages == 0) {
        flush_all_locked();
    } else {
        for (size_t i = 0; i < ntlb;) {
            if (tlb[i].page >= va && tlb[i].page < va + npages * PAGE_SIZE) {
                unmap_page(tlb[i].page);
                tlb[i] = tlb[--ntlb];
            } else {
                i++;
            }
        }
        stats.flushes++;
    }
    tlb_unlock();
}

// The threads of a process share its mappings: one flush reaches all.
void arch_tlb_shootdown(uintptr_t va, size_t npages)
{
    arch_tlb_flush_local(va, npages);
    if (host_shootdown_hook != NULL)
        host_shootdown_hook();
}

struct host_tlb_stats host_tlb_stats(void)
{
    tlb_lock();
    stats.entries = ntlb;
    struct host_tlb_stats s = stats;

    tlb_unlock();
    return s;
}

uintptr_t host_tlb_stale(void)
{
    uintptr_t stale = 0;

    tlb_lock();
    for (size_t i = 0; i < ntlb && stale == 0; i++) {
        int level;
        pte_t *e = walk(tlb[i].page, &level);
        pte_t v = e != NULL ? load_entry(e) : 0;
        uint64_t span = pte_span(e != NULL ? level : 1);
        uint64_t pa =
            (v & PTE_ADDR_MASK & ~(span - 1)) + (tlb[i].page & (span - 1));

        if (!pte_present(v) || pa != tlb[i].pa ||
            (tlb[i].write && (!(v & PTE_WRITE) || !(v & PTE_DIRTY))))
            stale = tlb[i].page;
    }
    tlb_unlock();
    return stale;
}

// ---- start and stop ----

void host_start(uint64_t ram_bytes)
{
    struct sigaction sa = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    uintptr_t at;

    ram_fd = memfd_create("gneiss-ram", MFD_CLOEXEC);
    must(ram_fd >= 0 && ftruncate(ram_fd, (off_t)ram_bytes) == 0, "memory");
    reserved_size = UINT64_C(1) << 39;
    // Room to align every part to a top-level entry of the page tables.
    void *p = mmap(NULL, reserved_size, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    must(p != MAP_FAILED, "address space");
    reserved_base = (uintptr_t)p;
    at = align_up(reserved_base, UINT64_C(1) << 30);
    arch_layout.region = at;
    arch_layout.meta = at + (UINT64_C(1) << 36);
    arch_layout.slots = arch_layout.meta + (UINT64_C(1) << 34);
    arch_layout.mmio = arch_layout.slots + (UINT64_C(1) << 34);
    arch_layout.stack = arch_layout.mmio + (UINT64_C(1) << 30);
    arch_layout.heap = arch_layout.stack + (UINT64_C(1) << 38);
    arch_layout.heapmeta = arch_layout.heap + (UINT64_C(1) << 36);
    arch_layout.direct = arch_layout.heapmeta + (UINT64_C(1) << 32);
    p = mmap((void *)arch_layout.direct, ram_bytes, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED, ram_fd, 0);
    must(p != MAP_FAILED, "direct map");
    host_cpu = (struct host_cpu){.nopreempt = 1};
    give_signal_stack();
    sa.sa_sigaction = on_segv;
    sigemptyset(&sa.sa_mask);
    must(sigaction(SIGSEGV, &sa, &old_segv) == 0, "sigaction");
}

void host_stop(void)
{
    sigaction(SIGSEGV, &old_segv, NULL);
    take_signal_stack();
    munmap((void *)reserved_base, reserved_size);
    close(ram_fd);
    root = NULL;
    ntlb = 0;
    memset(&arch_hooks, 0, sizeof arch_hooks);
}

struct start {
    unsigned id;
    void (*entry)(void);
};

static void *cpu_thread(void *arg)
{
    struct start s = *(struct start *)arg;

    free(arg);
    host_cpu = (struct host_cpu){.id = s.id, .nopreempt = 1};
    give_signal_stack();
    s.entry();
    take_signal_stack();
    return NULL;
}

void host_start_cpus(unsigned n, void (*entry)(void))
{
    ncpus = n;
    for (unsigned i = 1; i < n; i++) {
        struct start *s = malloc(sizeof *s);
        pthread_t t;

        must(s != NULL, "memory");
        *s = (struct start){i, entry};
        must(pthread_create(&t, NULL, cpu_thread, s) == 0, "pthread_create");
        pthread_detach(t);
    }
}

// ---- CPUs ----

unsigned arch_cpu_count(void)
{
    return ncpus;
}

void arch_on_system_stack(void (*fn)(void *), void *arg)
{
    // A thread's own stack never faults on us; a goroutine's pages may be
    // dropped from the TLB, and come back by a fault that the handler serves.
    preempt_disable();
    fn(arg);
    preempt_enable();
}

bool arch_on_system(void)
{
    return host_this_cpu()->current == NULL;
}

void arch_relax(void)
{
    arch_pause();
    if (host_relax_hook != NULL)
        host_relax_hook();
    sched_yield();
}

void arch_idle(bool (*wake)(void))
{
    struct timespec t = {0, KICK_NS / 20};

    // A kick needs no delivery: the wait is short and the caller looks again.
    host_look_at_timer();
    if (!wake())
        nanosleep(&t, NULL);
    host_look_at_timer();
}

void arch_kick(unsigned cpu)
{
    (void)cpu;
}

void preempt_pending_slow(void)
{
    preempt_disable();
    preempt_clear_pending();
    bool leave = arch_hooks.pending != NULL && arch_hooks.pending();

    host_this_cpu()->nopreempt--;
    if (leave)
        arch_hooks.leave();
}

// ---- time, console, power, random ----

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t arch_mono_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t arch_mono_coarse_ns(void)
{
    return arch_mono_ns();
}

uint64_t arch_wall_ns(void)
{
    return read_clock(CLOCK_REALTIME);
}

// A timer goes off where the CPU idles or switches: the next call of these looks.
static _Thread_local uint64_t timer_ns = UINT64_MAX;

void arch_timer_set(uint64_t mono_ns)
{
    timer_ns = mono_ns;
}

void host_look_at_timer(void)
{
    if (timer_ns != UINT64_MAX && arch_mono_ns() >= timer_ns) {
        timer_ns = UINT64_MAX;
        if (arch_hooks.tick != NULL)
            arch_hooks.tick();
    }
}

void arch_console_write(enum arch_stream s, const void *p, size_t n)
{
    if (s == ARCH_STDERR && host_stderr_copy != NULL) {
        size_t used = strlen(host_stderr_copy);
        size_t room = host_stderr_copy_size - used - 1;

        memcpy(host_stderr_copy + used, p, n < room ? n : room);
        host_stderr_copy[used + (n < room ? n : room)] = '\0';
        return;
    }
    for (const char *c = p; n > 0;) {
        ssize_t k = write(s == ARCH_STDOUT ? 1 : 2, c, n);

        if (k <= 0)
            return;
        c += k;
        n -= (size_t)k;
    }
}

int arch_console_read(void *p, size_t n)
{
    struct pollfd f = {.fd = 0, .events = POLLIN};
    ssize_t k;

    if (poll(&f, 1, 0) == 0)
        return 0;
    k = read(0, p, n);
    return k <= 0 ? -1 : (int)k;
}

void arch_console_on_input(void (*fn)(void))
{
    (void)fn;
}

void arch_console_on_key(void (*fn)(void))
{
    (void)fn;
}

void arch_power_off(int status)
{
    if (host_power_off_hook != NULL)
        host_power_off_hook(status);
    _exit(status);
}

uint64_t arch_entropy(void)
{
    uint64_t v = 0;

    while (getrandom(&v, sizeof v, 0) != sizeof v)
        ;
    return v;
}

void arch_stop_others(void)
{
}

void arch_stop_this(void)
{
    for (;;)
        pause();
}

bool arch_is_system_guard(uintptr_t va)
{
    (void)va;
    return false;
}

struct arch_trap arch_trap_read(const struct trap_frame *tf)
{
    const greg_t *r = tf->uc->uc_mcontext.gregs;

    return (struct arch_trap){
        .name = "page fault",
        .kind = TRAP_PAGE_FAULT,
        .va = tf->va,
        .access = tf->access,
        .present = tf->present,
        .pc = (uintptr_t)r[REG_RIP],
        .fp = (uintptr_t)r[REG_RBP],
        .sp = (uintptr_t)r[REG_RSP],
        .vector = 14,
    };
}

uintptr_t arch_trap_frameless_caller(const struct trap_frame *tf,
                                     uintptr_t start,
                                     bool (*readable)(uintptr_t, size_t))
{
    (void)tf, (void)start, (void)readable;
    return 0;
}

void arch_trap_print_registers(const struct trap_frame *tf)
{
    (void)tf;
}

void arch_print_registers_here(void)
{
}
