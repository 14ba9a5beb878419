/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory accesses of a guest outside its RAM: which device answers where. */
#ifndef HV_DEV_MMIO_H
#define HV_DEV_MMIO_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/dev/devices.h"

/*
 * A load or store of `bytes` (1, 2, 4 or 8) by processor `cpu` at `at`. False: no device is there,
 * and the bus reads as all ones. An access that runs over the end of a device's range is none of
 * its.
 */
bool mmio_read(struct vm_devices *devices, unsigned cpu, gpa_t at, unsigned bytes, uint64_t *value);
bool mmio_write(struct vm_devices *devices, unsigned cpu, gpa_t at, unsigned bytes, uint64_t value);

#endif
