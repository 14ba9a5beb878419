/* SPDX-License-Identifier: BSD-2-Clause */
/* Exits by the processor's own instructions: exceptions, CPUID, MSRs, control registers. */
#include "arch/x86_64/exit.h"
#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/panic.h"
#include "hv/arch.h"
#include "hv/console.h"
#include "hv/sched.h"

/* --- exceptions ------------------------------------------------------------------------------- */

/* Exit qualification of a #DB, SDM 3C table 28-1: as in DR6 */
#define DB_B0_3 0xfull
#define DB_BD   BIT(13)
#define DB_BS   BIT(14)
#define DR7_GD  BIT(13)

/*
 * A #DB that exits has changed neither DR6 nor DR7, and its injection does not either: do here what
 * its delivery would have done (SDM 3A 17.2.3: B0 to B3 are replaced, BD and BS accumulate; 17.2.4:
 * GD is cleared).
 */
static void inject_debug_exception(struct vcpu *vcpu, uint32_t information)
{
    uint64_t cause = vmread(VMCS_EXIT_QUALIFICATION);
    uint32_t blocking = vmread32(VMCS_GUEST_INTERRUPTIBILITY);

    if ((information & INTERRUPTION_TYPE) == INTERRUPTION_PRIVILEGED) /* INT1: a trap, behind it */
        vmwrite(VMCS_GUEST_RIP, vmread(VMCS_GUEST_RIP) + vmread(VMCS_EXIT_INSTRUCTION_LENGTH));
    /* VM entry wants the trap that TF brings to be pending where it is held off (SDM 3C 27.3.1.5).
     */
    if ((blocking & (BLOCKING_STI | BLOCKING_MOV_SS)) && (vmread(VMCS_GUEST_RFLAGS) & RFLAGS_TF))
        vmwrite(VMCS_GUEST_PENDING_DEBUG, vmread(VMCS_GUEST_PENDING_DEBUG) | PENDING_DEBUG_BS);
    write_dr6((read_dr6() & ~DB_B0_3) | (cause & (DB_B0_3 | DB_BD | DB_BS)));
    if (cause & DB_BD)
        vmwrite(VMCS_GUEST_DR7, vmread(VMCS_GUEST_DR7) & ~DR7_GD);
    exit_inject(vcpu, VECTOR_DB, 0);
}

/* During a step all exceptions exit: this one came instead of the step's end, and is the guest's.
 */
static bool exception_in_step(struct vcpu *vcpu, uint32_t information)
{
    uint8_t vector = (uint8_t)(information & INTERRUPTION_VECTOR);

    if (!vcpu->arch->step.active)
        return false;
    step_end(vcpu);
    if ((information & INTERRUPTION_TYPE) != INTERRUPTION_HARDWARE)
        return true; /* INT3, INTO: run again, without the step */
    if (vector == VECTOR_PF)
        write_cr2(vmread(VMCS_EXIT_QUALIFICATION));
    exit_inject(vcpu, vector, vmread32(VMCS_EXIT_ERROR_CODE));
    return true;
}

bool exit_exception(struct vcpu *vcpu)
{
    uint32_t information = vmread32(VMCS_EXIT_INTERRUPTION);

    if ((information & INTERRUPTION_TYPE) == INTERRUPTION_NMI) {
        panic_stop_if_asked(vmread(VMCS_GUEST_RIP), 0);
        log_line("NMI while %s ran; ignored", vcpu->vm->settings->name);
        return true;
    }
    switch (information & INTERRUPTION_VECTOR) {
    case VECTOR_DB:
        if (!step_trapped(vcpu) || (vmread(VMCS_EXIT_QUALIFICATION) & ~DB_BS))
            inject_debug_exception(vcpu, information);
        return true;
    case VECTOR_PF:
        if (vcpu->arch->state == CPT_SHADOW && (vmread32(VMCS_EXIT_ERROR_CODE) & PF_P))
            return exit_shadow_page_fault(vcpu);
        return exception_in_step(vcpu, information);
    case VECTOR_AC:
        exit_inject(vcpu, VECTOR_AC, vmread32(VMCS_EXIT_ERROR_CODE));
        return true;
    case VECTOR_MC:
        panic("machine check while %s ran", vcpu->vm->settings->name);
    default:
        return exception_in_step(vcpu, information);
    }
}

/* --- instructions ----------------------------------------------------------------------------- */

bool exit_cpuid(struct vcpu *vcpu)
{
    uint64_t *gpr = vcpu->gpr;
    uint32_t leaf = (uint32_t)gpr[GPR_RAX], subleaf = (uint32_t)gpr[GPR_RCX];
    struct cpuid_regs r = guest_cpuid(leaf, subleaf, vmread(VMCS_GUEST_CR4));

    if (guest_cpuid_is_own(leaf))
        r = guest_cpuid_processor(vcpu, leaf, subleaf, r);

    gpr[GPR_RAX] = r.eax;
    gpr[GPR_RBX] = r.ebx;
    gpr[GPR_RCX] = r.ecx;
    gpr[GPR_RDX] = r.edx;
    exit_skip_instruction();
    return true;
}

bool exit_rdmsr(struct vcpu *vcpu)
{
    uint64_t value;

    if (!guest_read_msr(vcpu, (uint32_t)vcpu->gpr[GPR_RCX], &value)) {
        exit_inject(vcpu, VECTOR_GP, 0);
        return true;
    }
    vcpu->gpr[GPR_RAX] = (uint32_t)value;
    vcpu->gpr[GPR_RDX] = value >> 32;
    exit_skip_instruction();
    return true;
}

bool exit_wrmsr(struct vcpu *vcpu)
{
    uint64_t value = vcpu->gpr[GPR_RDX] << 32 | (uint32_t)vcpu->gpr[GPR_RAX];

    if (guest_write_msr(vcpu, (uint32_t)vcpu->gpr[GPR_RCX], value))
        exit_skip_instruction();
    else
        exit_inject(vcpu, VECTOR_GP, 0);
    return true;
}

/* XSETBV exits before its own checks, the CPL's excepted (SDM 3C 26.1.2). */
bool exit_xsetbv(struct vcpu *vcpu)
{
    uint64_t value = vcpu->gpr[GPR_RDX] << 32 | (uint32_t)vcpu->gpr[GPR_RAX];

    if ((uint32_t)vcpu->gpr[GPR_RCX] != 0 || !guest_xcr0_valid(value)) {
        exit_inject(vcpu, VECTOR_GP, 0);
        return true;
    }
    write_xcr0(value);
    exit_skip_instruction();
    return true;
}

/* INVD would drop what other memory users have not written back: it becomes WBINVD. */
bool exit_invd(struct vcpu *vcpu)
{
    (void)vcpu;
    __asm__ volatile("wbinvd" : : : "memory");
    exit_skip_instruction();
    return true;
}

/* Instructions that the guest's CPUID does not offer. */
bool exit_undefined(struct vcpu *vcpu)
{
    exit_inject(vcpu, VECTOR_UD, 0);
    return true;
}

/* RDPMC: there are no counters to read. */
bool exit_privileged(struct vcpu *vcpu)
{
    exit_inject(vcpu, VECTOR_GP, 0);
    return true;
}

/* --- control registers ------------------------------------------------------------------------ */

/* Exit qualification, SDM 3C table 28-3 */
enum cr_access { CR_MOV_TO, CR_MOV_FROM, CR_CLTS, CR_LMSW };
#define CR_NUMBER(q)      ((unsigned)(q)&15)
#define CR_ACCESS_TYPE(q) ((enum cr_access)((q) >> 4 & 3))
#define CR_REGISTER(q)    ((unsigned)((q) >> 8) & 15)
#define CR_LMSW_SOURCE(q) ((q) >> 16 & 0xffff)

#define LMSW_BITS     (CR0_PE | CR0_MP | CR0_EM | CR0_TS)
#define CR8_TPR       0xfull
#define CR8_TPR_SHIFT 4
#define PDPTE_P       BIT(0)
#define PDPTE_PER_CR3 4
#define PAE_CR3_MASK  0xffffffe0ull
#define TSS_BUSY_16   0x3u
#define TSS_BUSY      0xbu
#define ACCESS_TYPE   0xfu

static uint64_t *register_of(struct vcpu *vcpu, unsigned number)
{
    return &vcpu->gpr[number];
}

static uint64_t read_register(struct vcpu *vcpu, unsigned number)
{
    return number == GPR_RSP ? vmread(VMCS_GUEST_RSP) : *register_of(vcpu, number);
}

static void write_register(struct vcpu *vcpu, unsigned number, uint64_t value)
{
    if (number == GPR_RSP)
        vmwrite(VMCS_GUEST_RSP, value);
    else
        *register_of(vcpu, number) = value;
}

/* The value that the guest believes to be in CR0. (In SHADOW WP is owned too, and the same in
 * both.) */
static uint64_t guest_cr0(void)
{
    uint64_t owned = guest_cr0_owned();

    return (vmread(VMCS_CR0_SHADOW) & owned) | (vmread(VMCS_GUEST_CR0) & ~owned);
}

/*
 * PAE paging loads four PDPTEs from memory into registers, and a reserved bit in a present one is
 * #GP (SDM 3A 4.4.1). The processor does so on a MOV to CR3 that does not exit; where we emulate,
 * we do.
 */
static bool load_pdptes(struct vcpu *vcpu, uint64_t cr3)
{
    uint64_t reserved = (~0ull << guest_physical_bits()) | 0x1e6;
    uint64_t pdpte[PDPTE_PER_CR3];
    const uint64_t GUEST *table =
        guest_ram_at(&vcpu->vm->ram, gpa(cr3 & PAE_CR3_MASK), sizeof(pdpte));

    for (unsigned i = 0; i < PDPTE_PER_CR3; i++) {
        pdpte[i] = table ? guest_load64(&table[i]) : ~0ull;
        if ((pdpte[i] & PDPTE_P) && (pdpte[i] & reserved))
            return false;
    }
    vcpu_set_pdptes(pdpte);
    return true;
}

/* Entering IA-32e mode, SDM 3A 9.8.5: what CR0.PG brings when EFER.LME is set. */
static bool enter_long_mode(void)
{
    uint32_t tr = vmread32(vmcs_nth(VMCS_GUEST_ES_ACCESS, SEG_TR));

    if (!(vmread(VMCS_GUEST_CR4) & CR4_PAE) || (vmread32(VMCS_GUEST_CS_ACCESS) & ACCESS_L))
        return false;
    /* A 16-bit TSS may stay loaded in IA-32e mode until LTR, but VM entry wants the type of a
     * 64-bit one. */
    if ((tr & ACCESS_TYPE) == TSS_BUSY_16)
        vmwrite(vmcs_nth(VMCS_GUEST_ES_ACCESS, SEG_TR), (tr & ~ACCESS_TYPE) | TSS_BUSY);
    vmwrite(VMCS_GUEST_EFER, vmread(VMCS_GUEST_EFER) | EFER_LMA);
    vmwrite(VMCS_ENTRY_CONTROLS, vmread(VMCS_ENTRY_CONTROLS) | ENTRY_IA32E);
    return true;
}

static void leave_long_mode(void)
{
    vmwrite(VMCS_GUEST_EFER, vmread(VMCS_GUEST_EFER) & ~EFER_LMA);
    vmwrite(VMCS_ENTRY_CONTROLS, vmread(VMCS_ENTRY_CONTROLS) & ~(uint64_t)ENTRY_IA32E);
}

static bool in_64bit_code(void)
{
    return (vmread(VMCS_GUEST_EFER) & EFER_LMA) && (vmread32(VMCS_GUEST_CS_ACCESS) & ACCESS_L);
}

/* Paging goes on. False: #GP. */
static bool paging_on(struct vcpu *vcpu)
{
    if (vmread(VMCS_GUEST_EFER) & EFER_LME)
        return enter_long_mode();
    if (vmread(VMCS_GUEST_CR4) & CR4_PAE)
        return load_pdptes(vcpu, guest_cr3(vcpu));
    return true;
}

/* What MOV to CR0 refuses with #GP before anything changes, SDM 2B. */
static bool cr0_valid(uint64_t value)
{
    bool pg_goes = !(value & CR0_PG) && (guest_cr0() & CR0_PG);

    if ((value >> 32) || ((value & CR0_PG) && !(value & CR0_PE)) ||
        ((value & CR0_NW) && !(value & CR0_CD)))
        return false;
    return !pg_goes || (!in_64bit_code() && !(vmread(VMCS_GUEST_CR4) & CR4_PCIDE));
}

static bool write_cr0_of_guest(struct vcpu *vcpu, uint64_t value)
{
    uint64_t changed = value ^ guest_cr0();
    bool valid = cr0_valid(value);

    if (valid && !vmx.unrestricted_guest && (value & (CR0_PE | CR0_PG)) != (CR0_PE | CR0_PG)) {
        vm_stop(vcpu->vm, "paging or protected mode switched off, which needs the VT-x feature "
                          "'unrestricted guest', and this processor lacks it");
        return true;
    }
    if (valid && (changed & CR0_PG) && (value & CR0_PG))
        valid = paging_on(vcpu);
    if (!valid) {
        exit_inject(vcpu, VECTOR_GP, 0);
        return true;
    }
    if ((changed & CR0_PG) && !(value & CR0_PG))
        leave_long_mode();
    value |= CR0_ET;
    vmwrite(VMCS_CR0_SHADOW, value);
    vmwrite(VMCS_GUEST_CR0, guest_cr0_real(value));
    if (changed & (CR0_PG | CR0_WP)) {
        if (vcpu->vm->paging.cpt)
            paging_registers_changed(vcpu, guest_cr3(vcpu));
        vcpu_flush_tlb(vcpu);
    }
    exit_skip_instruction();
    return true;
}

/* With nodes in CR3 every load exits; else only where the processor cannot keep it from exiting. */
static bool write_cr3_of_guest(struct vcpu *vcpu, uint64_t value)
{
    uint64_t cr4 = vmread(VMCS_GUEST_CR4);
    bool is_long = (vmread(VMCS_GUEST_EFER) & EFER_LMA) != 0;
    bool keeps = (cr4 & CR4_PCIDE) && (value & CR3_NO_FLUSH);
    bool pae = !is_long && (cr4 & CR4_PAE) && (vmread(VMCS_GUEST_CR0) & CR0_PG);
    uint64_t reserved = (~0ull << guest_physical_bits()) & ~(cr4 & CR4_PCIDE ? CR3_NO_FLUSH : 0);

    if ((is_long && (value & reserved)) || (pae && !load_pdptes(vcpu, value))) {
        exit_inject(vcpu, VECTOR_GP, 0);
        return true;
    }
    if (keeps)
        value &= ~CR3_NO_FLUSH;
    if (vcpu->vm->paging.cpt && is_long && vcpu->cpt.paging)
        paging_cr3_loaded(vcpu, value, (cr4 & CR4_PCIDE) != 0);
    else if (vcpu->vm->paging.cpt)
        paging_registers_changed(vcpu, value);
    else
        vmwrite(VMCS_GUEST_CR3, value);
    if (!keeps && vmx.vpid)
        invvpid(vmx.invvpid_cr3, vcpu->arch->vpid);
    exit_skip_instruction();
    return true;
}

/* The task priority, SDM 3A 11.8.6. */
static bool write_cr8_of_guest(struct vcpu *vcpu, uint64_t value)
{
    if (value & ~CR8_TPR) {
        exit_inject(vcpu, VECTOR_GP, 0);
        return true;
    }
    interrupts_set_tpr(&vcpu->vm->devices.interrupts, vcpu->index,
                       (uint8_t)(value << CR8_TPR_SHIFT));
    sched_attention(vcpu, ATTEND_EVENTS); /* what had to wait may be next */
    exit_skip_instruction();
    return true;
}

/* Bits of CR4 that MOV to CR4 may not set or clear as things are, SDM 2B. */
static bool cr4_valid(uint64_t value, uint64_t cr3)
{
    uint64_t changed = value ^ vmread(VMCS_GUEST_CR4);
    bool is_long = (vmread(VMCS_GUEST_EFER) & EFER_LMA) != 0;

    if ((value & guest_cr4_owned()) || (is_long && !(value & CR4_PAE)))
        return false;
    return !(changed & value & CR4_PCIDE) || (is_long && ((cr3 & (PAGE_SIZE - 1)) == 0));
}

/*
 * In SHADOW, where a change of these bits must be told (hv/paging/unsync.c). The guest pages in
 * long mode there, so that neither PAE nor the PDPTEs change.
 */
static bool write_cr4_of_guest(struct vcpu *vcpu, uint64_t value)
{
    if (!cr4_valid(value, guest_cr3(vcpu))) {
        exit_inject(vcpu, VECTOR_GP, 0);
        return true;
    }
    vmwrite(VMCS_GUEST_CR4, value | CR4_VMXE);
    vmwrite(VMCS_CR4_SHADOW, value);
    cpt_invalidated(vcpu->vm->paging.cpt);
    paging_registers_changed(vcpu, guest_cr3(vcpu));
    vcpu_flush_tlb(vcpu);
    exit_skip_instruction();
    return true;
}

static bool move_to_cr(struct vcpu *vcpu, unsigned number, uint64_t value)
{
    switch (number) {
    case 0:
        return write_cr0_of_guest(vcpu, value);
    case 3:
        return write_cr3_of_guest(vcpu, value);
    case 4:
        if (vcpu->arch->watches)
            return write_cr4_of_guest(vcpu, value);
        /* Else it exits only for a bit that we own, and those are not offered. */
        exit_inject(vcpu, VECTOR_GP, 0);
        return true;
    case 8:
        return write_cr8_of_guest(vcpu, value);
    default:
        return false;
    }
}

static bool move_from_cr(struct vcpu *vcpu, unsigned number, unsigned to)
{
    switch (number) {
    case 3:
        write_register(vcpu, to, guest_cr3(vcpu));
        break;
    case 8:
        write_register(vcpu, to,
                       interrupts_tpr(&vcpu->vm->devices.interrupts, vcpu->index) >> CR8_TPR_SHIFT);
        break;
    default:
        return false;
    }
    exit_skip_instruction();
    return true;
}

__attribute__((noinline)) static bool slow_cr_access(struct vcpu *vcpu, uint64_t qualification)
{
    unsigned number = CR_NUMBER(qualification);
    unsigned gpr = CR_REGISTER(qualification);

    if (vcpu->vm->paging.cpt)
        paging_catch_up(vcpu);
    switch (CR_ACCESS_TYPE(qualification)) {
    case CR_MOV_TO: {
        uint64_t value = read_register(vcpu, gpr);
        return move_to_cr(vcpu, number, in_64bit_code() ? value : (uint32_t)value);
    }
    case CR_MOV_FROM:
        return move_from_cr(vcpu, number, gpr);
    case CR_CLTS:
        return write_cr0_of_guest(vcpu, guest_cr0() & ~CR0_TS);
    case CR_LMSW: {
        uint64_t old = guest_cr0();
        uint64_t value = (old & ~LMSW_BITS) | (CR_LMSW_SOURCE(qualification) & LMSW_BITS);
        return write_cr0_of_guest(vcpu, value | (old & CR0_PE)); /* LMSW cannot clear PE */
    }
    }
    return false;
}

/* Of qualifications: MOV to CR3 of any register. */
#define CR_LOAD_CR3_MASK 0x3full
#define CR_LOAD_CR3      3ull

/*
 * MOV to CR3 of a root that was loaded lately, by 64-bit code, without a PCID or a wish to keep
 * translations: what most kernels do thousands of times a second while nodes are walked.
 */
static bool fast_cr3_load(struct vcpu *vcpu, uint64_t qualification)
{
    uint64_t value = vcpu->gpr[CR_REGISTER(qualification)];

    if ((qualification & CR_LOAD_CR3_MASK) != CR_LOAD_CR3 ||
        CR_REGISTER(qualification) == GPR_RSP || vcpu->arch->state == CPT_NESTED ||
        (value & (PAGE_SIZE - 1)) != 0 || vcpu->cpt.pcid ||
        !(vmread32(VMCS_GUEST_CS_ACCESS) & ACCESS_L) || !paging_load_recent(vcpu, value))
        return false;
    if (vmx.vpid)
        invvpid(vmx.invvpid_cr3, vcpu->arch->vpid);
    exit_skip_instruction();
    return true;
}

bool exit_cr_access(struct vcpu *vcpu)
{
    uint64_t qualification = vmread(VMCS_EXIT_QUALIFICATION);

    if (fast_cr3_load(vcpu, qualification))
        return true;
    return slow_cr_access(vcpu, qualification);
}
