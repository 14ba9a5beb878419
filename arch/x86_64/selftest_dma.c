/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * self_test = dma: a device is told to copy from memory to memory, and to interrupt, with DMA
 * remapping off and on.
 * It is QEMU's "edu" (its docs/specs/edu.txt), which has a buffer of 4 KiB and moves it either way.
 */
#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/selftest.h"
#include "drivers/pci.h"
#include "drivers/vtd.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/memory.h"

#define EDU_ID    0x11e81234u
#define EDU_BYTES 0x100u

enum { EDU_SOURCE = 0x80, EDU_TARGET = 0x88, EDU_COUNT = 0x90, EDU_COMMAND = 0x98 };
#define EDU_BUFFER    0x40000ull
#define EDU_START     1u
#define EDU_TO_MEMORY 2u
#define LIMIT_SECONDS 5u
#define COPY_BYTES    2048u /* of the 4 KiB: all of them are one too many for QEMU 7.2 */
#define PATTERN       0x5a
#define UNTOUCHED     0xc3

#define EDU_RAISE     0x60u       /* 32 bits: any value interrupts */
#define MSI_ADDRESS   0xfee00000u /* APIC id 0, SDM 3A 11.11.1 */
#define MSI_REMAPPED  0x10u       /* by entry 0 of the table, VT-d 5.1.2.2 */
#define VECTOR_OFF    0x61u       /* the test reads of them what came */
#define VECTOR_ON     0x62u
#define WAIT_FRACTION 10u /* of a second that an interrupt has to come */

static volatile uint64_t *registers;
static uint8_t edu_function; /* on bus 0 */
static uint8_t *source, *target, *other;

static bool find_edu(void)
{
    for (unsigned f = 0; f < PCI_FUNCTIONS; f++) {
        if (pci_read32(0, (uint8_t)f, PCI_ID) != EDU_ID)
            continue;
        edu_function = (uint8_t)f;
        uint32_t command = pci_read32(0, edu_function, PCI_COMMAND);
        pci_write32(0, edu_function, PCI_COMMAND,
                    command | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        uint64_t bar = pci_read32(0, edu_function, PCI_BAR0) & PCI_BAR_MEMORY_32_MASK;
        registers = host_map_device(hpa(bar), EDU_BYTES);
        return true;
    }
    return false;
}

/* The device has its own time for it. */
static bool copy(uint64_t from, uint64_t to, uint32_t command)
{
    uint64_t start = time_now();

    registers[EDU_SOURCE / 8] = from;
    registers[EDU_TARGET / 8] = to;
    registers[EDU_COUNT / 8] = COPY_BYTES;
    registers[EDU_COMMAND / 8] = command | EDU_START;
    while (registers[EDU_COMMAND / 8] & EDU_START) {
        if (time_now() - start > time_hz() * LIMIT_SECONDS)
            return false;
        processor_relax();
    }
    return true;
}

static bool is_filled(const uint8_t *page, uint8_t with)
{
    for (uint64_t i = 0; i < COPY_BYTES; i++) {
        if (page[i] != with)
            return false;
    }
    return true;
}

/* Whether the device, told to write its buffer there, changes the page; the buffer has the pattern.
 */
static bool writes(uint8_t *page)
{
    memset(page, UNTOUCHED, PAGE_SIZE);
    bool done = copy(EDU_BUFFER, host_hpa(page).v, EDU_TO_MEMORY);
    return done && !is_filled(page, UNTOUCHED);
}

static bool failed(const char *what)
{
    log_line("self test: %s", what);
    return false;
}

static bool copies_when_it_may(void)
{
    memset(source, PATTERN, PAGE_SIZE);
    vtd_disable();
    bool read = copy(host_hpa(source).v, EDU_BUFFER, 0);
    bool good = read && writes(target) && is_filled(target, PATTERN);
    vtd_enable();
    return good || failed("with remapping off the device does not copy");
}

static bool is_blocked(void)
{
    uint64_t before = vtd_report_now();

    if (writes(target))
        return failed("the device writes to memory");
    if (vtd_report_now() == before)
        return failed("what was blocked is not reported");
    if (!copy(host_hpa(other).v, EDU_BUFFER, 0) || vtd_report_now() == before + 1)
        return failed("a read is not blocked");
    return true;
}

/* As the firmware's table would have it for a device of its own. */
static bool reaches_what_is_its_own(void)
{
    uint64_t before = vtd_report_now();

    if (!vtd_allow(0, edu_function, host_hpa(target).v, PAGE_SIZE))
        return failed("nothing can be allowed to the device");
    if (!writes(target) || vtd_report_now() != before)
        return failed("the device does not reach what it was allowed");
    if (writes(other) || vtd_report_now() == before)
        return failed("the device reaches more than it was allowed");
    return true;
}

static uint8_t find_msi(void)
{
    uint8_t at = pci_read8(0, edu_function, PCI_CAPABILITIES);

    while (at != 0 && pci_read8(0, edu_function, at) != PCI_CAPABILITY_MSI)
        at = pci_read8(0, edu_function, (uint8_t)(at + 1));
    return at;
}

/* The device writes `data` to `address`; who gets an interrupt tells its vector. */
static void interrupt(uint8_t msi, uint32_t address, uint32_t data)
{
    uint32_t first = pci_read32(0, edu_function, msi);
    uint8_t data_at = (uint8_t)(msi + (first & PCI_MSI_64_BIT ? 12 : 8));

    pci_write32(0, edu_function, (uint8_t)(msi + 4), address);
    if (first & PCI_MSI_64_BIT)
        pci_write32(0, edu_function, (uint8_t)(msi + 8), 0);
    pci_write32(0, edu_function, data_at, data);
    pci_write32(0, edu_function, msi, first | PCI_MSI_ENABLE);
    *(volatile uint32_t *)((uintptr_t)registers + EDU_RAISE) = 1;
    uint64_t until = time_now() + time_hz() / WAIT_FRACTION;
    while (time_now() < until)
        processor_idle(until);
}

/* What comes is told by its vector. Addresses for the table say nothing to QEMU while it is off. */
static bool interrupts(void)
{
    uint8_t msi = find_msi();

    if (msi == 0)
        return failed("the device has no MSI");
    vtd_disable();
    interrupt(msi, MSI_ADDRESS | MSI_REMAPPED, VECTOR_OFF);
    vtd_enable();
    interrupt(msi, MSI_ADDRESS | MSI_REMAPPED, VECTOR_ON);
    return true;
}

bool selftest_dma(void)
{
    source = host_pages_alloc(1);
    target = host_pages_alloc(1);
    other = host_pages_alloc(1);
    ASSERT(source && target && other);
    if (!find_edu())
        return failed("there is no device to try");
    if (!copies_when_it_may() || !is_blocked() || !reaches_what_is_its_own() || !interrupts())
        return false;
    log_line("self test: a device reaches the memory that it may, and no other");
    return true;
}
