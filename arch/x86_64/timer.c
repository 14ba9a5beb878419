/* SPDX-License-Identifier: BSD-2-Clause */
/* See timer.h. */
#include "arch/x86_64/timer.h"

#include "arch/x86_64/vcpu.h"
#include "drivers/apic.h"
#include "hv/arch.h"

#define PERIODS_PER_SECOND 100u /* how late a time limit may be noticed: 10 ms */

/*
 * The preemption timer counts down at TSC >> shift from the VMCS field at each VM entry (SDM
 * 3C 26.5.1): without "save VMX-preemption timer value" the field keeps what is written here. Exits
 * that come more often than the period keep it from firing; then exit.c looks at the clock.
 */
static uint64_t period_ticks(void)
{
    uint64_t ticks = (time_hz() / PERIODS_PER_SECOND) >> vmx.preemption_timer_shift;

    return ticks > UINT32_MAX ? UINT32_MAX : ticks;
}

/* Without the preemption timer: interrupts exit whatever the guest's IF is (external-interrupt
 * exiting). */
void timer_start(void)
{
    if (vmx.preemption_timer)
        vmwrite(VMCS_PREEMPTION_TIMER, period_ticks());
    else
        apic_timer_start(time_hz() / PERIODS_PER_SECOND);
}

void timer_stop(void)
{
    if (!vmx.preemption_timer)
        apic_timer_stop();
}
