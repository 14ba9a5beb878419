/* SPDX-License-Identifier: BSD-2-Clause */
/* See vtd.h. Section numbers are those of "Intel Virtualization Technology for Directed I/O", 4.1.
 */
#include "drivers/vtd.h"

#include "drivers/pci.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/memory.h"
#include "hv/ptab.h"

/* Registers, 11.4 */
enum {
    REG_VERSION = 0x00,
    REG_CAPABILITY = 0x08,
    REG_EXTENDED = 0x10,
    REG_COMMAND = 0x18,
    REG_STATUS = 0x1c,
    REG_ROOT = 0x20,
    REG_CONTEXT = 0x28,
    REG_FAULT_STATUS = 0x34,
    REG_FAULT_CONTROL = 0x38,
};
#define REGISTER_BYTES PAGE_SIZE /* those above; others may lie behind */

/* Of the command and status registers, 11.4.4 */
#define COMMAND_ENABLE       (1u << 31)
#define COMMAND_ROOT         (1u << 30)
#define COMMAND_WRITE_BUFFER (1u << 27)
#define COMMAND_QUEUE        (1u << 26)
#define COMMAND_ONE_SHOT     0x69000000u /* SRTP, SFL, WBF, SIRTP: acts, and is no state */

#define CAP_DOMAINS(c)     (1u << (4 + 2 * ((c)&7)))
#define CAP_WRITE_BUFFER   (1ull << 4)
#define CAP_LEVELS_3       (1ull << 9)
#define CAP_LEVELS_4       (1ull << 10)
#define CAP_FAULTS_AT(c)   (((c) >> 24 & 0x3ff) * 16)
#define CAP_FAULTS(c)      (((c) >> 40 & 0xff) + 1)
#define CAP_WRITE_DRAIN    (1ull << 54)
#define CAP_READ_DRAIN     (1ull << 55)
#define EXTENDED_COHERENT  (1ull << 0)
#define EXTENDED_IOTLB(e)  (((e) >> 8 & 0x3ff) * 16)
#define IOTLB_INVALIDATE   8u /* register behind the invalidate-address register */
#define CONTEXT_INVALIDATE (1ull << 63 | 1ull << 61) /* all */
#define CONTEXT_BUSY       (1ull << 63)
#define IOTLB_ALL          (1ull << 63 | 1ull << 60)
#define IOTLB_BUSY         (1ull << 63)
#define IOTLB_DRAIN_READS  (1ull << 49)
#define IOTLB_DRAIN_WRITES (1ull << 48)
#define FAULT_OVERFLOW     (1u << 0)
#define FAULT_PENDING      (1u << 1)
#define FAULT_CONTROL_MASK (1u << 31)
#define FAULT_RECORD_BYTES 16u
#define FAULT_RECORD_F     (1ull << 63) /* of the upper half, 11.4.9.10 */
#define FAULT_RECORD_READ  (1ull << 62)
#define FAULT_REASON(high) ((unsigned)((high) >> 32 & 0xff))
#define FAULT_SOURCE(high) ((unsigned)(high)&0xffff)

/* Root and context entries, 9.1 and 9.3; second-level entries, 9.8 */
#define ENTRY_PRESENT  1ull
#define AW_LEVELS_3    1ull
#define AW_LEVELS_4    2ull
#define CONTEXT_DOMAIN 8
#define SECOND_READ    1ull
#define SECOND_WRITE   2ull

#define WAIT_FRACTION   10u /* of a second, for what a unit takes microseconds for */
#define REPORT_FRACTION 2u
#define FAULT_LINES     16u
#define DEVICES_MAX     ACPI_RESERVED_MAX
#define LEVELS          4u
#define LEVEL_3_SPAN    (1ull << 39)
#define FIRST_DOMAIN    1u

struct root_entry {
    uint64_t low, high;
};

static struct unit {
    uint64_t at; /* physical */
    volatile uint8_t *registers;
    uint64_t capability, extended;
    struct root_entry *root; /* one page: an entry for each bus */
    uint16_t segment;
    bool on;
} units[ACPI_DMA_UNITS_MAX];
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

/* --- registers -------------------------------------------------------------------------------- */

static uint32_t read32(const struct unit *u, uint64_t at)
{
    return *(volatile uint32_t *)(uintptr_t)(u->registers + at);
}

static uint64_t read64(const struct unit *u, uint64_t at)
{
    return *(volatile uint64_t *)(uintptr_t)(u->registers + at);
}

static void write32(const struct unit *u, uint64_t at, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)(u->registers + at) = value;
}

static void write64(const struct unit *u, uint64_t at, uint64_t value)
{
    *(volatile uint64_t *)(uintptr_t)(u->registers + at) = value;
}

/* Wait until `bits` of a 64-bit register are 0. */
static bool wait_clear(const struct unit *u, uint64_t at, uint64_t bits)
{
    uint64_t start = time_now();

    while (read64(u, at) & bits) {
        if (time_now() - start > time_hz() / WAIT_FRACTION)
            return false;
        processor_relax();
    }
    return true;
}

static void write_command(const struct unit *u, uint32_t bit, bool set)
{
    uint32_t state = read32(u, REG_STATUS) & ~COMMAND_ONE_SHOT;

    write32(u, REG_COMMAND, set ? state | bit : state & ~bit);
}

static bool wait_status(const struct unit *u, uint32_t bit, bool set)
{
    uint64_t start = time_now();

    while (((read32(u, REG_STATUS) & bit) != 0) != set) {
        if (time_now() - start > time_hz() / WAIT_FRACTION)
            return false;
        processor_relax();
    }
    return true;
}

/* Set or clear one bit of the command, and wait for the status to follow, 11.4.4.1. */
static bool command(const struct unit *u, uint32_t bit, bool set)
{
    write_command(u, bit, set);
    return wait_status(u, bit, set);
}

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
        write_command(u, COMMAND_WRITE_BUFFER, true);
        if (!wait_status(u, COMMAND_WRITE_BUFFER, false))
            return false;
    }
    write64(u, REG_CONTEXT, CONTEXT_INVALIDATE);
    if (!wait_clear(u, REG_CONTEXT, CONTEXT_BUSY))
        return false;
    write64(u, iotlb, IOTLB_ALL | drain);
    return wait_clear(u, iotlb, IOTLB_BUSY);
}

/* A firmware that has it on already may have a queue for invalidations, whose registers are then
 * out of use (6.5.2), and tables in another mode, which may not change while it is on (11.4.5). */
static bool turn_on(struct unit *u)
{
    if (!command(u, COMMAND_ENABLE, false) || !command(u, COMMAND_QUEUE, false))
        return false;
    write32(u, REG_FAULT_CONTROL, FAULT_CONTROL_MASK);
    write64(u, REG_ROOT, host_hpa(u->root).v);
    return command(u, COMMAND_ROOT, true) && flush(u) && command(u, COMMAND_ENABLE, true);
}

void vtd_enable(void)
{
    for (unsigned i = 0; i < unit_count; i++) {
        struct unit *u = &units[i];
        if (!u->on && !(u->on = turn_on(u)))
            log_line("dma: the unit at 0x%llx does not do what it is told; its devices are free",
                     (unsigned long long)u->at);
    }
}

void vtd_disable(void)
{
    for (unsigned i = 0; i < unit_count; i++) {
        if (units[i].on)
            units[i].on = !command(&units[i], COMMAND_ENABLE, false);
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

static void tell(const struct unit *u, uint64_t address, uint64_t high)
{
    unsigned source = FAULT_SOURCE(high);

    if (lines++ < FAULT_LINES)
        log_line("dma: blocked: device %04x:%02x:%02x.%u, %s 0x%llx, reason %u", u->segment,
                 source >> 8, PCI_DEVICE(source & 0xff), PCI_FUNCTION(source & 0xff),
                 high & FAULT_RECORD_READ ? "read of" : "write to",
                 (unsigned long long)(address & ~(PAGE_SIZE - 1)), FAULT_REASON(high));
    else if (lines == FAULT_LINES + 1)
        log_line("dma: what else is blocked goes without a line");
}

/* Each of its records once: a device that never stops does not hold the processor here. */
static void look_at(const struct unit *u)
{
    uint64_t at = CAP_FAULTS_AT(u->capability);

    if (!(read32(u, REG_FAULT_STATUS) & (FAULT_PENDING | FAULT_OVERFLOW)))
        return;
    for (uint64_t i = 0; i < CAP_FAULTS(u->capability); i++, at += FAULT_RECORD_BYTES) {
        uint64_t high = read64(u, at + 8);
        if (!(high & FAULT_RECORD_F))
            continue;
        blocked++;
        tell(u, read64(u, at), high);
        write32(u, at + 12, (uint32_t)(FAULT_RECORD_F >> 32)); /* writing 1 clears */
    }
    write32(u, REG_FAULT_STATUS, FAULT_OVERFLOW);
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
    if (read32(u, REG_VERSION) == ~0u || read32(u, REG_VERSION) == 0)
        return false;
    u->capability = read64(u, REG_CAPABILITY);
    u->extended = read64(u, REG_EXTENDED);
    uint64_t faults_end =
        CAP_FAULTS_AT(u->capability) + CAP_FAULTS(u->capability) * FAULT_RECORD_BYTES;
    uint64_t iotlb_end = EXTENDED_IOTLB(u->extended) + 2 * IOTLB_INVALIDATE;
    if (max_u64(faults_end, iotlb_end) > REGISTER_BYTES)
        u->registers = host_map_device(hpa(u->at), max_u64(faults_end, iotlb_end));
    u->root = host_pages_alloc(1);
    if (!u->root)
        return false;
    unit_count++;
    return true;
}

bool vtd_init(const struct acpi_info *acpi, bool (*is_free)(uint64_t, uint64_t))
{
    uint32_t wanted = acpi->dma_unit_count;
    unsigned on = 0;

    for (uint32_t i = 0; i < wanted && i < ACPI_DMA_UNITS_MAX; i++) {
        if (!add_unit(&acpi->dma_unit[i]))
            log_line("dma: the unit at 0x%llx cannot be used",
                     (unsigned long long)acpi->dma_unit[i].registers);
    }
    for (uint32_t i = 0; i < acpi->reserved_count && i < ACPI_RESERVED_MAX && unit_count > 0; i++)
        allow_reserved(&acpi->reserved[i], is_free);
    vtd_enable();
    for (unsigned i = 0; i < unit_count; i++)
        on += units[i].on;
    if (wanted == 0)
        log_line("dma: the firmware shows no remapping unit; devices can write to all memory");
    else
        log_line("dma: %u of %u remapping units on; devices reach no memory but the firmware's", on,
                 wanted);
    return on > 0;
}
