/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine's console UART: a 16550 at I/O ports or in memory, as ACPI's SPCR describes it. */
#ifndef DRIVERS_UART_H
#define DRIVERS_UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/console.h"

#define UART_COM1 0x3f8u

struct uart_config {
    bool memory_mapped;
    uint64_t base;   /* I/O port, or host-physical address */
    unsigned stride; /* bytes from one register to the next */
    unsigned width;  /* bytes of an access to a memory-mapped register: 1 or 4 */
};

/* Set up 115200 8N1 with FIFOs. False if nothing answers there; the others then do nothing. */
bool uart_init(const struct uart_config *config);

/* A console sink: '\n' goes out as "\r\n". Gives a dead UART up after a bounded wait. While text is
 * held it only queues, and waits when 256 KiB are queued. */
void uart_write(const char *text, size_t len);

/* For console_set_slow_sink. */
void uart_hold(enum console_hold how);
bool uart_service(void);

/* Send what is queued and wait, bounded, until the last bit has left the wire. */
void uart_flush(void);

/* A byte that has come in, or -1 when there is none. By one processor at a time. */
int uart_read(void);

#endif
