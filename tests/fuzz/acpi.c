/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI tables as hostile firmware would give them: the input is the machine's memory from address
 * 0 on, behind two bytes that say where the RSDP is and whether checksums are put right on the way.
 * Every piece of memory that the reader asks for is a heap block of its own of that size. What it
 * found must be within the limits that drivers/acpi.h promises, the processors are those of the
 * MADT that was read, counted here a second time, and the work is bounded.
 */
#include "drivers/acpi.h"

#include <string.h>

#include "tests/fuzz/fuzz.h"

#define MEMORY_MAX 0x10000u
#define MAPS_MAX                                                                                   \
    1100u /* the RSDP twice, a root table of each width, and 256 tables and their DSDT */
#define MADT_HEADER 44u

struct memory {
    const uint8_t *bytes;
    size_t size;
    bool put_right;
    struct {
        uint8_t *bytes;
        uint64_t len;
    } block[MAPS_MAX];
    unsigned blocks;
};

static void forget(struct memory *m)
{
    while (m->blocks > 0)
        free(m->block[--m->blocks].bytes);
}

static void put_right(uint8_t *bytes, uint64_t len, unsigned checksum_at)
{
    uint8_t sum = 0;

    for (uint64_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + bytes[i]);
    bytes[checksum_at] = (uint8_t)(bytes[checksum_at] - sum);
}

static const void *map(void *context, uint64_t at, uint64_t len)
{
    struct memory *m = context;

    MUST(m->blocks < MAPS_MAX, "the number of look-ups is bounded");
    if (len == 0 || at >= m->size || len > m->size - at)
        return NULL;
    uint8_t *block = malloc(len);
    if (!block)
        abort();
    memcpy(block, m->bytes + at, len);
    bool root = len >= 20 && memcmp(block, "RSD PTR ", 8) == 0;
    if (m->put_right && root)
        put_right(block, 20, 8);
    if (m->put_right && root && len == 36)
        put_right(block, 36, 32);
    if (m->put_right && !root && len >= 36) {
        uint32_t length;
        memcpy(&length, block + 4, sizeof(length));
        if (length == len)
            put_right(block, len, 9);
    }
    m->block[m->blocks].bytes = block;
    m->block[m->blocks++].len = len;
    return block;
}

static uint32_t dword(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

/* A MADT's enabled processors, ACPI 5.2.12.2 and 5.2.12.12. */
static uint32_t count_processors(const uint8_t *madt, uint64_t len,
                                 uint32_t id[ACPI_PROCESSORS_MAX])
{
    uint32_t count = 0;

    for (uint64_t at = MADT_HEADER; at + 2 <= len && madt[at + 1] >= 2 && madt[at + 1] <= len - at;
         at += madt[at + 1]) {
        bool local = madt[at] == 0 && madt[at + 1] >= 8, x2 = madt[at] == 9 && madt[at + 1] >= 16;
        if (!(local || x2) || !(dword(madt + at + (local ? 4 : 8)) & 1))
            continue;
        if (count < ACPI_PROCESSORS_MAX)
            id[count] = local ? madt[at + 3] : dword(madt + at + 4);
        count++;
    }
    return count;
}

/* Whether a mapped block is a whole MADT with a right checksum. */
static bool is_madt(const uint8_t *block, uint64_t len)
{
    uint8_t sum = 0;

    if (len < 36 || dword(block + 4) != len || memcmp(block, "APIC", 4) != 0)
        return false;
    for (uint64_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + block[i]);
    return sum == 0;
}

/* No processor is made up: each is an enabled one of a MADT that was read. */
static void check_processors(const struct memory *m, const struct acpi_info *info)
{
    static uint32_t id[ACPI_PROCESSORS_MAX];
    static bool known[ACPI_PROCESSORS_MAX];
    uint32_t listed = info->processor_count;
    uint64_t total = 0;

    if (listed > ACPI_PROCESSORS_MAX)
        listed = ACPI_PROCESSORS_MAX;
    memset(known, 0, sizeof(known));
    for (unsigned i = 0; i < m->blocks; i++) {
        if (!is_madt(m->block[i].bytes, m->block[i].len))
            continue;
        uint32_t count = count_processors(m->block[i].bytes, m->block[i].len, id);
        total += count;
        for (uint32_t n = 0; n < listed; n++) {
            for (uint32_t k = 0; k < count && k < ACPI_PROCESSORS_MAX; k++)
                known[n] |= id[k] == info->processor[n];
        }
    }
    MUST(info->processor_count <= total, "%u processors of %llu", info->processor_count,
         (unsigned long long)total);
    for (uint32_t n = 0; n < listed; n++)
        MUST(known[n], "processor %u, APIC id 0x%x", n, info->processor[n]);
}

static void check_limits(const struct acpi_info *info)
{
    static const struct acpi_info nothing;

    if (!info->valid)
        MUST(memcmp(info, &nothing, sizeof(nothing)) == 0, "without a root there is nothing");
    MUST(info->io_apic_count <= ACPI_IO_APICS_MAX, "%u I/O APICs", info->io_apic_count);
    MUST(!info->has_reset || (info->has_fadt && info->reset.address != 0), "the reset register");
    MUST(info->has_dmar || (info->dma_unit_count == 0 && info->reserved_count == 0), "DMAR");
    for (uint32_t i = 0; i < info->dma_unit_count && i < ACPI_DMA_UNITS_MAX; i++)
        MUST(info->dma_unit[i].registers && info->dma_unit[i].registers % 4096 == 0, "unit %u", i);
    for (uint32_t i = 0; i < info->reserved_count && i < ACPI_RESERVED_MAX; i++) {
        const struct acpi_reserved *r = &info->reserved[i];
        MUST(r->base % 4096 == 0 && r->limit % 4096 == 4095 && r->base < r->limit, "region %u", i);
        MUST(r->path_length >= 1 && r->path_length <= ACPI_PATH_MAX, "the way to device %u", i);
    }
    if (!info->has_uart)
        return;
    const struct uart_config *uart = &info->uart;
    MUST(uart->base != 0 && (uart->memory_mapped || uart->base <= UINT16_MAX), "the UART's place");
    MUST((uart->stride == 1 || uart->stride == 4) && (uart->width == 1 || uart->width == 4) &&
             uart->width <= uart->stride,
         "the UART's registers");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct acpi_info info, again;

    if (size < 2 || size > MEMORY_MAX)
        return 0;
    struct memory m = {.bytes = data + 2, .size = size - 2, .put_right = (data[0] & 1) != 0};
    uint64_t rsdp = (uint64_t)(data[0] >> 1) << 8 | data[1];

    memset(&info, 0x5a, sizeof(info));
    acpi_read(&info, rsdp, map, &m);
    check_limits(&info);
    check_processors(&m, &info);
    forget(&m);
    memset(&again, 0xa5, sizeof(again));
    acpi_read(&again, rsdp, map, &m);
    forget(&m);
    MUST(memcmp(&info, &again, sizeof(info)) == 0, "the same tables are read the same way");
    return 0;
}
