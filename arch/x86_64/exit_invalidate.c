/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's invalidations, which exit only while SHADOW walks nodes of tables that are out of
 * sync (hv/paging/unsync.c): INVLPG, INVPCID, and MOV to CR4 that changes how memory is translated.
 */
#include "arch/x86_64/exit.h"
#include "hv/guest_paging.h"

bool exit_invlpg(struct vcpu *vcpu)
{
    gva_t at = gva(vmread(VMCS_EXIT_QUALIFICATION));

    if (exit_is_overtaken(vcpu))
        return true;
    /* INVVPID fails for others (SDM 3C 31.3), and INVLPG of others does nothing. */
    if (guest_is_canonical(at)) {
        cpt_invlpg(vcpu->vm->paging.cpt, &vcpu->cpt, at);
        vcpu_flush_address(vcpu, at);
    }
    exit_skip_instruction();
    paging_follow(vcpu);
    return true;
}

/* The descriptor of INVPCID, and its types, SDM 2A. */
#define INVPCID_ADDRESS   0u
#define INVPCID_CONTEXT   1u
#define INVPCID_TYPES     4u
#define INVPCID_PCID_BITS 0xfffull
#define INFO_REGISTER(i)  ((unsigned)((i) >> 28) & 15)
#define INFO_SEGMENT(i)   ((enum insn_segment)((i) >> 15 & 7))
#define INFO_SCALING(i)   ((unsigned)(i)&3)
#define INFO_INDEX(i)     ((unsigned)((i) >> 18) & 15)
#define INFO_NO_INDEX     BIT(22)
#define INFO_BASE(i)      ((unsigned)((i) >> 23) & 15)
#define INFO_NO_BASE      BIT(27)
#define INFO_ADDRESS_32   (1u << 7)

static uint64_t register_value(const struct vcpu *vcpu, unsigned number)
{
    return number == GPR_RSP ? vmread(VMCS_GUEST_RSP) : vcpu->gpr[number];
}

/* Its memory operand's address, by the VM-exit instruction information, SDM 3C table 28-13. */
static gva_t invpcid_operand(const struct vcpu *vcpu, uint64_t info)
{
    uint64_t at = vmread(VMCS_EXIT_QUALIFICATION); /* the displacement */

    if (!(info & INFO_NO_INDEX))
        at += register_value(vcpu, INFO_INDEX(info)) << INFO_SCALING(info);
    if (!(info & INFO_NO_BASE))
        at += register_value(vcpu, INFO_BASE(info));
    if (info & INFO_ADDRESS_32)
        at = (uint32_t)at;
    return guest_linear(guest_code_mode(), INFO_SEGMENT(info), at);
}

/*
 * Exits by the same control as INVLPG (SDM 3C 26.1.3). All that is cached for the virtual processor
 * is forgotten, which is more than any of its types asks for; global translations among it are no
 * loss to correctness.
 */
bool exit_invpcid(struct vcpu *vcpu)
{
    uint64_t info = vmread32(VMCS_EXIT_INSTRUCTION_INFO);
    uint64_t type = register_value(vcpu, INFO_REGISTER(info));
    uint64_t descriptor[2];
    struct guest_fault fault;

    if (!guest_read(vcpu, invpcid_operand(vcpu, info), descriptor, sizeof(descriptor),
                    guest_access_rights(), &fault)) {
        exit_inject_fault(vcpu, &fault);
        return true;
    }
    bool one_address = type == INVPCID_ADDRESS;
    bool one_pcid = type <= INVPCID_CONTEXT;
    bool pcids = (vmread(VMCS_GUEST_CR4) & CR4_PCIDE) != 0;
    if (type >= INVPCID_TYPES || (descriptor[0] & ~INVPCID_PCID_BITS) ||
        (one_pcid && !pcids && descriptor[0] != 0) ||
        (one_address && !guest_is_canonical(gva(descriptor[1])))) {
        exit_inject(vcpu, VECTOR_GP, 0);
        return true;
    }
    vcpu_flush_tlb(vcpu);
    exit_skip_instruction();
    paging_invalidated(vcpu);
    return true;
}
