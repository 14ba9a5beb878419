/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks of ACPI's tables and timer, and of what is not there: ports and PCI functions. */
#include "guest-tests/multiboot/acpi32.h"
#include "guest-tests/multiboot/platform/platform.h"

#define MADT_APIC_ADDRESS 36u
#define IOAPIC_ADDRESS    0xfec00000u

#define PM_TIMER_KHZ  3580u /* 3.579545 MHz */
#define PM_TIMER_MASK 0xffffffu

#define PCI_ADDRESS 0xcf8u
#define PCI_DATA    0xcfcu
#define PCI_NOBODY  0x80ffff00u /* enabled; bus 255, device 31, function 7 */
#define ALL_ONES    0xffffffffu

/* 5.2.12: the MADT has the local APICs' address, the I/O APIC, and the first processor. */
static const char *madt(void)
{
    const struct acpi_table *table = acpi_find("APIC");
    uint32_t io_apic = 0;
    bool self = false;

    EXPECT(table, "no MADT");
    EXPECT_EQ(acpi_field(table, MADT_APIC_ADDRESS), APIC_BASE, "the local APICs' address");
    for (const struct madt_entry *e = madt_next(table, NULL); e; e = madt_next(table, e)) {
        if (e->type == MADT_IO_APIC)
            memcpy(&io_apic, &e->data[2], sizeof(io_apic));
        self |= e->type == MADT_LOCAL_APIC && e->data[1] == cpus[0].apic_id;
    }
    EXPECT_EQ(io_apic, IOAPIC_ADDRESS, "the I/O APIC's address");
    EXPECT(self, "the first processor is not listed");
    return NULL;
}

/* 4.8.2.5, 5.2.9: in ACPI mode, or brought there through SMI_CMD, PM1 control's SCI_EN is set. */
static const char *acpi_mode(void)
{
    const struct acpi_table *fadt = acpi_find("FACP");

    EXPECT(fadt, "no FADT");
    EXPECT(acpi_dsdt(fadt), "no DSDT");
    uint16_t control = (uint16_t)acpi_field(fadt, FADT_PM1A_CNT);
    uint16_t smi = (uint16_t)acpi_field(fadt, FADT_SMI_CMD);
    EXPECT(control, "no PM1a control block");
    if (smi && !(inw(control) & PM1_SCI_EN))
        outb(smi, (uint8_t)acpi_field(fadt, FADT_ACPI_ENABLE));
    EXPECT(WAIT_UNTIL(inw(control) & PM1_SCI_EN, BOUND_US), "SCI_EN is not set");
    return NULL;
}

static uint16_t pm_timer_port;

static uint32_t pm_timer_read(void)
{
    return inl(pm_timer_port);
}

/* 4.8.2.1: the timer counts up at 3.579545 MHz. Up to 5 attempts, as an emulator may be held up. */
static const char *pm_timer(void)
{
    const struct acpi_table *fadt = acpi_find("FACP");
    uint32_t khz = 0;

    EXPECT(fadt, "no FADT");
    pm_timer_port = (uint16_t)acpi_field(fadt, FADT_PM_TMR);
    bool is_long = acpi_field(fadt, FADT_FLAGS) & FADT_TIMER_32_BITS;
    EXPECT(pm_timer_port, "no PM timer");
    EXPECT(is_long || !(pm_timer_read() & ~PM_TIMER_MASK), "a timer of 24 bits has more");
    for (unsigned attempt = 0; attempt < 5; attempt++) {
        khz = counter_khz(pm_timer_read, PM_TIMER_MASK, 20000);
        if (is_about(khz, PM_TIMER_KHZ, 2))
            return NULL;
    }
    EXPECT_EQ(khz, PM_TIMER_KHZ, "counts in a millisecond of the TSC");
    return NULL;
}

/* PCI 3.0, 3.2.2.3.4: the vendor of a function that is not there reads as all ones. */
static const char *pci_absent(void)
{
    outl(PCI_ADDRESS, PCI_NOBODY);
    EXPECT_EQ(inl(PCI_DATA), ALL_ONES, "4 bytes of the configuration data");
    EXPECT_EQ(inw(PCI_DATA), 0xffff, "2 bytes of the configuration data");
    EXPECT_EQ(inb(PCI_DATA), 0xff, "a byte of the configuration data");
    outl(PCI_DATA, 0);
    outl(PCI_ADDRESS, 0);
    return NULL;
}

/* Ports that nothing answers read as all ones, in each size, and take what is written. */
static const char *ports_absent(void)
{
    static const uint16_t nobody[] = {0x2e8, 0x3e8, 0x5e0, 0x0ee0};

    for (unsigned i = 0; i < sizeof(nobody) / sizeof(nobody[0]); i++) {
        outb(nobody[i], 0);
        outl(nobody[i], 0);
        EXPECT_EQ(inb(nobody[i]), 0xff, "a byte of a port of nobody");
        EXPECT_EQ(inw(nobody[i]), 0xffff, "2 bytes of a port of nobody");
        EXPECT_EQ(inl(nobody[i]), ALL_ONES, "4 bytes of a port of nobody");
    }
    return NULL;
}

const struct check power_checks[] = {
    {"acpi-madt", madt, false},
    {"acpi-mode", acpi_mode, false},
    {"acpi-pm-timer", pm_timer, false},
    {"pci-absent", pci_absent, false},
    {"ports-absent", ports_absent, false},
    {0},
};
