/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making and running virtual processors: the VMCS as it is at the start, and the loop around VM
 * entry.
 */
#include "arch/x86_64/vcpu.h"

#include "arch/x86_64/descriptors.h"
#include "arch/x86_64/exit.h"
#include "arch/x86_64/guest_cpu.h"
#include "arch/x86_64/pmu.h"
#include "arch/x86_64/timer.h"
#include "hv/arch.h"
#include "hv/memory.h"

#define VPID_FIRST 1u /* 0 is the hypervisor's, SDM 3C 28.1 */

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

/* HOST_RSP and HOST_RIP are vmx_run's. */
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
    vmwrite(VMCS_HOST_GS_BASE, 0);
    vmwrite(VMCS_HOST_TR_BASE, descriptors_tss_base());
    vmwrite(VMCS_HOST_GDTR_BASE, descriptors_gdt_base());
    vmwrite(VMCS_HOST_IDTR_BASE, descriptors_idt_base());
    vmwrite(VMCS_HOST_SYSENTER_CS, 0);
    vmwrite(VMCS_HOST_SYSENTER_ESP, 0);
    vmwrite(VMCS_HOST_SYSENTER_EIP, 0);
    vmwrite(VMCS_HOST_EFER, rdmsr(MSR_EFER));
    vmwrite(VMCS_HOST_PAT, rdmsr(MSR_PAT));
}

static void set_controls(const struct vm *vm)
{
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
    if (vmx.proc & PROC_TSC_OFFSETTING)
        vmwrite(VMCS_TSC_OFFSET, 0);
    if (vmx.vpid)
        vmwrite(VMCS_VPID, vm->arch->vpid);
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

static void set_guest_state(struct vcpu *vcpu, const struct entry_state *entry)
{
    set_segments(entry);
    set_control_registers(entry);
    vmwrite(VMCS_GUEST_RIP, entry->rip.v);
    vmwrite(VMCS_GUEST_RSP, entry->rsp);
    vmwrite(VMCS_GUEST_RFLAGS, RFLAGS_FIXED);
    vmwrite(VMCS_GUEST_DR7, DR7_RESET);
    vmwrite(VMCS_GUEST_DEBUGCTL, 0);
    vmwrite(VMCS_GUEST_SYSENTER_CS, 0);
    vmwrite(VMCS_GUEST_SYSENTER_ESP, 0);
    vmwrite(VMCS_GUEST_SYSENTER_EIP, 0);
    vmwrite(VMCS_GUEST_INTERRUPTIBILITY, 0);
    vmwrite(VMCS_GUEST_ACTIVITY, 0);
    vmwrite(VMCS_GUEST_PENDING_DEBUG, 0);
    vcpu->gpr[GPR_RAX] = entry->rax;
    vcpu->gpr[GPR_RBX] = entry->rbx;
    vcpu->gpr[GPR_RSI] = entry->rsi;
    vcpu->gpr[GPR_RDI] = entry->rdi;
}

void vcpu_flush_tlb(struct vcpu *vcpu)
{
    if (vmx.vpid)
        invvpid(vmx.invvpid, vcpu->vm->arch->vpid);
    /* Without VPID every VM entry and exit invalidates, SDM 3C 28.4.3.1. */
}

void vcpu_flush_address(struct vcpu *vcpu, gva_t at)
{
    if (vmx.vpid)
        invvpid_at(vmx.invvpid_address, vcpu->vm->arch->vpid, at.v);
}

void vcpu_set_pdptes(const uint64_t pdpte[4])
{
    for (unsigned i = 0; i < 4; i++)
        vmwrite(vmcs_nth(VMCS_GUEST_PDPTE0, i), pdpte[i]);
}

/* --- life and death --------------------------------------------------------------------------- */

void arch_vm_destroy(struct vm *vm)
{
    struct arch_vcpu *vcpu = vm->vcpu.arch;

    if (vcpu) {
        if (vcpu->vmcs) {
            vmcs_clear(vcpu->vmcs);
            host_pages_free(vcpu->vmcs, 1);
        }
        if (vcpu->context.fpu)
            host_pages_free(vcpu->context.fpu, context_fpu_pages());
        host_pages_free(vcpu, 1);
    }
    if (vm->arch) {
        if (vm->arch->msr_bitmap)
            host_pages_free(vm->arch->msr_bitmap, 1);
        if (vm->arch->ept.format)
            ept_destroy(vm);
        host_pages_free(vm->arch, 1);
    }
    vm->vcpu.arch = NULL;
    vm->arch = NULL;
}

_Static_assert(sizeof(struct arch_vm) <= PAGE_SIZE, "one page holds it");
_Static_assert(sizeof(struct arch_vcpu) <= PAGE_SIZE, "one page holds it");

static bool create_vcpu(struct vm *vm, const struct entry_state *entry, struct why *why)
{
    struct arch_vcpu *vcpu = host_pages_alloc(1);

    vm->vcpu.arch = vcpu;
    if (!vcpu)
        return why_set(why, "no memory for a virtual processor");
    vcpu->vmcs = host_pages_alloc(1);
    vcpu->context.fpu = host_pages_alloc(context_fpu_pages());
    if (!vcpu->vmcs || !vcpu->context.fpu)
        return why_set(why, "no memory for a virtual processor");
    context_init(&vcpu->context);

    *(uint32_t *)vcpu->vmcs = vmx.revision;
    if (!vmcs_clear(vcpu->vmcs) || !vmcs_load(vcpu->vmcs))
        panic("VMCLEAR or VMPTRLD failed");
    set_host_state();
    set_controls(vm);
    set_guest_state(&vm->vcpu, entry);
    vcpu->proc = vmx.proc;
    vcpu->exceptions = EXCEPTIONS_ALWAYS;
    vcpu_flush_tlb(&vm->vcpu);
    return true;
}

static bool create(struct vm *vm, const struct entry_state *entry, struct why *why)
{
    if (entry->mode == ENTRY_PROTECTED && !vmx.unrestricted_guest)
        return why_set(why,
                       "%s starts without paging, which needs the VT-x feature 'unrestricted "
                       "guest', and this processor lacks it; ELF64 images can run here",
                       vm->settings->image);
    vm->arch = host_pages_alloc(1);
    if (!vm->arch)
        return why_set(why, "no memory for a virtual machine");
    vm->arch->vpid = vmx.vpid ? VPID_FIRST : 0;
    vm->arch->msr_bitmap = host_pages_alloc(1);
    if (!vm->arch->msr_bitmap)
        return why_set(why, "no memory for the MSR bitmap");
    fill_msr_bitmap(vm->arch->msr_bitmap);
    return ept_create(vm, why) && create_vcpu(vm, entry, why);
}

bool arch_vm_create(struct vm *vm, const struct entry_state *entry, struct why *why)
{
    if (vmx_enter(why) && create(vm, entry, why))
        return true;
    arch_vm_destroy(vm);
    return false;
}

void arch_vcpu_run(struct vcpu *vcpu)
{
    struct arch_vcpu *arch = vcpu->arch;

    context_load(&arch->context);
    set_host_state(); /* CR4 may have gained bits */
    if (vcpu->vm->paging.cpt)
        paging_registers_changed(vcpu, guest_cr3(vcpu));
    vcpu->until_look = 1;
    arch->least_gap = ~0ull;
    arch->entered = time_now();
    timer_start(vcpu->vm);
    while (vcpu->vm->end == VM_RUNNING) {
        if (!vmx_run(vcpu, arch->launched)) {
            vm_stop(vcpu->vm, "VM entry failed, VM-instruction error %u",
                    vmread32(VMCS_INSTRUCTION_ERROR));
            break;
        }
        arch->launched = true;
    }
    timer_stop();
    context_save(&arch->context);
}
