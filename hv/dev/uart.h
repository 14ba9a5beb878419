/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtual 16550A (National Semiconductor PC16550D), polled: infinitely fast, so that the
 * transmitter is always empty. What the guest sends is gathered into lines for the console
 * (hv/dev/lines.h).
 */
#ifndef HV_DEV_UART_H
#define HV_DEV_UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/dev/lines.h"

#define UART_REGISTERS 8u
#define UART_FIFO_SIZE 16u

typedef line_output uart_output;

struct uart_device {
    struct lines lines; /* of what the guest sends */
    uint8_t ier, fcr, lcr, mcr, scratch;
    uint8_t divisor_low, divisor_high;
    bool overrun;
    unsigned received; /* bytes in fifo, oldest first */
    uint8_t fifo[UART_FIFO_SIZE];
};

void uart_device_init(struct uart_device *uart, const char *name, uart_output *output);

/* A register access by its offset from the base port, below UART_REGISTERS. */
uint8_t uart_device_read(struct uart_device *uart, unsigned offset);
void uart_device_write(struct uart_device *uart, unsigned offset, uint8_t value);

/* A byte arrives from outside. False when the FIFO is full: the byte is lost, and LSR says so. */
bool uart_device_receive(struct uart_device *uart, uint8_t byte);

/* Send an unfinished line on as it is. */
void uart_device_flush(struct uart_device *uart);

#endif
