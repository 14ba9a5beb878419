/* SPDX-License-Identifier: BSD-2-Clause */
/* The end of the machine's run. */
#ifndef DRIVERS_POWER_H
#define DRIVERS_POWER_H

#include <stdbool.h>

#include "drivers/acpi.h"
#include "hv/settings.h"

/* What ACPI says of switching off and reset; kept by reference. Without it those ways only halt. */
void power_init(const struct acpi_info *acpi);

/*
 * End as `how` says, with a status where that way has one: Bochs exits with 0 if `ok`, else 1; QEMU
 * with 33 or 35. The UART is flushed first. A way that does not work on this machine ends in a
 * halt, and so does a second call.
 */
__attribute__((noreturn)) void power_end(enum at_end how, bool ok);

#endif
