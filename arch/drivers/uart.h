// 16550 UART: the console's input, and its output where nothing better is.
//
// The receive interrupt is only a wake-up: the handler masks it and the reader
// takes the bytes, so there is no ring to overflow; QEMU holds back what does
// not fit the FIFO.
//
// Source: National Semiconductor PC16550D data sheet.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// 115200 8N1, FIFOs on, interrupts off. Returns false if there is no UART.
bool uart_init(uint16_t port);

// Writes all of it, waiting for the transmitter.
void uart_write(uint16_t port, const void *p, size_t n);

// Takes one received byte; -1 if there is none.
int uart_read(uint16_t port);

// Lets the receive interrupt through, or not.
void uart_irq(uint16_t port, bool on);
