/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making and running virtual processors: the VMCS as it is at the start, and the loop around VM
 * entry.
 */
#include "arch/x86_64/vcpu.h"

#include "arch/x86_64/cet.h"
#include "arch/x86_64/exit.h"
#include "arch/x86_64/guards.h"
#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/pmu.h"
#include "arch/x86_64/processor.h"
#include "hv/arch.h"
#include "hv/faults.h"
#include "hv/memory.h"
#include "hv/sched.h"

#define VMCS_LINK_NONE ~0ull
#define DR7_RESET      0x400ull

/* --- MSR bitmap, SDM 3C 25.6.9: 4 bitmaps of 1 KiB, read low, read high, write low, write high  */

#define BITMAP_READ_LOW   0x000u
#define BITMAP_READ_HIGH  0x400u
#define BITMAP_WRITE_LOW  0x800u
#define BITMAP_WRITE_HIGH 0xc00u
#define MSR_HIGH_FIRST    0xc0000000u

/* MSRs that are the guest's own: in the VMCS, or in struct guest_context. */
static const uint32_t direct_msrs[] = {
    MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_PAT,     MSR_STAR,           MSR_LSTAR,
    MSR_CSTAR,       MSR_FMASK,        MSR_FS_BASE,      MSR_GS_BASE, MSR_KERNEL_GS_BASE,
};

static void bitmap_clear(uint8_t *bitmap, unsigned offset, uint32_t msr)
{
    uint32_t bit = msr % MSR_HIGH_FIRST;

    bitmap[offset + bit / 8] &= (uint8_t) ~(1u << bit % 8);
}

static void let_through(uint8_t *bitmap, uint32_t msr)
{
    bool high = msr >= MSR_HIGH_FIRST;

    bitmap_clear(bitmap, high ? BITMAP_READ_HIGH : BITMAP_READ_LOW, msr);
    bitmap_clear(bitmap, high ? BITMAP_WRITE_HIGH : BITMAP_WRITE_LOW, msr);
}

static void fill_msr_bitmap(uint8_t *bitmap)
{
    for (unsigned i = 0; i < PAGE_SIZE; i++)
        bitmap[i] = 0xff;
    for (unsigned i = 0; i < ARRAY_SIZE(direct_msrs); i++)
        let_through(bitmap, direct_msrs[i]);
    if (vmx.rdtscp)
        let_through(bitmap, MSR_TSC_AUX);
}

/* Registers that the processor reads from the virtual-APIC page (SDM 3C 30.5). Left out are those
 * that the page does not have as RDMSR would: PPR, the current count, the 64-bit ICR. */
static bool reads_from_page(unsigned number)
{
    return number == APIC_ID || number == APIC_VERSION || number == APIC_LDR ||
           number == APIC_SVR || (number >= APIC_ISR && number <= APIC_ESR) ||
           (number >= APIC_LVT_TIMER && number <= APIC_TIMER_INITIAL) ||
           number == APIC_TIMER_DIVIDE;
}

static void fill_x2apic_bitmap(uint8_t *bitmap, bool virtual_interrupts)
{
    fill_msr_bitmap(bitmap);
    let_through(bitmap, MSR_X2APIC + APIC_TPR);
    if (virtual_interrupts) { /* else they would get to the machine's APIC */
        bitmap_clear(bitmap, BITMAP_WRITE_LOW, MSR_X2APIC + APIC_EOI);
        bitmap_clear(bitmap, BITMAP_WRITE_LOW, MSR_X2APIC + APIC_SELF_IPI);
    }
    for (unsigned n = 0; n <= APIC_SELF_IPI && (vmx.x2apic_controls & PROC2_APIC_REGISTERS); n++) {
        if (reads_from_page(n))
            bitmap_clear(bitmap, BITMAP_READ_LOW, MSR_X2APIC + n);
    }
}

static bool create_x2apic_bitmap(struct vm *vm)
{
    struct arch_vm *arch = vm->arch;

    if (!vmx.x2apic_controls)
        return true;
    arch->x2apic_msr_bitmap = host_pages_alloc(1);
    if (arch->x2apic_msr_bitmap)
        fill_x2apic_bitmap(arch->x2apic_msr_bitmap, apic_virtual_interrupts(vm) != 0);
    return arch->x2apic_msr_bitmap != NULL;
}

/* --- the VMCS --------------------------------------------------------------------------------- */

static bool vmcs_load(void *vmcs)
{
    uint64_t address = host_hpa(vmcs).v;
    bool failed;

    __asm__ volatile("vmptrld %1" : "=@ccbe"(failed) : "m"(address) : "memory");
    return !failed;
}

static bool vmcs_clear(void *vmcs)
{
    uint64_t address = host_hpa(vmcs).v;
    bool failed;

    __asm__ volatile("vmclear %1" : "=@ccbe"(failed) : "m"(address) : "memory");
    return !failed;
}

/* HOST_RSP, HOST_RIP and HOST_SSP are vmx_run's. */
static void set_host_state(void)
{
    vmwrite(VMCS_HOST_CR0, read_cr0());
    vmwrite(VMCS_HOST_CR3, read_cr3());
    vmwrite(VMCS_HOST_CR4, read_cr4());
    vmwrite(VMCS_HOST_CS_SELECTOR, SELECTOR_CODE);
    vmwrite(VMCS_HOST_SS_SELECTOR, SELECTOR_DATA);
    vmwrite(VMCS_HOST_DS_SELECTOR, SELECTOR_DATA);
    vmwrite(VMCS_HOST_ES_SELECTOR, SELECTOR_DATA);
    vmwrite(VMCS_HOST_FS_SELECTOR, 0);
    vmwrite(VMCS_HOST_GS_SELECTOR, 0);
    vmwrite(VMCS_HOST_TR_SELECTOR, SELECTOR_TSS);
    vmwrite(VMCS_HOST_FS_BASE, 0);
    vmwrite(VMCS_HOST_GS_BASE, (uint64_t)this_processor());
    vmwrite(VMCS_HOST_TR_BASE, (uint64_t)&this_processor()->descriptors.tss);
    vmwrite(VMCS_HOST_GDTR_BASE, (uint64_t)this_processor()->descriptors.gdt);
    vmwrite(VMCS_HOST_IDTR_BASE, descriptors_idt_base());
    vmwrite(VMCS_HOST_SYSENTER_CS, 0);
    vmwrite(VMCS_HOST_SYSENTER_ESP, 0);
    vmwrite(VMCS_HOST_SYSENTER_EIP, 0);
    if (cet_is_on()) {
        vmwrite(VMCS_HOST_S_CET, S_CET_SHADOW_STACKS);
        vmwrite(VMCS_HOST_SSP_TABLE, (uint64_t)this_processor()->shadow_table);
    }
    vmwrite(VMCS_HOST_EFER, rdmsr(MSR_EFER));
    vmwrite(VMCS_HOST_PAT, rdmsr(MSR_PAT));
}

static void set_controls(const struct vcpu *vcpu)
{
    const struct vm *vm = vcpu->vm;

    vmwrite(VMCS_PIN_CONTROLS, vmx.pin);
    vmwrite(VMCS_PROC_CONTROLS, vmx.proc);
    vmwrite(VMCS_PROC_CONTROLS2, vmx.proc2);
    vmwrite(VMCS_EXIT_CONTROLS, vmx.exit);
    vmwrite(VMCS_ENTRY_CONTROLS, vmx.entry);
    /* Never delivered without an exit: #AC and #DB could be delivered for ever, #MC is the
     * machine's. */
    vmwrite(VMCS_EXCEPTION_BITMAP, EXCEPTIONS_ALWAYS);
    vmwrite(VMCS_PF_ERROR_MASK, 0);
    vmwrite(VMCS_PF_ERROR_MATCH, 0);
    vmwrite(VMCS_CR3_TARGET_COUNT, 0);
    vmwrite(VMCS_EXIT_MSR_STORE_COUNT, 0);
    vmwrite(VMCS_EXIT_MSR_LOAD_COUNT, 0);
    vmwrite(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    vmwrite(VMCS_ENTRY_INTERRUPTION, 0);
    vmwrite(VMCS_MSR_BITMAP, host_hpa(vm->arch->msr_bitmap).v);
    vmwrite(VMCS_EPT_POINTER, vm->arch->eptp);
    vmwrite(VMCS_LINK_POINTER, VMCS_LINK_NONE);
    if (vmx.vpid)
        vmwrite(VMCS_VPID, vcpu->arch->vpid);
    if (vmx.xsaves)
        vmwrite(VMCS_XSS_EXITING_BITMAP, 0); /* IA32_XSS is always 0 (guest_write_msr) */
    apic_virtual_set_vmcs(vcpu);
    pmu_set_vmcs();
}

static void set_segment(enum vmcs_segment segment, uint16_t selector, uint64_t base, uint32_t limit,
                        uint32_t access)
{
    vmwrite(vmcs_nth(VMCS_GUEST_ES_SELECTOR, segment), selector);
    vmwrite(vmcs_nth(VMCS_GUEST_ES_BASE, segment), base);
    vmwrite(vmcs_nth(VMCS_GUEST_ES_LIMIT, segment), limit);
    vmwrite(vmcs_nth(VMCS_GUEST_ES_ACCESS, segment), access);
}

#define LIMIT_FLAT 0xffffffffu
#define LIMIT_TSS  0x67u

/* The selectors of each entry state: hv/guest_abi.h; the Multiboot specification's 3.2 and PVH,
 * which leave GDTR to the guest; Linux' boot.rst, __BOOT_CS and __BOOT_DS. Where TR is 0, its TSS
 * is one that nothing uses. */
static const struct {
    uint16_t code, data, task;
} entry_selectors[] = {
    [ENTRY_LONG] = {0x08, 0x10, 0x18},
    [ENTRY_PROTECTED] = {0x08, 0x10, 0},
    [ENTRY_LINUX] = {0x10, 0x18, 0},
};

static void set_segments(const struct entry_state *entry)
{
    uint16_t code = entry_selectors[entry->mode].code;
    uint16_t data = entry_selectors[entry->mode].data;
    uint16_t task = entry_selectors[entry->mode].task;

    set_segment(SEG_CS, code, 0, LIMIT_FLAT, entry_is_long(entry) ? ACCESS_CODE64 : ACCESS_CODE32);
    for (enum vmcs_segment s = SEG_ES; s <= SEG_GS; s++) {
        if (s != SEG_CS)
            set_segment(s, data, 0, LIMIT_FLAT, ACCESS_DATA);
    }
    set_segment(SEG_LDTR, 0, 0, 0, ACCESS_UNUSABLE);
    set_segment(SEG_TR, task, entry->tss_base, LIMIT_TSS, ACCESS_TSS_BUSY);
    vmwrite(VMCS_GUEST_GDTR_BASE, entry->gdt_base);
    vmwrite(VMCS_GUEST_GDTR_LIMIT, entry->gdt_limit);
    vmwrite(VMCS_GUEST_IDTR_BASE, 0);
    vmwrite(VMCS_GUEST_IDTR_LIMIT, 0);
}

static void set_control_registers(const struct entry_state *entry)
{
    bool is_long = entry_is_long(entry);
    uint64_t cr0 = CR0_PE | CR0_ET | (is_long ? CR0_MP | CR0_NE | CR0_WP | CR0_PG : 0);
    uint64_t cr4 = is_long ? CR4_PAE : 0;
    uint64_t efer = is_long ? EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE : 0;

    vmwrite(VMCS_CR0_MASK, guest_cr0_owned());
    vmwrite(VMCS_CR4_MASK, guest_cr4_owned());
    vmwrite(VMCS_CR0_SHADOW, cr0);
    vmwrite(VMCS_CR4_SHADOW, cr4);
    vmwrite(VMCS_GUEST_CR0, guest_cr0_real(cr0));
    vmwrite(VMCS_GUEST_CR4, cr4 | CR4_VMXE);
    vmwrite(VMCS_GUEST_CR3, entry->cr3);
    vmwrite(VMCS_GUEST_EFER, efer);
    vmwrite(VMCS_GUEST_PAT, PAT_DEFAULT);
    if (is_long)
        vmwrite(VMCS_ENTRY_CONTROLS, vmx.entry | ENTRY_IA32E);
}

/* What is the same at every start. */
static void set_start(struct vcpu *vcpu)
{
    vmwrite(VMCS_GUEST_RSP, 0);
    vmwrite(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmwrite(VMCS_GUEST_DR7, DR7_RESET);
    vmwrite(VMCS_GUEST_DEBUGCTL, 0);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmwrite(VMCS_GUEST_ACTIVITY, 0);
    vmwrite(VMCS_GUEST_PENDING_DEBUG, 0);
    vcpu->halted_with_interrupts = false;
}

static void set_guest_state(struct vcpu *vcpu, const struct entry_state *entry)
{
    set_segments(entry);
    set_control_registers(entry);
    set_start(vcpu);
    vmwrite(VMCS_GUEST_SYSENTER_CS, 0);
    vmwrite(VMCS_GUEST_SYSENTER_ESP, 0);
    vmwrite(VMCS_GUEST_SYSENTER_EIP, 0);
    vmwrite(VMCS_GUEST_RIP, entry->rip.v);
    vmwrite(VMCS_GUEST_RSP, entry->rsp);
    vcpu->gpr[GPR_RAX] = entry->rax;
    vcpu->gpr[GPR_RBX] = entry->rbx;
    vcpu->gpr[GPR_RSI] = entry->rsi;
    vcpu->gpr[GPR_RDI] = entry->rdi;
}

void vcpu_flush_tlb(struct vcpu *vcpu)
{
    if (vmx.vpid)
        invvpid(vmx.invvpid, vcpu->arch->vpid);
    /* Without VPID every VM entry and exit invalidates, SDM 3C 28.4.3.1. */
}

void vcpu_flush_address(struct vcpu *vcpu, gva_t at)
{
    if (vmx.vpid)
        invvpid_at(vmx.invvpid_address, vcpu->arch->vpid, at.v);
}

void vcpu_set_pdptes(const uint64_t pdpte[4])
{
    for (unsigned i = 0; i < 4; i++)
        vmwrite(vmcs_nth(VMCS_GUEST_PDPTE0, i), pdpte[i]);
}

/* --- INIT and SIPI ---------------------------------------------------------------------------- */

#define RESET_CS_SELECTOR 0xf000u
#define RESET_CS_BASE     0xffff0000u
#define RESET_RIP         0xfff0u
#define LIMIT_REAL        0xffffu
#define CR0_AFTER_INIT    (CR0_ET | CR0_NW | CR0_CD)

/* SDM 3A table 9-1, the column for INIT: x87, vector state and MSRs stay. */
void arch_vcpu_init(struct vcpu *vcpu)
{
    struct cpuid_regs one = guest_cpuid(1, 0, 0);

    step_end(vcpu);
    set_segment(SEG_CS, RESET_CS_SELECTOR, RESET_CS_BASE, LIMIT_REAL, ACCESS_CODE16);
    for (enum vmcs_segment s = SEG_ES; s <= SEG_GS; s++) {
        if (s != SEG_CS)
            set_segment(s, 0, 0, LIMIT_REAL, ACCESS_DATA16);
    }
    set_segment(SEG_LDTR, 0, 0, LIMIT_REAL, ACCESS_LDT);
    set_segment(SEG_TR, 0, 0, LIMIT_REAL, ACCESS_TSS_BUSY);
    vmwrite(VMCS_GUEST_GDTR_BASE, 0);
    vmwrite(VMCS_GUEST_GDTR_LIMIT, LIMIT_REAL);
    vmwrite(VMCS_GUEST_IDTR_BASE, 0);
    vmwrite(VMCS_GUEST_IDTR_LIMIT, LIMIT_REAL);
    vmwrite(VMCS_CR0_SHADOW, CR0_AFTER_INIT);
    vmwrite(VMCS_CR4_SHADOW, 0);
    vmwrite(VMCS_GUEST_CR0, guest_cr0_real(CR0_AFTER_INIT));
    vmwrite(VMCS_GUEST_CR4, CR4_VMXE);
    vmwrite(VMCS_GUEST_CR3, 0);
    vmwrite(VMCS_GUEST_EFER, 0);
    vmwrite(VMCS_ENTRY_CONTROLS, vmx.entry);
    set_start(vcpu);
    vmwrite(VMCS_GUEST_RIP, RESET_RIP);
    for (unsigned i = 0; i < GPR_COUNT; i++)
        vcpu->gpr[i] = 0;
    vcpu->gpr[GPR_RDX] = one.eax;
    write_cr2(0);
    vmwrite(VMCS_ENTRY_INTERRUPTION, 0);
    if (vcpu->vm->paging.cpt)
        paging_registers_changed(vcpu, 0);
    vcpu_flush_tlb(vcpu);
}

/* SDM 3A 8.4.4.1: the vector is the page at which it starts. */
void arch_vcpu_startup(struct vcpu *vcpu, uint8_t page)
{
    (void)vcpu;
    set_segment(SEG_CS, (uint16_t)(page << 8), (uint64_t)page << PAGE_SHIFT, LIMIT_REAL,
                ACCESS_CODE16);
    vmwrite(VMCS_GUEST_RIP, 0);
}

/* --- life and death --------------------------------------------------------------------------- */

/* VPIDs are one pool of the machine: what is cached under one is forgotten when a virtual processor
 * is loaded first. */
static uint64_t vpids_taken[1024];

static uint16_t vpid_take(void)
{
    for (unsigned i = 1; vmx.vpid && i < 64 * ARRAY_SIZE(vpids_taken);
         i++) { /* 0 is ours, SDM 3C 28.1 */
        if (!(vpids_taken[i / 64] >> i % 64 & 1)) {
            vpids_taken[i / 64] |= BIT(i % 64);
            return (uint16_t)i;
        }
    }
    return 0;
}

static void vpid_give_back(uint16_t vpid)
{
    vpids_taken[vpid / 64] &= ~BIT(vpid % 64);
}

static void destroy_vcpu(struct vcpu *vcpu)
{
    struct arch_vcpu *arch = vcpu->arch;

    if (!arch)
        return;
    if (arch->vmcs)
        host_pages_free(arch->vmcs, 1);
    if (arch->context.fpu)
        host_pages_free(arch->context.fpu, context_fpu_pages());
    if (arch->vpid)
        vpid_give_back(arch->vpid);
    host_pages_free(arch, 1);
    vcpu->arch = NULL;
}

void arch_vm_destroy(struct vm *vm)
{
    for (unsigned i = 0; i < vm->vcpu_count; i++)
        destroy_vcpu(&vm->vcpu[i]);
    if (!vm->arch)
        return;
    if (vm->arch->msr_bitmap)
        host_pages_free(vm->arch->msr_bitmap, 1);
    if (vm->arch->x2apic_msr_bitmap)
        host_pages_free(vm->arch->x2apic_msr_bitmap, 1);
    apic_virtual_destroy(vm);
    if (vm->arch->recent)
        host_pages_free(vm->arch->recent, exit_recent_pages());
    if (vm->arch->ept.format)
        ept_destroy(vm);
    host_pages_free(vm->arch, 1);
    vm->arch = NULL;
}

_Static_assert(sizeof(struct arch_vm) <= PAGE_SIZE, "one page holds it");
_Static_assert(sizeof(struct arch_vcpu) <= PAGE_SIZE, "one page holds it");

/* `entry`: how it starts; the others wait for SIPI and start by that. */
static bool create_vcpu(struct vcpu *vcpu, const struct entry_state *entry, struct why *why)
{
    struct arch_vcpu *arch = host_pages_alloc(1);

    vcpu->arch = arch;
    if (!arch)
        return why_set(why, "no memory for a virtual processor");
    arch->vmcs = host_pages_alloc(1);
    arch->context.fpu = host_pages_alloc(context_fpu_pages());
    arch->vpid = vpid_take();
    if (!arch->vmcs || !arch->context.fpu || (vmx.vpid && !arch->vpid))
        return why_set(why, "no memory for a virtual processor");
    context_init(&arch->context);
    guest_mtrrs_init(&arch->mtrrs);
    arch->least_gap = NO_GAP;
    arch->proc = vmx.proc;
    arch->exceptions = EXCEPTIONS_ALWAYS;

    *(uint32_t *)arch->vmcs = vmx.revision;
    if (fault_capability("VMPTRLD") || !vmcs_clear(arch->vmcs) || !vmcs_load(arch->vmcs))
        return why_set(why, "VMCLEAR or VMPTRLD failed");
    set_controls(vcpu);
    set_guest_state(vcpu, entry);
    vmcs_clear(arch->vmcs); /* it is loaded by the processor that runs it */
    return true;
}

static bool create(struct vm *vm, const struct entry_state *entry, struct why *why)
{
    if ((entry->mode == ENTRY_PROTECTED || vm->vcpu_count > 1) && !vmx.unrestricted_guest)
        return why_set(why,
                       "%s starts without paging, which needs the VT-x feature 'unrestricted "
                       "guest', and this processor lacks it; ELF64 images can run here",
                       vm->settings->image);
    vm->arch = host_pages_alloc(1);
    if (!vm->arch)
        return why_set(why, "no memory for a virtual machine");
    vm->arch->msr_bitmap = host_pages_alloc(1);
    vm->arch->recent = host_pages_alloc(exit_recent_pages());
    if (!vm->arch->msr_bitmap || !vm->arch->recent)
        return why_set(why, "no memory for the MSR bitmap");
    fill_msr_bitmap(vm->arch->msr_bitmap);
    if (!create_x2apic_bitmap(vm) || !apic_virtual_create(vm))
        return why_set(why, "no memory for APIC virtualization");
    if (!ept_create(vm, why))
        return false;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (!create_vcpu(&vm->vcpu[i], entry, why))
            return false;
    }
    return true;
}

/* --- the processor's virtual processor -------------------------------------------------------- */

/* Nothing of what was loaded before stays in the processor, but for its VMCS, which remains active
 * there. */
static void unload(void)
{
    struct vcpu *current = this_processor()->current;

    if (current)
        context_save(&current->arch->context);
    this_processor()->current = NULL;
}

bool arch_vm_create(struct vm *vm, const struct entry_state *entry, struct why *why)
{
    unload();
    return vmx_enter(why) && create(vm, entry, why);
}

static void load(struct vcpu *vcpu)
{
    struct arch_vcpu *arch = vcpu->arch;

    if (this_processor()->current == vcpu)
        return;
    unload();
    guards_switch(vcpu);
    if (!vmcs_load(arch->vmcs))
        panic("VMPTRLD failed");
    context_load(&arch->context);
    set_host_state(); /* this processor's, whose CR4 may have gained bits */
    this_processor()->current = vcpu;
    if (arch->loaded)
        return;
    arch->loaded = true;
    vcpu_set_tsc_offset(vcpu);
    apic_virtual_start(vcpu);
    ept_invalidate(vcpu->vm); /* what another VM left under the same addresses and VPID */
    vcpu_flush_tlb(vcpu);
    if (vcpu->vm->paging.cpt)
        paging_registers_changed(vcpu, guest_cr3(vcpu));
}

/* For good. */
static void leave_vm(struct vcpu *vcpu)
{
    unload();
    vmcs_clear(vcpu->arch->vmcs);
}

/* The processor refused the VMCS before anything of the guest was loaded, SDM 3C 27.2. */
static void entry_failed(struct vcpu *vcpu)
{
    vcpu->in_guest = 0;
    vcpu_lock(vcpu);
    vm_stop(vcpu->vm, "VM entry failed, VM-instruction error %u", vmread32(VMCS_INSTRUCTION_ERROR));
    vcpu_unlock(vcpu);
}

static bool run(struct vcpu *vcpu)
{
    bool launched = vcpu->arch->launched;

    if (this_processor()->guards & GUARDS_AROUND_GUEST)
        return vmx_run_guarded(vcpu, launched);
    return vmx_run(vcpu, launched);
}

bool arch_vcpu_run(struct vcpu *vcpu)
{
    struct arch_vcpu *arch = vcpu->arch;

    vcpu_lock(vcpu);
    load(vcpu);
    paging_begin_slice(vcpu);
    vcpu_unlock(vcpu);
    __atomic_fetch_or(&vcpu->attention, ATTEND_EVENTS, __ATOMIC_SEQ_CST);
    if (vmx_may_enter(vcpu)) {
        if (!run(vcpu))
            entry_failed(vcpu);
        arch->launched = true;
    }
    vcpu_lock(vcpu);
    paging_end_slice(vcpu);
    vcpu_unlock(vcpu);
    bool ended = __atomic_load_n(&vcpu->vm->end, __ATOMIC_ACQUIRE) != VM_RUNNING;
    if (ended)
        leave_vm(vcpu);
    return ended;
}

void vcpu_set_tsc_offset(const struct vcpu *vcpu)
{
    vmwrite(VMCS_TSC_OFFSET, vcpu->vm->start_offset + (uint64_t)vcpu->tsc_adjust);
}

/* --- invalidation ----------------------------------------------------------------------------- */

/*
 * What may be cached under the VM's EPT pointer and the virtual processor's VPID, SDM 3C 28.4.2.
 * Every virtual processor has its own processor for all its life, so that it is here if anywhere.
 */
static inline void flush(const struct vcpu *vcpu)
{
    invept(vmx.invept, vcpu->vm->arch->eptp);
    if (vmx.vpid)
        invvpid(vmx.invvpid, vcpu->arch->vpid);
}

void arch_vcpu_flush(struct vcpu *vcpu)
{
    flush(vcpu);
    if (vcpu->vm->paging.cpt) {
        paging_catch_up(vcpu);
        paging_follow(vcpu);
    }
}

/*
 * The others see ATTEND_FLUSH before they enter their guest, whatever they do now; those that are
 * in it are interrupted, and it is waited until they have left. Either way they come to the VM's
 * lock.
 */
void vm_invalidate(struct vm *vm)
{
    if (vm->vcpu_count == 1) { /* it is here, or was nowhere yet and is flushed when it is loaded */
        flush(vm->vcpu);
        return;
    }
    const struct vcpu *self = this_processor()->current;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        struct vcpu *v = &vm->vcpu[i];
        if (v == self) {
            flush(v);
            continue;
        }
        __atomic_fetch_or(&v->attention, ATTEND_FLUSH, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&v->in_guest, __ATOMIC_SEQ_CST))
            processor_kick(v->processor);
    }
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        while (&vm->vcpu[i] != self && __atomic_load_n(&vm->vcpu[i].in_guest, __ATOMIC_SEQ_CST))
            processor_relax();
    }
}
