// The console: three debug ports of the runner, or a UART.
//
// Under tools/run stdout, stderr and the exit status have a port each
// (isa-debugcon answers a read with its own number), written with one rep
// outsb: no state, no lock, so a panic can write from anywhere. Without them
// all output goes to COM1, whose receive side is the input in either case.
//
// Input framing (console.framed=1, set by the runner): DLE DLE is one DLE, DLE
// EOT is the end of the file, DLE FS the key that asks for a report; a serial line
// has no other way to say that. Unframed, FS itself is the key: Ctrl-\ on a terminal.
//
// The interrupt takes bytes from the UART into a ring, so that the key is seen
// whoever reads; when the ring is full it stays off until a reader has made room.

#include <stdatomic.h>

#include "arch/fmt.h"
#include "arch/option.h"
#include "arch/x86_64/cpu.h"

#include "arch/drivers/uart.h"

enum port {
    PORT_STDOUT = 0xe9,
    PORT_STDERR = 0xea,
    PORT_STATUS = 0xeb,
    PORT_EXIT = 0xf4,
    COM1 = 0x3f8,
};

enum { DLE = 0x10, EOT = 0x04, FS = 0x1c, EXIT_OK = 0x10 };
enum { RING = 128 };

static bool framed;
OPTION_BOOL(opt_framed, "console.framed", framed,
            "input carries DLE-framed end of file (set by the runner)");

static uint16_t out_port[3]; // by enum arch_stream; 0: the UART
static bool have_uart;
static bool seen_dle, at_eof;                   // [the one reader]
static bool asked;                              // [the one reader] for input
static void (*on_input)(void), (*on_key)(void); // [c] after boot

// What has arrived: in[put % RING] is the next to come, in[taken % RING] the next to
// go. A DLE goes in with what follows it. Release and acquire on both sides.
static uint8_t in[RING];
static _Atomic uint32_t put;   // written by the interrupt, on the boot CPU
static _Atomic uint32_t taken; // written by the one reader
static bool held_dle;          // [interrupt]

// Before the first message; needs nothing.
void console_detect(void)
{
    if (inb(PORT_STDOUT) == PORT_STDOUT)
        out_port[ARCH_STDOUT] = PORT_STDOUT;
    if (inb(PORT_STDERR) == PORT_STDERR)
        out_port[ARCH_STDERR] = PORT_STDERR;
    have_uart = uart_init(COM1);
}

void arch_console_write(enum arch_stream s, const void *p, size_t n)
{
    if (out_port[s] != 0)
        outsb(out_port[s], p, n);
    else if (have_uart)
        uart_write(COM1, p, n);
}

// One byte of input: its value, or one of these.
enum { INPUT_NONE = -1, INPUT_EOF = -2 };

static int next_byte(void)
{
    for (;;) {
        uint32_t at = atomic_load_explicit(&taken, memory_order_relaxed);

        if (at == atomic_load_explicit(&put, memory_order_acquire))
            return INPUT_NONE;
        uint8_t c = in[at % RING];

        atomic_store_explicit(&taken, at + 1, memory_order_release);
        if (!framed)
            return c;
        if (!seen_dle && c == DLE) {
            seen_dle = true;
            continue;
        }
        bool escaped = seen_dle;

        seen_dle = false;
        return escaped && c == EOT ? INPUT_EOF : c;
    }
}

int arch_console_read(void *p, size_t n)
{
    uint8_t *out = p;
    size_t got = 0;

    if (!have_uart)
        return -1;
    if (!asked) {
        // The runner holds input back until now: what would lie in the UART
        // when its FIFO is switched on would be lost.
        asked = true;
        if (inb(PORT_STATUS) == PORT_STATUS)
            outsb(PORT_STATUS, "input\n", 6);
    }
    if (at_eof) {
        at_eof = false;
        return -1;
    }
    while (got < n) {
        int c = next_byte();

        if (c == INPUT_NONE)
            break;
        if (c == INPUT_EOF) {
            at_eof = got > 0; // what came before it goes first
            if (got == 0)
                return -1;
            break;
        }
        out[got++] = (uint8_t)c;
    }
    if (got == 0)
        uart_irq(COM1, true);
    return (int)got;
}

void arch_console_on_input(void (*fn)(void))
{
    on_input = fn;
}

void arch_console_on_key(void (*fn)(void))
{
    on_key = fn;
    if (have_uart)
        uart_irq(COM1, true);
}

static void ring_add(uint8_t c)
{
    uint32_t at = atomic_load_explicit(&put, memory_order_relaxed);

    in[at % RING] = c;
    atomic_store_explicit(&put, at + 1, memory_order_release);
}

static bool ring_has_room(void)
{
    // A DLE and what follows it.
    return atomic_load_explicit(&put, memory_order_relaxed) -
               atomic_load_explicit(&taken, memory_order_acquire) <=
           RING - 2;
}

void console_irq(void)
{
    uint32_t before = put;

    while (ring_has_room()) {
        int c = uart_read(COM1);
        bool escaped = held_dle;

        if (c < 0)
            break;
        held_dle = framed && !escaped && c == DLE;
        if (c == FS && (escaped || !framed)) {
            if (on_key != NULL)
                on_key();
        } else if (!held_dle) {
            if (escaped)
                ring_add(DLE);
            ring_add((uint8_t)c);
        }
    }
    if (!ring_has_room())
        uart_irq(COM1, false); // until arch_console_read has taken all
    // Not by a key: who waits for input would be seen awake in what it prints.
    if (put != before && on_input != NULL)
        on_input();
}

void arch_power_off(int status)
{
    char line[16];
    size_t n = fmt_string(line, sizeof line, "status %d\n", status & 0xff);

    arch_irq_disable();
    if (inb(PORT_STATUS) == PORT_STATUS)
        outsb(PORT_STATUS, line, n);
    outb(PORT_EXIT, EXIT_OK);
    // No runner: a reset through the keyboard controller ends QEMU under
    // -no-reboot; on a machine without either this CPU rests for good.
    outb(0x64, 0xfe);
    for (;;)
        __asm__ volatile("hlt");
}
