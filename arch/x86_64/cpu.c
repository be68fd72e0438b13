// CPU features and per-CPU control state.
//
// Features are used when present; none is required and none asserted, since a
// virtual CPU may lack anything (DESIGN 13). The boot CPU detects, every CPU
// enables.
//
// Source: Intel SDM vol. 2A CPUID, vol. 3A 2.5 (control registers), 13.3.

#include "arch/x86_64/cpu.h"

#include <string.h>

struct cpu_features cpu_features;

// The boot CPU's block is in .data: %gs points at it before the first line of
// C. Count 1: the start-up is never preempted.
struct cpu boot_cpu = {
    .self = &boot_cpu,
    .nopreempt = NOPREEMPT_IDLE | 1,
    .canary = UINT64_C(0x595e9fbd94fda700), // replaced once there is entropy
    .sys_low = UINTPTR_MAX,                 // until machine_init
};
struct cpu *cpu_table[ARCH_MAX_CPUS] = {&boot_cpu};
unsigned cpu_count = 1;
struct arch_hooks arch_hooks;

enum { CR0_MP = 1 << 1, CR0_EM = 1 << 2, CR0_NE = 1 << 5, CR0_WP = 1 << 16 };

enum cr4 {
    CR4_PAE = 1 << 5,
    CR4_PGE = 1 << 7,
    CR4_OSFXSR = 1 << 9,
    CR4_OSXMMEXCPT = 1 << 10,
    CR4_UMIP = 1 << 11,
    CR4_FSGSBASE = 1 << 16,
    CR4_OSXSAVE = 1 << 18,
    CR4_SMEP = 1 << 20,
};

enum { EFER_SCE = 1, EFER_LME = 1 << 8, EFER_NXE = 1 << 11 };

unsigned arch_cpu_count(void)
{
    return cpu_count;
}

bool arch_on_system(void)
{
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    struct cpu *c = this_cpu();

    return (sp >= c->sys_low && sp <= c->sys_top) || c->sys_low == UINTPTR_MAX;
}

static bool bit(uint32_t word, int n)
{
    return (word >> n & 1) != 0;
}

static void detect_xsave(struct cpu_features *f, uint32_t max_leaf)
{
    uint32_t r[4];

    f->xcr0 = 3; // x87 | SSE
    if (!f->xsave || max_leaf < 0xd) {
        f->xsave = false;
        f->avx = f->avx512 = false;
        f->xsave_size = 512;
        return;
    }
    cpuid(0xd, 0, r);
    if (f->avx && bit(r[0], 2))
        f->xcr0 |= 4;
    else
        f->avx = false;
    if (f->avx && f->avx512 && (r[0] & 0xe0) == 0xe0)
        f->xcr0 |= 0xe0;
    else
        f->avx512 = false;
    // Legacy area and header, then each enabled component at its offset.
    f->xsave_size = 576;
    for (uint32_t i = 2; i < 8; i++) {
        if (!(f->xcr0 >> i & 1))
            continue;
        cpuid(0xd, i, r);
        if (r[1] + r[0] > f->xsave_size)
            f->xsave_size = r[1] + r[0];
    }
}

void cpu_detect(void)
{
    struct cpu_features *f = &cpu_features;
    uint32_t r[4], max_leaf, max_ext;

    cpuid(0, 0, r);
    max_leaf = r[0];
    cpuid(1, 0, r);
    f->pge = bit(r[3], 13);
    f->x2apic = bit(r[2], 21);
    f->xsave = bit(r[2], 26);
    f->avx = bit(r[2], 28);
    f->rdrand = bit(r[2], 30);
    f->hypervisor = bit(r[2], 31);
    if (max_leaf >= 7) {
        cpuid(7, 0, r);
        f->fsgsbase = bit(r[1], 0);
        f->smep = bit(r[1], 7);
        f->erms = bit(r[1], 9);
        f->avx512 = bit(r[1], 16);
        f->rdseed = bit(r[1], 18);
        f->umip = bit(r[2], 2);
    }
    cpuid(0x80000000, 0, r);
    max_ext = r[0];
    if (max_ext >= 0x80000001) {
        cpuid(0x80000001, 0, r);
        f->nx = bit(r[3], 20);
        f->pdpe1gb = bit(r[3], 26);
    }
    if (max_ext >= 0x80000007) {
        cpuid(0x80000007, 0, r);
        f->invariant_tsc = bit(r[3], 8);
    }
    if (f->hypervisor) {
        cpuid(0x40000000, 0, r);
        memcpy(f->vendor, &r[1], 12);
    }
    detect_xsave(f, max_leaf);
}

void cpu_enable(void)
{
    const struct cpu_features *f = &cpu_features;
    uint64_t cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;

    write_cr0((read_cr0() & ~(uint64_t)CR0_EM) | CR0_MP | CR0_NE | CR0_WP);
    if (f->pge)
        cr4 |= CR4_PGE;
    if (f->umip)
        cr4 |= CR4_UMIP;
    if (f->fsgsbase)
        cr4 |= CR4_FSGSBASE;
    if (f->smep)
        cr4 |= CR4_SMEP;
    if (f->xsave)
        cr4 |= CR4_OSXSAVE;
    write_cr4(cr4);
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_LME | (f->nx ? EFER_NXE : 0));
    if (f->xsave)
        __asm__ volatile("xsetbv" ::"c"(0), "a"((uint32_t)f->xcr0),
                         "d"((uint32_t)(f->xcr0 >> 32)));
    __asm__ volatile("fninit");
    uint32_t mxcsr = 0x1f80;
    __asm__ volatile("ldmxcsr %0" ::"m"(mxcsr));
}

struct table_pointer {
    uint16_t limit;
    uint64_t base;
} __attribute__((packed));

void cpu_load_tables(struct cpu *c)
{
    uint64_t t = (uint64_t)(uintptr_t)&c->tss;
    uint64_t limit = sizeof c->tss - 1;

    c->gdt[1] = UINT64_C(0x00af9b000000ffff); // code, ring 0, long mode
    c->gdt[2] = UINT64_C(0x00cf93000000ffff); // data
    c->gdt[3] = limit | (t & 0xffffff) << 16 | UINT64_C(0x89) << 40 |
                (t >> 24 & 0xff) << 56;
    c->gdt[4] = t >> 32;
    c->tss.iomap = sizeof c->tss;

    struct table_pointer p = {sizeof c->gdt - 1, (uint64_t)(uintptr_t)c->gdt};

    __asm__ volatile("lgdt %0\n\t"
                     "pushq $8\n\t"
                     "leaq 1f(%%rip), %%rax\n\t"
                     "pushq %%rax\n\t"
                     "lretq\n"
                     "1:\n\t"
                     "movl $16, %%eax\n\t"
                     "movl %%eax, %%ss\n\t"
                     "xorl %%eax, %%eax\n\t"
                     "movl %%eax, %%ds\n\t"
                     "movl %%eax, %%es\n\t"
                     "ltr %w1"
                     :
                     : "m"(p), "r"(24)
                     : "rax", "memory");
    wrmsr(MSR_GS_BASE, (uint64_t)(uintptr_t)c);
}

void arch_set_tls(void *tcb)
{
    // WRMSR costs some hundred cycles more; chosen at boot (R9).
    if (cpu_features.fsgsbase)
        __asm__ volatile("wrfsbase %0" ::"r"(tcb));
    else
        wrmsr(MSR_FS_BASE, (uint64_t)(uintptr_t)tcb);
}

size_t arch_fpu_size(void)
{
    return align_up(cpu_features.xsave_size, 64);
}

void arch_fpu_save(void *area)
{
    if (cpu_features.xsave)
        __asm__ volatile("xsave64 (%0)" ::"r"(area), "a"(UINT32_MAX),
                         "d"(UINT32_MAX)
                         : "memory");
    else
        __asm__ volatile("fxsave64 (%0)" ::"r"(area) : "memory");
}

void arch_fpu_restore(const void *area)
{
    if (cpu_features.xsave)
        __asm__ volatile("xrstor64 (%0)" ::"r"(area), "a"(UINT32_MAX),
                         "d"(UINT32_MAX)
                         : "memory");
    else
        __asm__ volatile("fxrstor64 (%0)" ::"r"(area) : "memory");
}

uint64_t arch_entropy(void)
{
    uint64_t v;
    unsigned char ok;

    // Intel: ten failures in a row mean a broken generator.
    for (int i = 0; cpu_features.rdrand && i < 10; i++) {
        __asm__ volatile("rdrand %0\n\tsetc %1" : "=r"(v), "=qm"(ok)::"cc");
        if (ok)
            return v;
    }
    // Jitter: the low bits of how long a few memory operations take, folded
    // until every output bit has seen 64 samples.
    static _Atomic uint64_t pool = 0x9e3779b97f4a7c15;
    uint64_t x = atomic_load_explicit(&pool, memory_order_relaxed);

    for (int i = 0; i < 64; i++) {
        x ^= arch_cycles();
        x *= UINT64_C(0xd6e8feb86659fd93);
        x ^= x >> 32;
        arch_pause();
    }
    atomic_store_explicit(&pool, x, memory_order_relaxed);
    return x;
}
