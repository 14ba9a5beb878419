/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bringing a running guest back to the hypervisor in time: the VMX-preemption timer where there is
 * one, else the local APIC's timer, whose interrupt exits whatever the guest's IF is.
 *
 * The preemption timer counts down at TSC >> shift while the guest runs (SDM 3C 26.5.1), and goes
 * on counting across exits where VM exit saves it. What exits take is not in it, so that exit.c
 * looks at the clock, too: a flood of exits keeps no time waiting.
 */
#include "arch/x86_64/vcpu.h"
#include "drivers/apic.h"
#include "hv/arch.h"

/* What a guest gets to run at the least before a timer's exit. For the profiler, too: the guest may
 * be in a step, during which it does nothing. */
#define LEAST_TICKS 256u

/*
 * When the profiler looks next, which goes by the guest's own time. At an exit it looks by itself
 * (paging_end_exit). The guest's time leaves out of each exit the least that one has taken: a guest
 * whose exits are all this timer's, and so no shorter than what is left, must run for longer, or
 * its time stands still.
 */
static uint64_t profiler_looks_at(const struct vcpu *vcpu, uint64_t now)
{
    uint64_t next = cpt_head(vcpu->vm->paging.cpt)->next_look;
    uint64_t guest = vcpu->arch->guest_ticks;
    uint64_t least = vcpu->arch->least_gap;
    uint64_t left = next > guest ? next - guest : 0;

    if (left <= least && least != NO_GAP)
        left += least;
    return now + max_u64(left, LEAST_TICKS);
}

void arch_vcpu_arm(struct vcpu *vcpu, uint64_t at)
{
    uint64_t now = rdtsc();

    /* A guest's timers may be shorter than an exit takes: it is to get on all the same. */
    at = max_u64(at, now + LEAST_TICKS);
    vcpu->arch->wake_at = at;
    if (vcpu->vm->paging.cpt)
        at = min_u64(at, profiler_looks_at(vcpu, now));
    if (!vmx.preemption_timer) {
        apic_timer_once(at);
        return;
    }
    uint64_t ticks = (at > now ? at - now : 0) >> vmx.preemption_timer_shift;
    vmwrite(VMCS_PREEMPTION_TIMER, ticks >= UINT32_MAX ? UINT32_MAX : ticks + 1);
}
