/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * See virtio.h. Section numbers and names are virtio 1.2's. Fields are little-endian, as this
 * processor is.
 */
#include "hv/dev/virtio.h"

#include <string.h>

/* --- registers, 4.2.2 ------------------------------------------------------------------------- */

enum {
    MAGIC_VALUE = 0x000,
    VERSION = 0x004,
    DEVICE_ID = 0x008,
    VENDOR_ID = 0x00c,
    DEVICE_FEATURES = 0x010,
    DEVICE_FEATURES_SEL = 0x014,
    DRIVER_FEATURES = 0x020,
    DRIVER_FEATURES_SEL = 0x024,
    QUEUE_SEL = 0x030,
    QUEUE_NUM_MAX = 0x034,
    QUEUE_NUM = 0x038,
    QUEUE_READY = 0x044,
    QUEUE_NOTIFY = 0x050,
    INTERRUPT_STATUS = 0x060,
    INTERRUPT_ACK = 0x064,
    STATUS = 0x070,
    QUEUE_DESC_LOW = 0x080,
    QUEUE_DESC_HIGH = 0x084,
    QUEUE_DRIVER_LOW = 0x090,
    QUEUE_DRIVER_HIGH = 0x094,
    QUEUE_DEVICE_LOW = 0x0a0,
    QUEUE_DEVICE_HIGH = 0x0a4,
    SHM_LEN_LOW = 0x0b0,
    SHM_LEN_HIGH = 0x0b4,
    SHM_BASE_LOW = 0x0b8,
    SHM_BASE_HIGH = 0x0bc,
    CONFIG_GENERATION = 0x0fc,
    CONFIG = 0x100,
};

#define REGISTER_BYTES 4u
#define REGISTER_BITS  32u
#define BITS_PER_BYTE  8u

#define MAGIC          0x74726976u /* "virt" */
#define MMIO_VERSION   2u
#define VENDOR         0x464f5754u /* "TWOF" */
#define NO_SUCH_REGION 0xffffffffu /* shared memory that is not there is that long, 4.2.2.1 */

/* InterruptStatus */
#define INTERRUPT_USED_BUFFER 1u
#define INTERRUPT_CONFIG      2u

/* Status, 2.1 */
#define STATUS_ACKNOWLEDGE 1u
#define STATUS_DRIVER      2u
#define STATUS_DRIVER_OK   4u
#define STATUS_FEATURES_OK 8u
#define STATUS_NEEDS_RESET 64u
#define STATUS_FAILED      128u
#define STATUS_OF_DRIVER                                                                           \
    (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK | STATUS_FEATURES_OK | STATUS_FAILED)
#define STATUS_RUNNING (STATUS_DRIVER_OK | STATUS_FEATURES_OK)

/* Feature bits, chapter 6 */
#define FEATURE_INDIRECT  28u
#define FEATURE_EVENT_IDX 29u
#define FEATURE_VERSION_1 32u
#define BIT(n)            (1ull << (n))
#define FEATURES_OF_RINGS (BIT(FEATURE_INDIRECT) | BIT(FEATURE_EVENT_IDX) | BIT(FEATURE_VERSION_1))

/* --- split virtqueues, 2.7 -------------------------------------------------------------------- */

/* 2.7.5 */
struct descriptor {
    uint64_t addr;
    uint32_t len;
    uint16_t flags;
    uint16_t next;
};
_Static_assert(sizeof(struct descriptor) == 16, "virtio 1.2 2.7.5");
#define DESC_NEXT     1u
#define DESC_WRITE    2u
#define DESC_INDIRECT 4u

/*
 * 2.7.6, 2.7.8: the driver's area and the device's, for a queue of n entries:
 *
 *   avail: flags 2, idx 2, ring n x 2, used_event 2
 *   used:  flags 2, idx 2, ring n x (id 4, len 4), avail_event 2
 */
#define RING_FLAGS         0u
#define RING_INDEX         2u
#define RING_ENTRIES       4u
#define AVAIL_ENTRY        2u
#define USED_ENTRY         8u
#define RING_EVENT         2u
#define AVAIL_NO_INTERRUPT 1u

/* 2.7 */
#define DESC_ALIGN  16u
#define AVAIL_ALIGN 2u
#define USED_ALIGN  4u

static uint64_t desc_bytes(const struct virtio_queue *q)
{
    return sizeof(struct descriptor) * q->size;
}

static uint64_t avail_bytes(const struct virtio_queue *q)
{
    return RING_ENTRIES + AVAIL_ENTRY * q->size + RING_EVENT;
}

static uint64_t used_bytes(const struct virtio_queue *q)
{
    return RING_ENTRIES + USED_ENTRY * q->size + RING_EVENT;
}

/* A 16-bit field of the device's area. */
static void store_used(struct virtio *v, struct virtio_queue *q, uint64_t offset, uint16_t value)
{
    guest_store16(q->used_host + offset, value);
    dma_written(&v->dma, gpa_add(q->used, offset), sizeof(value));
}

bool virtio_has_feature(const struct virtio *v, unsigned bit)
{
    return (v->driver_features >> bit & 1) != 0;
}

static bool is_running(const struct virtio *v)
{
    return (v->status & (STATUS_RUNNING | STATUS_NEEDS_RESET)) == STATUS_RUNNING;
}

static void update_line(const struct virtio *v)
{
    irq_set(&v->irq, v->interrupt_status != 0);
}

static void raise(struct virtio *v, uint32_t reason)
{
    v->interrupt_status |= reason;
    update_line(v);
}

/* 2.1.2: with DRIVER_OK set, the driver is told by a change of the configuration. */
void virtio_break(struct virtio *v)
{
    v->status |= STATUS_NEEDS_RESET;
    for (unsigned i = 0; i < v->ops->queues; i++)
        v->queue[i].pending = false;
    if (v->status & STATUS_DRIVER_OK)
        raise(v, INTERRUPT_CONFIG);
}

/* Copy a descriptor. The fence keeps the compiler from reading it a second time, when the guest
 * may have changed what was checked. */
static struct descriptor read_descriptor(const uint8_t GUEST *at)
{
    struct descriptor d;

    copy_from_guest(&d, at, sizeof(d));
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return d;
}

static bool add_segment(struct virtio *v, const struct descriptor *d)
{
    struct virtio_chain *chain = &v->chain;
    bool writable = (d->flags & DESC_WRITE) != 0;
    uint32_t *bytes = writable ? &chain->writable_bytes : &chain->readable_bytes;
    bool out_of_order = !writable && chain->readable < chain->count; /* 2.7.4.2 */

    if (chain->count == VIRTIO_QUEUE_MAX || out_of_order || d->len == 0 ||
        d->len > UINT32_MAX - *bytes)
        return false;
    uint8_t GUEST *host = dma_at(&v->dma, gpa(d->addr), d->len);
    if (!host)
        return false;
    chain->segment[chain->count++] = (struct virtio_segment){host, gpa(d->addr), d->len};
    *bytes += d->len;
    if (!writable)
        chain->readable = chain->count;
    return true;
}

/* A table of descriptors: the queue's own or an indirect one. */
struct table {
    const uint8_t GUEST *host;
    uint32_t count;
};

/* 2.7.5.3: the table that `d` refers to. Its DESC_WRITE is ignored. */
static bool enter_indirect(const struct virtio *v, const struct descriptor *d, struct table *table)
{
    if (!virtio_has_feature(v, FEATURE_INDIRECT) || (d->flags & DESC_NEXT) || d->len == 0 ||
        d->len % sizeof(struct descriptor) != 0)
        return false;
    *table = (struct table){dma_at(&v->dma, gpa(d->addr), d->len),
                            d->len / (uint32_t)sizeof(struct descriptor)};
    return table->host != NULL;
}

/*
 * The chain that starts at v->chain.head. Every step adds a segment or enters the one indirect
 * table that a chain can have, and there is room for VIRTIO_QUEUE_MAX segments: a loop ends there.
 */
static bool read_chain(struct virtio *v, const struct virtio_queue *q)
{
    struct table table = {q->desc_host, q->size};
    bool indirect = false;
    uint32_t index = v->chain.head;

    for (;;) {
        if (index >= table.count)
            return false;
        struct descriptor d = read_descriptor(table.host + index * sizeof(d));
        if (d.flags & DESC_INDIRECT) {
            if (indirect || !enter_indirect(v, &d, &table))
                return false;
            indirect = true;
            index = 0;
            continue;
        }
        if (!add_segment(v, &d))
            return false;
        if (!(d.flags & DESC_NEXT))
            return true;
        index = d.next;
    }
}

/*
 * Requests that wait. Before it says that there are none it has asked to be notified of the next
 * (2.7.10), and has looked again after that: the driver may have added it just before.
 */
static uint16_t count_waiting(struct virtio *v, struct virtio_queue *q)
{
    uint16_t waiting = (uint16_t)(guest_load16(q->avail_host + RING_INDEX) - q->next_avail);

    if (waiting > 0 || !virtio_has_feature(v, FEATURE_EVENT_IDX))
        return waiting;
    store_used(v, q, used_bytes(q) - RING_EVENT, q->next_avail);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return (uint16_t)(guest_load16(q->avail_host + RING_INDEX) - q->next_avail);
}

bool virtio_next(struct virtio *v, unsigned queue)
{
    struct virtio_queue *q = &v->queue[queue];

    if (!is_running(v) || !q->ready)
        return false;
    uint16_t waiting = count_waiting(v, q);
    if (waiting == 0)
        return false;
    uint32_t slot = q->next_avail % q->size;
    v->chain.head = guest_load16(q->avail_host + RING_ENTRIES + slot * AVAIL_ENTRY);
    v->chain.readable = v->chain.count = 0;
    v->chain.readable_bytes = v->chain.writable_bytes = 0;
    if (waiting > q->size || !read_chain(v, q)) {
        virtio_break(v);
        return false;
    }
    return true;
}

void virtio_complete(struct virtio *v, unsigned queue, uint32_t written)
{
    struct virtio_queue *q = &v->queue[queue];
    uint64_t offset = RING_ENTRIES + q->next_used % q->size * USED_ENTRY;
    uint32_t entry[] = {v->chain.head, written};
    _Static_assert(sizeof(entry) == USED_ENTRY, "2.7.8");

    copy_to_guest(q->used_host + offset, entry, sizeof(entry));
    dma_written(&v->dma, gpa_add(q->used, offset), sizeof(entry));
    q->progress = 0;
    q->next_avail++;
    q->next_used++;
    store_used(v, q, RING_INDEX, q->next_used);
}

/* 2.7.7.1: with event indices, when an entry since the last time is the one that the driver waits
 * for; without, when its flag does not forbid it. */
static bool wants_interrupt(const struct virtio *v, const struct virtio_queue *q)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the used index goes out before this is read */
    if (!virtio_has_feature(v, FEATURE_EVENT_IDX))
        return !(guest_load16(q->avail_host + RING_FLAGS) & AVAIL_NO_INTERRUPT);
    uint16_t event = guest_load16(q->avail_host + avail_bytes(q) - RING_EVENT);
    return (uint16_t)(q->next_used - event - 1) < (uint16_t)(q->next_used - q->signalled);
}

static void signal_used(struct virtio *v, struct virtio_queue *q)
{
    if (q->next_used == q->signalled)
        return;
    if (wants_interrupt(v, q))
        raise(v, INTERRUPT_USED_BUFFER);
    q->signalled = q->next_used;
}

void virtio_kick(struct virtio *v, unsigned queue)
{
    struct virtio_queue *q = &v->queue[queue];
    uint64_t spent = 0;

    if (!is_running(v) || !q->ready)
        return;
    q->pending = false;
    for (unsigned n = 0; n < VIRTIO_QUEUE_MAX && spent < v->ops->budget; n++) {
        uint64_t cost = v->ops->serve(v->device, queue);
        if (cost == 0) {
            signal_used(v, q);
            return;
        }
        spent += cost;
    }
    q->pending = true;
    signal_used(v, q);
}

bool virtio_has_work(const struct virtio *v)
{
    for (unsigned i = 0; i < v->ops->queues; i++) {
        if (v->queue[i].pending)
            return true;
    }
    return false;
}

void virtio_work(struct virtio *v)
{
    for (unsigned i = 0; i < v->ops->queues; i++) {
        if (v->queue[i].pending)
            virtio_kick(v, i);
    }
}

/* --- a request's memory ----------------------------------------------------------------------- */

struct virtio_cursor virtio_writable(const struct virtio *v)
{
    return (struct virtio_cursor){.segment = v->chain.readable};
}

/* The segment at *cursor, and how much of it is left, `len` at most; the cursor moves behind that.
 */
static struct virtio_segment take_piece(const struct virtio *v, struct virtio_cursor *cursor,
                                        uint32_t len)
{
    const struct virtio_segment *segment = &v->chain.segment[cursor->segment];
    uint32_t offset = cursor->offset;
    uint32_t bytes = (uint32_t)min_u64(len, segment->len - offset);

    cursor->offset += bytes;
    if (cursor->offset == segment->len)
        *cursor = (struct virtio_cursor){.segment = cursor->segment + 1};
    return (struct virtio_segment){segment->host + offset, gpa_add(segment->at, offset), bytes};
}

void virtio_copy_from(struct virtio *v, struct virtio_cursor *cursor, void *to, uint32_t len)
{
    for (uint32_t done = 0; done < len;) {
        struct virtio_segment piece = take_piece(v, cursor, len - done);
        copy_from_guest((uint8_t *)to + done, piece.host, piece.len);
        done += piece.len;
    }
}

void virtio_copy_to(struct virtio *v, struct virtio_cursor *cursor, const void *from, uint32_t len)
{
    for (uint32_t done = 0; done < len;) {
        struct virtio_segment piece = take_piece(v, cursor, len - done);
        copy_to_guest(piece.host, (const uint8_t *)from + done, piece.len);
        dma_written(&v->dma, piece.at, piece.len);
        done += piece.len;
    }
}

void virtio_skip(const struct virtio *v, struct virtio_cursor *cursor, uint32_t len)
{
    while (len > 0)
        len -= take_piece(v, cursor, len).len;
}

/* --- the transport ---------------------------------------------------------------------------- */

void virtio_init(struct virtio *v, const struct virtio_ops *ops, void *device,
                 const struct dma *dma, const struct irq_line *irq)
{
    *v = (struct virtio){.ops = ops, .device = device, .dma = *dma, .irq = *irq};
    v->features = FEATURES_OF_RINGS;
}

void virtio_reset(struct virtio *v)
{
    v->driver_features = 0;
    v->device_features_select = v->driver_features_select = v->queue_select = 0;
    v->status = v->interrupt_status = 0;
    memset(v->queue, 0, sizeof(v->queue));
    update_line(v);
}

/* The queue that QueueSel names; NULL if there is none. */
static struct virtio_queue *selected_queue(struct virtio *v)
{
    return v->queue_select < v->ops->queues ? &v->queue[v->queue_select] : NULL;
}

static uint32_t read_config(const struct virtio *v, unsigned offset, unsigned bytes)
{
    uint32_t value = 0;

    for (unsigned i = 0; i < bytes; i++) {
        if (offset + i < v->config_bytes)
            value |= (uint32_t)v->config[offset + i] << BITS_PER_BYTE * i;
    }
    return value;
}

static uint32_t offered_features(const struct virtio *v)
{
    unsigned shift = v->device_features_select * REGISTER_BITS;

    return v->device_features_select < 2 ? (uint32_t)(v->features >> shift) : 0;
}

uint32_t virtio_read(struct virtio *v, unsigned offset, unsigned bytes)
{
    const struct virtio_queue *q = selected_queue(v);

    if (offset >= CONFIG)
        return read_config(v, offset - CONFIG, bytes);
    if (bytes != REGISTER_BYTES)
        return 0;
    switch (offset) {
    case MAGIC_VALUE:
        return MAGIC;
    case VERSION:
        return MMIO_VERSION;
    case DEVICE_ID:
        return v->ops->device_id;
    case VENDOR_ID:
        return VENDOR;
    case DEVICE_FEATURES:
        return offered_features(v);
    case QUEUE_NUM_MAX:
        return q ? VIRTIO_QUEUE_MAX : 0;
    case QUEUE_READY:
        return q && q->ready;
    case INTERRUPT_STATUS:
        return v->interrupt_status;
    case STATUS:
        return v->status;
    case SHM_LEN_LOW:
    case SHM_LEN_HIGH:
    case SHM_BASE_LOW:
    case SHM_BASE_HIGH:
        return NO_SUCH_REGION;
    case CONFIG_GENERATION: /* no configuration here ever changes */
    default:
        return 0;
    }
}

static void write_driver_features(struct virtio *v, uint32_t value)
{
    unsigned shift = v->driver_features_select * REGISTER_BITS;

    if (v->driver_features_select > 1 || (v->status & STATUS_FEATURES_OK))
        return;
    v->driver_features &= ~((uint64_t)UINT32_MAX << shift);
    v->driver_features |= (uint64_t)value << shift;
}

/* 2.2.2, 6.2: what was not offered cannot be accepted, and a driver without VERSION_1 is of the
 * time before these registers. */
static bool features_are_good(const struct virtio *v)
{
    return !(v->driver_features & ~v->features) && virtio_has_feature(v, FEATURE_VERSION_1);
}

/* 2.1.1: bits are only ever added. FEATURES_OK stays clear if the features are not to be had. */
static void write_status(struct virtio *v, uint32_t value)
{
    bool was_running = is_running(v);

    if (value == 0) {
        virtio_reset(v);
        return;
    }
    value &= STATUS_OF_DRIVER;
    if (!(v->status & STATUS_FEATURES_OK) && !features_are_good(v))
        value &= ~STATUS_RUNNING;
    v->status |= value;
    if (!was_running && is_running(v)) {
        for (unsigned i = 0; i < v->ops->queues; i++)
            virtio_kick(v, i); /* what was added before nobody will notify of */
    }
}

static void start_queue(struct virtio *v, struct virtio_queue *q)
{
    bool is_power = q->size != 0 && (q->size & (q->size - 1)) == 0;

    if (is_power && is_aligned(q->desc.v, DESC_ALIGN) && is_aligned(q->avail.v, AVAIL_ALIGN) &&
        is_aligned(q->used.v, USED_ALIGN)) {
        q->desc_host = dma_at(&v->dma, q->desc, desc_bytes(q));
        q->avail_host = dma_at(&v->dma, q->avail, avail_bytes(q));
        q->used_host = dma_at(&v->dma, q->used, used_bytes(q));
        q->ready = q->desc_host && q->avail_host && q->used_host;
    }
    if (!q->ready)
        virtio_break(v);
}

static void write_queue_ready(struct virtio *v, struct virtio_queue *q, uint32_t value)
{
    if (value == 0)
        *q = (struct virtio_queue){0};
    else if (!q->ready)
        start_queue(v, q);
}

static void set_low(gpa_t *address, uint32_t value)
{
    address->v = (address->v & ~(uint64_t)UINT32_MAX) | value;
}

static void set_high(gpa_t *address, uint32_t value)
{
    address->v = (uint32_t)address->v | (uint64_t)value << REGISTER_BITS;
}

/* Where the rings are. A queue in use keeps its place, 4.2.2.2. */
static void write_queue_register(struct virtio_queue *q, unsigned offset, uint32_t value)
{
    if (q->ready)
        return;
    switch (offset) {
    case QUEUE_NUM:
        q->size = value <= VIRTIO_QUEUE_MAX ? (uint16_t)value : 0;
        return;
    case QUEUE_DESC_LOW:
        set_low(&q->desc, value);
        return;
    case QUEUE_DESC_HIGH:
        set_high(&q->desc, value);
        return;
    case QUEUE_DRIVER_LOW:
        set_low(&q->avail, value);
        return;
    case QUEUE_DRIVER_HIGH:
        set_high(&q->avail, value);
        return;
    case QUEUE_DEVICE_LOW:
        set_low(&q->used, value);
        return;
    case QUEUE_DEVICE_HIGH:
        set_high(&q->used, value);
        return;
    default:
        return;
    }
}

void virtio_write(struct virtio *v, unsigned offset, unsigned bytes, uint32_t value)
{
    struct virtio_queue *q = selected_queue(v);

    if (bytes != REGISTER_BYTES || offset >= CONFIG)
        return;
    switch (offset) {
    case DEVICE_FEATURES_SEL:
        v->device_features_select = value;
        return;
    case DRIVER_FEATURES:
        write_driver_features(v, value);
        return;
    case DRIVER_FEATURES_SEL:
        v->driver_features_select = value;
        return;
    case QUEUE_SEL:
        v->queue_select = value;
        return;
    case QUEUE_READY:
        if (q)
            write_queue_ready(v, q, value);
        return;
    case QUEUE_NOTIFY:
        if (value < v->ops->queues)
            virtio_kick(v, value);
        return;
    case INTERRUPT_ACK:
        v->interrupt_status &= ~value;
        update_line(v);
        return;
    case STATUS:
        write_status(v, value);
        return;
    default:
        if (q)
            write_queue_register(q, offset, value);
        return;
    }
}
