// Local APIC (timer, IPIs) and IOAPIC (console interrupt).
//
// xAPIC registers in memory: x2APIC is absent under TCG and not needed below
// 256 CPUs. If the firmware left x2APIC on, it is switched off again, which the
// manual allows only through "disabled".
//
// Source: Intel SDM vol. 3, chapter 10; 82093AA IOAPIC datasheet.

#include "arch/x86_64/cpu.h"

enum lapic_reg {
    LAPIC_ID = 0x20,
    LAPIC_TPR = 0x80,
    LAPIC_EOI = 0xb0,
    LAPIC_SVR = 0xf0,
    LAPIC_ICR_LOW = 0x300,
    LAPIC_ICR_HIGH = 0x310,
    LAPIC_LVT_TIMER = 0x320,
    LAPIC_LVT_LINT0 = 0x350,
    LAPIC_LVT_LINT1 = 0x360,
    LAPIC_LVT_ERROR = 0x370,
    LAPIC_TIMER_INIT = 0x380,
    LAPIC_TIMER_NOW = 0x390,
    LAPIC_TIMER_DIVIDE = 0x3e0,
};

enum {
    SVR_ENABLE = 0x100,
    LVT_MASKED = 0x10000,
    LVT_NMI = 0x400,
    DIVIDE_BY_1 = 0xb,
    ICR_PENDING = 0x1000,
    ICR_NMI = 0x400,
    ICR_INIT = 0x500,
    ICR_STARTUP = 0x600,
    ICR_ASSERT = 0x4000,
    ICR_OTHERS = 0xc0000,
    BASE_ENABLE = 0x800,
    BASE_X2APIC = 0x400,
};

enum { IOAPIC_REGSEL = 0, IOAPIC_WIN = 0x10, IOAPIC_REDTBL = 0x10 };

static volatile uint8_t *lapic;

static struct {
    volatile uint8_t *regs;
    uint32_t gsi_base;
} ioapics[8];
static unsigned nioapics;

static uint32_t lapic_read(enum lapic_reg r)
{
    return *(volatile uint32_t *)(lapic + r);
}

static void lapic_write(enum lapic_reg r, uint32_t v)
{
    *(volatile uint32_t *)(lapic + r) = v;
}

void lapic_map(const struct machine_memory *m)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);

    m->map(ARCH_MMIO_BASE, paddr(base & PTE_ADDR_MASK), 1,
           PROT_R | PROT_W | PROT_UNCACHED);
    lapic = (volatile uint8_t *)ARCH_MMIO_BASE;
}

void lapic_enable(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE);

    if (base & BASE_X2APIC) {
        base &= ~(uint64_t)(BASE_X2APIC | BASE_ENABLE);
        wrmsr(MSR_APIC_BASE, base);
    }
    wrmsr(MSR_APIC_BASE, base | BASE_ENABLE);
    lapic_write(LAPIC_TPR, 0);
    lapic_write(LAPIC_LVT_LINT0, LVT_MASKED);
    lapic_write(LAPIC_LVT_LINT1, LVT_NMI);
    lapic_write(LAPIC_LVT_ERROR, LVT_MASKED);
    lapic_write(LAPIC_TIMER_DIVIDE, DIVIDE_BY_1);
    lapic_write(LAPIC_LVT_TIMER, VEC_TIMER); // one-shot
    lapic_write(LAPIC_SVR, SVR_ENABLE | VEC_SPURIOUS);
}

void lapic_eoi(void)
{
    lapic_write(LAPIC_EOI, 0);
}

uint32_t lapic_id(void)
{
    return lapic_read(LAPIC_ID) >> 24;
}

static void icr_write(uint32_t apic_id, uint32_t low)
{
    // An interrupt between the two halves could send an IPI of its own.
    bool irqs = arch_irq_disable();

    while (lapic_read(LAPIC_ICR_LOW) & ICR_PENDING)
        arch_pause();
    lapic_write(LAPIC_ICR_HIGH, apic_id << 24);
    lapic_write(LAPIC_ICR_LOW, low);
    arch_irq_restore(irqs);
}

void lapic_ipi(unsigned cpu, uint8_t vector)
{
    icr_write(cpu_table[cpu]->apic_id, ICR_ASSERT | vector);
}

void lapic_nmi_others(void)
{
    if (lapic != NULL)
        icr_write(0, ICR_OTHERS | ICR_ASSERT | ICR_NMI);
}

void lapic_init_sipi(uint32_t apic_id, uint8_t page, bool second)
{
    if (!second)
        icr_write(apic_id, ICR_ASSERT | ICR_INIT);
    icr_write(apic_id, ICR_ASSERT | ICR_STARTUP | page);
}

void lapic_timer_one_shot(uint32_t ticks)
{
    lapic_write(LAPIC_TIMER_INIT, ticks);
}

uint32_t lapic_timer_now(void)
{
    return lapic_read(LAPIC_TIMER_NOW);
}

void ioapic_add(uint32_t address, uint32_t gsi_base,
                const struct machine_memory *m)
{
    if (nioapics == ARRAY_LEN(ioapics))
        return;
    uintptr_t va = ARCH_MMIO_BASE + (1 + nioapics) * (uintptr_t)PAGE_SIZE;

    m->map(va, paddr(align_down(address, PAGE_SIZE)), 1,
           PROT_R | PROT_W | PROT_UNCACHED);
    ioapics[nioapics].regs = (volatile uint8_t *)(va + address % PAGE_SIZE);
    ioapics[nioapics++].gsi_base = gsi_base;
}

static void ioapic_write(unsigned i, uint32_t reg, uint32_t v)
{
    *(volatile uint32_t *)(ioapics[i].regs + IOAPIC_REGSEL) = reg;
    *(volatile uint32_t *)(ioapics[i].regs + IOAPIC_WIN) = v;
}

// Edge-triggered, active high, fixed delivery to one CPU: what ISA devices use.
void ioapic_route(uint32_t gsi, uint8_t vector, uint32_t apic_id)
{
    for (unsigned i = 0; i < nioapics; i++) {
        *(volatile uint32_t *)(ioapics[i].regs + IOAPIC_REGSEL) = 1;
        uint32_t last =
            *(volatile uint32_t *)(ioapics[i].regs + IOAPIC_WIN) >> 16 & 0xff;

        if (gsi < ioapics[i].gsi_base || gsi > ioapics[i].gsi_base + last)
            continue;
        uint32_t reg = IOAPIC_REDTBL + 2 * (gsi - ioapics[i].gsi_base);

        ioapic_write(i, reg + 1, apic_id << 24);
        ioapic_write(i, reg, vector);
        return;
    }
}
