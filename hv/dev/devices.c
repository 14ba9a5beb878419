/* SPDX-License-Identifier: BSD-2-Clause */
/* See devices.h. */
#include "hv/dev/devices.h"

void devices_init(struct vm_devices *devices, const struct devices_config *config)
{
    const struct irq_line none = {0};

    *devices = (struct vm_devices){.end = DEVICES_RUNNING, .host = config->host};
    uart_device_init(&devices->uart, config->name, config->output, &none);
}

void devices_flush(struct vm_devices *devices)
{
    uart_device_flush(&devices->uart);
}
