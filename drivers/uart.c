/* SPDX-License-Identifier: BSD-2-Clause */
/* See uart.h. Registers and bits are the PC16550D data sheet's. */
#include "drivers/uart.h"

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/io.h"
#include "hv/arch.h"

enum { UART_DATA, UART_IER, UART_FCR, UART_LCR, UART_MCR, UART_LSR, UART_MSR, UART_SCRATCH };
#define UART_IIR       UART_FCR /* when read */
#define UART_REGISTERS 8u

#define FCR_ENABLE_AND_CLEAR 0x07u
#define IIR_FIFOS_WORK       0xc0u
#define LCR_8N1              0x03u
#define LCR_DLAB             0x80u
#define MCR_DTR_RTS          0x03u
#define LSR_DATA_READY       0x01u
#define LSR_THRE             0x20u
#define LSR_TEMT             0x40u
#define LSR_ABSENT           0xffu
#define DIVISOR_115200       1u
#define FIFO_BYTES           16u
#define PROBE_VALUE          0x5au

/* Polls before a UART counts as dead: 16 bytes take 1.4 ms at 115200 baud, a poll about 1 us. */
#define POLLS_MAX 1000000u

static struct uart_config uart;
static volatile uint8_t *registers; /* when memory mapped */
static bool present;
static unsigned fifo_bytes; /* 16, or 1 for a UART without a working FIFO */
static unsigned fifo_room;  /* bytes that may be sent without looking at LSR */

/*
 * What is to go out. The transmitter takes 11,520 bytes a second: who writes leaves them here, and
 * does not wait while text is `held` and the queue has room. One writes at a
 * time, who has the console; `sending` is for who moves bytes on to the device.
 */
#define QUEUE_BYTES 262144u /* a power of two */
static char queue[QUEUE_BYTES];
static uint32_t queue_in, queue_out;
static bool sending;
static bool held;

/*
 * What has come in. While a long text goes out as much can come in, more than the FIFO holds: who
 * waits for the transmitter empties the receiver, too. `receiving` is for who does it; the others
 * need not wait for that.
 */
#define RECEIVED_BYTES 256u /* a power of two */
static uint8_t received[RECEIVED_BYTES];
static uint32_t received_in, received_out;
static bool receiving;

static volatile void *register_at(unsigned n)
{
    return registers + n * uart.stride;
}

static uint8_t read_register(unsigned n)
{
    if (!uart.memory_mapped)
        return inb((uint16_t)(uart.base + n * uart.stride));
    if (uart.width == 4)
        return (uint8_t) * (volatile uint32_t *)register_at(n);
    return *(volatile uint8_t *)register_at(n);
}

static void write_register(unsigned n, uint8_t value)
{
    if (!uart.memory_mapped)
        outb((uint16_t)(uart.base + n * uart.stride), value);
    else if (uart.width == 4)
        *(volatile uint32_t *)register_at(n) = value;
    else
        *(volatile uint8_t *)register_at(n) = value;
}

static void receive(void)
{
    if (__atomic_exchange_n(&receiving, true, __ATOMIC_ACQUIRE))
        return;
    while (received_in - __atomic_load_n(&received_out, __ATOMIC_ACQUIRE) < RECEIVED_BYTES &&
           (read_register(UART_LSR) & LSR_DATA_READY)) {
        received[received_in % RECEIVED_BYTES] = read_register(UART_DATA);
        __atomic_store_n(&received_in, received_in + 1, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&receiving, false, __ATOMIC_RELEASE);
}

/* An empty transmitter takes a FIFO's worth of bytes: LSR is read once for all of them. */
static bool transmitter_has_room(void)
{
    if (fifo_room > 0)
        return true;
    uint8_t lsr = read_register(UART_LSR);
    if (lsr & LSR_DATA_READY)
        receive();
    if (lsr & LSR_THRE)
        fifo_room = fifo_bytes;
    return lsr & LSR_THRE;
}

static uint32_t bytes_left(void)
{
    return __atomic_load_n(&queue_in, __ATOMIC_ACQUIRE) -
           __atomic_load_n(&queue_out, __ATOMIC_ACQUIRE);
}

/* What the transmitter takes without waiting. */
static void send(void)
{
    if (__atomic_exchange_n(&sending, true, __ATOMIC_ACQUIRE))
        return;
    while (bytes_left() > 0 && transmitter_has_room()) {
        fifo_room--;
        write_register(UART_DATA, (uint8_t)queue[queue_out % QUEUE_BYTES]);
        __atomic_store_n(&queue_out, queue_out + 1, __ATOMIC_RELEASE);
    }
    __atomic_store_n(&sending, false, __ATOMIC_RELEASE);
}

/* Until at most `most` bytes are left. A transmitter that takes none for long is dead. */
static void send_until(uint32_t most)
{
    uint32_t left;

    for (unsigned polls = 0; present && (left = bytes_left()) > most; polls++) {
        send();
        if (bytes_left() != left)
            polls = 0;
        else
            cpu_pause();
        if (polls == POLLS_MAX)
            present = false;
    }
}

static bool answers(void)
{
    write_register(UART_SCRATCH, PROBE_VALUE);
    return read_register(UART_SCRATCH) == PROBE_VALUE && read_register(UART_LSR) != LSR_ABSENT;
}

bool uart_init(const struct uart_config *config)
{
    uart = *config;
    if (uart.memory_mapped)
        registers = host_map_device(hpa(uart.base), UART_REGISTERS * uart.stride);
    present = answers();
    if (!present)
        return false;
    write_register(UART_IER, 0);
    write_register(UART_LCR, LCR_DLAB | LCR_8N1);
    write_register(UART_DATA, DIVISOR_115200);
    write_register(UART_IER, 0);
    write_register(UART_LCR, LCR_8N1);
    write_register(UART_FCR, FCR_ENABLE_AND_CLEAR);
    fifo_bytes = (read_register(UART_IIR) & IIR_FIFOS_WORK) == IIR_FIFOS_WORK ? FIFO_BYTES : 1;
    fifo_room = 0;
    write_register(UART_MCR, MCR_DTR_RTS);
    return true;
}

static void put(char c)
{
    send_until(QUEUE_BYTES - 1);
    queue[queue_in % QUEUE_BYTES] = c;
    __atomic_store_n(&queue_in, queue_in + 1, __ATOMIC_RELEASE);
}

void uart_write(const char *text, size_t len)
{
    for (size_t i = 0; i < len && present; i++) {
        if (text[i] == '\n')
            put('\r');
        put(text[i]);
    }
    if (held)
        send();
    else
        send_until(0);
}

bool uart_service(void)
{
    if (bytes_left() > 0)
        send();
    return present && bytes_left() > 0;
}

void uart_hold(enum console_hold how)
{
    held = how == CONSOLE_HELD;
    if (how == CONSOLE_SEIZED) /* who was sending has stopped */
        __atomic_store_n(&sending, false, __ATOMIC_RELEASE);
}

void uart_flush(void)
{
    send_until(0);
    for (unsigned i = 0; present && i < POLLS_MAX; i++) {
        if (read_register(UART_LSR) & LSR_TEMT)
            return;
        cpu_pause();
    }
}

int uart_read(void)
{
    if (!present)
        return -1;
    receive();
    uint32_t out = received_out;
    if (out == __atomic_load_n(&received_in, __ATOMIC_ACQUIRE))
        return -1;
    int byte = received[out % RECEIVED_BYTES];
    __atomic_store_n(&received_out, out + 1, __ATOMIC_RELEASE);
    return byte;
}
