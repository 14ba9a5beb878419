/* SPDX-License-Identifier: BSD-2-Clause */
/* See acpi32.h. */
#include "guest-tests/multiboot/acpi32.h"

#define BIOS_START  0xe0000u
#define BIOS_END    0x100000u
#define RSDP_LENGTH 20u /* of ACPI 1.0, under the first checksum */
#define RSDP_RSDT   16u
#define TABLE_MAX   (1u << 20)

static uint32_t field_at(uint32_t at)
{
    uint32_t value;

    memcpy(&value, (const void *)(uintptr_t)at, sizeof(value));
    return value;
}

static bool sums_up(uint32_t at, uint32_t length)
{
    const uint8_t *bytes = (const uint8_t *)(uintptr_t)at;
    uint8_t sum = 0;

    for (uint32_t i = 0; i < length; i++)
        sum = (uint8_t)(sum + bytes[i]);
    return sum == 0;
}

static bool is_signature(const char *at, const char *signature, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (at[i] != signature[i])
            return false;
    }
    return true;
}

static uint32_t find_rsdt(void)
{
    for (uint32_t at = BIOS_START; at < BIOS_END; at += 16) {
        if (is_signature((const char *)(uintptr_t)at, "RSD PTR ", 8) && sums_up(at, RSDP_LENGTH))
            return field_at(at + RSDP_RSDT);
    }
    return 0;
}

static const struct acpi_table *table_at(uint32_t at, const char *signature)
{
    const struct acpi_table *table = (const struct acpi_table *)(uintptr_t)at;

    if (!at || !is_signature(table->signature, signature, 4))
        return NULL;
    if (table->length < sizeof(*table) || table->length > TABLE_MAX || !sums_up(at, table->length))
        return NULL;
    return table;
}

const struct acpi_table *acpi_find(const char *signature)
{
    uint32_t rsdt_at = find_rsdt();
    const struct acpi_table *rsdt = table_at(rsdt_at, "RSDT");

    if (!rsdt)
        return NULL;
    for (uint32_t i = sizeof(*rsdt); i + 4 <= rsdt->length; i += 4) {
        const struct acpi_table *table = table_at(field_at(rsdt_at + i), signature);
        if (table)
            return table;
    }
    return NULL;
}

const struct acpi_table *acpi_dsdt(const struct acpi_table *fadt)
{
    return table_at(acpi_field(fadt, FADT_DSDT), "DSDT");
}

uint32_t acpi_field(const struct acpi_table *table, uint32_t offset)
{
    return offset + 4 <= table->length ? field_at((uint32_t)(uintptr_t)table + offset) : 0;
}

const struct madt_entry *madt_next(const struct acpi_table *madt, const struct madt_entry *entry)
{
    uint32_t start = (uint32_t)(uintptr_t)madt, end_at = start + madt->length;
    uint32_t at = entry ? (uint32_t)(uintptr_t)entry + entry->length : start + MADT_FIRST;
    const struct madt_entry *next = (const struct madt_entry *)(uintptr_t)at;

    return at + 2 <= end_at && next->length >= 2 && at + next->length <= end_at ? next : NULL;
}

uint32_t madt_gsi(const struct acpi_table *madt, uint8_t irq)
{
    for (const struct madt_entry *e = madt_next(madt, NULL); e; e = madt_next(madt, e)) {
        if (e->type == MADT_OVERRIDE && e->data[1] == irq)
            return field_at((uint32_t)(uintptr_t)&e->data[2]);
    }
    return irq;
}
