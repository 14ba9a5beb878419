/* SPDX-License-Identifier: BSD-2-Clause */
/* See uart.h. Register and bit names are the PC16550D data sheet's. */
#include "hv/dev/uart.h"

#include <string.h>

/* Offsets; RBR, THR, IER give way to the divisor while LCR.DLAB is set. */
enum { UART_RBR_THR = 0, UART_IER, UART_IIR_FCR, UART_LCR, UART_MCR, UART_LSR, UART_MSR, UART_SCR };

#define IER_BITS 0x0fu

#define IIR_NONE     0x01u
#define IIR_THRE     0x02u
#define IIR_DATA     0x04u
#define IIR_STATUS   0x06u
#define IIR_FIFO_ON  0xc0u
#define IER_DATA     0x01u
#define IER_THRE     0x02u
#define IER_STATUS   0x04u
#define FCR_ENABLE   0x01u
#define FCR_CLEAR_RX 0x02u
#define FCR_KEPT     0xc9u /* enable, DMA mode, trigger level: the clear bits go back to 0 */
#define LCR_DLAB     0x80u
#define MCR_BITS     0x1fu
#define MCR_DTR      0x01u
#define MCR_RTS      0x02u
#define MCR_OUT1     0x04u
#define MCR_OUT2     0x08u
#define MCR_LOOP     0x10u
#define LSR_DATA     0x01u
#define LSR_OVERRUN  0x02u
#define LSR_THRE     0x20u
#define LSR_TEMT     0x40u
#define MSR_CTS      0x10u
#define MSR_DSR      0x20u
#define MSR_RI       0x40u
#define MSR_DCD      0x80u

#define DIVISOR_115200 1u

void uart_device_init(struct uart_device *uart, const char *name, uart_output *output,
                      const struct irq_line *irq)
{
    *uart = (struct uart_device){.irq = *irq, .divisor_low = DIVISOR_115200};
    lines_init(&uart->lines, name, output);
}

void uart_device_flush(struct uart_device *uart)
{
    lines_flush(&uart->lines);
}

/* --- receiving -------------------------------------------------------------------------------- */

bool uart_device_receive(struct uart_device *uart, uint8_t byte)
{
    unsigned room = uart->fcr & FCR_ENABLE ? UART_FIFO_SIZE : 1;

    if (uart->received >= room) {
        uart->overrun = true;
        return false;
    }
    uart->fifo[uart->received++] = byte;
    return true;
}

static uint8_t take_received(struct uart_device *uart)
{
    if (uart->received == 0)
        return 0;
    uint8_t byte = uart->fifo[0];
    uart->received--;
    memmove(uart->fifo, uart->fifo + 1, uart->received);
    return byte;
}

/* --- registers -------------------------------------------------------------------------------- */

/* The reason for an interrupt, highest priority first. Reading it does not clear THRE: the
 * transmitter is empty again at once. */
static uint8_t interrupt_identification(const struct uart_device *uart)
{
    uint8_t fifo = uart->fcr & FCR_ENABLE ? IIR_FIFO_ON : 0;

    if ((uart->ier & IER_STATUS) && uart->overrun)
        return fifo | IIR_STATUS;
    if ((uart->ier & IER_DATA) && uart->received > 0)
        return fifo | IIR_DATA;
    if (uart->ier & IER_THRE)
        return fifo | IIR_THRE;
    return fifo | IIR_NONE;
}

static uint8_t line_status(struct uart_device *uart)
{
    uint8_t status = LSR_THRE | LSR_TEMT;

    if (uart->received > 0)
        status |= LSR_DATA;
    if (uart->overrun)
        status |= LSR_OVERRUN;
    uart->overrun = false; /* reading clears it */
    return status;
}

/* In loop-back mode the modem's inputs are its outputs; else a terminal that is always there. */
static uint8_t modem_status(const struct uart_device *uart)
{
    uint8_t mcr = uart->mcr;

    if (!(mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
                     (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0));
}

uint8_t uart_device_read(struct uart_device *uart, unsigned offset)
{
    bool dlab = (uart->lcr & LCR_DLAB) != 0;

    switch (offset) {
    case UART_RBR_THR:
        return dlab ? uart->divisor_low : take_received(uart);
    case UART_IER:
        return dlab ? uart->divisor_high : uart->ier;
    case UART_IIR_FCR:
        return interrupt_identification(uart);
    case UART_LCR:
        return uart->lcr;
    case UART_MCR:
        return uart->mcr;
    case UART_LSR:
        return line_status(uart);
    case UART_MSR:
        return modem_status(uart);
    default:
        return uart->scratch;
    }
}

static void write_fcr(struct uart_device *uart, uint8_t value)
{
    /* Switching the FIFOs on or off empties them. */
    if ((value & FCR_CLEAR_RX) || ((value ^ uart->fcr) & FCR_ENABLE))
        uart->received = 0;
    uart->fcr = value & FCR_KEPT;
}

void uart_device_write(struct uart_device *uart, unsigned offset, uint8_t value)
{
    bool dlab = (uart->lcr & LCR_DLAB) != 0;

    switch (offset) {
    case UART_RBR_THR:
        if (dlab)
            uart->divisor_low = value;
        else if (uart->mcr & MCR_LOOP)
            uart_device_receive(uart, value);
        else
            lines_add(&uart->lines, value);
        return;
    case UART_IER:
        if (dlab)
            uart->divisor_high = value;
        else
            uart->ier = value & IER_BITS;
        return;
    case UART_IIR_FCR:
        write_fcr(uart, value);
        return;
    case UART_LCR:
        uart->lcr = value;
        return;
    case UART_MCR:
        uart->mcr = value & MCR_BITS;
        return;
    case UART_SCR:
        uart->scratch = value;
        return;
    default: /* LSR and MSR are read only */
        return;
    }
}
