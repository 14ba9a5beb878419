/* SPDX-License-Identifier: BSD-2-Clause */
/* See pio.h and devices.h. */
#include "hv/dev/pio.h"

#include "hv/guest_abi.h"

#define UART_FIRST    0x3f8u
#define UART_LAST     (UART_FIRST + UART_REGISTERS - 1)
#define BITS_PER_BYTE 8u

static const char shutdown_word[] = "Shutdown";

static uint8_t read_byte(struct vm_devices *devices, uint16_t port)
{
    if (port >= UART_FIRST && port <= UART_LAST)
        return uart_device_read(&devices->uart, port - UART_FIRST);
    return 0xff;
}

/* As Bochs' unmapped device: the whole word ends the machine, a wrong character starts it anew. */
static void match_shutdown(struct vm_devices *devices, uint8_t value)
{
    if (value != (uint8_t)shutdown_word[devices->shutdown_matched])
        devices->shutdown_matched = 0;
    if (value == (uint8_t)shutdown_word[devices->shutdown_matched])
        devices->shutdown_matched++;
    if (devices->shutdown_matched == sizeof(shutdown_word) - 1)
        devices->end = DEVICES_SHUTDOWN;
}

static void write_byte(struct vm_devices *devices, uint16_t port, uint8_t value)
{
    if (port >= UART_FIRST && port <= UART_LAST)
        uart_device_write(&devices->uart, port - UART_FIRST, value);
    else if (port == TF_PORT_BOCHS_SHUTDOWN)
        match_shutdown(devices, value);
}

uint32_t pio_read(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes; i++)
        value |= (uint32_t)read_byte(devices, (uint16_t)(port + i)) << BITS_PER_BYTE * i;
    return value;
}

void pio_write(struct vm_devices *devices, uint16_t port, unsigned bytes, uint32_t value)
{
    if (port == TF_PORT_DEBUG_EXIT) { /* one register of any width; QEMU exits with (v << 1) | 1 */
        devices->end = DEVICES_EXITED;
        devices->status = (int)((value << 1 | 1) & 0xff);
        return;
    }
    for (unsigned i = 0; i < bytes; i++)
        write_byte(devices, (uint16_t)(port + i), (uint8_t)(value >> BITS_PER_BYTE * i));
}
