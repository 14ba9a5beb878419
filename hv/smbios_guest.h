/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SMBIOS tables for guests (DMTF DSP0134 3.6): who made the machine, and when. Operating systems
 * decide by the date what a machine may be trusted with; Linux for one believes that PCI's
 * configuration ports work without a device behind them.
 */
#ifndef HV_SMBIOS_GUEST_H
#define HV_SMBIOS_GUEST_H

#include "hv/types.h"

/* Where the entry point is; a guest searches [0xf0000, 0x100000) for it at multiples of 16 (5.2).
 */
#define SMBIOS_GUEST_BASE  0xf0000u
#define SMBIOS_GUEST_BYTES 512u /* enough */

/* Write the tables to `to`, SMBIOS_GUEST_BYTES that the guest sees at SMBIOS_GUEST_BASE. `name`: of
 * the VM. Returns how many bytes they take. */
size_t smbios_guest_build(void *to, const char *name);

#endif
