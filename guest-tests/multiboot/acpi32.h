/* SPDX-License-Identifier: BSD-2-Clause */
/* ACPI tables as a kernel without UEFI finds them (ACPI 6.4, 5.2.5.1). */
#ifndef GUEST_ACPI32_H
#define GUEST_ACPI32_H

#include "guest-tests/multiboot/lib32.h"

struct acpi_table {
    char signature[4];
    uint32_t length;
    uint8_t revision, checksum;
    char oem[6], oem_table[8];
    uint32_t oem_revision, creator, creator_revision;
} __attribute__((packed));

/* What the guests use of the FADT (5.2.9): offsets. */
#define FADT_DSDT        40u
#define FADT_SMI_CMD     48u
#define FADT_ACPI_ENABLE 52u
#define FADT_PM1A_CNT    64u
#define FADT_PM_TMR      76u
#define FADT_FLAGS       112u

#define FADT_TIMER_32_BITS (1u << 8)

#define PM1_SCI_EN  (1u << 0)
#define PM1_SLP_TYP 10u
#define PM1_SLP_EN  (1u << 13)

/* The table named so in the RSDT, its checksum proven; NULL: no RSDP in 0xe0000 to 0xfffff, no such
 * table, or a wrong checksum. */
const struct acpi_table *acpi_find(const char *signature);
/* The same for the DSDT, to which the FADT points. */
const struct acpi_table *acpi_dsdt(const struct acpi_table *fadt);
/* The 32-bit field at `offset`, 0 beyond the table's end. */
uint32_t acpi_field(const struct acpi_table *table, uint32_t offset);

/* One of the MADT's interrupt controller structures (5.2.12). */
struct madt_entry {
    uint8_t type, length;
    uint8_t data[];
};

#define MADT_LOCAL_APIC 0u
#define MADT_IO_APIC    1u
#define MADT_OVERRIDE   2u
#define MADT_FIRST      44u
#define MADT_ENABLED    1u

/* The entry after `entry`, the first one for NULL; NULL at the end. */
const struct madt_entry *madt_next(const struct acpi_table *madt, const struct madt_entry *entry);
/* The global system interrupt of an ISA interrupt: its own number unless an override says so. */
uint32_t madt_gsi(const struct acpi_table *madt, uint8_t irq);

#endif
