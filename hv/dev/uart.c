/* SPDX-License-Identifier: BSD-2-Clause */
/* See uart.h. Register and bit names are the PC16550D data sheet's. */
#include "hv/dev/uart.h"

#include <string.h>

/* Offsets; RBR, THR, IER give way to the divisor while LCR.DLAB is set. */
enum { UART_RBR_THR = 0, UART_IER, UART_IIR_FCR, UART_LCR, UART_MCR, UART_LSR, UART_MSR, UART_SCR };

#define IER_DATA   0x01u
#define IER_THRE   0x02u
#define IER_STATUS 0x04u
#define IER_MODEM  0x08u
#define IER_BITS   0x0fu

#define IIR_MODEM   0x00u
#define IIR_NONE    0x01u
#define IIR_THRE    0x02u
#define IIR_DATA    0x04u
#define IIR_STATUS  0x06u
#define IIR_TIMEOUT 0x0cu /* data that do not reach the FIFO's trigger level */
#define IIR_FIFO_ON 0xc0u

#define FCR_ENABLE     0x01u
#define FCR_CLEAR_RX   0x02u
#define FCR_KEPT       0xc9u /* enable, DMA mode, trigger level: the clear bits go back to 0 */
#define FCR_TRIGGER(f) ((f) >> 6)

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
#define MSR_TO_DELTA 4 /* bits between a state and "it has changed" */

#define DIVISOR_115200 1u

static const uint8_t trigger_levels[] = {1, 4, 8, 14};

void uart_device_flush(struct uart_device *uart)
{
    lines_flush(&uart->lines);
}

/* --- receiving -------------------------------------------------------------------------------- */

static bool has_fifo(const struct uart_device *uart)
{
    return (uart->fcr & FCR_ENABLE) != 0;
}

static bool is_full(const struct uart_device *uart)
{
    return uart->received >= (has_fifo(uart) ? UART_FIFO_SIZE : 1);
}

/* A byte has come over the wire, or around the loop. */
static void receive(struct uart_device *uart, uint8_t byte)
{
    if (is_full(uart))
        uart->overrun = true;
    else
        uart->fifo[uart->received++] = byte;
}

/* The receiver takes from the queue what it has room for. In loop-back mode its input is cut off.
 */
static void refill(struct uart_device *uart)
{
    if (uart->mcr & MCR_LOOP)
        return;
    while (uart->queue_in != uart->queue_out && !is_full(uart))
        receive(uart, uart->queue[uart->queue_out++ % UART_QUEUE_SIZE]);
}

static uint8_t take_received(struct uart_device *uart)
{
    if (uart->received == 0)
        return 0;
    uint8_t byte = uart->fifo[0];
    uart->received--;
    memmove(uart->fifo, uart->fifo + 1, uart->received);
    refill(uart);
    return byte;
}

/* --- modem ------------------------------------------------------------------------------------ */

/* In loop-back mode the modem's inputs are its outputs; else a terminal that is always there. */
static uint8_t modem_inputs(uint8_t mcr)
{
    if (!(mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
                     (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0));
}

/* What has changed since MSR was read. Of RI only its end counts (TERI). */
static void write_mcr(struct uart_device *uart, uint8_t value)
{
    uint8_t before = modem_inputs(uart->mcr), after = modem_inputs(value);
    uint8_t changed = before ^ after;

    if (after & MSR_RI)
        changed &= (uint8_t)~MSR_RI;
    uart->modem_changes |= changed >> MSR_TO_DELTA;
    uart->mcr = value;
    refill(uart);
}

/* --- interrupts ------------------------------------------------------------------------------- */

/* The reason for an interrupt, highest priority first. Nothing more comes in at once: data below
 * the trigger level have waited for long enough. */
static uint8_t identification(const struct uart_device *uart)
{
    if ((uart->ier & IER_STATUS) && uart->overrun)
        return IIR_STATUS;
    if ((uart->ier & IER_DATA) && uart->received > 0) {
        bool timeout = has_fifo(uart) && uart->received < trigger_levels[FCR_TRIGGER(uart->fcr)];
        return timeout ? IIR_TIMEOUT : IIR_DATA;
    }
    if ((uart->ier & IER_THRE) && uart->thre)
        return IIR_THRE;
    if ((uart->ier & IER_MODEM) && uart->modem_changes)
        return IIR_MODEM;
    return IIR_NONE;
}

/*
 * OUT2 lets the interrupt through. In loop-back mode the pin is inactive, but kernels test their
 * interrupts in it, and on most of today's PCs they come: the bit counts.
 */
static void update_irq(struct uart_device *uart)
{
    bool level = (uart->mcr & MCR_OUT2) && identification(uart) != IIR_NONE;

    if (level == uart->asserted)
        return;
    uart->asserted = level;
    irq_set(&uart->irq, level);
}

/* --- registers -------------------------------------------------------------------------------- */

/* Reading IIR takes back THRE if that is what it says. */
static uint8_t read_iir(struct uart_device *uart)
{
    uint8_t id = identification(uart);

    if (id == IIR_THRE)
        uart->thre = false;
    return id | (has_fifo(uart) ? IIR_FIFO_ON : 0);
}

static uint8_t read_lsr(struct uart_device *uart)
{
    uint8_t status = LSR_THRE | LSR_TEMT;

    if (uart->received > 0)
        status |= LSR_DATA;
    if (uart->overrun)
        status |= LSR_OVERRUN;
    uart->overrun = false; /* reading clears it */
    return status;
}

static uint8_t read_msr(struct uart_device *uart)
{
    uint8_t status = modem_inputs(uart->mcr) | uart->modem_changes;

    uart->modem_changes = 0;
    return status;
}

static uint8_t read_register(struct uart_device *uart, unsigned offset)
{
    bool dlab = (uart->lcr & LCR_DLAB) != 0;

    switch (offset) {
    case UART_RBR_THR:
        return dlab ? uart->divisor_low : take_received(uart);
    case UART_IER:
        return dlab ? uart->divisor_high : uart->ier;
    case UART_IIR_FCR:
        return read_iir(uart);
    case UART_LCR:
        return uart->lcr;
    case UART_MCR:
        return uart->mcr;
    case UART_LSR:
        return read_lsr(uart);
    case UART_MSR:
        return read_msr(uart);
    default:
        return uart->scratch;
    }
}

/* The byte takes the interrupt back, and is gone at once: the next one is another edge. */
static void write_thr(struct uart_device *uart, uint8_t value)
{
    uart->thre = false;
    update_irq(uart);
    if (uart->mcr & MCR_LOOP)
        receive(uart, value);
    else
        lines_add(&uart->lines, value);
    uart->thre = true;
}

/* Enabling THRE while the transmitter is empty interrupts at once. */
static void write_ier(struct uart_device *uart, uint8_t value)
{
    if (value & ~uart->ier & IER_THRE)
        uart->thre = true;
    uart->ier = value & IER_BITS;
}

static void write_fcr(struct uart_device *uart, uint8_t value)
{
    /* Switching the FIFOs on or off empties them. */
    if ((value & FCR_CLEAR_RX) || ((value ^ uart->fcr) & FCR_ENABLE))
        uart->received = 0;
    uart->fcr = value & FCR_KEPT;
    refill(uart);
}

static void write_register(struct uart_device *uart, unsigned offset, uint8_t value)
{
    bool dlab = (uart->lcr & LCR_DLAB) != 0;

    switch (offset) {
    case UART_RBR_THR:
        if (dlab)
            uart->divisor_low = value;
        else
            write_thr(uart, value);
        return;
    case UART_IER:
        if (dlab)
            uart->divisor_high = value;
        else
            write_ier(uart, value);
        return;
    case UART_IIR_FCR:
        write_fcr(uart, value);
        return;
    case UART_LCR:
        uart->lcr = value;
        return;
    case UART_MCR:
        write_mcr(uart, value & MCR_BITS);
        return;
    case UART_SCR:
        uart->scratch = value;
        return;
    default: /* LSR and MSR are read only */
        return;
    }
}

uint8_t uart_device_read(struct uart_device *uart, unsigned offset)
{
    uint8_t value = read_register(uart, offset);

    update_irq(uart);
    return value;
}

void uart_device_write(struct uart_device *uart, unsigned offset, uint8_t value)
{
    write_register(uart, offset, value);
    update_irq(uart);
}

bool uart_device_receive(struct uart_device *uart, uint8_t byte)
{
    bool room = uart->queue_in - uart->queue_out < UART_QUEUE_SIZE;

    if (room)
        uart->queue[uart->queue_in++ % UART_QUEUE_SIZE] = byte;
    else
        uart->overrun = true;
    refill(uart);
    update_irq(uart);
    return room;
}

void uart_device_reset(struct uart_device *uart)
{
    uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->scratch = 0;
    uart->divisor_low = DIVISOR_115200;
    uart->divisor_high = 0;
    uart->modem_changes = 0;
    uart->thre = uart->overrun = false;
    uart->received = 0;
    refill(uart);
    update_irq(uart);
}

void uart_device_init(struct uart_device *uart, const char *name, uart_output *output,
                      const struct irq_line *irq)
{
    memset(uart, 0, sizeof(*uart)); /* too big for a temporary on the stack */
    lines_init(&uart->lines, name, output);
    uart->irq = *irq;
    uart_device_reset(uart);
}
