/* SPDX-License-Identifier: BSD-2-Clause */
/* See cet.h. */
#include "arch/x86_64/cet.h"

#include "arch/x86_64/memory.h"
#include "arch/x86_64/vmx.h"
#include "hv/console.h"

static bool on;

/*
 * Under a hypervisor a token could be left busy by an exit in the middle of an event's delivery:
 * then only where CET_SSS says that it is not (SDM 1 17.2.3). Guests need the VM-exit control: an
 * exit must find the hypervisor's shadow stack.
 */
static bool can(void)
{
    if (cpuid(0, 0).eax < 7)
        return false;
    struct cpuid_regs seven = cpuid(7, 0);
    bool beneath = (cpuid(1, 0).ecx & CPUID1_ECX_HYPERVISOR) != 0;
    bool safe = seven.eax >= 1 && (cpuid(7, 1).edx & CPUID71_EDX_CET_SSS);

    return (seven.ecx & CPUID7_ECX_CET_SS) && (!beneath || safe) && vmx_can_load_cet();
}

void cet_choose(bool wanted)
{
    on = wanted && can();
    log_line("memory: supervisor shadow stacks %s", on ? "on" : "off");
}

bool cet_is_on(void)
{
    return on;
}

bool cet_prepare(struct why *why)
{
    struct processor *self = this_processor();
    uint64_t token = on ? memory_new_shadow_stack() : 0;
    bool whole = token != 0;

    if (!on)
        return true;
    for (unsigned slot = 1; slot <= IST_COUNT; slot++) {
        self->shadow_table[slot] = memory_new_shadow_stack();
        whole &= self->shadow_table[slot] != 0;
    }
    self->shadow_token = token;
    return whole || why_set(why, "no memory for its shadow stacks");
}

void cet_write(uint64_t at, uint64_t value)
{
    wrmsr(MSR_S_CET, S_CET_SHADOW_STACKS | S_CET_WRITE);
    __asm__ volatile("wrssq %0, (%1)" : : "r"(value), "r"(at) : "memory");
    wrmsr(MSR_S_CET, S_CET_SHADOW_STACKS);
}
