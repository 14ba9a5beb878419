/* SPDX-License-Identifier: BSD-2-Clause */
/* A virtio entropy device (virtio 1.2, 5.4): random bytes from the host. */
#ifndef HV_DEV_VIRTIO_ENTROPY_H
#define HV_DEV_VIRTIO_ENTROPY_H

#include "hv/dev/virtio.h"

struct virtio_entropy {
    struct virtio virtio;
    uint64_t (*random)(void *context); /* 64 bits that nobody can guess */
    void *context;
};

void virtio_entropy_init(struct virtio_entropy *entropy, const struct dma *dma,
                         const struct irq_line *irq, uint64_t (*random)(void *context),
                         void *context);

/* As after power-on. Registers are accessed through entropy->virtio. */
void virtio_entropy_reset(struct virtio_entropy *entropy);

#endif
