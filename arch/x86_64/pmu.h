/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor's performance counters (hv/pmu.h), set up once, and let run by VM entry and
 * stopped by VM exit: what the hypervisor does itself is not counted, and an exit executes no
 * instruction for it. Guests have no counters: CPUID, RDPMC and the MSRs say so.
 */
#ifndef ARCH_PMU_H
#define ARCH_PMU_H

#include <stdbool.h>

#include "hv/why.h"

/*
 * Look what there is, program it and say so on the console. `wanted` false: leave it alone. After
 * vmx_init, whose controls it adds to; before the first VM.
 */
void pmu_start(bool wanted);

/* On another processor: program its counters in the same way. False if it has others. */
bool pmu_enter(struct why *why);

/* Have entries and exits of the loaded VMCS switch the counters on and off. */
void pmu_set_vmcs(void);

/* For a native guest, which no entry leads to: switch the counters on, or off. What its calls do in
 * the hypervisor before BEGIN has read and after END will is left out; their way there is not. */
void pmu_run_native(bool on);

#endif
