/* SPDX-License-Identifier: BSD-2-Clause */
/* See pio.h. */
#include "hv/dev/pio.h"

#include "hv/guest_abi.h"
#include "hv/types.h"

#define BITS_PER_BYTE 8u

#define UART_PORT 0x3f8u

/* Port 0x92, "system control port A" */
#define SYSTEM_CONTROL_RESET 0x01u
#define SYSTEM_CONTROL_A20   0x02u /* kept and of no effect: address bit 20 is always there */

/* The keyboard controller's command port: there is none, but its pulse on the reset wire is. */
#define KEYBOARD_PULSE_RESET 0xfeu

/* Port 0xcf9, the reset control register of Intel's chip sets: a rise of bit 2 resets. */
#define RESET_CONTROL_CPU  0x04u
#define RESET_CONTROL_BITS 0x0eu

static const char shutdown_word[] = "Shutdown";

static uint64_t now(const struct vm_devices *devices)
{
    return devices->host->now(devices->host->context);
}

/* The first end counts. */
static void end(struct vm_devices *devices, enum devices_end how)
{
    if (devices->end == DEVICES_RUNNING)
        devices->end = how;
}

/* --- devices by their ports ------------------------------------------------------------------- */

static uint32_t read_pics(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    (void)bytes;
    return interrupts_read_pics(&devices->interrupts, port);
}

static void write_pics(struct vm_devices *devices, uint16_t port, unsigned bytes, uint32_t value)
{
    (void)bytes;
    interrupts_write_pics(&devices->interrupts, port, (uint8_t)value);
}

static uint32_t read_pit(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    (void)bytes;
    return pit_read(&devices->pit, port, now(devices));
}

static void write_pit(struct vm_devices *devices, uint16_t port, unsigned bytes, uint32_t value)
{
    (void)bytes;
    pit_write(&devices->pit, port, (uint8_t)value, now(devices));
}

/* Reading register C lets the next interrupt come. */
static uint32_t read_rtc(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    (void)bytes;
    return rtc_read(&devices->rtc, port, now(devices));
}

static void write_rtc(struct vm_devices *devices, uint16_t port, unsigned bytes, uint32_t value)
{
    (void)bytes;
    rtc_write(&devices->rtc, port, (uint8_t)value, now(devices));
}

static uint32_t read_uart(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    (void)bytes;
    return uart_device_read(&devices->uart, port - UART_PORT);
}

static void write_uart(struct vm_devices *devices, uint16_t port, unsigned bytes, uint32_t value)
{
    (void)bytes;
    uart_device_write(&devices->uart, port - UART_PORT, (uint8_t)value);
}

static uint32_t read_system_control(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    (void)port, (void)bytes;
    return devices->system_control;
}

static void write_system_control(struct vm_devices *devices, uint16_t port, unsigned bytes,
                                 uint32_t value)
{
    (void)port, (void)bytes;
    devices->system_control = value & SYSTEM_CONTROL_A20;
    if (value & SYSTEM_CONTROL_RESET)
        end(devices, DEVICES_RESET);
}

static void write_keyboard(struct vm_devices *devices, uint16_t port, unsigned bytes,
                           uint32_t value)
{
    (void)port, (void)bytes;
    if (value == KEYBOARD_PULSE_RESET)
        end(devices, DEVICES_RESET);
}

static uint32_t read_reset_control(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    (void)port, (void)bytes;
    return devices->reset_control;
}

static void write_reset_control(struct vm_devices *devices, uint16_t port, unsigned bytes,
                                uint32_t value)
{
    bool rises = value & ~devices->reset_control & RESET_CONTROL_CPU;

    (void)port, (void)bytes;
    devices->reset_control = value & RESET_CONTROL_BITS;
    if (rises)
        end(devices, DEVICES_RESET);
}

static uint32_t read_acpi_pm(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    return acpi_pm_read(&devices->acpi_pm, port - ACPI_PM_PORT, bytes);
}

static void write_acpi_pm(struct vm_devices *devices, uint16_t port, unsigned bytes, uint32_t value)
{
    acpi_pm_write(&devices->acpi_pm, port - ACPI_PM_PORT, bytes, value);
    if (devices->acpi_pm.power_off)
        end(devices, DEVICES_POWEROFF);
}

static uint32_t read_pci(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    return pci_read(&devices->pci, port - PCI_PORT, bytes);
}

static void write_pci(struct vm_devices *devices, uint16_t port, unsigned bytes, uint32_t value)
{
    pci_write(&devices->pci, port - PCI_PORT, bytes, value);
}

/* One register of any width; QEMU exits with (v << 1) | 1. */
static void write_debug_exit(struct vm_devices *devices, uint16_t port, unsigned bytes,
                             uint32_t value)
{
    (void)bytes;
    if (port != TF_PORT_DEBUG_EXIT || devices->end != DEVICES_RUNNING)
        return;
    devices->end = DEVICES_EXITED;
    devices->status = (int)((value << 1 | 1) & 0xff);
}

/* As Bochs' unmapped device: the whole word ends the machine, a wrong character starts it anew. */
static void write_shutdown(struct vm_devices *devices, uint16_t port, unsigned bytes,
                           uint32_t value)
{
    (void)port, (void)bytes;
    if (value != (uint8_t)shutdown_word[devices->shutdown_matched])
        devices->shutdown_matched = 0;
    if (value == (uint8_t)shutdown_word[devices->shutdown_matched])
        devices->shutdown_matched++;
    if (devices->shutdown_matched < sizeof(shutdown_word) - 1)
        return;
    devices->shutdown_matched = 0;
    end(devices, DEVICES_SHUTDOWN);
}

/* --- which is where --------------------------------------------------------------------------- */

/*
 * Ports [first, last] are one device's, which takes accesses of up to `width` bytes that lie in
 * there as a whole. The first range that fits an access counts, so that a register of a byte can
 * lie among those of four. NULL: reads as all ones, writes are forgotten. An access to a `timer`
 * may change when its next event is.
 */
struct port_range {
    uint16_t first, last;
    unsigned width;
    uint32_t (*read)(struct vm_devices *, uint16_t port, unsigned bytes);
    void (*write)(struct vm_devices *, uint16_t port, unsigned bytes, uint32_t value);
    bool timer;
};

static const struct port_range port_ranges[] = {
    {UART_PORT, UART_PORT + UART_REGISTERS - 1, 1, read_uart, write_uart, false},
    {0x20, 0x21, 1, read_pics, write_pics, false},
    {0xa0, 0xa1, 1, read_pics, write_pics, false},
    {0x40, 0x43, 1, read_pit, write_pit, true},
    {0x61, 0x61, 1, read_pit, write_pit, true},
    {0x70, 0x71, 1, read_rtc, write_rtc, true},
    {0x4d0, 0x4d1, 1, read_pics, write_pics, false},
    {0x64, 0x64, 1, NULL, write_keyboard, false},
    {0x92, 0x92, 1, read_system_control, write_system_control, false},
    {0xcf9, 0xcf9, 1, read_reset_control, write_reset_control, false},
    {ACPI_PM_PORT, ACPI_PM_PORT + ACPI_PM_PORTS - 1, 4, read_acpi_pm, write_acpi_pm, true},
    {PCI_PORT, PCI_PORT + PCI_PORTS - 1, 4, read_pci, write_pci, false},
    {TF_PORT_DEBUG_EXIT, TF_PORT_DEBUG_EXIT + 3, 4, NULL, write_debug_exit, false},
    {TF_PORT_BOCHS_SHUTDOWN, TF_PORT_BOCHS_SHUTDOWN, 1, NULL, write_shutdown, false},
};

static const struct port_range *range_of(uint16_t port, unsigned bytes)
{
    for (size_t i = 0; i < ARRAY_SIZE(port_ranges); i++) {
        const struct port_range *range = &port_ranges[i];
        if (port >= range->first && port + bytes - 1u <= range->last && bytes <= range->width)
            return range;
    }
    return NULL;
}

/* After an access to a timer, whose next event was at `before`: processor 0 sees to the new one. */
static void look_at_timers(struct vm_devices *devices, uint64_t before)
{
    if (devices_next_event(devices) != before)
        devices->host->notify(devices->host->context, 0);
}

static uint32_t read_range(struct vm_devices *devices, const struct port_range *range,
                           uint16_t port, unsigned bytes)
{
    if (!range->timer)
        return range->read(devices, port, bytes);
    uint64_t before = devices_next_event(devices);
    uint32_t value = range->read(devices, port, bytes);
    look_at_timers(devices, before);
    return value;
}

static void write_range(struct vm_devices *devices, const struct port_range *range, uint16_t port,
                        unsigned bytes, uint32_t value)
{
    if (!range->timer) {
        range->write(devices, port, bytes, value);
        return;
    }
    uint64_t before = devices_next_event(devices);
    range->write(devices, port, bytes, value);
    look_at_timers(devices, before);
}

uint32_t pio_read(struct vm_devices *devices, uint16_t port, unsigned bytes)
{
    const struct port_range *range = range_of(port, bytes);
    uint32_t value = 0;

    if (range && range->read)
        return read_range(devices, range, port, bytes);
    if (bytes == 1)
        return 0xff;
    for (unsigned i = 0; i < bytes; i++)
        value |= pio_read(devices, (uint16_t)(port + i), 1) << BITS_PER_BYTE * i;
    return value;
}

void pio_write(struct vm_devices *devices, uint16_t port, unsigned bytes, uint32_t value)
{
    const struct port_range *range = range_of(port, bytes);

    if (range && range->write) {
        write_range(devices, range, port, bytes, value);
        return;
    }
    for (unsigned i = 0; i < bytes && bytes > 1; i++)
        pio_write(devices, (uint16_t)(port + i), 1, (uint8_t)(value >> BITS_PER_BYTE * i));
}
