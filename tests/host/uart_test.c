/* SPDX-License-Identifier: BSD-2-Clause */
/* The UART's receiver and its interrupts, by the PC16550D data sheet, section 8. */
#include "hv/dev/uart.h"
#include "tests/host/lamp.h"
#include "tests/host/test.h"

enum { RBR, IER, IIR, LCR, MCR, LSR, MSR };

static struct uart_device uart;
static struct lamp lamp;
static unsigned sent;

static void output(const char *text, size_t len)
{
    (void)text, (void)len;
    sent++;
}

static void reset(void)
{
    const struct irq_line line = lamp_line(&lamp);

    lamp = (struct lamp){0};
    sent = 0;
    uart_device_init(&uart, "vm", output, &line);
}

static void out(unsigned offset, uint8_t value)
{
    uart_device_write(&uart, offset, value);
}

static uint8_t in(unsigned offset)
{
    return uart_device_read(&uart, offset);
}

static void receive(const char *text)
{
    while (*text)
        uart_device_receive(&uart, (uint8_t)*text++);
}

/* As a driver leaves it: FIFOs on, OUT2, the interrupts of `ier`. */
static void open_port(uint8_t fcr, uint8_t ier)
{
    reset();
    out(IIR, fcr);
    out(MCR, 0x0b);
    out(IER, ier);
}

/* Without FIFOs one byte at a time; none is lost. */
static void received_bytes_wait(void)
{
    reset();
    receive("abc");
    CHECK(in(RBR) == 'a' && in(RBR) == 'b' && (in(LSR)&0x03) == 0x01, "two of three");
    CHECK(in(RBR) == 'c' && (in(LSR)&0x03) == 0, "the third");
}

/* A pasted text of 4 KiB comes through, in order; what is more is lost, and LSR says so. */
static void pasted_text_is_not_lost(void)
{
    open_port(0x01, 0);
    for (unsigned i = 0; i < UART_QUEUE_SIZE + UART_FIFO_SIZE; i++)
        CHECK(uart_device_receive(&uart, (uint8_t)(i * 7)), "byte %u", i);
    CHECK(!(in(LSR)&0x02), "nothing is lost yet");
    CHECK(!uart_device_receive(&uart, 0), "no room");
    CHECK(in(LSR)&0x02, "overrun");
    for (unsigned i = 0; i < UART_QUEUE_SIZE + UART_FIFO_SIZE; i++)
        CHECK((in(LSR)&1) && in(RBR) == (uint8_t)(i * 7), "byte %u", i);
    CHECK(!(in(LSR)&1), "all are read");
}

/* FCR empties the FIFO, not the wire. */
static void clearing_takes_the_fifo_only(void)
{
    open_port(0x01, 0);
    receive("0123456789abcdefXY");
    out(IIR, 0x03);
    CHECK(in(RBR) == 'X' && in(RBR) == 'Y' && !(in(LSR)&1), "what waited before it");
}

/* In loop-back mode nothing comes from outside, and nothing goes there. */
static void loop_back_is_cut_off(void)
{
    open_port(0x01, 0);
    out(MCR, 0x1b);
    receive("outside");
    out(RBR, 'i');
    CHECK(in(RBR) == 'i' && !(in(LSR)&1), "the loop alone");
    uart_device_flush(&uart);
    CHECK(sent == 0, "nothing was sent");
    out(MCR, 0x0b);
    CHECK(in(RBR) == 'o', "the line is back");
}

/* IIR: 4 at the trigger level of the FIFO and above, 0xc below it. */
static void data_interrupt(void)
{
    open_port(0x41, 0x01); /* trigger level 4 */
    CHECK(in(IIR) == 0xc1 && !lamp.on, "nothing yet");
    receive("abc");
    CHECK(in(IIR) == 0xcc && lamp.on, "character time-out");
    receive("d");
    CHECK(in(IIR) == 0xc4 && in(IIR) == 0xc4 && lamp.on, "trigger level; reading does not clear");
    in(RBR);
    CHECK(in(IIR) == 0xcc && lamp.on, "three are left");
    in(RBR), in(RBR), in(RBR);
    CHECK(in(IIR) == 0xc1 && !lamp.on && lamp.rises == 1, "%u rises", lamp.rises);
    out(IIR, 0x00);
    receive("e");
    CHECK(in(IIR) == 0x04, "without FIFOs");
}

/* IIR read takes THRE back; THR write does, and as the byte is gone at once it comes again. */
static void transmitter_interrupt(void)
{
    open_port(0x01, 0x00);
    out(IER, 0x02);
    CHECK(lamp.on && lamp.rises == 1, "at once when enabled");
    out(IER, 0x02);
    CHECK(in(IIR) == 0xc2 && !lamp.on, "told");
    CHECK(in(IIR) == 0xc1, "and gone");
    out(IER, 0x02);
    CHECK(!lamp.on, "enabling what is enabled is none");
    out(RBR, 'x');
    CHECK(lamp.on && lamp.rises == 2, "the byte is gone");
    out(RBR, 'y');
    CHECK(lamp.on && lamp.rises == 3, "an edge for each byte");
    out(IER, 0x00);
    CHECK(!lamp.on && in(IIR) == 0xc1, "disabled");
    out(IER, 0x02);
    CHECK(lamp.on && in(IIR) == 0xc2 && !lamp.on, "enabled anew");
}

static void reading_iir_takes_back_only_what_it_says(void)
{
    open_port(0x01, 0x03);
    receive("a");
    CHECK(in(IIR) == 0xc4, "data go first");
    in(RBR);
    CHECK(in(IIR) == 0xc2, "THRE is still there");
}

/* Line status before data before THRE before modem status (table IV). */
static void priorities(void)
{
    open_port(0x01, 0x0f);
    for (unsigned i = 0; i < UART_QUEUE_SIZE + UART_FIFO_SIZE + 1; i++)
        uart_device_receive(&uart, 0);
    out(MCR, 0x18);
    out(MCR, 0x0b);
    CHECK(in(IIR) == 0xc6, "overrun");
    in(LSR);
    CHECK(in(IIR) == 0xc4, "data");
    while (in(LSR)&1)
        in(RBR);
    CHECK(in(IIR) == 0xc2, "THRE");
    CHECK(in(IIR) == 0xc0 && in(IIR) == 0xc0 && lamp.on, "modem status");
    in(MSR);
    CHECK(in(IIR) == 0xc1 && !lamp.on, "none");
}

/* Bits 3:0 of MSR: what has changed since it was read; of RI only the end. */
static void modem_changes(void)
{
    reset();
    out(MCR, 0x10);
    CHECK(in(MSR) == 0x0b, "CTS, DSR and DCD have gone");
    CHECK(in(MSR) == 0x00, "reading clears");
    out(MCR, 0x14);
    CHECK(in(MSR) == 0x40, "RI has come: no change");
    out(MCR, 0x10);
    CHECK(in(MSR) == 0x04, "TERI");
    out(MCR, 0x13);
    CHECK(in(MSR) == 0x33, "CTS, DSR");
    out(MCR, 0x03);
    CHECK(in(MSR) == 0xb8, "DCD");
}

static void out2_gates_the_interrupt(void)
{
    reset();
    out(IER, 0x02);
    CHECK(!lamp.on, "OUT2 is off");
    out(MCR, 0x08);
    CHECK(lamp.on, "on");
    out(MCR, 0x18);
    CHECK(lamp.on, "in the loop, too");
    out(MCR, 0x00);
    CHECK(!lamp.on && in(IIR) == 0x02, "IIR says it all the same");
}

static void a_reset_lowers_the_wire(void)
{
    open_port(0x01, 0x02);
    CHECK(lamp.on, "before");
    uart_device_reset(&uart);
    CHECK(!lamp.on && in(IER) == 0 && in(MCR) == 0 && in(IIR) == 0x01, "after");
}

int main(void)
{
    RUN(received_bytes_wait);
    RUN(pasted_text_is_not_lost);
    RUN(clearing_takes_the_fifo_only);
    RUN(loop_back_is_cut_off);
    RUN(data_interrupt);
    RUN(transmitter_interrupt);
    RUN(reading_iir_takes_back_only_what_it_says);
    RUN(priorities);
    RUN(modem_changes);
    RUN(out2_gates_the_interrupt);
    RUN(a_reset_lowers_the_wire);
    return test_status();
}
