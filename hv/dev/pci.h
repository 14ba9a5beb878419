/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ports of PCI configuration mechanism #1 (PCI Local Bus Specification 3.0, 3.2.2.3.2) on a
 * machine without PCI devices: the address register works, so that an operating system finds the
 * mechanism, and every configuration register behind it reads as all ones, "no device".
 */
#ifndef HV_DEV_PCI_H
#define HV_DEV_PCI_H

#include <stdint.h>

#define PCI_PORT  0xcf8u
#define PCI_PORTS 8u

struct pci_ports {
    uint32_t address;
};

void pci_reset(struct pci_ports *pci);

/* IN and OUT of `bytes` (1, 2 or 4) at PCI_PORT + `offset`, below PCI_PORTS. */
uint32_t pci_read(const struct pci_ports *pci, unsigned offset, unsigned bytes);
void pci_write(struct pci_ports *pci, unsigned offset, unsigned bytes, uint32_t value);

#endif
