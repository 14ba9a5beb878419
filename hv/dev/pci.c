/* SPDX-License-Identifier: BSD-2-Clause */
/* See pci.h. */
#include "hv/dev/pci.h"

#include <stdbool.h>

#define CONFIG_ADDRESS       0u
#define CONFIG_ADDRESS_BYTES 4u
#define CONFIG_DATA_BYTES    4u
#define BITS_PER_BYTE        8u
/* Enable, bus, device and function, register; the others read as 0. */
#define CONFIG_ADDRESS_BITS 0x80fffffcu
#define NO_DEVICE           0xffffffffu

void pci_reset(struct pci_ports *pci)
{
    *pci = (struct pci_ports){0};
}

/* Only an access of four bytes is one to the address register; others pass on to what else is at
 * these ports. */
static bool is_address(unsigned offset, unsigned bytes)
{
    return offset == CONFIG_ADDRESS && bytes == CONFIG_ADDRESS_BYTES;
}

uint32_t pci_read(const struct pci_ports *pci, unsigned offset, unsigned bytes)
{
    if (is_address(offset, bytes))
        return pci->address;
    return NO_DEVICE >> BITS_PER_BYTE * (CONFIG_DATA_BYTES - bytes);
}

void pci_write(struct pci_ports *pci, unsigned offset, unsigned bytes, uint32_t value)
{
    if (is_address(offset, bytes))
        pci->address = value & CONFIG_ADDRESS_BITS;
}
