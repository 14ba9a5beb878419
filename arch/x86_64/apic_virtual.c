/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * APIC virtualisation (SDM 3C chapter 30), as far as the processor has it. The local APIC's model
 * (hv/dev/lapic.h) keeps its registers in the virtual-APIC page, and everything else here follows
 * the model when its virtual processor attends to events:
 *
 *   TPR shadow            CR8 does not exit. Without virtual-interrupt delivery the TPR threshold
 *                         tells when a request that waits for TPR alone can be taken.
 *   APIC accesses         In xAPIC mode, where the APIC-access page is mapped: TPR.
 *   x2APIC mode           In x2APIC mode, by an MSR bitmap of its own: TPR.
 *   APIC registers        In both, reads of most registers; in xAPIC mode a write exits when the
 *                         page holds what was written, and nothing needs to be decoded.
 *   virtual interrupts    Requests are delivered, and EOI and self-IPI done, by the processor. EOIs
 *                         of level-triggered vectors exit.
 *
 * What the processor leaves alone exits and is emulated, as it is without any of this.
 */
#include "arch/x86_64/exit.h"
#include "hv/arch.h"
#include "hv/memory.h"
#include "hv/sched.h"

/*
 * With a compound page table exits break into the delivery of an interrupt every now and then, and
 * Bochs 2.7 does not tell which interrupt that was when it was a virtual one: IDT-vectoring
 * information is another event's. Where EPT maps all of RAM with all rights nothing breaks in.
 */
uint32_t apic_virtual_interrupts(const struct vm *vm)
{
    return vm->settings->paging == PAGING_NESTED ? vmx.virtual_interrupts : 0;
}

static struct lapic *lapic_of(const struct vcpu *vcpu)
{
    return &vcpu->vm->devices.interrupts.lapic[vcpu->index];
}

/* --- the APIC-access page --------------------------------------------------------------------- */

static bool has_usual_base(const struct lapic *lapic)
{
    return lapic->mode == LAPIC_XAPIC && lapic_base(lapic) == LAPIC_BASE;
}

/* EPT leads to it at one address, for all virtual processors of the VM: it may be there as long as
 * all of them have their registers at that address. */
static bool page_is_wanted(const struct vm *vm)
{
    if (!vm->arch->apic_access_page || vm->arch->apic_access_refused)
        return false;
    for (unsigned i = 0; i < vm->vcpu_count; i++) {
        if (!has_usual_base(lapic_of(&vm->vcpu[i])))
            return false;
    }
    return true;
}

/* Not executable: a fetch is an EPT violation as where nothing is. Without memory for the tables it
 * stays away, and accesses are EPT violations, too. */
static void map_page(struct vm *vm)
{
    struct arch_vm *arch = vm->arch;
    bool wanted = page_is_wanted(vm);

    if (wanted == arch->apic_access_mapped)
        return;
    if (wanted) {
        arch->apic_access_mapped =
            ptab_map(&arch->ept, LAPIC_BASE, PAGE_SIZE, host_hpa(arch->apic_access_page),
                     EPT_READ | EPT_WRITE | EPT_MEMORY_WB);
        return;
    }
    (void)ptab_unmap(&arch->ept, LAPIC_BASE, PAGE_SIZE); /* a 4-KiB leaf: nothing to split */
    arch->apic_access_mapped = false;
    vm_invalidate(vm);
}

void apic_access_refuse(struct vm *vm)
{
    vm->arch->apic_access_refused = true;
    map_page(vm);
}

/* --- life ------------------------------------------------------------------------------------- */

bool apic_virtual_create(struct vm *vm)
{
    if (vmx.xapic_controls)
        vm->arch->apic_access_page = host_pages_alloc(1);
    return !vmx.xapic_controls || vm->arch->apic_access_page;
}

void apic_virtual_destroy(struct vm *vm)
{
    if (vm->arch->apic_access_page)
        host_pages_free(vm->arch->apic_access_page, 1);
}

void apic_virtual_set_vmcs(const struct vcpu *vcpu)
{
    const struct vm *vm = vcpu->vm;

    if (!vmx.tpr_shadow)
        return;
    vmwrite(VMCS_VIRTUAL_APIC, host_hpa(&vm->lapic_pages[vcpu->index]).v);
    vmwrite(VMCS_TPR_THRESHOLD, 0);
    if (vm->arch->apic_access_page)
        vmwrite(VMCS_APIC_ACCESS, host_hpa(vm->arch->apic_access_page).v);
    if (!vmx.virtual_interrupts)
        return;
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS, 0);
    for (unsigned i = 0; i < EOI_EXIT_BITMAPS; i++)
        vmwrite(vmcs_nth(VMCS_EOI_EXIT_BITMAP0, i), 0);
}

void apic_virtual_start(struct vcpu *vcpu)
{
    if (vmx.tpr_shadow)
        lapic_share(lapic_of(vcpu));
}

/* --- following the model ---------------------------------------------------------------------- */

/*
 * An APIC that software has disabled accepts no self-IPIs, and that would be news to the processor:
 * it does little for such a one. The APIC-access page remains, since others may use it.
 */
static uint32_t controls_for(const struct vm *vm, const struct lapic *lapic)
{
    uint32_t accesses = vmx.xapic_controls & PROC2_APIC_ACCESSES;

    if (!lapic_accepts(lapic))
        return has_usual_base(lapic) ? accesses : 0;
    if (lapic->mode == LAPIC_X2APIC)
        return vmx.x2apic_controls | apic_virtual_interrupts(vm);
    return (has_usual_base(lapic) ? vmx.xapic_controls : 0) | apic_virtual_interrupts(vm);
}

static void follow_state(struct vcpu *vcpu, const struct lapic *lapic)
{
    struct arch_vcpu *arch = vcpu->arch;
    const struct arch_vm *vm = vcpu->vm->arch;
    uint32_t controls = controls_for(vcpu->vm, lapic);

    if (controls == arch->apic_controls)
        return;
    /* Translations that were cached without it lead past it (SDM 3C 28.4.3.3). */
    if (controls & ~arch->apic_controls & PROC2_APIC_ACCESSES) {
        ept_invalidate(vcpu->vm);
        vcpu_flush_tlb(vcpu);
    }
    arch->apic_controls = controls;
    vmwrite(VMCS_PROC_CONTROLS2, vcpu_proc2(vcpu));
    vmwrite(VMCS_MSR_BITMAP,
            host_hpa(controls & PROC2_X2APIC ? vm->x2apic_msr_bitmap : vm->msr_bitmap).v);
    map_page(vcpu->vm);
}

/* EOIs of vectors whose last request was level-triggered. */
static void follow_levels(struct arch_vcpu *arch, const struct lapic *lapic)
{
    for (unsigned i = 0; i < EOI_EXIT_BITMAPS; i++) {
        uint64_t exits = lapic->page->reg[APIC_TMR + 2 * i].value |
                         (uint64_t)lapic->page->reg[APIC_TMR + 2 * i + 1].value << 32;
        if (exits == arch->eoi_exits[i])
            continue;
        arch->eoi_exits[i] = exits;
        vmwrite(vmcs_nth(VMCS_EOI_EXIT_BITMAP0, i), exits);
    }
}

static void follow_requests(struct arch_vcpu *arch, struct lapic *lapic)
{
    if (!lapic_take_change(lapic))
        return;
    vmwrite(VMCS_GUEST_INTERRUPT_STATUS,
            lapic_requested(lapic) | (unsigned)lapic_in_service(lapic)
                                         << INTERRUPT_STATUS_SVI_SHIFT);
    follow_levels(arch, lapic);
}

static void follow_priority(struct arch_vcpu *arch, const struct lapic *lapic)
{
    uint8_t threshold = lapic_tpr_threshold(lapic);

    if (threshold == arch->tpr_threshold)
        return;
    arch->tpr_threshold = threshold;
    vmwrite(VMCS_TPR_THRESHOLD, threshold);
}

void apic_virtual_follow_now(struct vcpu *vcpu)
{
    struct lapic *lapic = lapic_of(vcpu);

    lapic_settle(lapic);
    follow_state(vcpu, lapic);
    if (apic_virtual_delivers(vcpu))
        follow_requests(vcpu->arch, lapic);
    else
        follow_priority(vcpu->arch, lapic);
}

/* --- exits ------------------------------------------------------------------------------------ */

/* A trap: the page holds what was written, and RIP is behind the instruction. */
bool exit_apic_write(struct vcpu *vcpu)
{
    interrupts_page_written(&vcpu->vm->devices.interrupts, vcpu->index,
                            (unsigned)vmread(VMCS_EXIT_QUALIFICATION) & APIC_ACCESS_OFFSET);
    return true;
}

/* A trap, too; the vector is out of ISR. */
bool exit_virtualized_eoi(struct vcpu *vcpu)
{
    interrupts_ended(&vcpu->vm->devices.interrupts, vcpu->index,
                     (uint8_t)vmread(VMCS_EXIT_QUALIFICATION));
    return true;
}

/* TPR is low enough for what waited for it. */
bool exit_tpr_threshold(struct vcpu *vcpu)
{
    sched_attention(vcpu, ATTEND_EVENTS);
    return true;
}
