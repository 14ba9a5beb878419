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

    /* INVVPID fails for others (SDM 3C 31.3), and INVLPG of others does nothing. */
    if (guest_is_canonical(at)) {
        cpt_invlpg(vcpu->vm->paging.cpt, &vcpu->cpt, at);
        vcpu_flush_address(vcpu, at);
    }
    exit_skip_instruction();
    paging_follow(vcpu);
    return true;
}

/* Afterwards no table is out of sync, and the instruction runs again without an exit (INVPCID exits
 * by the same control as INVLPG, SDM 3C 26.1.3). */
bool exit_invpcid(struct vcpu *vcpu)
{
    paging_invalidated(vcpu);
    return true;
}
