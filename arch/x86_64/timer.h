/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bringing a running guest back to the hypervisor in time: the VMX-preemption timer where there is
 * one, else the local APIC's timer, whose interrupt exits.
 */
#ifndef ARCH_TIMER_H
#define ARCH_TIMER_H

/* Begin to bring the virtual processor that is about to run back now and then, until timer_stop. */
void timer_start(void);
void timer_stop(void);

#endif
