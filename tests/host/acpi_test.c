/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI tables of a machine that the test builds, whole and broken. */
#include "drivers/acpi.h"

#include <stdlib.h>
#include <string.h>

#include "tests/host/test.h"

#define MEMORY 0x10000u

enum {
    RSDP = 0x100,
    XSDT = 0x200,
    FADT = 0x400,
    DSDT = 0x800,
    MADT = 0xa00,
    SPCR = 0xc00,
    RSDT = 0xe00,
    SSDT = 0x1000,
    DMAR = 0x1200,
    LARGE_MADT = 0x2000,
};

static uint8_t memory[MEMORY];
static uint32_t lengths[MEMORY]; /* of the table that starts there */

/* A copy of its own for each access, so that the sanitizer sees a read beyond what was asked for.
 */
#define COPIES_MAX 64
static void *copies[COPIES_MAX];
static unsigned copy_count;

static const void *map(void *context, uint64_t at, uint64_t len)
{
    (void)context;
    if (at >= MEMORY || len > MEMORY - at || copy_count == COPIES_MAX)
        return NULL;
    copies[copy_count] = malloc(len);
    memcpy(copies[copy_count], memory + at, len);
    return copies[copy_count++];
}

static void put(uint32_t at, uint64_t value, unsigned bytes)
{
    memcpy(memory + at, &value, bytes);
}

static void sum(uint32_t at, uint32_t length, uint32_t checksum_at)
{
    uint8_t total = 0;

    memory[checksum_at] = 0;
    for (uint32_t i = 0; i < length; i++)
        total = (uint8_t)(total + memory[at + i]);
    memory[checksum_at] = (uint8_t)-total;
}

static void table(uint32_t at, const char *signature, uint32_t length)
{
    memcpy(memory + at, signature, 4);
    put(at + 4, length, 4);
    lengths[at] = length;
}

static void finish(uint32_t at)
{
    sum(at, lengths[at], at + 9);
}

/* Name (\_S5_, Package (4) {5, 6, 0, 0}) among other bytes */
static const uint8_t aml[] = {0x5b, 0x80, '_',  'S',  '5',  '_',  0x01, 0x08, '\\', '_',  'S',
                              '5',  '_',  0x12, 0x08, 0x04, 0x0a, 0x05, 0x0a, 0x06, 0x00, 0x00};

/* Two units; a region for a device behind a bridge and another one, and for an I/O APIC, which is
 * none. */
static void build_dmar(void)
{
    static const uint8_t scopes[] = {1, 10, 0,    0,    0, 5, 0x1c, 2, 0x00, 1, 3, 8,    0,
                                     0, 1,  0xf0, 0x1f, 0, 2, 8,    0, 0,    0, 0, 0x14, 0};

    table(DMAR, "DMAR", 48 + 16 + 24 + 24 + sizeof(scopes));
    put(DMAR + 48, 0 | 16 << 16, 4);
    put(DMAR + 56, 0xfed90000, 8);
    put(DMAR + 64, 0 | 24 << 16 | 1ull << 32, 8); /* INCLUDE_PCI_ALL, with a scope */
    put(DMAR + 70, 3, 2);
    put(DMAR + 72, 0xfed91000, 8);
    memcpy(memory + DMAR + 80, (uint8_t[]){3, 8, 0, 0, 1, 0xf0, 0x1f, 0}, 8);
    put(DMAR + 88, 1 | (24 + sizeof(scopes)) << 16, 4);
    put(DMAR + 96, 0x7b800000, 8);
    put(DMAR + 104, 0x7fffffff, 8);
    memcpy(memory + DMAR + 112, scopes, sizeof(scopes));
}

static void build(void)
{
    memset(memory, 0, sizeof(memory));
    memset(lengths, 0, sizeof(lengths));
    memcpy(memory + RSDP, "RSD PTR ", 8);
    put(RSDP + 15, 2, 1);
    put(RSDP + 16, RSDT, 4);
    put(RSDP + 20, 36, 4);
    put(RSDP + 24, XSDT, 8);
    sum(RSDP, 20, RSDP + 8);
    sum(RSDP, 36, RSDP + 32);

    table(XSDT, "XSDT", 36 + 4 * 8);
    put(XSDT + 60, DMAR, 8);
    put(XSDT + 36, FADT, 8);
    put(XSDT + 44, MADT, 8);
    put(XSDT + 52, SPCR, 8);
    table(RSDT, "RSDT", 36 + 4);
    put(RSDT + 36, FADT, 4);

    table(FADT, "FACP", 244);
    put(FADT + 40, DSDT, 4);
    put(FADT + 64, 0x604, 4);
    put(FADT + 76, 0x608, 4);
    put(FADT + 112, 1u << 10 | 1u << 8, 4);
    put(FADT + 116, 1, 1);
    put(FADT + 120, 0xcf9, 8);
    put(FADT + 128, 6, 1);
    table(DSDT, "DSDT", 36 + sizeof(aml));
    memcpy(memory + DSDT + 36, aml, sizeof(aml));

    table(MADT, "APIC", 44 + 8 + 8 + 16 + 12);
    put(MADT + 36, 0xfee00000, 4);
    memcpy(memory + MADT + 44, (uint8_t[]){0, 8, 0, 7, 1, 0, 0, 0}, 8);
    memcpy(memory + MADT + 52, (uint8_t[]){0, 8, 1, 9, 0, 0, 0, 0}, 8); /* not enabled */
    memcpy(memory + MADT + 60, (uint8_t[]){9, 16, 0, 0, 0x34, 0x12, 0, 0, 1}, 9);
    memcpy(memory + MADT + 76, (uint8_t[]){1, 12, 0, 0, 0, 0, 0xc0, 0xfe}, 8);

    table(SPCR, "SPCR", 80);
    put(SPCR + 36, 0, 1);
    put(SPCR + 40, 1, 1);
    put(SPCR + 44, 0x2f8, 8);
    build_dmar();
    for (uint32_t at = 0; at < MEMORY; at++) {
        if (lengths[at])
            finish(at);
    }
}

static struct acpi_info info;

static void read_at(uint64_t rsdp)
{
    acpi_read(&info, rsdp, map, NULL);
    while (copy_count > 0)
        free(copies[--copy_count]);
}

static void read_tables(void)
{
    read_at(RSDP);
}

static void good_tables_are_read(void)
{
    build();
    read_tables();
    CHECK(info.valid && info.has_fadt, "root");
    CHECK(info.pm1a_control == 0x604 && info.pm1b_control == 0 && info.pm_timer == 0x608 &&
              info.pm_timer_32bit,
          "FADT");
    CHECK(info.has_reset && info.reset.space == ACPI_SPACE_IO && info.reset.address == 0xcf9 &&
              info.reset_value == 6,
          "reset");
    CHECK(info.has_s5 && info.s5_type_a == 5 && info.s5_type_b == 6, "_S5");
    CHECK(info.processor_count == 2 && info.processor[0] == 7 && info.processor[1] == 0x1234,
          "processors");
    CHECK(info.local_apic == 0xfee00000 && info.io_apic_count == 1 && info.io_apic[0] == 0xfec00000,
          "APICs");
    CHECK(info.has_uart && !info.uart.memory_mapped && info.uart.base == 0x2f8, "SPCR");
}

static void the_rsdt_does_where_the_xsdt_is_broken(void)
{
    build();
    put(RSDP + 24, 0, 8);
    sum(RSDP, 36, RSDP + 32);
    read_tables();
    CHECK(info.valid && info.has_fadt && !info.has_uart, "no XSDT");
    build();
    memory[XSDT + 20]++;
    read_tables();
    CHECK(info.valid && info.has_fadt && !info.has_uart, "an XSDT with a wrong sum");
    build();
    memory[RSDP + 33]++;
    read_tables();
    CHECK(info.valid && info.has_fadt && !info.has_uart, "a wrong extended sum");
    build();
    put(RSDP + 15, 0, 1);
    sum(RSDP, 20, RSDP + 8);
    read_tables();
    CHECK(info.valid && info.has_fadt && !info.has_uart, "revision 0 has no XSDT");
}

/* The 64-bit fields of the FADT count where they are set (5.2.9). */
static void extended_addresses_count(void)
{
    build();
    put(FADT + 172, 1, 1);
    put(FADT + 176, 0x1804, 8);
    put(FADT + 208, 1, 1);
    put(FADT + 212, 0x1808, 8);
    finish(FADT);
    read_tables();
    CHECK(info.pm1a_control == 0x1804 && info.pm_timer == 0x1808, "I/O");
    build();
    put(FADT + 172, 0, 1);
    put(FADT + 176, 0xfed00000, 8);
    finish(FADT);
    read_tables();
    CHECK(info.pm1a_control == 0x604, "in memory: not used");
    build();
    put(FADT + 64, 0x10604, 4);
    finish(FADT);
    read_tables();
    CHECK(info.pm1a_control == 0, "no port has that number");
}

static void a_uart_in_memory_is_described(void)
{
    build();
    memcpy(memory + SPCR + 40, (uint8_t[]){0, 32, 0, 3}, 4);
    put(SPCR + 44, 0xfe034000, 8);
    finish(SPCR);
    read_tables();
    CHECK(info.has_uart && info.uart.memory_mapped && info.uart.base == 0xfe034000 &&
              info.uart.stride == 4 && info.uart.width == 4,
          "dwords");
    memcpy(memory + SPCR + 40, (uint8_t[]){0, 8, 0, 1}, 4);
    finish(SPCR);
    read_tables();
    CHECK(info.uart.memory_mapped && info.uart.stride == 1 && info.uart.width == 1, "bytes");
    put(SPCR + 36, 3, 1); /* an ARM PL011 */
    finish(SPCR);
    read_tables();
    CHECK(!info.has_uart, "not a 16550");
}

static void s5_is_found_in_an_ssdt(void)
{
    build();
    memset(memory + DSDT + 36, 0, sizeof(aml));
    finish(DSDT);
    table(SSDT, "SSDT", 36 + sizeof(aml));
    memcpy(memory + SSDT + 36, aml, sizeof(aml));
    finish(SSDT);
    read_tables();
    CHECK(!info.has_s5, "nowhere yet");
    put(XSDT + 52, SSDT, 8);
    finish(XSDT);
    read_tables();
    CHECK(info.has_s5 && info.s5_type_a == 5 && info.s5_type_b == 6, "_S5");
}

static void dma_remapping_is_read(void)
{
    build();
    read_tables();
    CHECK(info.has_dmar && info.dma_unit_count == 2, "%u units", info.dma_unit_count);
    CHECK(info.dma_unit[0].registers == 0xfed90000 && info.dma_unit[0].segment == 0, "the first");
    CHECK(info.dma_unit[1].registers == 0xfed91000 && info.dma_unit[1].segment == 3, "the second");
    CHECK(info.reserved_count == 2, "%u devices with reserved memory", info.reserved_count);
    const struct acpi_reserved *r = info.reserved;
    CHECK(r[0].base == 0x7b800000 && r[0].limit == 0x7fffffff && r[0].bus == 5, "region");
    CHECK(r[0].path_length == 2 && r[0].path[0].device == 0x1c && r[0].path[0].function == 2 &&
              r[0].path[1].device == 0 && r[0].path[1].function == 1,
          "the way over a bridge");
    CHECK(r[1].path_length == 1 && r[1].bus == 0 && r[1].path[0].device == 0x14, "the second one");
}

static void broken_dma_tables_are_left_out(void)
{
    static const struct {
        uint32_t at;
        uint64_t value;
        unsigned bytes;
        uint32_t units, reserved;
        const char *what;
    } changes[] = {
        {DMAR + 50, 0, 2, 0, 0, "a structure of no length"},
        {DMAR + 50, 0xffff, 2, 0, 0, "a structure beyond the table"},
        {DMAR + 50, 8, 2, 0, 0, "a unit that is cut, and what is read from its middle on"},
        {DMAR + 56, 0, 8, 1, 2, "a unit at 0"},
        {DMAR + 56, 0xfed90010, 8, 1, 2, "a unit on no page"},
        {DMAR + 96, 0x7b800010, 8, 2, 0, "a region that begins on no page"},
        {DMAR + 104, 0x7ffff000, 8, 2, 0, "a region that ends on none"},
        {DMAR + 104, 0xfff, 8, 2, 0, "a region that ends before it begins"},
        {DMAR + 113, 0, 1, 2, 0, "a scope of no length"},
        {DMAR + 113, 6, 1, 2, 0, "a scope without a way"},
        {DMAR + 123, 200, 1, 2, 1, "a scope beyond its structure"},
    };

    for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        build();
        put(changes[i].at, changes[i].value, changes[i].bytes);
        finish(DMAR);
        read_tables();
        CHECK(info.dma_unit_count == changes[i].units && info.reserved_count == changes[i].reserved,
              "%s: %u units, %u reserved", changes[i].what, info.dma_unit_count,
              info.reserved_count);
    }
}

static void more_processors_than_there_is_room_for_are_counted(void)
{
    const uint32_t count = ACPI_PROCESSORS_MAX + 88;

    build();
    table(LARGE_MADT, "APIC", 44 + 16 * count);
    put(LARGE_MADT + 36, 0xfee00000, 4);
    for (uint32_t i = 0; i < count; i++) {
        put(LARGE_MADT + 44 + 16 * i, 9 | 16 << 8, 4);
        put(LARGE_MADT + 48 + 16 * i, i, 4);
        put(LARGE_MADT + 52 + 16 * i, 1, 4);
    }
    finish(LARGE_MADT);
    put(XSDT + 44, LARGE_MADT, 8);
    finish(XSDT);
    read_tables();
    CHECK(info.processor_count == count, "%u processors", info.processor_count);
    CHECK(info.processor[ACPI_PROCESSORS_MAX - 1] == ACPI_PROCESSORS_MAX - 1, "the last one kept");
    CHECK(info.local_apic == 0xfee00000 && info.io_apic_count == 0, "what lies behind the array");
}

static void broken_tables_are_left_out(void)
{
    build();
    memory[FADT + 70]++;
    read_tables();
    CHECK(info.valid && !info.has_fadt && info.has_uart, "a FADT with a wrong sum");
    build();
    put(MADT + 4, 0xffffff, 4);
    read_tables();
    CHECK(info.valid && info.processor_count == 0, "a MADT beyond memory");
    build();
    memory[MADT + 45] = 0;
    finish(MADT);
    read_tables();
    CHECK(info.processor_count == 0, "an entry of no length");
    build();
    memory[RSDP]++;
    read_tables();
    CHECK(!info.valid, "no RSDP");
    read_at(0);
    CHECK(!info.valid, "no address");
    build();
    put(XSDT + 36, XSDT, 8); /* a cycle */
    finish(XSDT);
    read_tables();
    CHECK(info.valid && info.has_uart, "a table that names itself");
}

/* Random changes with the sums made right again: nothing outside memory is read (sanitizers). */
static void mutated_tables_are_safe(void)
{
    uint64_t random = 9;
    unsigned valid = 0;

    for (unsigned n = 0; n < 20000; n++) {
        static const uint32_t tables[] = {XSDT, FADT, DSDT, MADT, SPCR, DMAR};
        build();
        for (unsigned flips = 0; flips < 3; flips++) {
            uint32_t at = tables[test_random(&random) % 6];
            memory[at + test_random(&random) % lengths[at]] = (uint8_t)test_random(&random);
            finish(at);
        }
        read_tables();
        valid += info.valid;
    }
    CHECK(valid > 1000, "%u valid", valid);
}

int main(void)
{
    RUN(good_tables_are_read);
    RUN(the_rsdt_does_where_the_xsdt_is_broken);
    RUN(extended_addresses_count);
    RUN(a_uart_in_memory_is_described);
    RUN(s5_is_found_in_an_ssdt);
    RUN(more_processors_than_there_is_room_for_are_counted);
    RUN(dma_remapping_is_read);
    RUN(broken_dma_tables_are_left_out);
    RUN(broken_tables_are_left_out);
    RUN(mutated_tables_are_safe);
    return test_status();
}
