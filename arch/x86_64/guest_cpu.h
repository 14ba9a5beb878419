/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor that a guest sees: what CPUID tells, which bits of CR0, CR4, EFER and XCR0 it may
 * set, which MSRs there are. All of it follows from the real processor, less what Twofold does not
 * offer.
 */
#ifndef ARCH_GUEST_CPU_H
#define ARCH_GUEST_CPU_H

#include "arch/x86_64/cpu.h"
#include "hv/vm.h"

/* Read what the real processor has; after vmx_init and the clock, before everything below. */
void guest_cpu_init(void);

/* CPUID as the guest sees it, given its CR4 (OSXSAVE, OSPKE follow it). */
struct cpuid_regs guest_cpuid(uint32_t leaf, uint32_t subleaf, uint64_t cr4);

/* Leaves that tell what is the virtual processor's own, its APIC id, topology and whether its APIC
 * is on; and such a leaf, `r` being what guest_cpuid has. */
static inline bool guest_cpuid_is_own(uint32_t leaf)
{
    return leaf == 0x1 || leaf == 0x4 || leaf == 0xb;
}
struct cpuid_regs guest_cpuid_processor(const struct vcpu *vcpu, uint32_t leaf, uint32_t subleaf,
                                        struct cpuid_regs r);

/* Memory-type range registers as firmware leaves them: write-back, but for the device space below
 * 4 GiB. */
struct guest_mtrrs;
void guest_mtrrs_init(struct guest_mtrrs *mtrrs);

/* One of them. False: `msr` is none, or may not have that value. */
bool guest_mtrr_read(struct guest_mtrrs *mtrrs, uint32_t msr, uint64_t *value);
bool guest_mtrr_write(struct guest_mtrrs *mtrrs, uint32_t msr, uint64_t value);

/* MAXPHYADDR as the guest's CPUID has it. */
unsigned guest_physical_bits(void);
bool guest_has_1g_pages(void);

/* Bits of CR0 and CR4 that the hypervisor owns: the guest reads them from the shadow, and changing
 * one exits. */
uint64_t guest_cr0_owned(void);
uint64_t guest_cr4_owned(void);

/* CR0 for the processor when the guest believes in `cr0`. */
uint64_t guest_cr0_real(uint64_t cr0);

uint64_t guest_efer_allowed(void);

/* The bits that XCR0 may have. */
uint64_t guest_xcr0_offered(void);

/* Whether XSETBV may set XCR0 to `value`, SDM 1 13.3. */
bool guest_xcr0_valid(uint64_t value);

/* An MSR that exits. False: the guest gets #GP. */
bool guest_read_msr(struct vcpu *vcpu, uint32_t msr, uint64_t *value);
bool guest_write_msr(struct vcpu *vcpu, uint32_t msr, uint64_t value);

#endif
