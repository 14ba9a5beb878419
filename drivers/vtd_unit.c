/* SPDX-License-Identifier: BSD-2-Clause */
/* See vtd_unit.h. */
#include "drivers/vtd_unit.h"

#include "hv/arch.h"

#define WAIT_FRACTION 10u /* of a second, for what a unit takes microseconds for */

uint32_t unit_read32(const struct unit *u, uint64_t at)
{
    return *(volatile uint32_t *)(uintptr_t)(u->registers + at);
}

uint64_t unit_read64(const struct unit *u, uint64_t at)
{
    return *(volatile uint64_t *)(uintptr_t)(u->registers + at);
}

void unit_write32(const struct unit *u, uint64_t at, uint32_t value)
{
    *(volatile uint32_t *)(uintptr_t)(u->registers + at) = value;
}

void unit_write64(const struct unit *u, uint64_t at, uint64_t value)
{
    *(volatile uint64_t *)(uintptr_t)(u->registers + at) = value;
}

bool unit_wait(uint64_t start)
{
    processor_relax();
    return time_now() - start <= time_hz() / WAIT_FRACTION;
}

bool unit_wait_clear(const struct unit *u, uint64_t at, uint64_t bits)
{
    uint64_t start = time_now();

    while (unit_read64(u, at) & bits) {
        if (!unit_wait(start))
            return false;
    }
    return true;
}

void unit_write_command(const struct unit *u, uint32_t bit, bool set)
{
    uint32_t state = unit_read32(u, REG_STATUS) & ~COMMAND_ONE_SHOT;

    unit_write32(u, REG_COMMAND, set ? state | bit : state & ~bit);
}

bool unit_wait_status(const struct unit *u, uint32_t bit, bool set)
{
    uint64_t start = time_now();

    while (((unit_read32(u, REG_STATUS) & bit) != 0) != set) {
        if (!unit_wait(start))
            return false;
    }
    return true;
}

bool unit_command(const struct unit *u, uint32_t bit, bool set)
{
    unit_write_command(u, bit, set);
    return unit_wait_status(u, bit, set);
}
