// x86-64 internals: the per-CPU block, features, privileged instructions.
//
// For arch/x86_64/ and boot/ only.
//
// Field tags of struct cpu: [c] constant once the CPU runs, [o] its own CPU,
// interrupts or not, [a] atomic, any CPU.
#pragma once

#include <stdatomic.h>

#include "arch/arch.h"
#include "arch/x86_64/io.h"

struct tss {
    uint32_t reserved0;
    uint64_t rsp[3];
    uint64_t reserved1;
    uint64_t ist[7];
    uint64_t reserved2;
    uint16_t reserved3, iomap;
} __attribute__((packed));

enum ist { IST_PF = 1, IST_FAULT, IST_IRQ, IST_NMI, IST_DF, IST_MC, IST_COUNT };

// What a CPU asks the others to forget (tlb.c).
struct tlb_request {
    uintptr_t va;             // [o] written before the doorbell
    size_t npages;            // [o] 0: everything
    _Atomic uint64_t waiting; // [a] CPUs that have not acknowledged
};

struct cpu {
    struct cpu *self;        // [c] the offsets up to here: percpu.h
    uint32_t id;             // [c]
    uint32_t nopreempt;      // [o]
    void *current;           // [o]
    uintptr_t sys_sp;        // [o]
    uintptr_t sys_low;       // [c]
    uint64_t canary;         // [c]
    uintptr_t sys_top;       // [c]
    uintptr_t emergency_top; // [c]
    void *local;             // [o]

    uint32_t apic_id;              // [c]
    bool in_panic;                 // [o]
    bool stepping;                 // [o] out of critical text (trap.c)
    _Atomic uint32_t idle;         // [a] enum idle_state
    _Atomic uint64_t inbox;        // [a] CPUs whose tlb_request awaits us
    struct tlb_request request;    // see above
    _Atomic uint64_t call_inbox;   // [a] CPUs whose call awaits us
    void (*call_fn)(void *);       // [o] written before the doorbell
    void *call_arg;                // [o]
    _Atomic uint64_t call_waiting; // [a]
    uint64_t nirqs;                // [o] interrupts taken, for tests

    uint64_t gdt[6]; // null, code, data, tss (2), pad
    struct tss tss;
};

CHECK_PERCPU(struct cpu);

extern struct cpu boot_cpu;
extern struct cpu *cpu_table[ARCH_MAX_CPUS]; // by id
extern unsigned cpu_count;

static inline struct cpu *this_cpu(void)
{
    struct cpu *c;

    __asm__ volatile("movq %%gs:0, %0" : "=r"(c));
    return c;
}

// ---- features ----

struct cpu_features {
    bool nx, smep, umip, fsgsbase, xsave, avx, avx512, pdpe1gb, rdrand, rdseed,
        x2apic, invariant_tsc, pge, erms, hypervisor;
    char vendor[13];     // of the hypervisor, "" on bare metal
    uint32_t xsave_size; // bytes
    uint64_t xcr0;
};

extern struct cpu_features cpu_features;

void cpu_detect(void);               // fills cpu_features, boot CPU
void cpu_enable(void);               // CR0, CR4, EFER, XCR0 of this CPU
void cpu_load_tables(struct cpu *c); // GDT, TSS, IDT, %gs
void idt_init(void); // boot CPU: fills the table, again once there are ISTs
void idt_load(void);

// ---- memory for the machine, handed in by boot/main.c ----

struct machine_memory {
    void *(*alloc_page)(void); // zeroed, direct map
    void (*map)(uintptr_t va, paddr_t pa, size_t npages, unsigned prot);
};

// Maps the LAPIC and IOAPIC, makes the boot CPU's final stacks, masks the PICs.
void machine_init(const struct machine_memory *m, paddr_t rsdp);

// Pages that smp_start will take for so many CPUs at most.
size_t smp_pages_needed(unsigned limit);

// Starts the other CPUs, at most `limit` CPUs in all; each ends in entry() on
// its system stack. trampoline: a free page below 1 MiB. Returns how many run.
unsigned smp_start(unsigned limit, paddr_t trampoline, void (*entry)(void));

// Switches to this CPU's system stack for good and calls entry().
NORETURN void cpu_enter_system(void (*entry)(void));

// ---- interrupt vectors ----

enum vector {
    VEC_DEVICE = 0x20, // + GSI, for GSI < 32
    VEC_TIMER = 0x40,
    VEC_DOORBELL = 0x41, // look at your mailboxes
    VEC_SPURIOUS = 0x4f, // its low four bits are ones
};

void lapic_map(const struct machine_memory *m);
void lapic_enable(void);
void lapic_eoi(void);
void lapic_ipi(unsigned cpu, uint8_t vector);
void lapic_nmi_others(void);
void lapic_timer_one_shot(uint32_t ticks);
uint32_t lapic_timer_now(void);
uint32_t lapic_id(void);
void lapic_init_sipi(uint32_t apic_id, uint8_t page, bool second);
void ioapic_add(uint32_t address, uint32_t gsi_base,
                const struct machine_memory *m);
void ioapic_route(uint32_t gsi, uint8_t vector, uint32_t apic_id);

// ---- ACPI ----

struct acpi_info {
    unsigned ncpus;
    uint32_t apic_ids[ARCH_MAX_CPUS];
    unsigned nioapics;
    struct {
        uint32_t address, gsi_base;
    } ioapics[8];
    uint32_t isa_gsi[16]; // where each ISA interrupt arrives
    unsigned ncpus_found; // enabled CPUs, more than ncpus if too many
};

// Reads the MADT. Returns false if there is none (one CPU, no IOAPIC).
bool acpi_read(paddr_t rsdp, struct acpi_info *info,
               void *(*view)(uint64_t pa, size_t size));

// ---- parts ----

void tlb_serve(void);
void tlb_leave_idle(void);
void call_serve(void);
void clock_start(void);
extern uint64_t boot_entry_tsc; // TSC at the first instruction
void console_detect(void);
void console_irq(void);
void trap_dispatch(struct trap_frame *tf);

// ---- privileged instructions, one inseparable sequence each ----

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    __asm__ volatile("wrmsr" ::"c"(msr), "a"((uint32_t)v),
                     "d"((uint32_t)(v >> 32)));
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid"
                     : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                     : "a"(leaf), "c"(sub));
}

static inline uint64_t read_cr0(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr0, %0" : "=r"(v));
    return v;
}

static inline uint64_t read_cr3(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr3, %0" : "=r"(v)::"memory");
    return v;
}

static inline uint64_t read_cr4(void)
{
    uint64_t v;

    __asm__ volatile("movq %%cr4, %0" : "=r"(v));
    return v;
}

static inline void write_cr0(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr0" ::"r"(v) : "memory");
}

static inline void write_cr3(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr3" ::"r"(v) : "memory");
}

static inline void write_cr4(uint64_t v)
{
    __asm__ volatile("movq %0, %%cr4" ::"r"(v) : "memory");
}

static inline void invlpg(uintptr_t va)
{
    __asm__ volatile("invlpg (%0)" ::"r"(va) : "memory");
}

enum msr {
    MSR_APIC_BASE = 0x1b,
    MSR_EFER = 0xc0000080,
    MSR_FS_BASE = 0xc0000100,
    MSR_GS_BASE = 0xc0000101,
};
