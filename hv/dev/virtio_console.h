/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio console of one port (virtio 1.2, 5.3). What the guest sends is gathered into lines
 * (hv/dev/lines.h); what comes for it waits until its driver has given memory for it.
 */
#ifndef HV_DEV_VIRTIO_CONSOLE_H
#define HV_DEV_VIRTIO_CONSOLE_H

#include "hv/dev/lines.h"
#include "hv/dev/virtio.h"

#define CONSOLE_BACKLOG KIB(4)

struct virtio_console {
    struct virtio virtio;
    struct lines lines;
    uint32_t first, waiting; /* a ring: input that the driver has not taken yet */
    char backlog[CONSOLE_BACKLOG];
};

/* The guest's lines go to `output` with `name` before each. */
void virtio_console_init(struct virtio_console *console, const struct dma *dma,
                         const struct irq_line *irq, const char *name, line_output *output);

/* As after power-on: input that waits is lost. (A driver's own reset leaves it.) Registers are
 * accessed through console->virtio. */
void virtio_console_reset(struct virtio_console *console);

/* `len` bytes arrive from outside. Returns how many of them there was room for. */
size_t virtio_console_input(struct virtio_console *console, const char *text, size_t len);

/* Send an unfinished line on as it is. */
void virtio_console_flush(struct virtio_console *console);

#endif
