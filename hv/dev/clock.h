/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Devices' clocks, exact: tick n of a clock of `hz` comes when the guest's TSC, of `tsc_hz`, is
 * ceil(n * tsc_hz / hz). So each clock's phase depends on the TSC alone, and nothing drifts.
 *
 * A frequency is below 2^32 and tsc_hz below 2^40, so that no product of a remainder overflows.
 */
#ifndef HV_DEV_CLOCK_H
#define HV_DEV_CLOCK_H

#include <stdint.h>

#define NO_EVENT (~0ull) /* the time of what will not happen */

/* Ticks that a clock of `hz` has made at TSC `now`: floor(now * hz / tsc_hz). */
static inline uint64_t clock_ticks(uint64_t now, uint64_t hz, uint64_t tsc_hz)
{
    return now / tsc_hz * hz + now % tsc_hz * hz / tsc_hz;
}

/* The first TSC at which a clock of `hz` has made `ticks` ticks. */
static inline uint64_t clock_time(uint64_t ticks, uint64_t hz, uint64_t tsc_hz)
{
    return ticks / hz * tsc_hz + (ticks % hz * tsc_hz + hz - 1) / hz;
}

#endif
