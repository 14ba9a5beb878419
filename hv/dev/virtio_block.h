/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio block device (virtio 1.2, 5.2) over an image in memory that is never written: the disk
 * is read-only, or what the guest writes goes to copies, in memory, of the 4-KiB blocks that it
 * touches. They live as long as the VM does, across resets.
 */
#ifndef HV_DEV_VIRTIO_BLOCK_H
#define HV_DEV_VIRTIO_BLOCK_H

#include "hv/dev/virtio.h"

#define BLOCK_ID_BYTES 20u /* of the answer to VIRTIO_BLK_T_GET_ID */

/* Larger images are cut: what a tree of three levels of 512 blocks of 4 KiB reaches. */
#define BLOCK_IMAGE_MAX GIB(512)

/* Where copies come from: pages of 4 KiB, page-aligned, of any content. */
struct block_pages {
    void *(*alloc)(void *context); /* NULL: there is none */
    void (*free)(void *context, void *page);
    void *context;
};

/* 5.2.4, as far as it is used */
struct block_device_config {
    uint64_t capacity; /* in sectors of 512 bytes */
    uint32_t size_max; /* bytes of a segment */
    uint32_t seg_max;  /* segments of a request */
    uint16_t cylinders;
    uint8_t heads, sectors;
    uint32_t blk_size;
};
_Static_assert(sizeof(struct block_device_config) == 24, "virtio 1.2 5.2.4");

struct virtio_block {
    struct virtio virtio;
    struct block_device_config config;
    const uint8_t *image;
    uint64_t image_bytes;
    struct block_pages pages; /* .alloc NULL: read-only */
    void **copies;            /* the tree's root; NULL: nothing is written yet */
    uint64_t copied;          /* blocks that have a copy */
    char id[BLOCK_ID_BYTES];
};

/*
 * A disk over [image, +image_bytes), which stays the caller's and must stay. A last sector that the
 * image does not fill is filled with zeros. `pages`: for copies; NULL: the disk is read-only. `id`:
 * its serial number, cut after BLOCK_ID_BYTES.
 */
void virtio_block_init(struct virtio_block *block, const struct dma *dma,
                       const struct irq_line *irq, const void *image, uint64_t image_bytes,
                       const struct block_pages *pages, const char *id);

/* As after power-on. What was written stays, as on a disk. Registers are accessed through
 * block->virtio. */
void virtio_block_reset(struct virtio_block *block);

/* Give all copies back: what was written is lost. */
void virtio_block_destroy(struct virtio_block *block);

#endif
