/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * poweroff: switches the machine off as a kernel does (ACPI 6.4, 7.4.2): finds the FADT, goes to
 * ACPI mode, takes the sleep type from the DSDT's \_S5, and writes it to PM1a control. If the
 * machine goes on, ends with value 1 after "FAIL ...".
 */
#include "guest-tests/multiboot/acpi32.h"
#include "guest-tests/multiboot/machine32.h"

/* AML, ACPI 6.4 chapter 20. */
#define AML_ZERO        0x00u
#define AML_ONE         0x01u
#define AML_NAME        0x08u
#define AML_BYTE        0x0au
#define AML_PACKAGE     0x12u
#define PKG_LENGTH_MORE 6u /* bits 7:6 of its first byte: how many more bytes it has */

#define SLEEP_TYPE_MAX 7u

void main(uint32_t magic, const void *info);

static bool bytes_equal(const uint8_t *a, const uint8_t *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (a[i] != b[i])
            return false;
    }
    return true;
}

/* Where the value of Name (_S5_, ...) starts in the DSDT, 0 if there is none. */
static uint32_t find_s5(const uint8_t *aml, uint32_t length)
{
    static const uint8_t name[] = {AML_NAME, '_', 'S', '5', '_'},
                         rooted[] = {AML_NAME, '\\', '_', 'S', '5', '_'};

    for (uint32_t i = sizeof(struct acpi_table); i + sizeof(rooted) < length; i++) {
        if (bytes_equal(&aml[i], name, sizeof(name)))
            return i + (uint32_t)sizeof(name);
        if (bytes_equal(&aml[i], rooted, sizeof(rooted)))
            return i + (uint32_t)sizeof(rooted);
    }
    return 0;
}

/* The first element of the package \_S5: SLP_TYP for PM1a. */
static uint8_t sleep_type(const struct acpi_table *dsdt)
{
    const uint8_t *aml = (const uint8_t *)dsdt;
    uint32_t at = find_s5(aml, dsdt->length);

    check(at && at + 8 < dsdt->length, "the DSDT has no \\_S5");
    check(aml[at] == AML_PACKAGE, "\\_S5 is no package");
    at++;
    at += 1u + (aml[at] >> PKG_LENGTH_MORE); /* package length */
    at++;                                    /* number of elements */
    check(at + 1 < dsdt->length, "\\_S5 is cut off");
    if (aml[at] == AML_BYTE)
        return aml[at + 1];
    check(aml[at] == AML_ZERO || aml[at] == AML_ONE, "\\_S5: the first element is no byte");
    return aml[at];
}

static void enter_acpi_mode(const struct acpi_table *fadt, uint16_t control)
{
    uint16_t smi = (uint16_t)acpi_field(fadt, FADT_SMI_CMD);

    if (smi && !(inw(control) & PM1_SCI_EN))
        outb(smi, (uint8_t)acpi_field(fadt, FADT_ACPI_ENABLE));
    check(WAIT_UNTIL(inw(control) & PM1_SCI_EN, BOUND_US), "SCI_EN is not set");
}

void main(uint32_t magic, const void *info)
{
    args_init(magic, info);
    args_done();
    machine_init();
    const struct acpi_table *fadt = acpi_find("FACP");
    check(fadt != NULL, "no FADT");
    const struct acpi_table *dsdt = acpi_dsdt(fadt);
    check(dsdt != NULL, "no DSDT");
    uint16_t control = (uint16_t)acpi_field(fadt, FADT_PM1A_CNT);
    check(control != 0, "no PM1a control block");
    uint8_t type = sleep_type(dsdt);
    check(type <= SLEEP_TYPE_MAX, "\\_S5: the sleep type is no number of 3 bits");
    enter_acpi_mode(fadt, control);
    put_text("about to power off, sleep type ");
    put_number(type);
    put('\n');
    uint16_t value = (uint16_t)(inw(control) & ~(SLEEP_TYPE_MAX << PM1_SLP_TYP));
    outw(control, (uint16_t)(value | (uint32_t)type << PM1_SLP_TYP | PM1_SLP_EN));
    spin_us(BOUND_US);
    check(false, "the machine is still on");
}
