/* SPDX-License-Identifier: BSD-2-Clause */
/* The hypervisor's clock and its pause on the host, for what waits in a lock. */
#include "tests/host/clock.h"

#include <sched.h>

#include "hv/arch.h"
#include "hv/watchdog.h"

#define HZ 1000u

uint64_t clock_step;
static uint64_t clock_ticks;

uint64_t time_now(void)
{
    return __atomic_add_fetch(&clock_ticks, clock_step, __ATOMIC_RELAXED);
}

uint64_t time_hz(void)
{
    return HZ;
}

void processor_relax(void)
{
    sched_yield();
}

/* hv/watchdog.c has its own test. */
void watchdog_beat(void)
{
}
