/* SPDX-License-Identifier: BSD-2-Clause */
/* See pmu.h. */
#include "arch/x86_64/pmu.h"

#include <string.h>

#include "arch/x86_64/cpu.h"
#include "arch/x86_64/vmx.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/memory.h"
#include "hv/pmu.h"

#define PROVOKE_ROUNDS 64u

static struct pmu pmu;
static struct pmu_leaf chosen_by; /* leaf 0xa of the boot processor */

/* --- the processor ---------------------------------------------------------------------------- */

static uint64_t machine_read(void *context, uint32_t msr)
{
    (void)context;
    return rdmsr(msr);
}

static void machine_write(void *context, uint32_t msr, uint64_t value)
{
    (void)context;
    wrmsr(msr, value);
}

/* Each access misses the TLB, whose entry INVLPG has just taken away. */
static void machine_provoke(void *context)
{
    volatile uint64_t *page = context;

    for (unsigned i = 0; i < PROVOKE_ROUNDS; i++) {
        invlpg((const void *)context);
        (void)*page;
        invlpg((const void *)context);
        *page = i;
    }
}

static struct pmu_machine machine = {NULL, machine_read, machine_write, machine_provoke};

static struct pmu_leaf leaf(uint32_t number)
{
    struct cpuid_regs r = {0};

    if (number <= cpuid(0, 0).eax) /* else the processor would answer with its highest leaf */
        r = cpuid(number, 0);
    return (struct pmu_leaf){r.eax, r.ebx, r.ecx, r.edx};
}

const struct pmu *arch_pmu(void)
{
    return &pmu;
}

void arch_pmu_read(struct pmu_reading *reading)
{
    pmu_read(&pmu, &machine, rdtsc(), reading);
}

/* --- entries and exits ------------------------------------------------------------------------ */

/* The VM-entry and the VM-exit MSR-load area, SDM 3C 25.7.2 and 25.8.2: where VT-x lacks the
 * controls for IA32_PERF_GLOBAL_CTRL, or version 1 has no such MSR. */
struct msr_area_entry {
    uint32_t msr, reserved;
    uint64_t value;
};

struct msr_areas {
    struct msr_area_entry entry[PMU_GENERAL_MAX], exit[PMU_GENERAL_MAX];
};
_Static_assert(sizeof(struct msr_area_entry) == 16, "SDM 3C 25.7.2");
_Static_assert(sizeof(struct msr_areas) <= PAGE_SIZE, "one page holds them");

static struct msr_areas *areas; /* NULL: not used */
static struct pmu_writes run, stop;

static void fill_area(struct msr_area_entry *area, const struct pmu_writes *writes)
{
    for (unsigned i = 0; i < writes->count; i++)
        area[i] =
            (struct msr_area_entry){.msr = writes->write[i].msr, .value = writes->write[i].value};
}

/* False without memory for the areas. */
static bool choose_switch(void)
{
    pmu_switch(&pmu, true, &run);
    pmu_switch(&pmu, false, &stop);
    if (run.count == 1 && run.write[0].msr == PMU_MSR_GLOBAL_CTRL && vmx_load_perf_global_ctrl())
        return true;
    areas = host_pages_alloc(1);
    if (!areas)
        return false;
    fill_area(areas->entry, &run);
    fill_area(areas->exit, &stop);
    return true;
}

void pmu_set_vmcs(void)
{
    if (pmu.count == 0)
        return;
    if (!areas) {
        vmwrite(VMCS_GUEST_PERF_GLOBAL_CTRL, run.write[0].value);
        vmwrite(VMCS_HOST_PERF_GLOBAL_CTRL, stop.write[0].value);
        return;
    }
    vmwrite(VMCS_ENTRY_MSR_LOAD_ADDRESS, host_hpa(areas->entry).v);
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, run.count);
    vmwrite(VMCS_EXIT_MSR_LOAD_ADDRESS, host_hpa(areas->exit).v);
    vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, stop.count);
}

void pmu_run_native(bool on)
{
    pmu_let_run(&pmu, &machine, on);
}

/* --- the start -------------------------------------------------------------------------------- */

static void log_choice(void)
{
    log_line("performance counters: version %u, %u general, %u fixed, switched by %s; %s%s",
             pmu.version, pmu.generals, pmu.fixed, areas ? "MSR areas" : "VMCS fields",
             pmu.model ? pmu.model : "unknown model",
             pmu.model ? "'s events" : ", architectural events alone");
    for (unsigned i = 0; i < pmu.count; i++)
        log_line("performance counters: %s %u (%u bits) counts %s",
                 pmu.counter[i].fixed ? "fixed" : "general", pmu.counter[i].index,
                 pmu.counter[i].width, pmu.counter[i].event->name);
}

static void init(void)
{
    struct pmu_cpuid cpuid = {leaf(0x0), leaf(0x1), leaf(0x7), leaf(0xa), leaf(0x1a)};

    machine.context = host_pages_alloc(1);
    if (!machine.context) {
        (void)why_set(&pmu.why, "no memory");
        return;
    }
    chosen_by = leaf(0xa);
    pmu_init(&pmu, &cpuid, &machine);
    host_pages_free(machine.context, 1);
    machine.context = NULL;
    if (pmu.count > 0 && !choose_switch()) {
        pmu.count = 0;
        (void)why_set(&pmu.why, "no memory");
    }
}

/* The cores of one machine may be of several kinds. */
bool pmu_enter(struct why *why)
{
    struct pmu_leaf own = leaf(0xa);

    if (pmu.count == 0)
        return true;
    if (memcmp(&own, &chosen_by, sizeof(own)) != 0)
        return why_set(why, "its performance counters differ from the boot processor's");
    pmu_program(&pmu, &machine);
    return true;
}

void pmu_start(bool wanted)
{
    if (wanted)
        init();
    else
        (void)why_set(&pmu.why, "not used: the settings do without");
    if (pmu.count > 0)
        log_choice();
    else
        log_line("performance counters: %s", pmu.why.text);
}
