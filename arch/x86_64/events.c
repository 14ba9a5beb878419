/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts and NMIs for the guest: injected at VM entry when it can take them (SDM 3C 27.6); when
 * it cannot, the interrupt or NMI window's exit tells when it can (SDM 3C 26.2). Where there is
 * virtual-interrupt delivery the local APIC's need none of this (apic_virtual.c).
 */
#include "arch/x86_64/exit.h"
#include "hv/arch.h"
#include "hv/sched.h"

static bool event_is_queued(void)
{
    return (vmread32(VMCS_ENTRY_INTERRUPTION) & INTERRUPTION_VALID) != 0;
}

/* Where RFLAGS.IF is clear, or STI and MOV SS hold interrupts off (SDM 3A 6.8.3), entry would fail.
 */
static bool takes_interrupts(uint32_t blocking)
{
    return (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_IF) &&
           !(blocking & (BLOCKING_STI | BLOCKING_MOV_SS)) && !event_is_queued();
}

static bool takes_nmi(uint32_t blocking)
{
    return !(blocking & (BLOCKING_NMI | BLOCKING_STI | BLOCKING_MOV_SS)) && !event_is_queued();
}

static void queue_event(uint32_t type, unsigned vector)
{
    vmwrite(VMCS_ENTRY_INTERRUPTION, INTERRUPTION_VALID | type | vector);
}

/* An NMI that must wait. Without virtual NMIs there is no window: it is tried at each look. */
static bool inject_nmi(struct vcpu *vcpu, uint32_t blocking)
{
    if (!vcpu->nmi)
        return false;
    if (!takes_nmi(blocking))
        return vmx.virtual_nmis;
    vcpu->nmi = false;
    queue_event(INTERRUPTION_NMI, VECTOR_NMI);
    return false;
}

/* One that the processor does not deliver by itself. */
static bool interrupt_is_pending(struct vcpu *vcpu)
{
    struct interrupts *interrupts = &vcpu->vm->devices.interrupts;

    if (apic_virtual_delivers(vcpu))
        return interrupts_extint_pending(interrupts, vcpu->index);
    return interrupts_pending(interrupts, vcpu->index) != INTERRUPT_NONE;
}

/* True: one must wait. */
static bool inject_interrupt(struct vcpu *vcpu, uint32_t blocking)
{
    struct interrupts *interrupts = &vcpu->vm->devices.interrupts;

    if (!interrupt_is_pending(vcpu))
        return false;
    if (!takes_interrupts(blocking))
        return true;
    int vector = interrupts_take(interrupts, vcpu->index);
    if (vector != INTERRUPT_NONE)
        queue_event(INTERRUPTION_EXTERNAL, (unsigned)vector);
    return interrupt_is_pending(vcpu);
}

void arch_vcpu_inject(struct vcpu *vcpu)
{
    struct arch_vcpu *arch = vcpu->arch;
    uint32_t blocking = vmread32(VMCS_GUEST_INTERRUPTIBILITY);

    if (arch->step.active) /* the instruction is to end first; step_end brings us here again */
        return;
    apic_virtual_follow(vcpu);
    bool nmi_window = inject_nmi(vcpu, blocking);
    bool interrupt_window = inject_interrupt(vcpu, blocking);
    if (nmi_window == arch->nmi_window && interrupt_window == arch->interrupt_window)
        return;
    arch->nmi_window = nmi_window;
    arch->interrupt_window = interrupt_window;
    paging_set_controls(vcpu);
}

/* The guest can take what waits. */
bool exit_window(struct vcpu *vcpu)
{
    sched_attention(vcpu, ATTEND_EVENTS);
    return true;
}
