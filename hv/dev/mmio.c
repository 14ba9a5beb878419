/* SPDX-License-Identifier: BSD-2-Clause */
/* See mmio.h. */
#include "hv/dev/mmio.h"

static uint64_t read_ioapic(struct vm_devices *devices, uint64_t offset, unsigned bytes)
{
    return interrupts_read_ioapic(&devices->interrupts, (unsigned)offset, bytes);
}

static void write_ioapic(struct vm_devices *devices, uint64_t offset, unsigned bytes,
                         uint64_t value)
{
    interrupts_write_ioapic(&devices->interrupts, (unsigned)offset, bytes, value);
}

/* [first, first + size) is one device's, at the same place for all processors. */
struct mmio_range {
    uint64_t first, size;
    uint64_t (*read)(struct vm_devices *, uint64_t offset, unsigned bytes);
    void (*write)(struct vm_devices *, uint64_t offset, unsigned bytes, uint64_t value);
};

/* The range is that of all places, and some of them may be empty. */
static uint64_t read_virtio(struct vm_devices *devices, uint64_t offset, unsigned bytes)
{
    struct virtio *v = devices_virtio(devices, (unsigned)offset / VIRTIO_MMIO_STRIDE);
    unsigned at = (unsigned)offset % VIRTIO_MMIO_STRIDE;

    if (!v)
        return ~0ull;
    if (bytes <= sizeof(uint32_t))
        return virtio_read(v, at, bytes);
    uint64_t low = virtio_read(v, at, sizeof(uint32_t));
    return low | (uint64_t)virtio_read(v, at + sizeof(uint32_t), sizeof(uint32_t)) << 32;
}

static void write_virtio(struct vm_devices *devices, uint64_t offset, unsigned bytes,
                         uint64_t value)
{
    struct virtio *v = devices_virtio(devices, (unsigned)offset / VIRTIO_MMIO_STRIDE);
    unsigned at = (unsigned)offset % VIRTIO_MMIO_STRIDE;

    if (!v)
        return;
    virtio_write(v, at, bytes < sizeof(uint32_t) ? bytes : sizeof(uint32_t), (uint32_t)value);
    if (bytes > sizeof(uint32_t))
        virtio_write(v, at + sizeof(uint32_t), sizeof(uint32_t), (uint32_t)(value >> 32));
    if (virtio_has_work(v)) /* more than one access may do: processor 0 goes on with it */
        devices->host->notify(devices->host->context, 0);
}

static const struct mmio_range mmio_ranges[] = {
    {VIRTIO_MMIO_BASE, VIRTIO_DEVICES_MAX *VIRTIO_MMIO_STRIDE, read_virtio, write_virtio},
    {IOAPIC_BASE, IOAPIC_SIZE, read_ioapic, write_ioapic},
};

static const struct mmio_range *range_of(gpa_t at, unsigned bytes)
{
    for (size_t i = 0; i < ARRAY_SIZE(mmio_ranges); i++) {
        const struct mmio_range *range = &mmio_ranges[i];
        if (at.v >= range->first && at.v - range->first <= range->size - bytes)
            return range;
    }
    return NULL;
}

/* Each processor finds its own local APIC first, wherever that is. */
bool mmio_read(struct vm_devices *devices, unsigned cpu, gpa_t at, unsigned bytes, uint64_t *value)
{
    if (interrupts_read_lapic(&devices->interrupts, cpu, at, bytes, value))
        return true;

    const struct mmio_range *range = range_of(at, bytes);
    if (!range)
        return false;
    *value = range->read(devices, at.v - range->first, bytes);
    return true;
}

bool mmio_write(struct vm_devices *devices, unsigned cpu, gpa_t at, unsigned bytes, uint64_t value)
{
    if (interrupts_write_lapic(&devices->interrupts, cpu, at, bytes, value))
        return true;

    const struct mmio_range *range = range_of(at, bytes);
    if (!range)
        return false;
    range->write(devices, at.v - range->first, bytes, value);
    return true;
}
