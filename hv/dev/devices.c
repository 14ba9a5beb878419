/* SPDX-License-Identifier: BSD-2-Clause */
/* See devices.h. */
#include "hv/dev/devices.h"

#include <string.h>

#include "hv/loader.h"
#include "hv/types.h"

/* The ISA bus' interrupts */
#define IRQ_TIMER 0u
#define IRQ_UART  4u
#define IRQ_CLOCK 8u

static uint64_t now(const struct vm_devices *devices)
{
    return devices->host->now(devices->host->context);
}

static void set_line(void *context, unsigned gsi, bool level)
{
    interrupts_set_line(context, gsi, level);
}

struct irq_line devices_line(struct vm_devices *devices, unsigned gsi)
{
    return (struct irq_line){.set = set_line, .context = &devices->interrupts, .gsi = gsi};
}

static void init_virtio(struct vm_devices *devices, const struct devices_config *config)
{
    const struct devices_host *host = config->host;
    const struct dma dma = {config->ram, host->written, host->context};
    struct irq_line line = devices_line(devices, VIRTIO_GSI_FIRST + DEVICE_CONSOLE);

    virtio_console_init(&devices->console, &dma, &line, config->name, config->output);
    line = devices_line(devices, VIRTIO_GSI_FIRST + DEVICE_ENTROPY);
    virtio_entropy_init(&devices->entropy, &dma, &line, host->random, host->context);
    devices->disks = config->disks;
    for (unsigned i = 0; i < config->disks; i++) {
        const struct devices_disk *disk = &config->disk[i];
        line = devices_line(devices, VIRTIO_GSI_FIRST + DEVICE_DISKS + i);
        virtio_block_init(&devices->disk[i], &dma, &line, disk->image, disk->bytes,
                          disk->read_only ? NULL : config->pages, disk->name);
    }
}

void devices_init(struct vm_devices *devices, const struct devices_config *config)
{
    const struct irq_line timer = devices_line(devices, IRQ_TIMER);
    const struct irq_line uart = devices_line(devices, IRQ_UART);
    const struct irq_line clock = devices_line(devices, IRQ_CLOCK);
    const struct irq_line sci = devices_line(devices, ACPI_SCI_GSI);

    memset(devices, 0, sizeof(*devices)); /* too big for a temporary on the stack */
    devices->host = config->host;
    devices->end = DEVICES_RUNNING;
    interrupts_init(&devices->interrupts,
                    &(struct interrupts_config){.cpus = config->cpus,
                                                .pages = config->lapic_pages,
                                                .apic_ratio = config->apic_ratio,
                                                .physical_bits = config->physical_bits,
                                                .host = config->host});
    pit_init(&devices->pit, config->tsc_hz, &timer);
    rtc_init(&devices->rtc, config->tsc_hz, now(devices), config->wall_seconds, config->ram->low,
             config->ram->high, &clock);
    acpi_pm_init(&devices->acpi_pm, &sci, config->host->now, config->host->context, config->tsc_hz);
    uart_device_init(&devices->uart, config->name, config->output, &uart);
    init_virtio(devices, config);
}

struct virtio *devices_virtio(struct vm_devices *devices, unsigned n)
{
    if (n == DEVICE_CONSOLE)
        return &devices->console.virtio;
    if (n == DEVICE_ENTROPY)
        return &devices->entropy.virtio;
    return n - DEVICE_DISKS < devices->disks ? &devices->disk[n - DEVICE_DISKS].virtio : NULL;
}

void devices_destroy(struct vm_devices *devices)
{
    for (unsigned i = 0; i < devices->disks; i++)
        virtio_block_destroy(&devices->disk[i]);
}

bool devices_have_work(struct vm_devices *devices)
{
    for (unsigned i = 0; i < devices->disks; i++) {
        if (virtio_has_work(&devices->disk[i].virtio))
            return true;
    }
    return virtio_has_work(&devices->console.virtio) || virtio_has_work(&devices->entropy.virtio);
}

void devices_work(struct vm_devices *devices)
{
    struct virtio *v;

    for (unsigned i = 0; (v = devices_virtio(devices, i)) != NULL; i++)
        virtio_work(v);
}

void devices_power_button(struct vm_devices *devices)
{
    acpi_pm_power_button(&devices->acpi_pm);
}

void devices_reset(struct vm_devices *devices)
{
    devices->end = DEVICES_RUNNING;
    devices->status = 0;
    devices->system_control = 0;
    devices->reset_control = 0;
    devices->shutdown_matched = 0;
    pit_reset(&devices->pit);
    rtc_reset(&devices->rtc);
    acpi_pm_reset(&devices->acpi_pm);
    pci_reset(&devices->pci);
    uart_device_reset(&devices->uart);
    virtio_console_reset(&devices->console);
    virtio_entropy_reset(&devices->entropy);
    for (unsigned i = 0; i < devices->disks; i++)
        virtio_block_reset(&devices->disk[i]);
    interrupts_reset(&devices->interrupts); /* after those that lower their wires */
}

uint64_t devices_next_event(const struct vm_devices *devices)
{
    uint64_t timer = min_u64(pit_next_event(&devices->pit), rtc_next_event(&devices->rtc));

    return min_u64(timer, acpi_pm_next_event(&devices->acpi_pm));
}

void devices_tick(struct vm_devices *devices)
{
    pit_tick(&devices->pit, now(devices));
    rtc_tick(&devices->rtc, now(devices));
    acpi_pm_tick(&devices->acpi_pm);
}

void devices_flush(struct vm_devices *devices)
{
    uart_device_flush(&devices->uart);
    virtio_console_flush(&devices->console);
}
