/* SPDX-License-Identifier: BSD-2-Clause */
/* See pci.h. */
#include "drivers/pci.h"

#include "arch/x86_64/io.h"

#define PORT_ADDRESS 0xcf8u
#define PORT_DATA    0xcfcu
#define ENABLE       0x80000000u

static void select(uint8_t bus, uint8_t function, uint8_t offset)
{
    outl(PORT_ADDRESS, ENABLE | (uint32_t)bus << 16 | (uint32_t)function << 8 | (offset & 0xfcu));
}

uint32_t pci_read32(uint8_t bus, uint8_t function, uint8_t offset)
{
    select(bus, function, offset);
    return inl(PORT_DATA);
}

uint8_t pci_read8(uint8_t bus, uint8_t function, uint8_t offset)
{
    return (uint8_t)(pci_read32(bus, function, offset) >> 8 * (offset & 3u));
}

void pci_write32(uint8_t bus, uint8_t function, uint8_t offset, uint32_t value)
{
    select(bus, function, offset);
    outl(PORT_DATA, value);
}
