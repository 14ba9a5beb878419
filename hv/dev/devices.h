/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM's devices, as one value inside struct vm: a 16550A UART at 0x3f8 and the two ports by which
 * a guest ends. They know nothing of VMs: an end is a field that the caller looks at after a port
 * access.
 */
#ifndef HV_DEV_DEVICES_H
#define HV_DEV_DEVICES_H

#include <stddef.h>
#include <stdint.h>

#include "hv/dev/uart.h"

enum devices_end {
    DEVICES_RUNNING = 0,
    DEVICES_EXITED,   /* debug-exit port; `status` is (value << 1) | 1 */
    DEVICES_SHUTDOWN, /* Bochs' "Shutdown" */
};

struct vm_devices {
    struct uart_device uart;
    enum devices_end end;
    int status;
    unsigned shutdown_matched; /* characters of "Shutdown" seen so far */
};

/* All devices as after reset. The guest's lines go to `output` with `name` before each. */
void devices_init(struct vm_devices *devices, const char *name, uart_output *output);

/* Send what is left of an unfinished line. */
void devices_flush(struct vm_devices *devices);

#endif
