/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtual 16550A (National Semiconductor PC16550D) as a PC wires it: OUT2 lets its interrupt
 * through. It is infinitely fast: the transmitter is always empty, and a character time-out comes
 * at once. What the guest sends is gathered into lines for the console (hv/console.h has their
 * form). What comes from outside waits in a queue before the receiver until the guest has read what
 * came before it, as if the other side were asked to wait.
 */
#ifndef HV_DEV_UART_H
#define HV_DEV_UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/dev/irq.h"
#include "hv/dev/lines.h"

#define UART_REGISTERS  8u
#define UART_FIFO_SIZE  16u
#define UART_QUEUE_SIZE 4096u /* a power of two */

typedef line_output uart_output;

struct uart_device {
    struct lines lines; /* of what the guest sends */
    struct irq_line irq;
    uint8_t ier, fcr, lcr, mcr, scratch;
    uint8_t divisor_low, divisor_high;
    uint8_t modem_changes; /* bits 3:0 of MSR */
    bool thre;             /* the transmitter has become empty, and IIR has not said so yet */
    bool overrun;
    bool asserted;     /* the wire's level */
    unsigned received; /* bytes in fifo, oldest first */
    uint8_t fifo[UART_FIFO_SIZE];
    uint32_t queue_in, queue_out; /* bytes that went in and out; their low bits are the places */
    uint8_t queue[UART_QUEUE_SIZE];
};

void uart_device_init(struct uart_device *uart, const char *name, uart_output *output,
                      const struct irq_line *irq);

/* Registers as after a reset; the queue and an unfinished line stay. */
void uart_device_reset(struct uart_device *uart);

/* A register access by its offset from the base port, below UART_REGISTERS. */
uint8_t uart_device_read(struct uart_device *uart, unsigned offset);
void uart_device_write(struct uart_device *uart, unsigned offset, uint8_t value);

/* A byte arrives from outside. False when the queue is full: the byte is lost, and LSR says so. */
bool uart_device_receive(struct uart_device *uart, uint8_t byte);

/* Send an unfinished line on as it is. */
void uart_device_flush(struct uart_device *uart);

#endif
