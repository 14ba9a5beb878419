/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * EPT violations, and in SHADOW page faults with P = 1. Some are the compound page table's business
 * (traps, clean pages, write-protected tables); the rest are accesses to guest-physical memory
 * where no RAM is: a device's registers (hv/dev/mmio.h), or nothing, which reads as all ones and
 * forgets what is written, as on a PC. Accesses to the APIC-access page come here, too, where the
 * processor does not carry them out.
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
gva_t guest_linear(enum decode_mode mode, enum insn_segment segment, uint64_t offset)
{
    if (mode == DECODE_64 && segment < INSN_FS)
        return gva(offset);
    /* enum insn_segment counts as the processor encodes segments, and so does the VMCS */
    uint64_t base = vmread(vmcs_nth(VMCS_GUEST_ES_BASE, segment));
    return gva(mode == DECODE_64 ? base + offset : (uint32_t)(base + offset));
}

static bool emulated_read(void *context, enum insn_segment segment, uint64_t offset, void *to,
                          unsigned bytes)
{
    struct access *a = context;
    gva_t at = guest_linear(a->mode, segment, offset);

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

    return guest_write(a->vcpu, guest_linear(a->mode, segment, offset), from, bytes,
                       guest_access_rights(), &a->fault);
}

enum decode_mode guest_code_mode(void)
{
    uint32_t access = vmread32(VMCS_GUEST_CS_ACCESS);

    if ((vmread(VMCS_GUEST_EFER) & EFER_LMA) && (access & ACCESS_L))
        return DECODE_64;
    return access & ACCESS_DB ? DECODE_32 : DECODE_16;
}

/* --- where nothing is ------------------------------------------------------------------------- */

static bool emulate_access(struct vcpu *vcpu, gpa_t at)
{
    struct access access = {.vcpu = vcpu, .mode = guest_code_mode()};
    struct emulate_memory memory = {&access, emulated_read, emulated_write, NULL};
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
        vm_check_devices(vcpu->vm);
        return true;
    case EMULATE_AGAIN: /* a round is done, and traps if TF is set */
        exit_skip_bytes(0);
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

/* Where nothing is, or what a walk in software finds. `final`: the access itself, not the walk to
 * it. */
static bool not_ram(struct vcpu *vcpu, gpa_t at, uint64_t qualification, bool final)
{
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

/* IRET had ended the blocking by NMI when it ran into this: it will do so again (SDM 3C 27.2.3). */
static void block_nmi_again(bool unblocked)
{
    if (unblocked && !(vmread32(VMCS_IDT_VECTORING) & INTERRUPTION_VALID))
        vmwrite(VMCS_GUEST_INTERRUPTIBILITY, vmread(VMCS_GUEST_INTERRUPTIBILITY) | BLOCKING_NMI);
}

/*
 * An instruction that is run again has not trapped yet, whatever TF says. Bochs leaves its
 * single-step trap pending at such exits; a processor does so only behind MOV SS, where it comes
 * once more by itself.
 */
static void no_trap_yet(void)
{
    uint64_t pending = vmread(VMCS_GUEST_PENDING_DEBUG);

    if (pending & PENDING_DEBUG_BS)
        vmwrite(VMCS_GUEST_PENDING_DEBUG, pending & ~(uint64_t)PENDING_DEBUG_BS);
}

static bool compound_violation(struct vcpu *vcpu, uint64_t qualification, gpa_t at)
{
    struct cpt_access a = {
        .gva = gva(vmread(VMCS_GUEST_LINEAR_ADDRESS)),
        .gpa = at,
        .access = (qualification & EPT_VIOLATION_WRITE ? WALK_WRITE : 0) |
                  (qualification & EPT_VIOLATION_FETCH ? WALK_FETCH : 0),
        .final = (qualification & EPT_VIOLATION_FINAL) != 0,
    };
    bool handled = true;

    no_trap_yet();
    paging_catch_up(vcpu);
    if (exit_is_overtaken(vcpu))
        return true;
    enum cpt_result result = cpt_ept_violation(vcpu->vm->paging.cpt, &vcpu->cpt, &a);
    if (result == CPT_TABLE_WRITE) {
        handled = exit_table_write(vcpu, &a);
    } else {
        if (result == CPT_NOT_RAM)
            handled = not_ram(vcpu, a.gpa, qualification, a.final);
        exit_redeliver();
    }
    paging_follow(vcpu);
    return handled;
}

/* With paging = nested: all RAM is mapped with all rights. */
__attribute__((noinline)) static bool plain_violation(struct vcpu *vcpu, uint64_t qualification,
                                                      gpa_t at)
{
    uint64_t final = EPT_VIOLATION_LINEAR_VALID | EPT_VIOLATION_FINAL;

    if (guest_ram_at(&vcpu->vm->ram, at, 1))
        return false;
    return not_ram(vcpu, at, qualification, (qualification & final) == final);
}

/* The way of every sync and store to a table; it has no array that could be overrun. */
__attribute__((no_stack_protector)) bool exit_ept_violation(struct vcpu *vcpu)
{
    uint64_t qualification = vmread(VMCS_EXIT_QUALIFICATION);
    gpa_t at = gpa(vmread(VMCS_GUEST_PHYSICAL_ADDRESS));
    bool linear = (qualification & EPT_VIOLATION_LINEAR_VALID) != 0;

    if (qualification & EPT_VIOLATION_NMI_UNBLOCK)
        block_nmi_again(true);
    if (vcpu->vm->paging.cpt && linear)
        return compound_violation(vcpu, qualification, at);
    return plain_violation(vcpu, qualification, at);
}

/*
 * The APIC-access page, where the processor leaves an access to us (SDM 3C 30.4). Whatever is no
 * operand of an instruction (tables or a stack there) is tried again with the page gone, where it
 * is an EPT violation.
 */
bool exit_apic_access(struct vcpu *vcpu)
{
    uint64_t qualification = vmread(VMCS_EXIT_QUALIFICATION);
    bool handled = true;

    if (vcpu->vm->paging.cpt) {
        no_trap_yet();
        paging_catch_up(vcpu);
        if (exit_is_overtaken(vcpu))
            return true;
    }
    if (APIC_ACCESS_TYPE(qualification) <= APIC_ACCESS_WRITE)
        handled = emulate_access(vcpu, gpa(LAPIC_BASE | (qualification & APIC_ACCESS_OFFSET)));
    else
        apic_access_refuse(vcpu->vm);
    exit_redeliver();
    if (vcpu->vm->paging.cpt)
        paging_follow(vcpu);
    return handled;
}

/* --- SHADOW ----------------------------------------------------------------------------------- */

/* A #PF with P = 1 in SHADOW. Implicit supervisor accesses at CPL 3 (of descriptor tables) are
 * those with U clear there. */
bool exit_shadow_page_fault(struct vcpu *vcpu)
{
    struct cpt_access a = {.gva = gva(vmread(VMCS_EXIT_QUALIFICATION)),
                           .error_code = vmread32(VMCS_EXIT_ERROR_CODE)};
    struct walk_registers registers;
    struct walk_memory memory;
    bool handled = true;

    no_trap_yet();
    block_nmi_again((vmread32(VMCS_EXIT_INTERRUPTION) & INTERRUPTION_NMI_UNBLOCK) != 0);
    if (exit_is_overtaken(vcpu))
        return true;
    if (!(a.error_code & PF_U) && guest_access_rights() == WALK_USER)
        a.access = WALK_IMPLICIT;
    arch_walk_setup(vcpu, &registers, &memory);
    memory.nested_references = NULL;
    if (!(registers.efer & EFER_NXE) && !(registers.cr4 & CR4_SMEP) && !(a.error_code & PF_W) &&
        a.gva.v - vmread(VMCS_GUEST_RIP) < INSN_BYTES_MAX)
        a.access |= WALK_FETCH; /* the error code would not tell */
    switch (cpt_page_fault(vcpu->vm->paging.cpt, &vcpu->cpt, &a, &registers, &memory)) {
    case CPT_FAULT: {
        struct guest_fault fault = {VECTOR_PF, a.error_code, a.gva};
        step_end(vcpu);
        exit_inject_fault(vcpu, &fault);
        break;
    }
    case CPT_TABLE_WRITE:
        handled = exit_table_write(vcpu, &a);
        break;
    case CPT_NOT_RAM:
        handled = not_ram(vcpu, a.gpa, a.access & WALK_FETCH ? EPT_VIOLATION_FETCH : 0, true);
        break;
    case CPT_RESUME:
        break;
    }
    exit_redeliver();
    paging_follow(vcpu);
    return handled;
}
