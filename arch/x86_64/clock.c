// Time: the TSC, scaled by a calibration that never waits.
//
// The boot entry stamps the TSC; clock_start stamps TSC, PIT and LAPIC timer
// together. The first use of the clock compares both again and has the rate;
// because that may be after a millisecond only, the comparison is repeated when
// ten times as long has passed, until a second has been measured. Each
// refinement keeps the time it finds (no jump) and changes the rate only.
// Where the hypervisor or CPUID states the rate, nothing is measured.
//
// The PIT counts 16 bits and wraps every 55 ms; the rate known so far tells how
// often, since it is good to a thousandth at the first measurement.
//
// Readers on all CPUs take a consistent (tsc, ns, mult) by a sequence lock.
//
// Source: Intel 8254 data sheet; Linux's mult/shift clock arithmetic for the
// idea of a fixed-point rate.

#include "arch/option.h"
#include "arch/x86_64/cpu.h"

enum {
    PIT_HZ = 1193182,
    PIT_CH0 = 0x40,
    PIT_MODE = 0x43,
    PIT_RATE_MODE = 0x34, // channel 0, both bytes, mode 2
    PIT_LATCH = 0x00,
    PIT_WRAP = 65536,
    FINAL_PIT_TICKS = PIT_HZ, // measured over a second: final
    NS_PER_SEC = 1000000000,
    RATE_SHIFT = 32,
    GUESS_HZ = 1000000000, // what QEMU's timers run at, if all else fails
};

// A writer that is not done after seconds was stopped by a panic.
#define STUCK_CYCLES (UINT64_C(1) << 33)

// Stamped by the first instructions of the boot, before bss is cleared.
uint64_t boot_entry_tsc __attribute__((section(".data")));

// [seq] fields are read under the sequence lock.
static struct {
    _Atomic uint32_t seq; // odd while a writer changes the others
    uint64_t tsc0, ns0;   // [seq] a point on the line
    uint64_t mult;        // [seq] ns per tick << RATE_SHIFT
    uint64_t tick_mult;   // [seq] LAPIC ticks per ns << RATE_SHIFT
    uint64_t start_tsc;   // [c] the stamps of clock_start
    uint64_t start_pit;   // [c]
    uint64_t start_lapic; // [c]
    uint64_t measured;    // [busy] PIT ticks covered by the last calibration
    uint64_t again_tsc;   // [seq] when the next calibration is due
    _Atomic bool busy;    // one calibration at a time
    bool have_pit;
} clk;

static uint64_t wall_override;
OPTION_UINT(opt_epoch, "clock.epoch", wall_override, 0, UINT32_MAX,
            "wall clock at boot, seconds since 1970 (0: read the RTC)");

static uint16_t pit_read(void)
{
    outb(PIT_MODE, PIT_LATCH);
    uint8_t lo = inb(PIT_CH0), hi = inb(PIT_CH0);

    return (uint16_t)(hi << 8 | lo); // counts down
}

void clock_start(void)
{
    outb(PIT_MODE, PIT_RATE_MODE);
    outb(PIT_CH0, 0); // 65536
    outb(PIT_CH0, 0);
    lapic_timer_one_shot(UINT32_MAX);
    clk.start_pit = pit_read();
    clk.start_tsc = arch_cycles();
    clk.start_lapic = lapic_timer_now();
    clk.tsc0 = boot_entry_tsc;
    // A PIT that is not there reads as all ones.
    clk.have_pit = clk.start_pit != 0xffff || pit_read() != 0xffff;
}

static uint64_t mul_shift(uint64_t a, uint64_t mult)
{
    return (uint64_t)(((unsigned __int128)a * mult) >> RATE_SHIFT);
}

static uint64_t known_hz(void)
{
    uint32_t r[4];

    cpuid(0, 0, r);
    if (r[0] >= 0x15) {
        cpuid(0x15, 0, r);
        if (r[0] != 0 && r[1] != 0 && r[2] != 0)
            return (uint64_t)r[2] * r[1] / r[0];
    }
    if (cpu_features.hypervisor) {
        cpuid(0x40000000, 0, r);
        if (r[0] >= 0x40000010 && r[0] < 0x40000100) {
            cpuid(0x40000010, 0, r);
            return (uint64_t)r[0] * 1000;
        }
    }
    return 0;
}

static void publish(uint64_t hz, uint64_t lapic_hz, uint64_t again)
{
    uint32_t seq = atomic_load_explicit(&clk.seq, memory_order_relaxed);
    uint64_t mult = ((uint64_t)NS_PER_SEC << RATE_SHIFT) / hz;

    // Pairs with the loads in snapshot(); release fences keep the order.
    atomic_store_explicit(&clk.seq, seq + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    // The lines meet here and now, while nobody can read the old one any more:
    // else a reader could get ahead of the new one on it, and time run back.
    if (clk.mult != 0) {
        uint64_t tsc = arch_cycles();

        clk.ns0 += mul_shift(tsc - clk.tsc0, clk.mult);
        clk.tsc0 = tsc;
    }
    clk.mult = mult;
    clk.tick_mult = (lapic_hz << RATE_SHIFT) / NS_PER_SEC;
    clk.again_tsc = again;
    atomic_store_explicit(&clk.seq, seq + 2, memory_order_release);
}

// PIT ticks since clock_start; tsc is now.
static uint64_t pit_elapsed(uint64_t tsc, uint16_t pit)
{
    uint64_t part = (clk.start_pit - pit) & (PIT_WRAP - 1);

    if (clk.mult == 0)
        return part;
    uint64_t guess =
        (uint64_t)((unsigned __int128)mul_shift(tsc - clk.start_tsc, clk.mult) *
                   PIT_HZ / NS_PER_SEC);
    uint64_t wraps = (guess + PIT_WRAP / 2 - part) / PIT_WRAP;

    return guess + PIT_WRAP / 2 < part ? part : wraps * PIT_WRAP + part;
}

static void calibrate(void)
{
    uint64_t hz = known_hz(), again = UINT64_MAX, lapic_hz = GUESS_HZ;
    uint16_t pit = clk.have_pit ? pit_read() : 0;
    uint64_t tsc = arch_cycles(), dt = tsc - clk.start_tsc;
    uint64_t ticks = clk.have_pit ? pit_elapsed(tsc, pit) : 0;

    if (ticks != 0) {
        if (hz == 0)
            hz = (uint64_t)((unsigned __int128)dt * PIT_HZ / ticks);
        if (ticks < FINAL_PIT_TICKS)
            again = tsc + 10 * dt;
    } else if (hz == 0) {
        hz = GUESS_HZ;
    }
    // The LAPIC timer is compared only once, before it is used for anything.
    if (clk.mult == 0 && dt != 0) {
        uint32_t lapic = lapic_timer_now();

        lapic_hz =
            (uint64_t)((unsigned __int128)(clk.start_lapic - lapic) * hz / dt);
        lapic_timer_one_shot(0);
    } else {
        lapic_hz = mul_shift(NS_PER_SEC, clk.tick_mult);
    }
    if (hz == 0)
        hz = GUESS_HZ;
    publish(hz, lapic_hz, again);
}

struct line {
    uint64_t tsc0, ns0, mult, tick_mult, again;
    uint64_t tsc; // now, while the line was the valid one
};

static struct line snapshot(void)
{
    struct line l;
    uint32_t seq;

    uint64_t start = arch_cycles();

    do {
        while ((seq = atomic_load_explicit(&clk.seq, memory_order_acquire)) &
                   1 &&
               arch_cycles() - start < STUCK_CYCLES)
            arch_pause();
        l = (struct line){*(volatile uint64_t *)&clk.tsc0,
                          *(volatile uint64_t *)&clk.ns0,
                          *(volatile uint64_t *)&clk.mult,
                          *(volatile uint64_t *)&clk.tick_mult,
                          *(volatile uint64_t *)&clk.again_tsc,
                          arch_cycles()};
        atomic_thread_fence(memory_order_acquire);
    } while (atomic_load_explicit(&clk.seq, memory_order_relaxed) != seq &&
             arch_cycles() - start < STUCK_CYCLES);
    return l;
}

// Interrupts off: a reader in a handler must not find the writer half way. Who
// finds another CPU at it goes on with the line as it is, and waits for nobody:
// a panic may have stopped that CPU for good.
static struct line refined(void)
{
    struct line l = snapshot();

    if (likely(l.mult != 0 && l.tsc < l.again))
        return l;
    bool irqs = arch_irq_disable();

    if (!atomic_exchange_explicit(&clk.busy, true, memory_order_acquire)) {
        if (clk.mult == 0 || arch_cycles() >= clk.again_tsc)
            calibrate();
        // Pairs with the acquire above.
        atomic_store_explicit(&clk.busy, false, memory_order_release);
    }
    arch_irq_restore(irqs);
    return snapshot();
}

uint64_t arch_mono_ns(void)
{
    struct line l = refined();

    // The counters of two CPUs may differ by a few ticks.
    return l.tsc < l.tsc0 ? l.ns0 : l.ns0 + mul_shift(l.tsc - l.tsc0, l.mult);
}

// The line as it is, if it stands still: whether it should be drawn anew others look.
uint64_t arch_mono_coarse_ns(void)
{
    uint32_t seq = atomic_load_explicit(&clk.seq, memory_order_acquire);
    uint64_t tsc0 = *(volatile uint64_t *)&clk.tsc0;
    uint64_t ns0 = *(volatile uint64_t *)&clk.ns0;
    uint64_t mult = *(volatile uint64_t *)&clk.mult, tsc = arch_cycles();

    atomic_thread_fence(memory_order_acquire);
    if (unlikely(seq % 2 != 0 || mult == 0 || tsc < tsc0 ||
                 atomic_load_explicit(&clk.seq, memory_order_relaxed) != seq))
        return arch_mono_ns();
    return ns0 + mul_shift(tsc - tsc0, mult);
}

void arch_timer_set(uint64_t mono_ns)
{
    if (mono_ns == UINT64_MAX) {
        lapic_timer_one_shot(0);
        return;
    }
    uint64_t now = arch_mono_ns();
    uint64_t wait = mono_ns > now ? mono_ns - now : 1;
    uint64_t ticks = mul_shift(min_u64(wait, NS_PER_SEC), snapshot().tick_mult);

    // Longer waits are armed again by the tick.
    lapic_timer_one_shot(ticks == 0 ? 1 : (uint32_t)min_u64(ticks, UINT32_MAX));
}

// ---- wall clock: MC146818 RTC ----

enum rtc_reg {
    RTC_SEC,
    RTC_MIN = 2,
    RTC_HOUR = 4,
    RTC_DAY = 7,
    RTC_MONTH,
    RTC_YEAR,
    RTC_A,
    RTC_B
};

static uint8_t rtc(uint8_t reg)
{
    outb(0x70, 0x80 | reg); // bit 7 keeps NMI off while we read
    return inb(0x71);
}

static unsigned from_bcd(uint8_t v, bool bcd)
{
    return bcd ? (v >> 4) * 10u + (v & 15) : v;
}

// Days from 1970-01-01 to a date; years start in March so that the leap day is
// the last. Source: Hinnant, "chrono-compatible low-level date algorithms".
static int64_t days_from_civil(int64_t y, unsigned m, unsigned d)
{
    y -= m <= 2;
    int64_t era = y / 400;
    uint64_t yoe = (uint64_t)(y - era * 400);
    uint64_t doy = (153 * (m + (m > 2 ? -3u : 9u)) + 2) / 5 + d - 1;

    return era * 146097 + (int64_t)(yoe * 365 + yoe / 4 - yoe / 100 + doy) -
           719468;
}

static uint64_t rtc_seconds(void)
{
    uint8_t t[6], u[6];
    static const uint8_t regs[6] = {RTC_SEC, RTC_MIN,   RTC_HOUR,
                                    RTC_DAY, RTC_MONTH, RTC_YEAR};

    if (rtc(RTC_A) == 0xff)
        return 0; // no RTC on this machine
    for (int tries = 0; tries < 4; tries++) {
        bool same = true;

        for (int i = 0; i < 6; i++)
            t[i] = rtc(regs[i]);
        for (int i = 0; i < 6; i++)
            u[i] = rtc(regs[i]);
        for (int i = 0; i < 6; i++)
            same = same && t[i] == u[i];
        if (same)
            break;
    }
    uint8_t b = rtc(RTC_B);
    bool bcd = !(b & 4), pm = !(b & 2) && (t[2] & 0x80);
    unsigned hour = from_bcd(t[2] & 0x7f, bcd);

    if (!(b & 2))
        hour = hour % 12 + (pm ? 12 : 0);
    int64_t days = days_from_civil(2000 + (int64_t)from_bcd(t[5], bcd),
                                   from_bcd(t[4], bcd), from_bcd(t[3], bcd));

    return (uint64_t)days * 86400 + hour * 3600u + from_bcd(t[1], bcd) * 60u +
           from_bcd(t[0], bcd);
}

uint64_t arch_wall_ns(void)
{
    static _Atomic uint64_t boot_ns; // wall time at mono 0; 0: not read yet
    uint64_t base = atomic_load_explicit(&boot_ns, memory_order_relaxed);
    uint64_t now = arch_mono_ns();

    if (base == 0) {
        uint64_t s = wall_override ? wall_override : rtc_seconds();
        uint64_t fresh = s * NS_PER_SEC - (wall_override || s == 0 ? 0 : now);

        if (fresh == 0)
            fresh = 1;
        // The first to store decides, so that the clock never jumps.
        if (atomic_compare_exchange_strong_explicit(&boot_ns, &base, fresh,
                                                    memory_order_relaxed,
                                                    memory_order_relaxed))
            base = fresh;
    }
    return base + now;
}
