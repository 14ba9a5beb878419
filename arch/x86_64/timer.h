/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bringing a running guest back to the hypervisor in time: the VMX-preemption timer where there is
 * one, else the local APIC's timer, whose interrupt exits.
 */
#ifndef ARCH_TIMER_H
#define ARCH_TIMER_H

#include "hv/vm.h"

/* Begin to interrupt `vcpu`, which is about to run, now and then until timer_stop. */
void timer_start(struct vcpu *vcpu);
/* After the timer's exit: arm it anew. */
void timer_restart(struct vcpu *vcpu);
void timer_stop(void);

#endif
