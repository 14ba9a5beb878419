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

void devices_init(struct vm_devices *devices, const struct devices_config *config)
{
    const struct irq_line timer = devices_line(devices, IRQ_TIMER);
    const struct irq_line uart = devices_line(devices, IRQ_UART);
    const struct irq_line clock = devices_line(devices, IRQ_CLOCK);

    memset(devices, 0, sizeof(*devices)); /* too big for a temporary on the stack */
    devices->host = config->host;
    devices->end = DEVICES_RUNNING;
    interrupts_init(&devices->interrupts,
                    &(struct interrupts_config){.cpus = config->cpus,
                                                .apic_ratio = config->apic_ratio,
                                                .physical_bits = config->physical_bits,
                                                .host = config->host});
    pit_init(&devices->pit, config->tsc_hz, &timer);
    rtc_init(&devices->rtc, config->tsc_hz, now(devices), config->wall_seconds, config->ram->low,
             config->ram->high, &clock);
    uart_device_init(&devices->uart, config->name, config->output, &uart);
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
    uart_device_reset(&devices->uart);
    interrupts_reset(&devices->interrupts); /* after those that lower their wires */
}

uint64_t devices_next_event(const struct vm_devices *devices)
{
    return min_u64(pit_next_event(&devices->pit), rtc_next_event(&devices->rtc));
}

void devices_tick(struct vm_devices *devices)
{
    pit_tick(&devices->pit, now(devices));
    rtc_tick(&devices->rtc, now(devices));
}

void devices_flush(struct vm_devices *devices)
{
    uart_device_flush(&devices->uart);
}
