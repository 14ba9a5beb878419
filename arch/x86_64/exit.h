/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * VM exits. exit.c dispatches by reason from one table; each handler does its work and says whether
 * it could. The handlers of one kind share a file: exit_cpu.c (CPUID, MSRs, control registers,
 * exceptions), exit_io.c (ports), exit_memory.c (EPT violations, SHADOW's page faults),
 * exit_table.c (stores to guest tables), exit_invalidate.c (INVLPG and kin), apic_virtual.c
 * (what the processor leaves of the local APIC).
 */
#ifndef ARCH_EXIT_H
#define ARCH_EXIT_H

#include "arch/x86_64/decode.h"
#include "arch/x86_64/guest_memory.h"
#include "arch/x86_64/vcpu.h"

/* True: the guest may go on (or vm->end says that it may not). False: nothing here can handle it.
 */
typedef bool exit_handler(struct vcpu *vcpu);

/* exit.c */

/* Step over the instruction that exited, with what its end brings (SDM 3A 6.8.3, 17.3.1.4). */
void exit_skip_instruction(void);

/* The same, to an RIP that is known. */
void exit_advance(uint64_t rip);

/* The same by a length that the decoder gave: EPT violations report none. */
void exit_skip_bytes(uint64_t length);

/*
 * Have the guest take an exception at its present RIP. When the exit itself happened while an event
 * was delivered, the two become a double or triple fault as SDM 3A table 6-5 has it.
 */
void exit_inject(struct vcpu *vcpu, uint8_t vector, uint32_t error_code);
void exit_inject_fault(struct vcpu *vcpu, const struct guest_fault *fault);

/* Give an event whose delivery the exit interrupted back to the guest (SDM 3C 27.2.4), unless
 * another is injected already. */
void exit_redeliver_now(uint32_t vectoring);
static inline void exit_redeliver(void)
{
    uint32_t vectoring = vmread32(VMCS_IDT_VECTORING);

    if (vectoring & INTERRUPTION_VALID)
        exit_redeliver_now(vectoring);
}

/*
 * Whether another virtual processor changed the compound page table between this exit and the VM's
 * lock, so that what the exit was about may be no more. The guest then simply tries again, and an
 * event whose delivery was interrupted comes again.
 */
bool exit_is_overtaken_now(struct vcpu *vcpu);
static inline bool exit_is_overtaken(struct vcpu *vcpu)
{
    return vcpu->shared && exit_is_overtaken_now(vcpu);
}

/* exit_cpu.c */
exit_handler exit_exception, exit_cpuid, exit_rdmsr, exit_wrmsr, exit_cr_access, exit_xsetbv,
    exit_invd, exit_undefined, exit_privileged;
/* events.c */
exit_handler exit_window;
/* apic_virtual.c */
exit_handler exit_apic_write, exit_virtualized_eoi, exit_tpr_threshold;
/* exit_io.c */
exit_handler exit_io;
/* exit_memory.c */
exit_handler exit_ept_violation, exit_shadow_page_fault, exit_apic_access;
/* The mode of the code that runs, and linear addresses of its operands. */
enum decode_mode guest_code_mode(void);
gva_t guest_linear(enum decode_mode mode, enum insn_segment segment, uint64_t offset);

/* exit_invalidate.c */
exit_handler exit_invlpg, exit_invpcid;

/* exit_table.c */
/* Pages that a VM needs for instructions that were decoded lately. */
size_t exit_recent_pages(void);
exit_handler exit_monitor_trap_flag;
/* A store to a write-protected guest table. */
bool exit_table_write(struct vcpu *vcpu, const struct cpt_access *a);
/* A #DB: true when it was a step's, which the guest must not see. */
bool step_trapped(struct vcpu *vcpu);
/* The step, if there is one, is over (an exception came instead): close the pages. */
void step_end(struct vcpu *vcpu);

#endif
