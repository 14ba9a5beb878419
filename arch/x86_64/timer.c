/* SPDX-License-Identifier: BSD-2-Clause */
/* See timer.h. */
#include "arch/x86_64/timer.h"

#include "arch/x86_64/vcpu.h"
#include "drivers/apic.h"
#include "hv/arch.h"

#define US_PER_SECOND      1000000u
#define PERIODS_PER_SECOND 100u /* how late a time limit may be noticed: 10 ms */

/*
 * The preemption timer counts down at TSC >> shift from the VMCS field at each VM entry (SDM
 * 3C 26.5.1): without "save VMX-preemption timer value" the field keeps what is written here. Exits
 * that come more often than the period keep it from firing; then exit.c looks at the clock.
 */
void timer_set(uint64_t ticks)
{
    uint64_t most = time_hz() / PERIODS_PER_SECOND;

    if (!vmx.preemption_timer)
        return;
    ticks = (ticks < most ? ticks : most) >> vmx.preemption_timer_shift;
    vmwrite(VMCS_PREEMPTION_TIMER, ticks > UINT32_MAX ? UINT32_MAX : ticks + 1);
}

/* Without the preemption timer a profiler needs the interrupts as often as it looks. */
static uint64_t period_of(const struct vm *vm)
{
    uint64_t period = time_hz() / PERIODS_PER_SECOND;
    uint64_t interval = time_hz() * vm->settings->interval_us / US_PER_SECOND;

    return vm->paging.cpt && interval < period ? interval : period;
}

/* Without the preemption timer: interrupts exit whatever the guest's IF is (external-interrupt
 * exiting). */
void timer_start(const struct vm *vm)
{
    if (vmx.preemption_timer)
        timer_set(period_of(vm));
    else
        apic_timer_start(period_of(vm));
}

void timer_stop(void)
{
    if (!vmx.preemption_timer)
        apic_timer_stop();
}
