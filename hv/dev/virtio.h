/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio 1.2 (OASIS, "Virtual I/O Device Version 1.2"), what all devices have in common: the MMIO
 * transport's registers (4.2, its version 2) and split virtqueues (2.7) with indirect descriptors
 * and event indices.
 *
 * The driver is the guest's and not trusted. A ring or a descriptor that breaks the rules sets
 * DEVICE_NEEDS_RESET, after which the device does nothing until the driver has reset it.
 *
 * Work is bounded. A notification, or virtio_work, serves a queue until it is empty, or
 * VIRTIO_QUEUE_MAX requests are done, or they have cost the device's budget. What is left then
 * stays in the ring and virtio_has_work says so: the VM calls virtio_work when other guests have
 * had their turn.
 *
 * A device embeds a struct virtio and serves its requests through struct virtio_ops. All functions
 * are called under the VM's lock.
 */
#ifndef HV_DEV_VIRTIO_H
#define HV_DEV_VIRTIO_H

#include "hv/dev/dma.h"
#include "hv/dev/irq.h"
#include "hv/types.h"

/* Where a VM's devices are: the n-th at VIRTIO_MMIO_BASE + n * VIRTIO_MMIO_STRIDE, with interrupt
 * VIRTIO_GSI_FIRST + n. An I/O APIC of 24 inputs has room for VIRTIO_DEVICES_MAX. */
#define VIRTIO_MMIO_BASE   0xd0000000u
#define VIRTIO_MMIO_STRIDE 0x1000u
#define VIRTIO_GSI_FIRST   16u
#define VIRTIO_DEVICES_MAX 8u

#define VIRTIO_QUEUES_MAX 2u
#define VIRTIO_QUEUE_MAX  128u /* entries of a queue, and so descriptors of a request */

/* Device IDs, chapter 5 */
enum { VIRTIO_ID_BLOCK = 2, VIRTIO_ID_CONSOLE = 3, VIRTIO_ID_ENTROPY = 4 };

/* A piece of a request's memory. */
struct virtio_segment {
    uint8_t GUEST *host;
    gpa_t at;
    uint32_t len;
};

/* A request: [0, readable) are for the device to read, [readable, count) to write. */
struct virtio_chain {
    uint16_t head; /* its name in the used ring */
    unsigned readable, count;
    uint32_t readable_bytes, writable_bytes;
    struct virtio_segment segment[VIRTIO_QUEUE_MAX];
};

/* A place in a chain. */
struct virtio_cursor {
    unsigned segment;
    uint32_t offset;
};

struct virtio_queue {
    uint16_t size; /* entries; a power of two while `ready` */
    bool ready;
    bool pending;            /* requests may be left from a work that reached its bound */
    gpa_t desc, avail, used; /* as the driver sets them; all RAM and aligned while `ready` */
    uint8_t GUEST *desc_host;
    uint8_t GUEST *avail_host;
    uint8_t GUEST *used_host;
    uint16_t next_avail, next_used;
    uint32_t progress;  /* the device's: how far the request at the head has got; 0 at its start */
    uint16_t signalled; /* next_used when the driver was last told, or need not have been */
};

struct virtio_ops {
    uint32_t device_id;
    unsigned queues;
    uint64_t budget; /* of one work on one queue, in what `serve` returns */
    /*
     * Do a bounded piece of work for `queue`: one request at most. Returns what it cost, at least
     * 1; 0: there was nothing to do.
     */
    uint64_t (*serve)(void *device, unsigned queue);
};

struct virtio {
    const struct virtio_ops *ops;
    void *device; /* for ops */
    struct dma dma;
    struct irq_line irq;
    uint64_t features;     /* offered; VIRTIO_F_VERSION_1 and the rings' own are added */
    const uint8_t *config; /* the device's configuration, read only */
    unsigned config_bytes;

    uint64_t driver_features;
    uint32_t device_features_select, driver_features_select, queue_select;
    uint32_t status, interrupt_status;
    struct virtio_queue queue[VIRTIO_QUEUES_MAX];
    struct virtio_chain chain; /* the one that is being served */
};

/* A device as after power-on. `ops` and `config` are kept. */
void virtio_init(struct virtio *v, const struct virtio_ops *ops, void *device,
                 const struct dma *dma, const struct irq_line *irq);

/* As the driver resets it, by writing 0 to Status (2.4). */
void virtio_reset(struct virtio *v);

/*
 * A register access (4.2.2) at `offset`, below VIRTIO_MMIO_STRIDE, of `bytes` (1, 2 or 4; 8 is two
 * accesses to the caller). Registers are 4 bytes wide and aligned: other accesses below the
 * configuration space read 0 and are ignored.
 */
uint32_t virtio_read(struct virtio *v, unsigned offset, unsigned bytes);
void virtio_write(struct virtio *v, unsigned offset, unsigned bytes, uint32_t value);

/* Are requests left over from work that reached its bound? And do the next portion of it. */
bool virtio_has_work(const struct virtio *v);
void virtio_work(struct virtio *v);

/* --- for devices ------------------------------------------------------------------------------ */

/* Work on one queue, as if the driver had notified. */
void virtio_kick(struct virtio *v, unsigned queue);

/* Did the driver accept feature `bit`? */
bool virtio_has_feature(const struct virtio *v, unsigned bit);

/*
 * The next request of `queue` into v->chain, checked; it stays the next until virtio_complete.
 * False if there is none, or the driver is not ready, or the ring is broken (which resets need).
 */
bool virtio_next(struct virtio *v, unsigned queue);

/* v->chain, from the last virtio_next, is done: `written` bytes of it, from its first writable one
 * on, hold what the device wrote. */
void virtio_complete(struct virtio *v, unsigned queue, uint32_t written);

/* What the driver has done cannot be right: DEVICE_NEEDS_RESET. */
void virtio_break(struct virtio *v);

/* Where the part of v->chain that is to be written begins; the readable one begins at {0}. */
struct virtio_cursor virtio_writable(const struct virtio *v);

/*
 * Copy `len` bytes of the guest's at *cursor in v->chain, or to there, and move the cursor behind
 * them. The caller has seen that they are there, by readable_bytes and writable_bytes.
 */
void virtio_copy_from(struct virtio *v, struct virtio_cursor *cursor, void *to, uint32_t len);
void virtio_copy_to(struct virtio *v, struct virtio_cursor *cursor, const void *from, uint32_t len);

/* Move *cursor by `len` bytes. */
void virtio_skip(const struct virtio *v, struct virtio_cursor *cursor, uint32_t len);

#endif
