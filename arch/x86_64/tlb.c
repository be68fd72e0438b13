// TLB shootdown by mailbox (R13).
//
// An initiator writes what is to be forgotten into its own tlb_request, sets
// its bit in the inbox of every CPU concerned and rings. The doorbell is only a
// hint: a CPU that waits for something with interrupts off serves its inbox
// from arch_relax (R7), so two initiators never wait for each other. A CPU
// acknowledges after it has invalidated.
//
// A halted CPU isn't woken. Its idle word tells the two apart: the initiator
// moves IDLE to IDLE_FLUSH and counts it as done; the CPU flushes everything
// when it leaves, before it touches memory that can be unmapped.
//
// Memory order: request fields -> inbox (release) -> reader (acquire);
// invalidation -> waiting (release) -> initiator (acquire). The idle word is
// only changed by read-modify-writes, sequentially consistent.

#include "arch/x86_64/cpu.h"

enum idle_state { CPU_RUNS, CPU_IDLE, CPU_IDLE_FLUSH };

// Above this many pages a full flush is cheaper than single invalidations.
enum { FLUSH_ALL_ABOVE = 32 };

pte_t *arch_pt_root(void)
{
    return arch_direct(paddr(read_cr3() & PTE_ADDR_MASK));
}

static void flush_all(void)
{
    uint64_t cr4 = read_cr4();

    // Toggling PGE drops global entries too; without PGE there are none.
    if (cpu_features.pge) {
        write_cr4(cr4 ^ (1 << 7));
        write_cr4(cr4);
    } else {
        write_cr3(read_cr3());
    }
}

void arch_tlb_flush_local(uintptr_t va, size_t npages)
{
    if (npages == 0 || npages > FLUSH_ALL_ABOVE) {
        flush_all();
        return;
    }
    for (size_t i = 0; i < npages; i++)
        invlpg(va + i * PAGE_SIZE);
}

void tlb_serve(void)
{
    struct cpu *me = this_cpu();

    if (atomic_load_explicit(&me->inbox, memory_order_relaxed) == 0)
        return;
    uint64_t from =
        atomic_exchange_explicit(&me->inbox, 0, memory_order_acquire);

    for (; from != 0; from &= from - 1) {
        struct cpu *c = cpu_table[__builtin_ctzll(from)];

        arch_tlb_flush_local(c->request.va, c->request.npages);
        atomic_fetch_and_explicit(&c->request.waiting, ~(UINT64_C(1) << me->id),
                                  memory_order_release);
    }
}

void arch_relax(void)
{
    arch_pause();
    tlb_serve();
}

// Returns true if the CPU was idle and will flush by itself.
static bool left_to_idle(struct cpu *c)
{
    uint32_t s = CPU_IDLE;

    if (atomic_compare_exchange_strong(&c->idle, &s, CPU_IDLE_FLUSH))
        return true;
    return s == CPU_IDLE_FLUSH;
}

static void shootdown_fixed(uintptr_t va, size_t npages)
{
    struct cpu *me = this_cpu();
    uint64_t busy = 0;

    me->request.va = va;
    me->request.npages = npages;
    for (unsigned i = 0; i < cpu_count; i++) {
        if (i != me->id && !left_to_idle(cpu_table[i]))
            busy |= UINT64_C(1) << i;
    }
    atomic_store_explicit(&me->request.waiting, busy, memory_order_relaxed);
    for (uint64_t b = busy; b != 0; b &= b - 1) {
        unsigned i = (unsigned)__builtin_ctzll(b);

        atomic_fetch_or_explicit(&cpu_table[i]->inbox, UINT64_C(1) << me->id,
                                 memory_order_release);
        lapic_ipi(i, VEC_DOORBELL);
    }
    arch_tlb_flush_local(va, npages);
    while (atomic_load_explicit(&me->request.waiting, memory_order_acquire))
        arch_relax();
}

void arch_tlb_shootdown(uintptr_t va, size_t npages)
{
    preempt_disable();
    if (cpu_count == 1)
        arch_tlb_flush_local(va, npages);
    else
        shootdown_fixed(va, npages);
    preempt_enable();
}

void tlb_leave_idle(void)
{
    if (atomic_exchange(&this_cpu()->idle, CPU_RUNS) == CPU_IDLE_FLUSH)
        flush_all();
}

void arch_idle(bool (*wake)(void))
{
    __asm__ volatile("cli" ::: "memory");
    atomic_exchange(&this_cpu()->idle, CPU_IDLE);
    // sti takes effect after the next instruction: a wake-up that comes after
    // the check is delivered by hlt itself.
    if (!wake())
        __asm__ volatile("sti\n\thlt" ::: "memory");
    else
        __asm__ volatile("sti" ::: "memory");
    tlb_leave_idle();
}

void arch_kick(unsigned cpu)
{
    lapic_ipi(cpu, VEC_DOORBELL);
}

// ---- calls on other CPUs: the same mailbox, for anything ----

void call_serve(void)
{
    struct cpu *me = this_cpu();
    uint64_t from =
        atomic_exchange_explicit(&me->call_inbox, 0, memory_order_acquire);

    for (; from != 0; from &= from - 1) {
        struct cpu *c = cpu_table[__builtin_ctzll(from)];

        c->call_fn(c->call_arg);
        atomic_fetch_and_explicit(&c->call_waiting, ~(UINT64_C(1) << me->id),
                                  memory_order_release);
    }
}

COLD void arch_call_others(void (*fn)(void *), void *arg)
{
    preempt_disable();
    struct cpu *me = this_cpu();
    uint64_t others =
        (cpu_count == 64 ? UINT64_MAX : (UINT64_C(1) << cpu_count) - 1) &
        ~(UINT64_C(1) << me->id);

    me->call_fn = fn;
    me->call_arg = arg;
    atomic_store_explicit(&me->call_waiting, others, memory_order_relaxed);
    for (uint64_t b = others; b != 0; b &= b - 1) {
        unsigned i = (unsigned)__builtin_ctzll(b);

        atomic_fetch_or_explicit(&cpu_table[i]->call_inbox,
                                 UINT64_C(1) << me->id, memory_order_release);
        lapic_ipi(i, VEC_DOORBELL);
    }
    // Interrupts stay on here, so a call from another CPU is served meanwhile.
    while (atomic_load_explicit(&me->call_waiting, memory_order_acquire))
        arch_relax();
    preempt_enable();
}
