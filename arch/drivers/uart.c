// See uart.h.

#include "arch/drivers/uart.h"

#include "arch/x86_64/io.h"

enum uart_reg {
    DATA = 0,
    IER = 1,
    FCR = 2,
    LCR = 3,
    MCR = 4,
    LSR = 5,
    SCR = 7
};

enum {
    LSR_READY = 0x01,
    LSR_EMPTY = 0x20,
    IER_RECEIVE = 0x01,
    FCR_ON_CLEAR = 0xc7, // interrupt at 14 bytes, or when they rest
    LCR_8N1 = 0x03,
    LCR_DIVISOR = 0x80,
    MCR_DTR_RTS_OUT2 = 0x0b, // OUT2 gates the interrupt line
    PROBE = 0x5a,
};

bool uart_init(uint16_t port)
{
    outb(port + SCR, PROBE);
    if (inb(port + SCR) != PROBE)
        return false;
    outb(port + IER, 0);
    outb(port + LCR, LCR_DIVISOR | LCR_8N1);
    outb(port + DATA, 1);
    outb(port + IER, 0);
    outb(port + LCR, LCR_8N1);
    outb(port + FCR, FCR_ON_CLEAR);
    outb(port + MCR, MCR_DTR_RTS_OUT2);
    return true;
}

void uart_write(uint16_t port, const void *p, size_t n)
{
    const uint8_t *b = p;

    for (size_t i = 0; i < n; i++) {
        while (!(inb(port + LSR) & LSR_EMPTY))
            __builtin_ia32_pause();
        outb(port + DATA, b[i]);
    }
}

int uart_read(uint16_t port)
{
    if (!(inb(port + LSR) & LSR_READY))
        return -1;
    return inb(port + DATA);
}

void uart_irq(uint16_t port, bool on)
{
    outb(port + IER, on ? IER_RECEIVE : 0);
}
