/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The ACPI tables (ACPI 6.4, chapter 5) that describe a VM to its guest: processors and I/O APIC,
 * the fixed hardware of hv/dev/acpi_pm.h, soft off and reset, the serial port, the clock and the
 * virtio devices.
 */
#ifndef HV_ACPI_GUEST_H
#define HV_ACPI_GUEST_H

#include "hv/types.h"

/* Where the RSDP is, the other tables behind it. A guest that has not been told searches
 * [0xe0000, 0x100000) for it at multiples of 16 (5.2.5.1). */
#define ACPI_GUEST_BASE  0xe0000u
#define ACPI_GUEST_BYTES KIB(32) /* enough for any VM */

#define ACPI_GUEST_CPUS_MAX 255u

struct acpi_guest {
    unsigned cpus;   /* with local APIC IDs 0, 1, ...; at most ACPI_GUEST_CPUS_MAX */
    unsigned virtio; /* devices, as hv/dev/virtio.h places them; at most VIRTIO_DEVICES_MAX */
};

/*
 * Write the tables to `to`, `room` bytes that the guest sees at `base` (a multiple of 64, below 4
 * GiB). Returns how many bytes they take; 0: there is no room, and what is written is of no use.
 */
size_t acpi_guest_build(void *to, size_t room, gpa_t base, const struct acpi_guest *guest);

#endif
