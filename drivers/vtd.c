/* SPDX-License-Identifier: BSD-2-Clause */
/* See vtd.h; section numbers are vtd_unit.h's. */
#include "drivers/vtd.h"

#include "drivers/pci.h"
#include "drivers/vtd_unit.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/memory.h"
#include "hv/ptab.h"

/* Root and context entries, 9.1 and 9.3; second-level entries, 9.8 */
#define ENTRY_PRESENT  1ull
#define AW_LEVELS_3    1ull
#define AW_LEVELS_4    2ull
#define CONTEXT_DOMAIN 8
#define SECOND_READ    1ull
#define SECOND_WRITE   2ull

#define REPORT_FRACTION 2u
#define FAULT_LINES     16u
#define DEVICES_MAX     ACPI_RESERVED_MAX
#define LEVELS          4u
#define LEVEL_3_SPAN    (1ull << 39)
#define FIRST_DOMAIN    1u

static struct unit units[ACPI_DMA_UNITS_MAX];
static unsigned unit_count;

/* What may be accessed: a tree for each device that may at all. */
static struct device {
    uint16_t segment;
    uint8_t bus, function;
    struct ptab tree;
} devices[DEVICES_MAX];
static unsigned device_count;

static uint64_t blocked, last_look;
static unsigned lines;

/* --- the tables ------------------------------------------------------------------------------- */

static const struct ptab_format second_level = {.present = SECOND_READ | SECOND_WRITE,
                                                .table = SECOND_READ | SECOND_WRITE};

static struct root_entry *context_of(const struct unit *u, const struct device *d)
{
    struct root_entry *bus = &u->root[d->bus];

    if (!(bus->low & ENTRY_PRESENT)) {
        hpa_t table = host_page_alloc();
        if (hpa_is_none(table))
            return NULL;
        bus->low = table.v | ENTRY_PRESENT;
    }
    struct root_entry *context = host_ptr(hpa(bus->low & PTAB_ADDRESS_MASK));
    return &context[d->function];
}

/* Where a unit walks three levels only, it begins at the table for the first 512 GiB. */
static bool enter_device(const struct unit *u, const struct device *d, unsigned domain)
{
    bool levels_4 = (u->capability & CAP_LEVELS_4) != 0;
    const uint64_t *top = host_ptr(d->tree.root);
    struct root_entry *context = context_of(u, d);

    if (!context || domain >= CAP_DOMAINS(u->capability) ||
        (!levels_4 && !(u->capability & CAP_LEVELS_3)))
        return false;
    context->high = (levels_4 ? AW_LEVELS_4 : AW_LEVELS_3) | (uint64_t)domain << CONTEXT_DOMAIN;
    context->low = (levels_4 ? d->tree.root.v : top[0] & PTAB_ADDRESS_MASK) | ENTRY_PRESENT;
    return true;
}

static struct device *find_device(uint16_t segment, uint8_t bus, uint8_t function)
{
    for (unsigned i = 0; i < device_count; i++) {
        struct device *d = &devices[i];
        if (d->segment == segment && d->bus == bus && d->function == function)
            return d;
    }
    if (device_count == DEVICES_MAX)
        return NULL;
    struct device *d = &devices[device_count];
    *d = (struct device){.segment = segment, .bus = bus, .function = function};
    if (!ptab_init(&d->tree, &second_level, &host_ptab_memory, LEVELS, 1))
        return NULL;
    device_count++;
    return d;
}

/* Where it lies, one to one. The units do not know yet: flush. */
static bool allow(uint16_t segment, uint8_t bus, uint8_t function, uint64_t base, uint64_t bytes)
{
    struct device *d = find_device(segment, bus, function);
    bool entered = false;

    if (!d || base + bytes > LEVEL_3_SPAN ||
        !ptab_map(&d->tree, base, bytes, hpa(base), SECOND_READ | SECOND_WRITE))
        return false;
    for (unsigned i = 0; i < unit_count; i++) {
        if (units[i].segment == segment)
            entered |= enter_device(&units[i], d, (unsigned)(d - devices) + FIRST_DOMAIN);
    }
    return entered;
}

/* --- on and off ------------------------------------------------------------------------------- */

/* Whatever the unit has cached of the tables; and, where it does not snoop, the processors' caches,
 * so that it finds them in memory. */
static bool flush(const struct unit *u)
{
    uint64_t iotlb = EXTENDED_IOTLB(u->extended) + IOTLB_INVALIDATE;
    uint64_t drain = (u->capability & CAP_READ_DRAIN ? IOTLB_DRAIN_READS : 0) |
                     (u->capability & CAP_WRITE_DRAIN ? IOTLB_DRAIN_WRITES : 0);

    if (!(u->extended & EXTENDED_COHERENT))
        __asm__ volatile("wbinvd" : : : "memory");
    if (u->capability & CAP_WRITE_BUFFER) {
        unit_write_command(u, COMMAND_WRITE_BUFFER, true);
        if (!unit_wait_status(u, COMMAND_WRITE_BUFFER, false))
            return false;
    }
    unit_write64(u, REG_CONTEXT, CONTEXT_INVALIDATE);
    if (!unit_wait_clear(u, REG_CONTEXT, CONTEXT_BUSY))
        return false;
    unit_write64(u, iotlb, IOTLB_ALL | drain);
    return unit_wait_clear(u, iotlb, IOTLB_BUSY);
}

/* A firmware that has it on already may have a queue for invalidations, whose registers are then
 * out of use (6.5.2), and tables in another mode, which may not change while it is on (11.4.5). */
static bool turn_on(struct unit *u)
{
    if (!unit_command(u, COMMAND_ENABLE, false) || !unit_command(u, COMMAND_QUEUE, false))
        return false;
    unit_write32(u, REG_FAULT_CONTROL, FAULT_CONTROL_MASK);
    unit_write64(u, REG_ROOT, host_hpa(u->root).v);
    return unit_command(u, COMMAND_ROOT, true) && flush(u) && unit_command(u, COMMAND_ENABLE, true);
}

void vtd_enable(void)
{
    for (unsigned i = 0; i < unit_count; i++) {
        struct unit *u = &units[i];
        if (!u->on && !(u->on = turn_on(u)))
            log_line("dma: the unit at 0x%llx does not do what it is told; its devices are free",
                     (unsigned long long)u->at);
        u->interrupts_off = u->on && vtd_interrupts_block(u);
    }
}

void vtd_disable(void)
{
    for (unsigned i = 0; i < unit_count; i++) {
        if (units[i].interrupts_off)
            units[i].interrupts_off = !unit_command(&units[i], COMMAND_INTERRUPTS, false);
        if (units[i].on)
            units[i].on = !unit_command(&units[i], COMMAND_ENABLE, false);
    }
}

bool vtd_allow(uint8_t bus, uint8_t function, uint64_t base, uint64_t bytes)
{
    bool done = allow(0, bus, function, base, bytes);

    for (unsigned i = 0; i < unit_count; i++)
        done &= !units[i].on || flush(&units[i]);
    return done;
}

/* --- what was blocked ------------------------------------------------------------------------- */

static void tell(const struct unit *u, uint64_t low, uint64_t high)
{
    unsigned source = FAULT_SOURCE(high), reason = FAULT_REASON(high);
    bool interrupt = reason >= FAULT_INTERRUPTS && reason < FAULT_INTERRUPTS_END;

    if (lines++ < FAULT_LINES)
        log_line("dma: blocked: device %04x:%02x:%02x.%u, %s 0x%llx, reason %u", u->segment,
                 source >> 8, PCI_DEVICE(source & 0xff), PCI_FUNCTION(source & 0xff),
                 interrupt                  ? "interrupt"
                 : high & FAULT_RECORD_READ ? "read of"
                                            : "write to",
                 interrupt ? FAULT_INDEX(low) : (unsigned long long)(low & ~(PAGE_SIZE - 1)),
                 reason);
    else if (lines == FAULT_LINES + 1)
        log_line("dma: what else is blocked goes without a line");
}

/* Each of its records once: a device that never stops does not hold the processor here. */
static void look_at(const struct unit *u)
{
    uint64_t at = CAP_FAULTS_AT(u->capability);

    if (!(unit_read32(u, REG_FAULT_STATUS) & (FAULT_PENDING | FAULT_OVERFLOW)))
        return;
    for (uint64_t i = 0; i < CAP_FAULTS(u->capability); i++, at += FAULT_RECORD_BYTES) {
        uint64_t high = unit_read64(u, at + 8);
        if (!(high & FAULT_RECORD_F))
            continue;
        blocked++;
        tell(u, unit_read64(u, at), high);
        unit_write32(u, at + 12, (uint32_t)(FAULT_RECORD_F >> 32)); /* writing 1 clears */
    }
    unit_write32(u, REG_FAULT_STATUS, FAULT_OVERFLOW);
}

uint64_t vtd_report_now(void)
{
    last_look = time_now();
    for (unsigned i = 0; i < unit_count; i++) {
        if (units[i].on)
            look_at(&units[i]);
    }
    return blocked;
}

uint64_t vtd_report(void)
{
    if (unit_count == 0 || time_now() - last_look < time_hz() / REPORT_FRACTION)
        return blocked;
    return vtd_report_now();
}

/* --- the start -------------------------------------------------------------------------------- */

/* Over the bridges of the way; false if one of them is none. */
static bool find_bus(const struct acpi_reserved *r, uint8_t *bus, uint8_t *function)
{
    *bus = r->bus;
    for (unsigned i = 0; i < r->path_length; i++) {
        *function = PCI_MAKE(r->path[i].device, r->path[i].function);
        if (i + 1u == r->path_length)
            return true;
        if (r->segment != 0 || (pci_read8(*bus, *function, PCI_HEADER_TYPE) &
                                PCI_HEADER_TYPE_MASK) != PCI_HEADER_TYPE_BRIDGE)
            return false;
        *bus = pci_read8(*bus, *function, PCI_SECONDARY_BUS);
    }
    return false;
}

static void allow_reserved(const struct acpi_reserved *r, bool (*is_free)(uint64_t, uint64_t))
{
    uint64_t bytes = r->limit - r->base + 1;
    uint8_t bus = 0, function = 0;
    bool ours = is_free(r->base, bytes);

    if (!ours && find_bus(r, &bus, &function) && allow(r->segment, bus, function, r->base, bytes)) {
        log_line("dma: device %04x:%02x:%02x.%u keeps 0x%llx to 0x%llx, which is the firmware's",
                 r->segment, bus, PCI_DEVICE(function), PCI_FUNCTION(function),
                 (unsigned long long)r->base, (unsigned long long)r->limit);
        return;
    }
    log_line("dma: 0x%llx to 0x%llx is reserved for a device that does not get it: %s",
             (unsigned long long)r->base, (unsigned long long)r->limit,
             ours ? "it is not the firmware's" : "no device or unit can be told so");
}

static bool add_unit(const struct acpi_dma_unit *given)
{
    struct unit *u = &units[unit_count];

    *u = (struct unit){.at = given->registers, .segment = given->segment};
    u->registers = host_map_device(hpa(u->at), REGISTER_BYTES);
    if (unit_read32(u, REG_VERSION) == ~0u || unit_read32(u, REG_VERSION) == 0)
        return false;
    u->capability = unit_read64(u, REG_CAPABILITY);
    u->extended = unit_read64(u, REG_EXTENDED);
    uint64_t faults_end =
        CAP_FAULTS_AT(u->capability) + CAP_FAULTS(u->capability) * FAULT_RECORD_BYTES;
    uint64_t iotlb_end = EXTENDED_IOTLB(u->extended) + 2 * IOTLB_INVALIDATE;
    if (max_u64(faults_end, iotlb_end) > REGISTER_BYTES)
        u->registers = host_map_device(hpa(u->at), max_u64(faults_end, iotlb_end));
    u->root = host_pages_alloc(1);
    if (!u->root)
        return false;
    if (vtd_interrupts_can(u)) {
        u->interrupts = host_pages_alloc(1);
        u->queue = host_pages_alloc(1);
    }
    unit_count++;
    return true;
}

bool vtd_init(const struct acpi_info *acpi, bool (*is_free)(uint64_t, uint64_t))
{
    uint32_t wanted = acpi->dma_unit_count;
    unsigned on = 0, interrupts_off = 0;

    for (uint32_t i = 0; i < wanted && i < ACPI_DMA_UNITS_MAX; i++) {
        if (!add_unit(&acpi->dma_unit[i]))
            log_line("dma: the unit at 0x%llx cannot be used",
                     (unsigned long long)acpi->dma_unit[i].registers);
    }
    for (uint32_t i = 0; i < acpi->reserved_count && i < ACPI_RESERVED_MAX && unit_count > 0; i++)
        allow_reserved(&acpi->reserved[i], is_free);
    vtd_enable();
    for (unsigned i = 0; i < unit_count; i++) {
        on += units[i].on;
        interrupts_off += units[i].interrupts_off;
    }
    if (wanted == 0) {
        log_line("dma: the firmware shows no remapping unit; devices can write to all memory");
        return false;
    }
    log_line("dma: %u of %u remapping units on; devices reach no memory but the firmware's", on,
             wanted);
    log_line("dma: %u of %u keep interrupts of devices from the processors", interrupts_off,
             wanted);
    return on > 0;
}
