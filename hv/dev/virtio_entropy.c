/* SPDX-License-Identifier: BSD-2-Clause */
/* See virtio_entropy.h. */
#include "hv/dev/virtio_entropy.h"

/* A request may be answered with fewer bytes than it has room for (5.4.6.2). */
#define ENTROPY_BYTES_MAX 256u
#define ENTROPY_BUDGET    4096u /* bytes of one work */

enum { ENTROPY_QUEUE, ENTROPY_QUEUES };

static uint64_t serve(void *device, unsigned queue)
{
    struct virtio_entropy *entropy = device;
    struct virtio *v = &entropy->virtio;

    if (!virtio_next(v, queue))
        return 0;
    struct virtio_cursor to = virtio_writable(v);
    uint32_t bytes = (uint32_t)min_u64(v->chain.writable_bytes, ENTROPY_BYTES_MAX);
    for (uint32_t done = 0; done < bytes;) {
        uint64_t random = entropy->random(entropy->context);
        uint32_t len = (uint32_t)min_u64(bytes - done, sizeof(random));
        virtio_copy_to(v, &to, &random, len);
        done += len;
    }
    virtio_complete(v, queue, bytes);
    return 1 + bytes;
}

static const struct virtio_ops entropy_ops = {
    .device_id = VIRTIO_ID_ENTROPY,
    .queues = ENTROPY_QUEUES,
    .budget = ENTROPY_BUDGET,
    .serve = serve,
};

void virtio_entropy_init(struct virtio_entropy *entropy, const struct dma *dma,
                         const struct irq_line *irq, uint64_t (*random)(void *context),
                         void *context)
{
    virtio_init(&entropy->virtio, &entropy_ops, entropy, dma, irq);
    entropy->random = random;
    entropy->context = context;
}

void virtio_entropy_reset(struct virtio_entropy *entropy)
{
    virtio_reset(&entropy->virtio);
}
