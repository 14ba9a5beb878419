/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bringing a running guest back to the hypervisor in time: the VMX-preemption timer where there is
 * one, else the local APIC's timer, whose interrupt exits.
 */
#ifndef ARCH_TIMER_H
#define ARCH_TIMER_H

#include <stdint.h>

struct vm;

/* Begin to bring the virtual processor of `vm` that is about to run back now and then, until
 * timer_stop. */
void timer_start(const struct vm *vm);

/* With the preemption timer: be back after so many ticks without an exit, at most the period. */
void timer_set(uint64_t ticks);
void timer_stop(void);

#endif
