/* SPDX-License-Identifier: BSD-2-Clause */
/* The machine's PCI configuration space of segment 0, by the ports that every PC has (PCI Local Bus
 * Specification 3.0, 3.2.2.3.2). One processor at a time. */
#ifndef DRIVERS_PCI_H
#define DRIVERS_PCI_H

#include <stdbool.h>
#include <stdint.h>

#define PCI_BUSES     256u
#define PCI_FUNCTIONS 256u /* of a bus: 32 devices of 8 */

/* Registers, PCI 3.0 figures 6-1 and PCI-to-PCI Bridge 1.2 figure 3-1 */
enum {
    PCI_ID = 0x00, /* vendor, device */
    PCI_COMMAND = 0x04,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SECONDARY_BUS = 0x19,
    PCI_CAPABILITIES = 0x34, /* where the first one is; each: its number, where the next one is */
};
#define PCI_CAPABILITY_MSI       0x05u
#define PCI_MSI_ENABLE           (1u << 16) /* of its first dword */
#define PCI_MSI_64_BIT           (1u << 23)
#define PCI_ID_NONE              0xffffffffu
#define PCI_COMMAND_MEMORY       (1u << 1)
#define PCI_COMMAND_MASTER       (1u << 2)
#define PCI_HEADER_TYPE_MASK     0x7fu
#define PCI_HEADER_TYPE_BRIDGE   1u
#define PCI_BAR_MEMORY_32_MASK   0xfffffff0u
#define PCI_DEVICE(function)     ((function) >> 3)
#define PCI_FUNCTION(function)   ((function)&7u)
#define PCI_MAKE(device, number) ((uint8_t)((device) << 3 | (number)))

/* `function`: device and function number, PCI_MAKE. `offset`: bytes; a dword is read or written at
 * a multiple of 4. What is not there reads as all ones. */
uint32_t pci_read32(uint8_t bus, uint8_t function, uint8_t offset);
uint8_t pci_read8(uint8_t bus, uint8_t function, uint8_t offset);
void pci_write32(uint8_t bus, uint8_t function, uint8_t offset, uint32_t value);

#endif
