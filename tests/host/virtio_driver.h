/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A driver of virtio-mmio devices for tests: a guest with some RAM below 3 GiB and some from 4 GiB,
 * rings in it, and requests of any division.
 *
 * What the guest itself writes goes to a second copy of its RAM as well, and what a device says
 * that it wrote is copied there: when both differ, a device wrote something that it did not tell
 * of.
 */
#ifndef TESTS_HOST_VIRTIO_DRIVER_H
#define TESTS_HOST_VIRTIO_DRIVER_H

#include <stdlib.h>
#include <string.h>

#include "hv/dev/virtio.h"
#include "tests/host/test.h"
#include "tests/host/virtio_registers.h"

#define RAM_LOW   (256u << 10)
#define RAM_HIGH  (256u << 10)
#define RAM_BYTES (RAM_LOW + RAM_HIGH)
#define HIGH_BASE (1ull << 32)

#define F_INDIRECT  (1ull << 28)
#define F_EVENT_IDX (1ull << 29)
#define F_VERSION_1 (1ull << 32)

struct test_segment {
    uint64_t at;
    uint32_t len;
};

struct test_queue {
    unsigned size;
    uint64_t desc, avail, used;
    uint16_t added, seen; /* requests that were made available; used entries that were looked at */
    unsigned free_count;
    uint16_t free[VIRTIO_QUEUE_MAX];
    uint16_t next_of[VIRTIO_QUEUE_MAX]; /* descriptors of a request in flight, by its head */
    unsigned length_of[VIRTIO_QUEUE_MAX];
};

struct test_driver {
    struct virtio *device;
    struct guest_ram ram;
    uint8_t *shadow; /* as `ram` has it, host order */
    struct dma dma;
    struct irq_line irq;
    bool line; /* the interrupt's */
    unsigned raises;
    uint64_t written_bytes, written_calls;
    uint64_t low_used, high_used; /* of the RAM, by allocate() */
    uint64_t random;
    uint64_t features; /* accepted */
    struct test_queue queue[VIRTIO_QUEUES_MAX];
};

/* --- memory ----------------------------------------------------------------------------------- */

static inline uint8_t *shadow_of(struct test_driver *d, const void *host)
{
    return d->shadow + ((const uint8_t *)host - d->ram.host);
}

static inline void guest_write(struct test_driver *d, uint64_t at, const void *from, size_t len)
{
    uint8_t *host = guest_ram_at(&d->ram, gpa(at), len);

    memcpy(host, from, len);
    memcpy(shadow_of(d, host), from, len);
}

static inline void guest_read(struct test_driver *d, uint64_t at, void *to, size_t len)
{
    memcpy(to, guest_ram_at(&d->ram, gpa(at), len), len);
}

static inline void guest_put16(struct test_driver *d, uint64_t at, uint16_t value)
{
    guest_write(d, at, &value, sizeof(value));
}

static inline uint16_t guest_get16(struct test_driver *d, uint64_t at)
{
    uint16_t value;

    guest_read(d, at, &value, sizeof(value));
    return value;
}

static inline void test_written(void *context, gpa_t at, uint64_t len)
{
    struct test_driver *d = context;
    uint8_t *host = guest_ram_at(&d->ram, at, len);

    CHECK(host && len > 0, "0x%llx, %llu bytes", (unsigned long long)at.v, (unsigned long long)len);
    if (host)
        memcpy(shadow_of(d, host), host, len);
    d->written_bytes += len;
    d->written_calls++;
}

/* Has every write been told of? */
static inline bool writes_are_told(const struct test_driver *d)
{
    return memcmp(d->ram.host, d->shadow, RAM_BYTES) == 0;
}

static inline void test_set_line(void *context, unsigned gsi, bool level)
{
    struct test_driver *d = context;

    (void)gsi;
    d->raises += level && !d->line;
    d->line = level;
}

static inline uint64_t test_below(struct test_driver *d, uint64_t bound)
{
    return test_random(&d->random) % bound;
}

/* A place of its own in either part of the RAM. */
static inline uint64_t allocate(struct test_driver *d, uint64_t len, uint64_t align)
{
    bool high = test_below(d, 2) != 0;
    uint64_t *used = high ? &d->high_used : &d->low_used;
    uint64_t at = align_up(*used, align);

    if (at + len > (high ? RAM_HIGH : RAM_LOW)) {
        printf("the test's RAM is too small\n");
        abort();
    }
    *used = at + len;
    return at + (high ? HIGH_BASE : 0);
}

static inline void forget_allocations(struct test_driver *d)
{
    d->low_used = 64;
    d->high_used = 0;
}

static inline void driver_init(struct test_driver *d, uint64_t seed)
{
    memset(d, 0, sizeof(*d));
    d->random = seed;
    d->ram = (struct guest_ram){.host = malloc(RAM_BYTES), .low = RAM_LOW, .high = RAM_HIGH};
    d->shadow = malloc(RAM_BYTES);
    for (unsigned i = 0; i < RAM_BYTES; i++)
        d->shadow[i] = d->ram.host[i] = (uint8_t)test_random(&d->random);
    d->dma = (struct dma){&d->ram, test_written, d};
    d->irq = (struct irq_line){test_set_line, d, VIRTIO_GSI_FIRST};
    forget_allocations(d);
}

static inline void driver_free(struct test_driver *d)
{
    CHECK(writes_are_told(d), "a write that nobody was told of");
    free(d->ram.host);
    free(d->shadow);
}

/* --- set-up ----------------------------------------------------------------------------------- */

static inline uint32_t reg(struct test_driver *d, unsigned offset)
{
    return virtio_read(d->device, offset, 4);
}

static inline void set_reg(struct test_driver *d, unsigned offset, uint32_t value)
{
    virtio_write(d->device, offset, 4, value);
}

static inline void set_reg64(struct test_driver *d, unsigned offset, uint64_t value)
{
    set_reg(d, offset, (uint32_t)value);
    set_reg(d, offset + 4, (uint32_t)(value >> 32));
}

static inline uint64_t offered(struct test_driver *d)
{
    set_reg(d, R_FEATURES_SEL, 1);
    uint64_t high = reg(d, R_FEATURES);
    set_reg(d, R_FEATURES_SEL, 0);
    return high << 32 | reg(d, R_FEATURES);
}

static inline void accept(struct test_driver *d, uint64_t features)
{
    set_reg(d, R_ACCEPT_SEL, 0);
    set_reg(d, R_ACCEPT, (uint32_t)features);
    set_reg(d, R_ACCEPT_SEL, 1);
    set_reg(d, R_ACCEPT, (uint32_t)(features >> 32));
    d->features = features;
}

/* Reset, and accept `features`: 3.1.1, up to step 6. */
static inline void negotiate(struct test_driver *d, uint64_t features)
{
    set_reg(d, R_STATUS, 0);
    set_reg(d, R_STATUS, S_ACK);
    set_reg(d, R_STATUS, S_ACK | S_DRIVER);
    accept(d, features);
    set_reg(d, R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK);
    CHECK(reg(d, R_STATUS) & S_FEATURES_OK, "features refused");
}

static inline void set_up_queue(struct test_driver *d, unsigned index, unsigned size)
{
    struct test_queue *q = &d->queue[index];
    static const uint8_t zeros[6 + 8 * VIRTIO_QUEUE_MAX];

    *q = (struct test_queue){.size = size, .free_count = size};
    q->desc = allocate(d, 16 * size, 16);
    q->avail = allocate(d, 6 + 2 * size, 2);
    q->used = allocate(d, 6 + 8 * size, 4);
    guest_write(d, q->avail, zeros, 6 + 2 * size);
    guest_write(d, q->used, zeros, 6 + 8 * size);
    for (unsigned i = 0; i < size; i++)
        q->free[i] = (uint16_t)i;
    set_reg(d, R_QUEUE_SEL, index);
    set_reg(d, R_QUEUE_NUM, size);
    set_reg64(d, R_DESC, q->desc);
    set_reg64(d, R_AVAIL, q->avail);
    set_reg64(d, R_USED, q->used);
    set_reg(d, R_QUEUE_READY, 1);
    CHECK(reg(d, R_QUEUE_READY) == 1, "queue %u refused", index);
}

static inline void driver_ok(struct test_driver *d)
{
    set_reg(d, R_STATUS, S_ACK | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
}

/* All of it, with all queues of `size` entries. */
static inline void set_up(struct test_driver *d, uint64_t features, unsigned size)
{
    negotiate(d, features | F_VERSION_1);
    for (unsigned i = 0; i < d->device->ops->queues; i++)
        set_up_queue(d, i, size);
    driver_ok(d);
}

/* --- requests --------------------------------------------------------------------------------- */

static inline void put_descriptor(struct test_driver *d, uint64_t table, unsigned index,
                                  uint64_t at, uint32_t len, unsigned flags, unsigned next)
{
    struct {
        uint64_t at;
        uint32_t len;
        uint16_t flags, next;
    } descriptor = {at, len, (uint16_t)flags, (uint16_t)next};

    guest_write(d, table + 16 * index, &descriptor, sizeof(descriptor));
}

/* A free descriptor, any. */
static inline uint16_t take_descriptor(struct test_driver *d, struct test_queue *q)
{
    unsigned at = (unsigned)test_below(d, q->free_count);
    uint16_t index = q->free[at];

    q->free[at] = q->free[--q->free_count];
    return index;
}

/* Make the chain that starts with descriptor `head` available. */
static inline void make_available(struct test_driver *d, unsigned queue, uint16_t head)
{
    struct test_queue *q = &d->queue[queue];

    guest_put16(d, q->avail + 4 + 2 * (q->added % q->size), head);
    q->added++;
    guest_put16(d, q->avail + 2, q->added);
}

static inline unsigned segment_flags(unsigned i, unsigned readable, unsigned count)
{
    return (i >= readable ? D_WRITE : 0u) | (i + 1 < count ? D_NEXT : 0u);
}

/* Add a request of `count` segments, the first `readable` of them for the device to read. With
 * `indirect` they are in a table of their own. Returns its head. */
static inline uint16_t add_request(struct test_driver *d, unsigned queue,
                                   const struct test_segment *segment, unsigned readable,
                                   unsigned count, bool indirect)
{
    struct test_queue *q = &d->queue[queue];
    uint16_t head = take_descriptor(d, q);
    uint16_t index = head;

    q->length_of[head] = indirect ? 1 : count;
    if (indirect) {
        uint64_t table = allocate(d, 16 * count, test_below(d, 2) ? 16 : 1);
        for (unsigned i = 0; i < count; i++)
            put_descriptor(d, table, i, segment[i].at, segment[i].len,
                           segment_flags(i, readable, count), i + 1);
        put_descriptor(d, q->desc, head, table, 16 * count, D_INDIRECT, 0);
    }
    for (unsigned i = 0; i < count && !indirect; i++) {
        uint16_t next = i + 1 < count ? take_descriptor(d, q) : 0;
        put_descriptor(d, q->desc, index, segment[i].at, segment[i].len,
                       segment_flags(i, readable, count), next);
        q->next_of[index] = next;
        index = next;
    }
    make_available(d, queue, head);
    return head;
}

/* The next used entry: its head and length; false if there is none. Its descriptors are free. */
static inline bool take_used(struct test_driver *d, unsigned queue, uint16_t *head, uint32_t *len)
{
    struct test_queue *q = &d->queue[queue];
    uint32_t entry[2];

    if (guest_get16(d, q->used + 2) == q->seen)
        return false;
    guest_read(d, q->used + 4 + 8 * (q->seen % q->size), entry, sizeof(entry));
    q->seen++;
    *head = (uint16_t)entry[0];
    *len = entry[1];
    CHECK(entry[0] < q->size && q->length_of[entry[0]] > 0, "head %u is in flight", entry[0]);
    uint16_t index = *head;
    for (unsigned left = q->length_of[*head]; left > 0; left--) {
        q->free[q->free_count++] = index;
        index = q->next_of[index];
    }
    q->length_of[*head] = 0;
    return true;
}

static inline void notify(struct test_driver *d, unsigned queue)
{
    set_reg(d, R_NOTIFY, queue);
}

/* Divide [at, at + len) into at most `max` segments behind segment[*count]. */
static inline void divide(struct test_driver *d, struct test_segment *segment, unsigned *count,
                          uint64_t at, uint32_t len, unsigned max)
{
    while (len > 0) {
        uint32_t piece = max > 1 ? 1 + (uint32_t)test_below(d, len) : len;
        segment[(*count)++] = (struct test_segment){at, piece};
        at += piece;
        len -= piece;
        max--;
    }
}

#endif
