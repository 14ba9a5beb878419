/* SPDX-License-Identifier: BSD-2-Clause */
/* How fast the time-stamp counter runs. */
#ifndef DRIVERS_CLOCK_H
#define DRIVERS_CLOCK_H

#include <stdint.h>

#include "drivers/acpi.h"

/*
 * Learn the TSC's frequency from the best source there is: CPUID leaf 0x15, a hypervisor's timing
 * leaf, else a measurement against the ACPI PM timer, else against the 8254. Panics when nothing on
 * the machine ticks.
 */
void clock_init(const struct acpi_info *acpi);

uint64_t clock_hz(void);
/* For people: "CPUID", "PM timer", ... */
const char *clock_source(void);

#endif
