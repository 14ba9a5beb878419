/* SPDX-License-Identifier: BSD-2-Clause */
/* See virtio_block.h. Section numbers and names are virtio 1.2's. */
#include "hv/dev/virtio_block.h"

#include <string.h>

#define SECTOR_BYTES 512u
#define BLOCK_BYTES  PAGE_SIZE

/* 5.2.3 */
#define FEATURE_SIZE_MAX (1ull << 1)
#define FEATURE_SEG_MAX  (1ull << 2)
#define FEATURE_RO       (1ull << 5)
#define FEATURE_BLK_SIZE (1ull << 6)
#define FEATURE_FLUSH    (1ull << 9)

/* 5.2.6 */
struct request_header {
    uint32_t type;
    uint32_t reserved;
    uint64_t sector;
};
_Static_assert(sizeof(struct request_header) == 16, "virtio 1.2 5.2.6");
enum { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4, TYPE_GET_ID = 8 };
enum { STATUS_OK, STATUS_IOERR, STATUS_UNSUPP };
#define STATUS_BYTES 1u

/* A driver that keeps to these never meets REQUEST_BYTES_MAX. */
#define SEGMENT_BYTES_MAX KIB(64)
#define SEGMENTS_MAX      (VIRTIO_QUEUE_MAX - 2) /* the header and the status have one each */
#define REQUEST_BYTES_MAX (SEGMENT_BYTES_MAX * SEGMENTS_MAX)

/* Of one work: copying that much takes about a millisecond. */
#define BLOCK_BUDGET MIB(8)

enum { REQUEST_QUEUE, BLOCK_QUEUES };

/* --- the disk's content ----------------------------------------------------------------------- */

/*
 * Copies are found by a tree of pages, as a page table: a block's number is three indices. Level
 * 0's entries are the copies themselves.
 */
#define TREE_LEVELS 3u
#define TREE_SHIFT  9u
#define TREE_FANOUT (1u << TREE_SHIFT)
_Static_assert(TREE_FANOUT * sizeof(void *) == BLOCK_BYTES, "a node is a page");
_Static_assert(BLOCK_IMAGE_MAX == BLOCK_BYTES << TREE_SHIFT * TREE_LEVELS, "what the tree reaches");

static unsigned tree_index(uint64_t number, unsigned level)
{
    return (unsigned)(number >> TREE_SHIFT * level) % TREE_FANOUT;
}

/* The copy of block `number`; NULL: the image's own content holds. */
static uint8_t *find_copy(const struct virtio_block *block, uint64_t number)
{
    void **node = block->copies;

    for (unsigned level = TREE_LEVELS; node && level-- > 0;)
        node = node[tree_index(number, level)];
    return (uint8_t *)node;
}

/* What the image has of a block, and zeros where it has ended. */
static void read_image(const struct virtio_block *block, uint64_t at, uint8_t *to, uint64_t len)
{
    uint64_t have = at < block->image_bytes ? min_u64(len, block->image_bytes - at) : 0;

    if (have > 0)
        memcpy(to, block->image + at, have);
    memset(to + have, 0, len - have);
}

/* A node of the tree, empty. */
static void **make_node(struct virtio_block *block)
{
    void *page = block->pages.alloc(block->pages.context);

    return page ? memset(page, 0, BLOCK_BYTES) : NULL;
}

/* The copy of block `number`, made if there is none; NULL: out of memory. Nodes made on the way
 * stay, for the next try. */
static uint8_t *make_copy(struct virtio_block *block, uint64_t number)
{
    void ***slot = &block->copies;

    for (unsigned level = TREE_LEVELS; level-- > 0;) {
        if (!*slot)
            *slot = make_node(block);
        if (!*slot)
            return NULL;
        slot = (void ***)&(*slot)[tree_index(number, level)];
    }
    if (!*slot) {
        void *copy = block->pages.alloc(block->pages.context);
        if (!copy)
            return NULL;
        read_image(block, number * BLOCK_BYTES, copy, BLOCK_BYTES);
        block->copied++;
        *slot = copy;
    }
    return (uint8_t *)*slot;
}

/* --- requests --------------------------------------------------------------------------------- */

/* Bytes of [at, at + len) that lie in the block of `at`. */
static uint32_t in_block(uint64_t at, uint32_t len)
{
    return (uint32_t)min_u64(len, BLOCK_BYTES - at % BLOCK_BYTES);
}

/* [at, at + len) of the disk to the guest: a block at a time. */
static void read_disk(struct virtio_block *block, uint64_t at, uint32_t len)
{
    struct virtio *v = &block->virtio;
    struct virtio_cursor to = virtio_writable(v);

    while (len > 0) {
        uint8_t end[SECTOR_BYTES];
        uint32_t piece = in_block(at, len);
        const uint8_t *from = find_copy(block, at / BLOCK_BYTES);
        if (from) {
            from += at % BLOCK_BYTES;
        } else if (block->image_bytes - at >= piece) {
            from = block->image + at;
        } else { /* the image's last sector, and what comes before it in this block */
            piece = (uint32_t)min_u64(piece, SECTOR_BYTES);
            read_image(block, at, end, piece);
            from = end;
        }
        virtio_copy_to(v, &to, from, piece);
        at += piece;
        len -= piece;
    }
}

/* The guest's bytes behind the request's header to [at, at + len) of the disk. */
static uint8_t write_disk(struct virtio_block *block, uint64_t at, uint32_t len)
{
    struct virtio *v = &block->virtio;
    struct virtio_cursor from = {0};

    virtio_skip(v, &from, sizeof(struct request_header));
    while (len > 0) {
        uint32_t piece = in_block(at, len);
        uint8_t *to = make_copy(block, at / BLOCK_BYTES);
        if (!to)
            return STATUS_IOERR;
        virtio_copy_from(v, &from, to + at % BLOCK_BYTES, piece);
        at += piece;
        len -= piece;
    }
    return STATUS_OK;
}

/* 5.2.6.1: whole sectors that the disk has. */
static bool is_on_disk(const struct virtio_block *block, uint64_t sector, uint32_t bytes)
{
    return bytes % SECTOR_BYTES == 0 && bytes <= REQUEST_BYTES_MAX &&
           sector <= block->config.capacity &&
           bytes / SECTOR_BYTES <= block->config.capacity - sector;
}

static void write_id(struct virtio_block *block, uint32_t bytes)
{
    struct virtio_cursor to = virtio_writable(&block->virtio);

    virtio_copy_to(&block->virtio, &to, block->id, bytes);
}

/*
 * Do the request in the chain. `out`, `in`: bytes of data that it brings, and that it has room for.
 * *written: how many of the latter hold something. Returns its status.
 */
static uint8_t do_request(struct virtio_block *block, const struct request_header *header,
                          uint32_t out, uint32_t in, uint32_t *written)
{
    uint64_t at = header->sector * SECTOR_BYTES;

    switch (header->type) {
    case TYPE_IN:
        if (!is_on_disk(block, header->sector, in))
            return STATUS_IOERR;
        read_disk(block, at, in);
        *written = in;
        return STATUS_OK;
    case TYPE_OUT:
        if (!block->pages.alloc || !is_on_disk(block, header->sector, out))
            return STATUS_IOERR;
        return write_disk(block, at, out);
    case TYPE_FLUSH: /* what is written is where it stays */
        return STATUS_OK;
    case TYPE_GET_ID:
        *written = (uint32_t)min_u64(in, BLOCK_ID_BYTES);
        write_id(block, *written);
        return STATUS_OK;
    default:
        return STATUS_UNSUPP;
    }
}

/* A request: header, data, and as its last byte the status (5.2.6, in any division, 2.7.4). */
static uint64_t serve(void *device, unsigned queue)
{
    struct virtio_block *block = device;
    struct virtio *v = &block->virtio;
    struct request_header header;
    struct virtio_cursor at = {0};
    uint32_t written = 0;

    if (!virtio_next(v, queue))
        return 0;
    if (v->chain.readable_bytes < sizeof(header) || v->chain.writable_bytes < STATUS_BYTES) {
        virtio_break(v); /* there is no place for a status */
        return 0;
    }
    virtio_copy_from(v, &at, &header, sizeof(header));
    __atomic_signal_fence(__ATOMIC_SEQ_CST); /* what is checked is what is used */
    uint32_t out = v->chain.readable_bytes - (uint32_t)sizeof(header);
    uint32_t in = v->chain.writable_bytes - STATUS_BYTES;
    uint8_t status = do_request(block, &header, out, in, &written);
    at = virtio_writable(v);
    virtio_skip(v, &at, in);
    virtio_copy_to(v, &at, &status, STATUS_BYTES);
    virtio_complete(v, queue, written == in ? written + STATUS_BYTES : written);
    return 1 + (header.type == TYPE_OUT ? out : written);
}

static const struct virtio_ops block_ops = {
    .device_id = VIRTIO_ID_BLOCK,
    .queues = BLOCK_QUEUES,
    .budget = BLOCK_BUDGET,
    .serve = serve,
};

void virtio_block_init(struct virtio_block *block, const struct dma *dma,
                       const struct irq_line *irq, const void *image, uint64_t image_bytes,
                       const struct block_pages *pages, const char *id)
{
    *block = (struct virtio_block){.image = image};
    virtio_init(&block->virtio, &block_ops, block, dma, irq);
    block->image_bytes = min_u64(image_bytes, BLOCK_IMAGE_MAX);
    block->config = (struct block_device_config){
        .capacity = (block->image_bytes + SECTOR_BYTES - 1) / SECTOR_BYTES,
        .size_max = (uint32_t)SEGMENT_BYTES_MAX,
        .seg_max = SEGMENTS_MAX,
        .blk_size = SECTOR_BYTES,
    };
    block->virtio.config = (const uint8_t *)&block->config;
    block->virtio.config_bytes = sizeof(block->config);
    block->virtio.features |= FEATURE_SIZE_MAX | FEATURE_SEG_MAX | FEATURE_BLK_SIZE;
    if (pages)
        block->pages = *pages;
    block->virtio.features |= pages ? FEATURE_FLUSH : FEATURE_RO;
    memcpy(block->id, id, strnlen(id, sizeof(block->id)));
}

void virtio_block_reset(struct virtio_block *block)
{
    virtio_reset(&block->virtio);
}

/* A node whose entries are of `level`, and all below it. */
static void free_tree(struct virtio_block *block, void **node, unsigned level)
{
    for (unsigned i = 0; i < TREE_FANOUT; i++) {
        if (node[i] && level > 0)
            free_tree(block, node[i], level - 1);
        else if (node[i])
            block->pages.free(block->pages.context, node[i]);
    }
    block->pages.free(block->pages.context, node);
}

void virtio_block_destroy(struct virtio_block *block)
{
    if (block->copies)
        free_tree(block, block->copies, TREE_LEVELS - 1);
    block->copies = NULL;
    block->copied = 0;
}
