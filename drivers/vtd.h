/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * DMA remapping ("Intel Virtualization Technology for Directed I/O"), for one purpose: no device of
 * the machine reads or writes memory. Twofold drives none that does, so each access is blocked, but
 * for those that the firmware's table (DMAR, RMRR) says some devices go on making to memory of the
 * firmware's own: the USB controller of a keyboard that SMM serves, a graphics unit's stolen
 * memory. Nor does one interrupt: Twofold waits for none.
 *
 * All of it is the boot processor's. Every wait is bounded.
 */
#ifndef DRIVERS_VTD_H
#define DRIVERS_VTD_H

#include "drivers/acpi.h"
#include "hv/types.h"

/*
 * Map the units of `acpi`, build their tables, and turn them on. `is_free`: whether a part of [at,
 * at + len) is memory that is not the firmware's: such a reserved region is refused. Says what is
 * on, and what is not protected. True if a unit is on.
 */
bool vtd_init(const struct acpi_info *acpi, bool (*is_free)(uint64_t at, uint64_t len));

/* Block again, or let all devices do as they like: before the machine is given back, and for tests.
 */
void vtd_enable(void);
void vtd_disable(void);

/*
 * Let the device of segment 0 access [base, base + bytes), whole pages, where they are: what
 * is_free says is not asked here. False without memory, or where no unit can have it.
 */
bool vtd_allow(uint8_t bus, uint8_t function, uint64_t base, uint64_t bytes);

/* Print what was blocked since the last time, the first few with address and device. Cheap if asked
 * often: it looks at the units twice a second. Returns how many were blocked since the start. */
uint64_t vtd_report(void);

/* The same at once. */
uint64_t vtd_report_now(void);

#endif
