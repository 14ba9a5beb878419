/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI tables (ACPI specification 6.4, chapter 5), as far as Twofold needs them. The tables are the
 * firmware's and not trusted: every length is checked before what it covers is read. Portable, so
 * that tests feed it tables of their own.
 */
#ifndef DRIVERS_ACPI_H
#define DRIVERS_ACPI_H

#include <stdbool.h>
#include <stdint.h>

#include "drivers/uart.h"

#define ACPI_PROCESSORS_MAX 512u
#define ACPI_IO_APICS_MAX   16u
#define ACPI_DMA_UNITS_MAX  32u
#define ACPI_RESERVED_MAX   64u
#define ACPI_PATH_MAX       8u

/* Generic address structure, ACPI 5.2.3.2 */
#define ACPI_SPACE_MEMORY 0u
#define ACPI_SPACE_IO     1u

struct acpi_gas {
    uint8_t space; /* ACPI_SPACE_*; other spaces are not used */
    uint8_t bit_width;
    uint8_t access_size; /* 1: byte, 2: word, 3: dword */
    uint64_t address;
};

/* A DMA-remapping hardware unit (DRHD), "Intel Virtualization Technology for Directed I/O" 8.3. */
struct acpi_dma_unit {
    uint16_t segment;
    uint64_t registers;
};

/* A device that goes on using memory of the firmware's after its end (RMRR, 8.4), by the way to it
 * from bus `bus`: over the bridges path[0] up to the one before the last, which is the device. */
struct acpi_reserved {
    uint64_t base, limit; /* both inclusive, whole pages */
    uint16_t segment;
    uint8_t bus;
    uint8_t path_length;
    struct {
        uint8_t device, function;
    } path[ACPI_PATH_MAX];
};

struct acpi_info {
    bool valid; /* RSDP and a root table were good */
    /* FADT */
    bool has_fadt;
    uint16_t pm1a_control, pm1b_control; /* I/O ports; 0: none */
    uint16_t pm_timer;                   /* I/O port; 0: none */
    bool pm_timer_32bit;
    bool has_reset;
    struct acpi_gas reset;
    uint8_t reset_value;
    /* DSDT: \_S5, the soft-off sleep types */
    bool has_s5;
    uint8_t s5_type_a, s5_type_b;
    /* SPCR */
    bool has_uart;
    struct uart_config uart;
    /* MADT */
    uint64_t local_apic;                     /* physical address; 0 without a MADT */
    uint32_t processor_count;                /* enabled ones, also beyond the array */
    uint32_t processor[ACPI_PROCESSORS_MAX]; /* APIC ids */
    uint32_t io_apic_count;
    uint64_t io_apic[ACPI_IO_APICS_MAX];
    /* DMAR; both counts go beyond the arrays */
    bool has_dmar;
    uint32_t dma_unit_count;
    struct acpi_dma_unit dma_unit[ACPI_DMA_UNITS_MAX];
    uint32_t reserved_count;
    struct acpi_reserved reserved[ACPI_RESERVED_MAX];
};

/* `len` readable bytes at physical address `at`, or NULL. */
typedef const void *acpi_map(void *context, uint64_t at, uint64_t len);

/* Read the tables that `rsdp` (a physical address, or 0) leads to. What is missing or broken is
 * left out. */
void acpi_read(struct acpi_info *info, uint64_t rsdp, acpi_map *map, void *context);

#endif
