// The machine brought up: CPU stacks, interrupt controllers, the other CPUs.
//
// Memory comes from boot/main.c through struct machine_memory: arch/ knows no
// allocator. Every CPU has one slot of address space for its stacks, each with
// an unmapped page below it.

#include "arch/x86_64/cpu.h"

#include <string.h>

enum {
    STACK_SLOT_PAGES = 32,
    ACPI_WINDOW_PAGES = 64,
    SIPI_RETRY_NS = 20 * 1000 * 1000,
};

#define SIPI_WAIT_NS UINT64_C(10000000000) // an emulator may be very busy
#define ACPI_WINDOW  (ARCH_MMIO_BASE + 16 * (uintptr_t)PAGE_SIZE)
#define STACK_AREA   (ARCH_MMIO_BASE + 256 * (uintptr_t)PAGE_SIZE)

enum cpu_stack {
    STACK_SYS,
    STACK_PF,
    STACK_FAULT,
    STACK_IRQ,
    STACK_NMI,
    STACK_DF, // #DF and #MC, both the end of the program
    STACK_EMERGENCY,
    STACK_KINDS
};

static const uint8_t stack_pages[STACK_KINDS] = {
    [STACK_SYS] = 4, [STACK_PF] = 1, [STACK_FAULT] = 1,     [STACK_IRQ] = 1,
    [STACK_NMI] = 1, [STACK_DF] = 2, [STACK_EMERGENCY] = 3,
};

static struct machine_memory memory;
static struct acpi_info acpi;
static uintptr_t acpi_window;

// Firmware tables lie outside RAM; they are looked at through a window of their
// own, page by page, that nothing else uses.
static void *acpi_view(uint64_t pa, size_t size)
{
    uint64_t first = align_down(pa, PAGE_SIZE);
    size_t n = (size_t)(align_up(pa + size, PAGE_SIZE) - first) / PAGE_SIZE;
    uintptr_t va = acpi_window;

    if (pa == 0 || n > ACPI_WINDOW_PAGES ||
        va + n * PAGE_SIZE > ACPI_WINDOW + ACPI_WINDOW_PAGES * PAGE_SIZE)
        return NULL;
    memory.map(va, paddr(first), n, PROT_R);
    acpi_window += n * PAGE_SIZE;
    return (void *)(va + pa % PAGE_SIZE);
}

static void make_stacks(struct cpu *c)
{
    uintptr_t va = STACK_AREA + c->id * (uintptr_t)STACK_SLOT_PAGES * PAGE_SIZE;
    uintptr_t top[STACK_KINDS];

    for (unsigned k = 0; k < STACK_KINDS; k++) {
        va += PAGE_SIZE; // guard
        if (k == STACK_SYS)
            c->sys_low = va;
        for (unsigned i = 0; i < stack_pages[k]; i++, va += PAGE_SIZE)
            memory.map(va, arch_direct_to_paddr(memory.alloc_page()), 1,
                       PROT_R | PROT_W);
        top[k] = va;
    }
    c->sys_top = c->sys_sp = top[STACK_SYS];
    c->emergency_top = top[STACK_EMERGENCY];
    c->tss.ist[IST_PF - 1] = top[STACK_PF];
    c->tss.ist[IST_FAULT - 1] = top[STACK_FAULT];
    c->tss.ist[IST_IRQ - 1] = top[STACK_IRQ];
    c->tss.ist[IST_NMI - 1] = top[STACK_NMI];
    c->tss.ist[IST_DF - 1] = top[STACK_DF];
    c->tss.ist[IST_MC - 1] = top[STACK_DF];
}

static void mask_pics(void)
{
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
}

enum { COM1_IRQ = 4 };

void machine_init(const struct machine_memory *m, paddr_t rsdp)
{
    memory = *m;
    acpi_window = ACPI_WINDOW;
    mask_pics();
    lapic_map(m);
    lapic_enable();
    boot_cpu.apic_id = lapic_id();
    // sys_low is what tells trap.S that the stacks are there: set last.
    struct cpu c = boot_cpu;

    make_stacks(&c);
    boot_cpu.tss = c.tss;
    boot_cpu.sys_top = c.sys_top;
    boot_cpu.sys_sp = c.sys_sp;
    boot_cpu.emergency_top = c.emergency_top;
    boot_cpu.sys_low = c.sys_low;
    cpu_load_tables(&boot_cpu);
    idt_init();
    clock_start();
    if (!acpi_read(rsdp, &acpi, acpi_view))
        acpi.ncpus = acpi.ncpus_found = 1;
    for (unsigned i = 0; i < acpi.nioapics; i++)
        ioapic_add(acpi.ioapics[i].address, acpi.ioapics[i].gsi_base, m);
    if (acpi.nioapics > 0)
        ioapic_route(acpi.isa_gsi[COM1_IRQ],
                     (uint8_t)(VEC_DEVICE + acpi.isa_gsi[COM1_IRQ] % 32),
                     boot_cpu.apic_id);
}

// ---- the other CPUs ----

static _Atomic unsigned arrived; // release by the AP, acquire below
static void (*ap_entry)(void);

void ap_main(struct cpu *c);

// First C code of another CPU, on its system stack, interrupts off.
void ap_main(struct cpu *c)
{
    cpu_enable();
    cpu_load_tables(c);
    idt_load();
    lapic_enable();
    c->apic_id = lapic_id();
    atomic_fetch_add_explicit(&arrived, 1, memory_order_release);
    cpu_enter_system(ap_entry);
}

static void fill_trampoline(uint8_t *page, uint32_t pa, unsigned limit)
{
    extern const uint8_t ap_start[], ap_end[], ap_long[], ap_gdt[];
    extern const uint8_t ap_far[], ap_gdt_ptr[], ap_cr3[], ap_cr4[], ap_efer[],
        ap_limit[];
    const struct {
        const uint8_t *at;
        uint32_t value;
    } words[] = {
        {ap_far, pa + (uint32_t)(ap_long - ap_start)},
        {ap_gdt_ptr + 2, pa + (uint32_t)(ap_gdt - ap_start)},
        {ap_cr3, (uint32_t)read_cr3()},
        {ap_cr4, (uint32_t)read_cr4() & 0x6a0},
        {ap_efer, 0x100 | (cpu_features.nx ? 0x800 : 0)},
        {ap_limit, limit},
    };

    memcpy(page, ap_start, (size_t)(ap_end - ap_start));
    for (unsigned i = 0; i < ARRAY_LEN(words); i++)
        memcpy(page + (words[i].at - ap_start), &words[i].value, 4);
}

static struct cpu *new_cpu(unsigned id)
{
    struct cpu *c = memory.alloc_page();

    _Static_assert(sizeof *c <= PAGE_SIZE, "one page per CPU block");
    c->self = c;
    c->id = id;
    c->nopreempt = NOPREEMPT_IDLE | 1;
    c->canary = boot_cpu.canary;
    make_stacks(c);
    return c;
}

static unsigned cpus_wanted(unsigned limit)
{
    return acpi.ncpus < limit ? acpi.ncpus : limit;
}

size_t smp_pages_needed(unsigned limit)
{
    size_t each = 2; // the block, and a share of the page tables

    for (unsigned k = 0; k < STACK_KINDS; k++)
        each += stack_pages[k];
    return (cpus_wanted(limit) - 1) * each;
}

unsigned smp_start(unsigned limit, paddr_t trampoline, void (*entry)(void))
{
    unsigned want = cpus_wanted(limit);

    if (want <= 1)
        return 1;
    ap_entry = entry;
    // Who arrives as the i-th has this id (ap.S); of the others nobody asks.
    for (unsigned i = 1; i < want; i++)
        cpu_table[i] = new_cpu(i);
    fill_trampoline(arch_direct(trampoline), (uint32_t)trampoline.raw,
                    want - 1);
    memory.map((uintptr_t)trampoline.raw, trampoline, 1,
               PROT_R | PROT_W | PROT_X);
    for (unsigned second = 0; second < 2; second++) {
        uint64_t until =
            arch_mono_ns() + (second ? SIPI_WAIT_NS : SIPI_RETRY_NS);

        for (unsigned i = 0, n = 1; i < acpi.ncpus && n < want; i++) {
            if (acpi.apic_ids[i] == boot_cpu.apic_id)
                continue;
            lapic_init_sipi(acpi.apic_ids[i], (uint8_t)(trampoline.raw >> 12),
                            second != 0);
            n++;
        }
        while (atomic_load_explicit(&arrived, memory_order_acquire) !=
                   want - 1 &&
               arch_mono_ns() < until)
            arch_pause();
        if (atomic_load_explicit(&arrived, memory_order_acquire) == want - 1)
            break;
    }
    cpu_count = 1 + atomic_load_explicit(&arrived, memory_order_acquire);
    // Who came later would find neither the trampoline nor its mapping.
    if (cpu_count != want)
        panic("cpu: only %u of %u CPUs have started; cpus=%u does without the "
              "others",
              cpu_count, want, cpu_count);
    return cpu_count;
}
