/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A virtio device under a driver that keeps to no rule: byte 0 of the input chooses block device
 * (writable or not), console or entropy, then come operations: registers written and read, memory
 * written, rings set up as they should be and then spoiled, notifications, work, input.
 *
 * Whatever comes, every write to the guest's memory lies in RAM and is told (a second copy of the
 * RAM, written only by what is told, stays the same); the interrupt wire follows InterruptStatus; a
 * device that needs a reset does nothing more; the used ring never gets ahead of the available one;
 * the image stays as it was, and what was allocated for copies is given back.
 */
#include <string.h>

#include "hv/dev/virtio_block.h"
#include "hv/dev/virtio_console.h"
#include "hv/dev/virtio_entropy.h"
#include "tests/fuzz/fuzz.h"
#include "tests/host/virtio_registers.h"

#define RAM_LOW   KIB(32)
#define RAM_HIGH  KIB(32)
#define RAM_BYTES (RAM_LOW + RAM_HIGH)
#define HIGH_BASE GIB(4)
#define IMAGE     (20 * 1024u + 100u) /* bytes: the last sector is not full */
#define COPIES    6u                  /* pages that can be had: a write may run out of them */
#define STEPS_MAX 2000u

enum kind { DISK, READ_ONLY_DISK, CONSOLE, ENTROPY, KINDS };

static struct world {
    enum kind kind;
    uint8_t *ram, *told;
    struct guest_ram guest;
    uint8_t image[IMAGE], image_before[IMAGE];
    bool line;
    unsigned pages;  /* that are out */
    uint64_t random; /* of the entropy device */
    uint64_t told_bytes, console_bytes;
    struct virtio_block block;
    struct virtio_console console;
    struct virtio_entropy entropy;
    struct virtio *device;
    uint16_t added[VIRTIO_QUEUES_MAX];
} w;

/* --- the world around the device -------------------------------------------------------------- */

static void written(void *context, gpa_t at, uint64_t len)
{
    const uint8_t *host = guest_ram_at(&w.guest, at, len);

    (void)context;
    MUST(host && len > 0, "0x%llx, %llu bytes are RAM", (unsigned long long)at.v,
         (unsigned long long)len);
    memcpy(w.told + (host - w.ram), host, len);
    w.told_bytes += len;
}

static void set_line(void *context, unsigned gsi, bool level)
{
    (void)context;
    MUST(gsi == VIRTIO_GSI_FIRST, "interrupt %u", gsi);
    w.line = level;
}

static void *alloc_page(void *context)
{
    (void)context;
    if (w.pages == COPIES)
        return NULL;
    w.pages++;
    void *page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
    if (!page)
        abort();
    memset(page, 0x77, PAGE_SIZE);
    return page;
}

static void free_page(void *context, void *page)
{
    (void)context;
    w.pages--;
    free(page);
}

static uint64_t random_bits(void *context)
{
    (void)context;
    return fuzz_random(&w.random);
}

static void output(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        w.console_bytes += text[i] != 0;
}

static void create(enum kind kind)
{
    const struct dma dma = {&w.guest, written, NULL};
    const struct irq_line irq = {set_line, NULL, VIRTIO_GSI_FIRST};
    const struct block_pages pages = {alloc_page, free_page, NULL};

    w = (struct world){.kind = kind, .random = 1};
    w.ram = malloc(RAM_BYTES);
    w.told = malloc(RAM_BYTES);
    if (!w.ram || !w.told)
        abort();
    memset(w.ram, 0, RAM_BYTES);
    memset(w.told, 0, RAM_BYTES);
    w.guest = (struct guest_ram){.host = w.ram, .low = RAM_LOW, .high = RAM_HIGH};
    for (unsigned i = 0; i < IMAGE; i++)
        w.image[i] = w.image_before[i] = (uint8_t)(i * 7 + i / 256);
    if (kind == CONSOLE) {
        virtio_console_init(&w.console, &dma, &irq, "vm", output);
        w.device = &w.console.virtio;
    } else if (kind == ENTROPY) {
        virtio_entropy_init(&w.entropy, &dma, &irq, random_bits, NULL);
        w.device = &w.entropy.virtio;
    } else {
        virtio_block_init(&w.block, &dma, &irq, w.image, IMAGE, kind == DISK ? &pages : NULL,
                          "a disk");
        w.device = &w.block.virtio;
    }
}

static void destroy(void)
{
    if (w.kind <= READ_ONLY_DISK)
        virtio_block_destroy(&w.block);
    MUST(w.pages == 0, "%u pages are left", w.pages);
    free(w.ram);
    free(w.told);
}

/* --- what must hold after every operation ----------------------------------------------------- */

static void check(void)
{
    const struct virtio *v = w.device;

    MUST(w.line == (v->interrupt_status != 0), "the wire follows InterruptStatus");
    for (unsigned i = 0; i < v->ops->queues; i++) {
        const struct virtio_queue *q = &v->queue[i];
        MUST(q->next_used == q->next_avail, "used and available entries of queue %u", i);
        MUST(!q->ready ||
                 (q->size > 0 && q->size <= VIRTIO_QUEUE_MAX && !(q->size & (q->size - 1))),
             "size %u of a ready queue", q->size);
        MUST(!(v->status & S_NEEDS_RESET) || !q->pending, "work of a broken device");
    }
    MUST(v->chain.count <= VIRTIO_QUEUE_MAX && v->chain.readable <= v->chain.count, "the chain");
}

static void check_end(void)
{
    MUST(memcmp(w.ram, w.told, RAM_BYTES) == 0, "every write is told");
    MUST(memcmp(w.image, w.image_before, IMAGE) == 0, "the image is not written");
    MUST(w.kind != READ_ONLY_DISK || w.block.copied == 0, "a read-only disk has no copies");
    MUST(w.block.copied <= (IMAGE + PAGE_SIZE - 1) / PAGE_SIZE, "copies");
}

/* --- the driver ------------------------------------------------------------------------------- */

static void set(unsigned offset, uint64_t value)
{
    virtio_write(w.device, offset, 4, (uint32_t)value);
}

static void set_64(unsigned offset, uint64_t value)
{
    set(offset, value);
    set(offset + 4, value >> 32);
}

/* To both copies: the guest's own writes are no device's. */
static void guest_write(uint64_t at, const void *from, size_t len)
{
    uint8_t *host = guest_ram_at(&w.guest, gpa(at), len);

    if (!host)
        return;
    memcpy(host, from, len);
    memcpy(w.told + (host - w.ram), from, len);
}

/* Where the well-behaved part of the driver has each queue: rings and buffers. */
static uint64_t ring_of(unsigned queue)
{
    return queue ? HIGH_BASE : 0x1000;
}
#define DESC_AT  0x0000u
#define AVAIL_AT 0x1000u
#define USED_AT  0x2000u
#define DATA_AT  0x3000u

static void set_up(struct fuzz_input *in)
{
    uint64_t features = fuzz_take(in, 1), size = 1ull << fuzz_below(in, 8);

    set(R_STATUS, 0);
    set(R_STATUS, S_ACK | S_DRIVER);
    set(R_ACCEPT_SEL, 0);
    set(R_ACCEPT, (features & 3) << 28 | features >> 2);
    set(R_ACCEPT_SEL, 1);
    set(R_ACCEPT, 1);
    set(R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK);
    for (unsigned queue = 0; queue < w.device->ops->queues; queue++) {
        static const uint8_t zeros[2048];
        guest_write(ring_of(queue) + AVAIL_AT, zeros, sizeof(zeros));
        guest_write(ring_of(queue) + USED_AT, zeros, sizeof(zeros));
        set(R_QUEUE_SEL, queue);
        set(R_QUEUE_NUM, size);
        set_64(R_DESC, ring_of(queue) + DESC_AT);
        set_64(R_AVAIL, ring_of(queue) + AVAIL_AT);
        set_64(R_USED, ring_of(queue) + USED_AT);
        set(R_QUEUE_READY, 1);
        w.added[queue] = 0;
    }
    set(R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
}

/* An address: among the buffers mostly; else the RAM's edges, beyond it, or anything. */
static uint64_t take_address(struct fuzz_input *in, unsigned queue)
{
    uint64_t offset = fuzz_take(in, 2);

    switch (fuzz_below(in, 8)) {
    case 0:
        return RAM_LOW - (offset & 0xff);
    case 1:
        return HIGH_BASE + RAM_HIGH - (offset & 0xff);
    case 2:
        return fuzz_take(in, 8);
    case 3:
        return ring_of(queue) + (offset & 0x3fff); /* the rings themselves */
    default:
        return ring_of(queue) + DATA_AT + (offset & 0x1fff);
    }
}

static uint32_t take_length(struct fuzz_input *in)
{
    static const uint32_t lengths[] = {1, 8, 16, 32, 512, 4096};
    unsigned choice = fuzz_below(in, 8);

    return choice < ARRAY_SIZE(lengths) ? lengths[choice] : (uint32_t)fuzz_take(in, choice - 5 + 2);
}

/* struct virtio_blk_req's head: a request that is served, if the rest is right. */
static void put_request(struct fuzz_input *in, uint64_t at)
{
    static const uint8_t types[] = {0, 1, 1, 1, 4, 8, 11, 13}; /* 5.2.6: IN, OUT, FLUSH, GET_ID */
    struct {
        uint32_t type, reserved;
        uint64_t sector;
    } head = {types[fuzz_below(in, ARRAY_SIZE(types))], 0, fuzz_below(in, 48)};

    guest_write(at, &head, sizeof(head));
}

static void put_descriptor(struct fuzz_input *in, unsigned queue, uint64_t table, unsigned index)
{
    struct {
        uint64_t at;
        uint32_t len;
        uint16_t flags, next;
    } d = {.at = take_address(in, queue), .len = take_length(in)};
    unsigned flags = fuzz_below(in, 64);

    d.flags = (uint16_t)(flags & 7);
    d.next = (uint16_t)(flags & 0x38 ? index + 1 : fuzz_below(in, 256));
    if (d.len == 16 && !(d.flags & (D_WRITE | D_INDIRECT)))
        put_request(in, d.at);
    guest_write(table + index * 16, &d, sizeof(d));
}

static void add_available(unsigned queue, uint16_t head)
{
    const struct virtio_queue *q = &w.device->queue[queue];
    uint64_t avail = ring_of(queue) + AVAIL_AT;

    if (q->size == 0)
        return;
    guest_write(avail + 4 + w.added[queue] % q->size * 2u, &head, sizeof(head));
    w.added[queue] = (uint16_t)(w.added[queue] + 1);
    guest_write(avail + 2, &w.added[queue], sizeof(w.added[queue]));
}

static void make_available(struct fuzz_input *in)
{
    unsigned queue = fuzz_below(in, VIRTIO_QUEUES_MAX);
    uint16_t head = (uint16_t)fuzz_below(in, 130);

    add_available(queue, head);
    if (head & 1)
        set(R_NOTIFY, queue);
}

/*
 * A request as a driver makes it, available and notified: head, up to three pieces of data, status
 * byte. One byte of the input spoils it, or does not.
 */
static void make_request(struct fuzz_input *in)
{
    unsigned queue = w.kind == CONSOLE ? fuzz_below(in, 2) : 0;
    const struct virtio_queue *q = &w.device->queue[queue];
    unsigned shape = (unsigned)fuzz_take(in, 1), spoil = (unsigned)fuzz_take(in, 1);
    bool disk = w.kind <= READ_ONLY_DISK, writes = shape & 1;
    unsigned count = 0, data = 1 + (shape >> 1 & 3);
    struct {
        uint64_t at;
        uint32_t len;
        uint16_t flags, next;
    } d[8];

    if (q->size < ARRAY_SIZE(d))
        return;
    uint64_t at = ring_of(queue) + DATA_AT;
    if (disk) {
        put_request(in, at);
        d[count++].len = 16;
    }
    for (unsigned i = 0; i < data; i++)
        d[count++].len = shape & 8 ? take_length(in) % 0x1000 : 512;
    if (disk)
        d[count++].len = 1;
    for (unsigned i = 0; i < count; i++) {
        bool to_device = disk ? i == 0 || (writes && i + 1 < count) : writes;
        d[i].at = at;
        d[i].flags = (uint16_t)((to_device ? 0 : D_WRITE) | (i + 1 < count ? D_NEXT : 0));
        d[i].next = (uint16_t)(i + 1);
        at += d[i].len;
    }
    if (spoil < 64)
        d[spoil % count].len = (uint32_t)fuzz_take(in, 4);
    else if (spoil < 80)
        d[spoil % count].at = fuzz_take(in, 8);
    else if (spoil < 96)
        d[spoil % count].flags = (uint16_t)fuzz_below(in, 8);
    guest_write(ring_of(queue) + DESC_AT, d, count * sizeof(d[0]));
    add_available(queue, 0);
    set(R_NOTIFY, queue);
}

static void put_descriptors(struct fuzz_input *in)
{
    unsigned queue = fuzz_below(in, VIRTIO_QUEUES_MAX), first = fuzz_below(in, 128);
    unsigned count = 1 + fuzz_below(in, 4);
    uint64_t table = first & 1 ? ring_of(queue) + DATA_AT : ring_of(queue) + DESC_AT;

    for (unsigned i = 0; i < count; i++)
        put_descriptor(in, queue, table, first / 2 + i);
}

static void write_register(struct fuzz_input *in)
{
    static const uint16_t offsets[] = {R_FEATURES_SEL, R_ACCEPT,      R_ACCEPT_SEL, R_QUEUE_SEL,
                                       R_QUEUE_NUM,    R_QUEUE_READY, R_NOTIFY,     R_ACK,
                                       R_STATUS,       R_DESC,        R_DESC + 4,   R_AVAIL,
                                       R_AVAIL + 4,    R_USED,        R_USED + 4};
    static const uint8_t widths[] = {4, 4, 2, 1};
    unsigned choice = fuzz_below(in, 20), width = widths[fuzz_below(in, 4)];
    unsigned offset = choice < ARRAY_SIZE(offsets)
                          ? offsets[choice]
                          : (unsigned)fuzz_take(in, 2) % (VIRTIO_MMIO_STRIDE - 3);

    virtio_write(w.device, offset, width, (uint32_t)fuzz_take(in, width));
}

static void read_register(struct fuzz_input *in)
{
    unsigned offset = (unsigned)fuzz_take(in, 2) % (VIRTIO_MMIO_STRIDE - 3);
    unsigned width = 1u << fuzz_below(in, 3);
    uint32_t value = virtio_read(w.device, offset, width);

    MUST(width == 4 || value >> 8 * width == 0, "0x%x in %u bytes", value, width);
}

static void write_memory(struct fuzz_input *in)
{
    uint64_t at = take_address(in, fuzz_below(in, VIRTIO_QUEUES_MAX));
    uint64_t value = fuzz_take(in, 8);

    guest_write(at, &value, 1 + fuzz_below(in, 8));
}

static void input(struct fuzz_input *in)
{
    char text[200];
    size_t len = fuzz_below(in, sizeof(text));

    memset(text, 'k', sizeof(text));
    if (w.kind == CONSOLE)
        MUST(virtio_console_input(&w.console, text, len) <= len, "bytes that there is room for");
}

static void reset(void)
{
    if (w.kind == CONSOLE)
        virtio_console_reset(&w.console);
    else if (w.kind == ENTROPY)
        virtio_entropy_reset(&w.entropy);
    else
        virtio_block_reset(&w.block);
}

static void step(struct fuzz_input *in)
{
    uint32_t status = w.device->status;
    uint64_t told_before = w.told_bytes;
    unsigned op = fuzz_below(in, 16);

    if (op <= 1)
        put_descriptors(in);
    else if (op <= 4)
        make_request(in);
    else if (op <= 6)
        make_available(in);
    else if (op <= 8)
        write_register(in);
    else if (op == 9)
        read_register(in);
    else if (op == 10)
        write_memory(in);
    else if (op == 11)
        virtio_work(w.device);
    else if (op == 12)
        input(in);
    else if (op == 13)
        set_up(in);
    else if (op == 14)
        set(R_ACK, 3);
    else if (fuzz_below(in, 8) == 0)
        reset();
    if ((status & S_NEEDS_RESET) && (w.device->status & S_NEEDS_RESET))
        MUST(w.told_bytes == told_before, "a device that needs a reset writes nothing");
    check();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};

    create((enum kind)fuzz_below(&in, KINDS));
    set_up(&in);
    for (unsigned n = 0; n < STEPS_MAX && in.left > 0; n++)
        step(&in);
    check_end();
    destroy();
    return 0;
}
