/* SPDX-License-Identifier: BSD-2-Clause */
/* Port I/O of a guest: which device answers at which port. */
#ifndef HV_DEV_PIO_H
#define HV_DEV_PIO_H

#include <stdint.h>

#include "hv/dev/devices.h"

/*
 * IN and OUT of `bytes` (1, 2 or 4) at `port`. What no device answers reads as all ones and forgets
 * what is written, as on an ISA bus. A wider access to byte-wide registers is one access to each,
 * lowest first.
 */
uint32_t pio_read(struct vm_devices *devices, uint16_t port, unsigned bytes);
void pio_write(struct vm_devices *devices, uint16_t port, unsigned bytes, uint32_t value);

#endif
