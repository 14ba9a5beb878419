/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * EPT violations. EPT maps all of the VM's RAM with all rights, so what arrives here is an access
 * to guest-physical memory where nothing is: it reads as all ones and forgets what is written, as
 * on a PC.
 */
#include "arch/x86_64/decode.h"
#include "arch/x86_64/emulate.h"
#include "arch/x86_64/exit.h"
#include "hv/arch.h"

/* --- the instruction's view of memory --------------------------------------------------------- */

struct access {
    struct vcpu *vcpu;
    enum decode_mode mode;
    struct guest_fault fault; /* set when an access fails */
};

/* In 64-bit mode only FS and GS have a base, SDM 1 3.4.2.1. */
static gva_t linear(const struct access *a, enum insn_segment segment, uint64_t offset)
{
    if (a->mode == DECODE_64 && segment < INSN_FS)
        return gva(offset);
    /* enum insn_segment counts as the processor encodes segments, and so does the VMCS */
    uint64_t base = vmread(vmcs_nth(VMCS_GUEST_ES_BASE, segment));
    return gva(a->mode == DECODE_64 ? base + offset : (uint32_t)(base + offset));
}

static bool emulated_read(void *context, enum insn_segment segment, uint64_t offset, void *to,
                          unsigned bytes)
{
    struct access *a = context;
    gva_t at = linear(a, segment, offset);

    if (bytes == 16 && !is_aligned(at.v, 16)) { /* CMPXCHG16B, SDM 2A */
        a->fault = (struct guest_fault){.vector = VECTOR_GP};
        return false;
    }
    return guest_read(a->vcpu, at, to, bytes, guest_access_rights(), &a->fault);
}

static bool emulated_write(void *context, enum insn_segment segment, uint64_t offset,
                           const void *from, unsigned bytes)
{
    struct access *a = context;

    return guest_write(a->vcpu, linear(a, segment, offset), from, bytes, guest_access_rights(),
                       &a->fault);
}

static enum decode_mode code_mode(void)
{
    uint32_t access = vmread32(VMCS_GUEST_CS_ACCESS);

    if ((vmread(VMCS_GUEST_EFER) & EFER_LMA) && (access & ACCESS_L))
        return DECODE_64;
    return access & ACCESS_DB ? DECODE_32 : DECODE_16;
}

/* --- where nothing is ------------------------------------------------------------------------- */

static bool emulate_access(struct vcpu *vcpu, gpa_t at)
{
    struct access access = {.vcpu = vcpu, .mode = code_mode()};
    struct emulate_memory memory = {&access, emulated_read, emulated_write};
    uint8_t bytes[INSN_BYTES_MAX];
    struct insn insn;
    uint64_t count = guest_fetch(vcpu, bytes, sizeof(bytes));

    if (!decode(bytes, count, access.mode, &insn)) {
        vm_stop(vcpu->vm,
                "access to guest-physical 0x%llx, where there is no RAM, by an instruction "
                "that is not emulated",
                (unsigned long long)at.v);
        return true;
    }
    uint64_t rflags = vmread(VMCS_GUEST_RFLAGS);
    vcpu->gpr[GPR_RSP] = vmread(VMCS_GUEST_RSP);
    switch (emulate(&insn, vcpu->gpr, &rflags, vmread(VMCS_GUEST_RIP), &memory)) {
    case EMULATE_DONE:
        vmwrite(VMCS_GUEST_RFLAGS, rflags);
        vmwrite(VMCS_GUEST_RSP, vcpu->gpr[GPR_RSP]);
        exit_skip_bytes(insn.length);
        return true;
    case EMULATE_AGAIN:
        return true;
    case EMULATE_FAULT:
        exit_inject_fault(vcpu, &access.fault);
        return true;
    }
    return false;
}

static bool no_ram_to_fetch(struct vcpu *vcpu, gpa_t at)
{
    vm_stop(vcpu->vm, "instruction fetch from guest-physical 0x%llx, where there is no RAM",
            (unsigned long long)at.v);
    return true;
}

/*
 * The walk itself met a table where there is no RAM. Its entries read as all ones: walk again in
 * software. In all modes but 32-bit paging reserved bits make a page fault of it; there the walk
 * goes on.
 */
static bool table_outside_ram(struct vcpu *vcpu, gpa_t table, uint64_t qualification)
{
    struct walk_registers registers;
    struct walk_memory memory;
    gva_t at = gva(vmread(VMCS_GUEST_LINEAR_ADDRESS));
    bool fetch = (qualification & EPT_VIOLATION_FETCH) != 0;

    arch_walk_setup(vcpu, &registers, &memory);
    struct walk_result result =
        walk(&memory, &registers, at, guest_access_rights() | (fetch ? WALK_FETCH : WALK_READ));
    if (result.status == WALK_OK)
        return fetch ? no_ram_to_fetch(vcpu, result.gpa) : emulate_access(vcpu, table);
    struct guest_fault fault = {VECTOR_PF, result.error_code, at};
    exit_inject_fault(vcpu, &fault);
    return true;
}

bool exit_ept_violation(struct vcpu *vcpu)
{
    uint64_t qualification = vmread(VMCS_EXIT_QUALIFICATION);
    gpa_t at = gpa(vmread(VMCS_GUEST_PHYSICAL_ADDRESS));
    bool final =
        (qualification & EPT_VIOLATION_LINEAR_VALID) && (qualification & EPT_VIOLATION_FINAL);

    if (guest_ram_at(&vcpu->vm->ram, at, 1))
        return false; /* all RAM is mapped with all rights */
    if ((qualification & EPT_VIOLATION_NMI_UNBLOCK) &&
        !(vmread32(VMCS_IDT_VECTORING) & INTERRUPTION_VALID))
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY, vmread(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_NMI);
    if (!final)
        return table_outside_ram(vcpu, at, qualification);
    if (qualification & EPT_VIOLATION_FETCH)
        return no_ram_to_fetch(vcpu, at);
    if (vmread32(VMCS_IDT_VECTORING) & INTERRUPTION_VALID) {
        vm_stop(vcpu->vm,
                "an exception's delivery used guest-physical 0x%llx, where there is no RAM",
                (unsigned long long)at.v);
        return true;
    }
    return emulate_access(vcpu, at);
}
