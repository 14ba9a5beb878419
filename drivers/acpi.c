/* SPDX-License-Identifier: BSD-2-Clause */
/* See acpi.h. Section numbers are ACPI 6.4's. */
#include "drivers/acpi.h"

#include <stddef.h>
#include <string.h>

#define SIGNATURE_BYTES 4
#define TABLE_MAX       (1u << 24) /* longer ones are taken for broken */
#define TABLES_MAX      256u

/* 5.2.5.3 */
struct rsdp {
    char signature[8];
    uint8_t checksum;
    char oem[6];
    uint8_t revision;
    uint32_t rsdt;
    /* revision 2: */
    uint32_t length;
    uint64_t xsdt;
    uint8_t extended_checksum;
    uint8_t reserved[3];
} __attribute__((packed));
#define RSDP_V1_BYTES 20u

/* 5.2.6 */
struct header {
    char signature[SIGNATURE_BYTES];
    uint32_t length;
    uint8_t revision, checksum;
    char oem[6], oem_table[8];
    uint32_t oem_revision, creator, creator_revision;
} __attribute__((packed));
_Static_assert(sizeof(struct header) == 36, "ACPI 5.2.6");

#define GAS_DWORD 3u /* an access size, 5.2.3.2 */

/* 5.2.9: offsets, since a FADT may be of any length */
enum {
    FADT_DSDT = 40,
    FADT_PM1A_CONTROL = 64,
    FADT_PM1B_CONTROL = 68,
    FADT_PM_TIMER = 76,
    FADT_FLAGS = 112,
    FADT_RESET = 116,
    FADT_RESET_VALUE = 128,
    FADT_X_DSDT = 140,
    FADT_X_PM1A_CONTROL = 172,
    FADT_X_PM1B_CONTROL = 184,
    FADT_X_PM_TIMER = 208,
};
#define FADT_FLAG_TIMER_32 (1u << 8)
#define FADT_FLAG_RESET    (1u << 10)

/* 5.2.12 */
enum { MADT_LOCAL_APIC = 36, MADT_ENTRIES = 44 };
enum { MADT_TYPE_APIC = 0, MADT_TYPE_IO_APIC = 1, MADT_TYPE_OVERRIDE = 5, MADT_TYPE_X2APIC = 9 };
#define MADT_ENABLED (1u << 0)

/* "Intel Virtualization Technology for Directed I/O", chapter 8 */
enum { DMAR_ENTRIES = 48, DMAR_ENTRY_HEADER = 4 };
enum { DMAR_TYPE_UNIT = 0, DMAR_TYPE_RESERVED = 1 };
enum { UNIT_SEGMENT = 6, UNIT_REGISTERS = 8, UNIT_BYTES = 16 };
enum { RESERVED_SEGMENT = 6, RESERVED_BASE = 8, RESERVED_LIMIT = 16, RESERVED_SCOPES = 24 };
enum { SCOPE_TYPE = 0, SCOPE_LENGTH = 1, SCOPE_BUS = 5, SCOPE_PATH = 6 };
enum { SCOPE_ENDPOINT = 1, SCOPE_BRIDGE = 2 };
#define DMA_PAGE 0xfffull

/* Microsoft's SPCR specification */
enum { SPCR_TYPE = 36, SPCR_ADDRESS = 40 };
#define SPCR_16550_FULL   0u
#define SPCR_16550_SUBSET 1u
#define SPCR_16550_GAS    18u

struct reader {
    acpi_map *map;
    void *context;
};

/* A checked table: `length` bytes can be read at `bytes`. */
struct table {
    const uint8_t *bytes; /* NULL: none */
    uint32_t length;
};

static bool sum_is_zero(const void *bytes, uint64_t length)
{
    uint8_t sum = 0;

    for (uint64_t i = 0; i < length; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)bytes)[i]);
    return sum == 0;
}

/* A field of `bytes` bytes, little end first; 0 when the table is too short for it. */
static uint64_t field(const struct table *t, uint64_t offset, unsigned bytes)
{
    uint64_t value = 0;

    if (offset > t->length || bytes > t->length - offset)
        return 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)t->bytes[offset + i] << 8 * i;
    return value;
}

static struct table read_table(const struct reader *r, uint64_t at)
{
    const struct header *header = at ? r->map(r->context, at, sizeof(*header)) : NULL;

    if (!header)
        return (struct table){0};
    uint32_t length = header->length;
    if (length < sizeof(*header) || length > TABLE_MAX)
        return (struct table){0};
    const uint8_t *bytes = r->map(r->context, at, length);
    if (!bytes || !sum_is_zero(bytes, length))
        return (struct table){0};
    return (struct table){bytes, length};
}

static bool is_table(const struct table *t, const char *signature)
{
    return t->bytes && memcmp(t->bytes, signature, SIGNATURE_BYTES) == 0;
}

/* --- \_S5 ------------------------------------------------------------------------------------- */

enum {
    AML_ZERO = 0x00,
    AML_ONE = 0x01,
    AML_NAME = 0x08,
    AML_BYTE = 0x0a,
    AML_WORD = 0x0b,
    AML_DWORD = 0x0c,
    AML_PACKAGE = 0x12,
    AML_ROOT = '\\',
};

/* A small integer constant of AML at *at (20.2.3); moves *at behind it. */
static bool aml_integer(const struct table *t, uint64_t *at, uint8_t *value)
{
    static const uint8_t bytes_of[] = {[AML_BYTE] = 1, [AML_WORD] = 2, [AML_DWORD] = 4};
    uint8_t op = (uint8_t)field(t, *at, 1);

    if (*at >= t->length)
        return false;
    (*at)++;
    if (op == AML_ZERO || op == AML_ONE) {
        *value = op;
        return true;
    }
    if (op < AML_BYTE || op > AML_DWORD || *at + bytes_of[op] > t->length)
        return false;
    *value = (uint8_t)field(t, *at, 1);
    *at += bytes_of[op];
    return true;
}

/* Name (_S5, Package (n) {a, b, ...}) with its first byte, NameOp, at `at`? */
static bool parse_s5(const struct table *t, uint64_t at, struct acpi_info *info)
{
    at++;
    if (field(t, at, 1) == AML_ROOT)
        at++;
    at += SIGNATURE_BYTES;
    if (field(t, at, 1) != AML_PACKAGE)
        return false;
    at++;
    at += 1 +
          (field(t, at, 1) >> 6); /* PkgLength: the lead byte's top bits count the others, 20.2.4 */
    uint64_t elements = field(t, at, 1);
    at++;
    return elements >= 2 && aml_integer(t, &at, &info->s5_type_a) &&
           aml_integer(t, &at, &info->s5_type_b);
}

/*
 * The object is found by its bytes, without an interpreter: a NameOp, "_S5_", and a package of
 * constants. Firmware declares it so, in the DSDT or, rarely, in an SSDT.
 */
static void find_s5(const struct table *aml, struct acpi_info *info)
{
    for (uint64_t i = sizeof(struct header); i + SIGNATURE_BYTES <= aml->length; i++) {
        if (memcmp(aml->bytes + i, "_S5_", SIGNATURE_BYTES) != 0)
            continue;
        uint64_t before = aml->bytes[i - 1] == AML_ROOT ? i - 2 : i - 1;
        if (before >= sizeof(struct header) && aml->bytes[before] == AML_NAME &&
            parse_s5(aml, before, info)) {
            info->has_s5 = true;
            return;
        }
    }
}

/* --- the tables ------------------------------------------------------------------------------- */

static struct acpi_gas read_gas(const struct table *t, uint64_t offset)
{
    return (struct acpi_gas){
        .space = (uint8_t)field(t, offset, 1),
        .bit_width = (uint8_t)field(t, offset + 1, 1),
        .access_size = (uint8_t)field(t, offset + 3, 1),
        .address = field(t, offset + 4, 8),
    };
}

/* A register block's I/O port: by the 64-bit field if it is set, else by the old one; 0 if none. */
static uint16_t read_port(const struct table *t, uint64_t offset, uint64_t x_offset)
{
    struct acpi_gas x = read_gas(t, x_offset);
    uint64_t port = x.address != 0 && x.space == ACPI_SPACE_IO ? x.address : field(t, offset, 4);

    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static void read_fadt(const struct reader *r, const struct table *t, struct acpi_info *info)
{
    uint32_t flags = (uint32_t)field(t, FADT_FLAGS, 4);
    uint64_t dsdt_at = field(t, FADT_X_DSDT, 8);

    info->has_fadt = true;
    info->pm1a_control = read_port(t, FADT_PM1A_CONTROL, FADT_X_PM1A_CONTROL);
    info->pm1b_control = read_port(t, FADT_PM1B_CONTROL, FADT_X_PM1B_CONTROL);
    info->pm_timer = read_port(t, FADT_PM_TIMER, FADT_X_PM_TIMER);
    info->pm_timer_32bit = (flags & FADT_FLAG_TIMER_32) != 0;
    info->reset = read_gas(t, FADT_RESET);
    info->reset_value = (uint8_t)field(t, FADT_RESET_VALUE, 1);
    info->has_reset = (flags & FADT_FLAG_RESET) && info->reset.address != 0;

    struct table dsdt = read_table(r, dsdt_at ? dsdt_at : field(t, FADT_DSDT, 4));
    if (is_table(&dsdt, "DSDT"))
        find_s5(&dsdt, info);
}

static void read_spcr(const struct table *t, struct acpi_info *info)
{
    uint8_t type = (uint8_t)field(t, SPCR_TYPE, 1);
    struct acpi_gas gas = read_gas(t, SPCR_ADDRESS);

    if ((type != SPCR_16550_FULL && type != SPCR_16550_SUBSET && type != SPCR_16550_GAS) ||
        gas.address == 0 || gas.space > ACPI_SPACE_IO ||
        (gas.space == ACPI_SPACE_IO && gas.address > UINT16_MAX))
        return;
    bool memory = gas.space == ACPI_SPACE_MEMORY;
    info->has_uart = true;
    info->uart = (struct uart_config){
        .memory_mapped = memory,
        .base = gas.address,
        .stride = memory && (gas.bit_width == 32 || gas.access_size == GAS_DWORD) ? 4 : 1,
        .width = memory && gas.access_size == GAS_DWORD ? 4 : 1,
    };
}

static void add_processor(struct acpi_info *info, uint32_t apic_id, uint32_t flags)
{
    if (!(flags & MADT_ENABLED))
        return;
    if (info->processor_count < ACPI_PROCESSORS_MAX)
        info->processor[info->processor_count] = apic_id;
    info->processor_count++;
}

static void read_madt(const struct table *t, struct acpi_info *info)
{
    info->local_apic = field(t, MADT_LOCAL_APIC, 4);
    for (uint64_t at = MADT_ENTRIES; at + 2 <= t->length;) {
        uint8_t type = (uint8_t)field(t, at, 1);
        uint8_t length = (uint8_t)field(t, at + 1, 1);
        if (length < 2 || length > t->length - at)
            return;
        if (type == MADT_TYPE_APIC && length >= 8)
            add_processor(info, (uint32_t)field(t, at + 3, 1), (uint32_t)field(t, at + 4, 4));
        else if (type == MADT_TYPE_X2APIC && length >= 16)
            add_processor(info, (uint32_t)field(t, at + 4, 4), (uint32_t)field(t, at + 8, 4));
        else if (type == MADT_TYPE_OVERRIDE && length >= 12)
            info->local_apic = field(t, at + 4, 8);
        else if (type == MADT_TYPE_IO_APIC && length >= 12 &&
                 info->io_apic_count < ACPI_IO_APICS_MAX)
            info->io_apic[info->io_apic_count++] = field(t, at + 4, 4);
        at += length;
    }
}

static void read_unit(const struct table *t, uint64_t at, struct acpi_info *info)
{
    uint64_t registers = field(t, at + UNIT_REGISTERS, 8);

    if (registers == 0 || registers & DMA_PAGE)
        return;
    if (info->dma_unit_count < ACPI_DMA_UNITS_MAX)
        info->dma_unit[info->dma_unit_count] =
            (struct acpi_dma_unit){(uint16_t)field(t, at + UNIT_SEGMENT, 2), registers};
    info->dma_unit_count++;
}

/* One device of a reserved region; `region` has the rest. */
static void add_reserved(const struct table *t, uint64_t at, uint64_t length,
                         struct acpi_reserved region, struct acpi_info *info)
{
    uint64_t path = (length - SCOPE_PATH) / 2;

    if (path == 0 || path > ACPI_PATH_MAX)
        return;
    region.bus = (uint8_t)field(t, at + SCOPE_BUS, 1);
    region.path_length = (uint8_t)path;
    for (uint64_t i = 0; i < path; i++) {
        region.path[i].device = (uint8_t)field(t, at + SCOPE_PATH + 2 * i, 1) & 0x1f;
        region.path[i].function = (uint8_t)field(t, at + SCOPE_PATH + 2 * i + 1, 1) & 0x7;
    }
    if (info->reserved_count < ACPI_RESERVED_MAX)
        info->reserved[info->reserved_count] = region;
    info->reserved_count++;
}

static void read_reserved(const struct table *t, uint64_t at, uint64_t length,
                          struct acpi_info *info)
{
    uint64_t end = at + length;
    struct acpi_reserved region = {
        .base = field(t, at + RESERVED_BASE, 8),
        .limit = field(t, at + RESERVED_LIMIT, 8),
        .segment = (uint16_t)field(t, at + RESERVED_SEGMENT, 2),
    };

    if (region.base & DMA_PAGE || (region.limit & DMA_PAGE) != DMA_PAGE ||
        region.limit < region.base)
        return;
    for (at += RESERVED_SCOPES; at + SCOPE_PATH <= end;) {
        uint8_t type = (uint8_t)field(t, at + SCOPE_TYPE, 1);
        uint8_t bytes = (uint8_t)field(t, at + SCOPE_LENGTH, 1);
        if (bytes < SCOPE_PATH || bytes > end - at)
            return;
        if (type == SCOPE_ENDPOINT || type == SCOPE_BRIDGE)
            add_reserved(t, at, bytes, region, info);
        at += bytes;
    }
}

static void read_dmar(const struct table *t, struct acpi_info *info)
{
    info->has_dmar = true;
    for (uint64_t at = DMAR_ENTRIES; at + DMAR_ENTRY_HEADER <= t->length;) {
        uint16_t type = (uint16_t)field(t, at, 2);
        uint16_t length = (uint16_t)field(t, at + 2, 2);
        if (length < DMAR_ENTRY_HEADER || length > t->length - at)
            return;
        if (type == DMAR_TYPE_UNIT && length >= UNIT_BYTES)
            read_unit(t, at, info);
        else if (type == DMAR_TYPE_RESERVED && length >= RESERVED_SCOPES)
            read_reserved(t, at, length, info);
        at += length;
    }
}

static void read_one(const struct reader *r, uint64_t at, struct acpi_info *info)
{
    struct table t = read_table(r, at);

    if (is_table(&t, "FACP") && !info->has_fadt)
        read_fadt(r, &t, info);
    else if (is_table(&t, "SSDT") && !info->has_s5)
        find_s5(&t, info);
    else if (is_table(&t, "SPCR") && !info->has_uart)
        read_spcr(&t, info);
    else if (is_table(&t, "APIC") && info->local_apic == 0)
        read_madt(&t, info);
    else if (is_table(&t, "DMAR") && !info->has_dmar)
        read_dmar(&t, info);
}

/* The root table: the XSDT if it is good, else the RSDT; *entry_bytes: the size of its pointers. */
static struct table read_root(const struct reader *r, uint64_t at, unsigned *entry_bytes)
{
    const struct rsdp *found = at ? r->map(r->context, at, RSDP_V1_BYTES) : NULL;
    struct rsdp rsdp = {0};

    if (!found || memcmp(found->signature, "RSD PTR ", sizeof(found->signature)) != 0 ||
        !sum_is_zero(found, RSDP_V1_BYTES))
        return (struct table){0};
    memcpy(&rsdp, found, RSDP_V1_BYTES);
    if (rsdp.revision >= 2)
        found = r->map(r->context, at, sizeof(rsdp));
    if (rsdp.revision >= 2 && found && sum_is_zero(found, sizeof(rsdp)))
        memcpy(&rsdp, found, sizeof(rsdp));

    struct table root = read_table(r, rsdp.xsdt);
    *entry_bytes = 8;
    if (is_table(&root, "XSDT"))
        return root;
    root = read_table(r, rsdp.rsdt);
    *entry_bytes = 4;
    return is_table(&root, "RSDT") ? root : (struct table){0};
}

void acpi_read(struct acpi_info *info, uint64_t rsdp, acpi_map *map, void *context)
{
    struct reader r = {map, context};
    unsigned entry_bytes;

    memset(info, 0, sizeof(*info));
    struct table root = read_root(&r, rsdp, &entry_bytes);
    if (!root.bytes)
        return;
    info->valid = true;
    uint64_t count = (root.length - sizeof(struct header)) / entry_bytes;
    for (uint64_t i = 0; i < count && i < TABLES_MAX; i++)
        read_one(&r, field(&root, sizeof(struct header) + i * entry_bytes, entry_bytes), info);
}
