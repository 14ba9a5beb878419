/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks of the UART at 0x3f8 (PC16550D data sheet), in loop-back, so that nothing leaves it. */
#include "guest-tests/multiboot/platform/platform.h"

#define UART 0x3f8u
#define RBR  (UART + 0)
#define THR  (UART + 0)
#define IER  (UART + 1)
#define IIR  (UART + 2)
#define FCR  (UART + 2)
#define LCR  (UART + 3)
#define MCR  (UART + 4)
#define LSR  (UART + 5)
#define MSR  (UART + 6)
#define SCR  (UART + 7)

#define IER_DATA    0x01u
#define IER_THRE    0x02u
#define IER_LINE    0x04u
#define IIR_NONE    0x01u
#define IIR_THRE    0x02u
#define IIR_DATA    0x04u
#define IIR_LINE    0x06u
#define IIR_TIMEOUT 0x0cu
#define IIR_ID      0x0fu
#define IIR_FIFOS   0xc0u
#define FCR_ON_1    0x07u /* on, both emptied, an interrupt at the first byte */
#define LCR_8_BITS  0x03u
#define LCR_DLAB    0x80u
#define MCR_OUT2    0x08u
#define MCR_LOOP    0x10u
#define LSR_DATA    0x01u
#define LSR_OVERRUN 0x02u
#define LSR_IDLE    0x40u

#define VECTOR_UART (VECTOR_PIC + 4)
#define SILENCE_US  300u

static bool is_idle(void)
{
    return WAIT_UNTIL(inb(LSR) & LSR_IDLE, BOUND_US);
}

static uint8_t interrupt_id(void)
{
    return inb(IIR) & IIR_ID;
}

/* The registers that hold what is written. */
static const char *registers(void)
{
    for (unsigned value = 0x5a; value <= 0xa5; value += 0x4b) {
        outb(SCR, (uint8_t)value);
        EXPECT_EQ(inb(SCR), value, "the scratch register");
    }
    uint8_t divisor_low, divisor_high;
    outb(LCR, LCR_DLAB | LCR_8_BITS);
    divisor_low = inb(UART);
    divisor_high = inb(UART + 1);
    outb(UART, 0x34);
    outb(UART + 1, 0x12);
    bool held = inb(UART) == 0x34 && inb(UART + 1) == 0x12;
    outb(UART, divisor_low);
    outb(UART + 1, divisor_high);
    outb(LCR, LCR_8_BITS);
    EXPECT(held, "the divisor latch");
    EXPECT_EQ(inb(LCR), LCR_8_BITS, "LCR");
    EXPECT_EQ(inb(IER), 0, "IER: the divisor latch hit it");
    outb(FCR, 0x01);
    EXPECT_EQ(inb(IIR) & IIR_FIFOS, IIR_FIFOS, "IIR does not tell of FIFOs that are on");
    outb(FCR, 0);
    EXPECT_EQ(inb(IIR) & IIR_FIFOS, 0, "IIR tells of FIFOs that are off");
    return NULL;
}

/* "MCR bit 4": what is sent is received, and the modem status is the modem control. */
static const char *loop_back(void)
{
    EXPECT(is_idle(), "the transmitter does not become idle");
    outb(MCR, MCR_LOOP | 0x0a); /* RTS, OUT2 */
    EXPECT_EQ(inb(MSR) & 0xf0u, 0x90, "MSR in loop-back: CTS is RTS, DCD is OUT2");
    outb(MCR, MCR_LOOP | 0x05); /* DTR, OUT1 */
    EXPECT_EQ(inb(MSR) & 0xf0u, 0x60, "MSR in loop-back: DSR is DTR, RI is OUT1");
    EXPECT_EQ(inb(LSR) & LSR_DATA, 0, "data before anything was sent");
    for (unsigned value = 1; value <= 0x81; value <<= 1, value += value == 0x100) {
        outb(THR, (uint8_t)value);
        EXPECT(WAIT_UNTIL(inb(LSR) & LSR_DATA, BOUND_US), "nothing is received in loop-back");
        EXPECT_EQ(inb(RBR), value, "what was received in loop-back");
        EXPECT_EQ(inb(LSR) & LSR_DATA, 0, "reading the data leaves LSR's bit");
    }
    return NULL;
}

/* "Interrupt identification": the transmitter's ends by reading IIR, and comes again with the next
 * time that it is empty. */
static const char *transmitter(void)
{
    EXPECT(is_idle(), "the transmitter does not become idle");
    outb(MCR, MCR_LOOP | MCR_OUT2);
    EXPECT_EQ(interrupt_id(), IIR_NONE, "IIR with nothing enabled");
    outb(IER, IER_THRE);
    EXPECT_EQ(interrupt_id(), IIR_THRE, "IIR with an empty transmitter");
    EXPECT_EQ(interrupt_id(), IIR_NONE, "IIR after it was read");
    outb(THR, 'x');
    EXPECT(WAIT_UNTIL(interrupt_id() == IIR_THRE, BOUND_US), "IIR after a byte was sent");
    return NULL;
}

/* "Interrupt identification", the receiver's part: data, the overrun above it, reading ends each.
 */
static const char *receiver(void)
{
    EXPECT(is_idle(), "the transmitter does not become idle");
    outb(MCR, MCR_LOOP | MCR_OUT2);
    outb(IER, IER_DATA | IER_LINE);
    outb(THR, 'a');
    EXPECT(WAIT_UNTIL(interrupt_id() == IIR_DATA, BOUND_US), "IIR with data");
    EXPECT(is_idle(), "the transmitter does not become idle");
    EXPECT_EQ(interrupt_id(), IIR_DATA, "IIR with data, read again");
    outb(THR, 'b');
    EXPECT(WAIT_UNTIL(interrupt_id() == IIR_LINE, BOUND_US), "IIR with an overrun");
    EXPECT(inb(LSR) & LSR_OVERRUN, "LSR does not tell of the overrun");
    EXPECT(!(inb(LSR) & LSR_OVERRUN), "reading LSR does not end the overrun");
    EXPECT_EQ(interrupt_id(), IIR_DATA, "IIR after the overrun");
    (void)inb(RBR);
    EXPECT_EQ(interrupt_id(), IIR_NONE, "IIR after the data");
    return NULL;
}

/* FIFO mode: 16 bytes in their order, an interrupt from the trigger level on. */
static const char *fifo(void)
{
    EXPECT(is_idle(), "the transmitter does not become idle");
    outb(MCR, MCR_LOOP | MCR_OUT2);
    outb(FCR, FCR_ON_1);
    for (unsigned i = 0; i < 16; i++) {
        outb(THR, (uint8_t)('A' + i));
        EXPECT(is_idle(), "the transmitter does not become idle in loop-back");
    }
    outb(IER, IER_DATA);
    uint8_t id = interrupt_id();
    EXPECT(id == IIR_DATA || id == IIR_TIMEOUT, "IIR with a full FIFO");
    for (unsigned i = 0; i < 16; i++)
        EXPECT_EQ(inb(RBR), 'A' + i, "the FIFO's bytes");
    EXPECT_EQ(inb(LSR) & (LSR_DATA | LSR_OVERRUN), 0, "LSR after the FIFO is empty");
    EXPECT_EQ(interrupt_id(), IIR_NONE, "IIR after the FIFO is empty");
    return NULL;
}

static uint8_t ids[4];
static unsigned id_count;

static void note_id(struct cpu *cpu, unsigned vector)
{
    uint8_t id = interrupt_id();

    (void)cpu;
    if (id_count < sizeof(ids))
        ids[id_count++] = id;
    if (id == IIR_DATA || id == IIR_TIMEOUT)
        (void)inb(RBR);
    acknowledge(vector);
}

/* IRQ 4, by the i8259: once for an empty transmitter, once for data in loop-back. */
static const char *irq(void)
{
    EXPECT(is_idle(), "the transmitter does not become idle");
    id_count = 0;
    set_handler(VECTOR_UART, note_id);
    pic_connect();
    pic_unmask(4);
    outb(IER, IER_THRE);
    EXPECT(wait_count(VECTOR_UART, 1, BOUND_US), "no IRQ 4 for the transmitter");
    listen_us(SILENCE_US);
    EXPECT_EQ(cpus[0].counts[VECTOR_UART], 1, "interrupts of the transmitter");
    EXPECT_EQ(ids[0], IIR_THRE, "IIR at the transmitter's interrupt");
    outb(MCR, MCR_LOOP | MCR_OUT2);
    outb(IER, IER_DATA);
    outb(THR, 'y');
    EXPECT(wait_count(VECTOR_UART, 2, BOUND_US), "no IRQ 4 for data");
    EXPECT_EQ(ids[1], IIR_DATA, "IIR at the data's interrupt");
    return NULL;
}

const struct check uart_checks[] = {
    {"uart-registers", registers, false},
    {"uart-loop-back", loop_back, false},
    {"uart-transmitter", transmitter, false},
    {"uart-receiver", receiver, false},
    {"uart-fifo", fifo, false},
    {"uart-irq", irq, false},
    {0},
};
